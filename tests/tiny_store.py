"""Entries of a feature store made in a test."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emoconv_jax.config import MelConfig
from emoconv_jax.pipeline.store import FeatureStore, Utterance, write_array, write_index

PLAIN = {
    "corpus": "made",
    "gender": "F",
    "language": "en",
    "emotion": "",
    "intensity": "",
    "arousal": -1.0,
    "rated": False,
    "valence": -1.0,
    "dominance": -1.0,
    "level_db": -25.0,
    "level_spread_db": 6.0,
    "peak_db": -9.0,
    "f0_hz": 200.0,
    "f0_spread": 2.0,
    "voiced": 0.5,
    "alignment": "corpus",
    "text": "",
    "shard": 0,
}


def entries(lengths: Sequence[int], describe: Callable[[int], dict[str, Any]]) -> list[Utterance]:
    """Utterances that follow one another; `describe` gives the fields that matter to the test."""
    made, start = [], 0
    for i, frames in enumerate(lengths):
        place = {"path": f"{i}.wav", "start": start, "frames": frames}
        made.append(Utterance(**(PLAIN | place | describe(i))))
        start += frames
    return made


# speaker, gender, emotion, d-vector: small enough to check on paper
CLIPS = [
    ("ann", "F", "happy", (0.0, 1.0)),
    ("ann", "F", "neutral", (1.0, 0.1)),
    ("bea", "F", "sad", (1.0, 1.0)),
    ("bea", "F", "angry", (1.0, 0.9)),
    ("carl", "M", "", (0.0, 1.0)),
    ("carl", "M", "", (0.1, 1.0)),
]


def voice_store(
    folder: pathlib.Path, clips: Sequence[tuple] = CLIPS, split: str = "test"
) -> FeatureStore:
    """A store of clips of one frame, with d-vectors."""
    utterances = entries(
        [1] * len(clips),
        lambda i: {
            "split": split,
            "arousal": 4.0,
            **dict(zip(("speaker", "gender", "emotion"), clips[i], strict=False)),
        },
    )
    folder.mkdir(exist_ok=True)
    write_array(folder, "speaker", np.array([vector for *_, vector in clips]))
    write_index(folder, MelConfig(), utterances, [len(clips)])
    return FeatureStore(folder)
