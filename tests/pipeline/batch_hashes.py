"""Writes the hash of every batch it reads, one line a step, until it is stopped.

usage: python batch_hashes.py FEATURES FIRST_STEP LAST_STEP
"""

import hashlib
import pathlib
import sys
from collections.abc import Iterator

import numpy as np

from emoconv_jax.pipeline.batches import Batch, Batches
from emoconv_jax.pipeline.readers import plain
from emoconv_jax.pipeline.store import FeatureStore

TRAINEES = (
    *("recogniser", "average_voice", "score_network"),
    *("whisper_emotion", "whisper_average_voice"),
)
CROPS = ("random", "whole")


def digest(batches: tuple[Batch, ...]) -> str:
    """The sha256 of every field's name, type, shape and bytes."""
    found = hashlib.sha256()
    for batch in batches:
        for name, value in batch._asdict().items():
            if value is not None:
                found.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    return found.hexdigest()


def hashes(store: FeatureStore, start: int, stop: int) -> Iterator[str]:
    """The hash over all trainees and kinds of crop of each step."""
    selection = np.arange(len(store.utterances))
    readers = [
        plain(
            Batches(store, selection, trainee, batch=4, frames=48, seed=7, crop=crop), start, stop
        )
        for trainee in TRAINEES
        for crop in CROPS
    ]
    return map(digest, zip(*readers, strict=True))


if __name__ == "__main__":
    folder, first, last = sys.argv[1:]
    for line in hashes(FeatureStore(pathlib.Path(folder)), int(first), int(last)):
        print(line, flush=True)
    assert "tensorflow" not in sys.modules
