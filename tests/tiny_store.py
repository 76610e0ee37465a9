"""Entries of a feature store made in a test."""

from collections.abc import Callable, Sequence
from typing import Any

from emoconv_jax.pipeline.store import Utterance

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
