"""A corpus of tones whose pitch, level and phone times are known, to test preparations on."""

import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import soundfile

from emoconv_jax.pipeline.extraction import Settings

RATE_HZ, SECONDS = 22050, 0.75
SETTINGS = Settings(shard_utterances=2)  # of preparations: the seven clips are four shards
SPLITS = {
    "corpus": {"splits": {"a": {"speakers": ["ann"]}, "test": {"speakers": ["bea"]}}},
}


class Clip(NamedTuple):
    """One clip: `times` tells whether the corpus says when its vowel begins."""

    path: str
    speaker: str
    emotion: str
    arousal: str
    valence: str
    f0_hz: float
    amplitude: float
    times: bool


CLIPS = (
    Clip("low.flac", "ann", "happiness", "", "", 120.0, 0.1, True),
    Clip("high.flac", "ann", "neutral", "6.5", "2.5", 240.0, 0.2, True),
    Clip("more.wav", "ann", "sad", "", "", 140.0, 0.15, False),
    Clip("most.wav", "ann", "sad", "", "", 200.0, 0.12, False),
    Clip("again.wav", "bea", "", "", "", 160.0, 0.08, False),
    Clip("other.flac", "bea", "", "", "", 170.0, 0.1, True),
    Clip("test.flac", "bea", "", "", "", 180.0, 0.05, False),
)


def tone(f0_hz: float, amplitude: float) -> np.ndarray:
    """A steady vowel-like tone (four harmonics) that begins after .25 s of faint noise."""
    generator = np.random.default_rng(round(f0_hz))
    time_s = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    sound = sum(np.sin(2 * np.pi * k * f0_hz * time_s) / k for k in range(1, 5))
    return np.where(time_s < 0.25, 0.0, amplitude * sound) + 1e-5 * generator.normal(
        size=len(time_s)
    )


def make_corpus(folder: pathlib.Path, clips: Sequence[Clip] = CLIPS) -> pathlib.Path:
    """Writes the clips with a manifest and phone times, and `splits.json` beside the folder."""
    folder.mkdir(parents=True)
    lines = ["path\tspeaker\temotion\tarousal\tvalence\tlanguage"]
    phones = ["path\tphone\tstart_s\tend_s"]
    for clip in clips:
        soundfile.write(folder / clip.path, tone(clip.f0_hz, clip.amplitude), RATE_HZ)
        lines.append("\t".join([*clip[:5], "en"]))
        if clip.times:
            phones += [f"{clip.path}\tsil\t0\t0.25", f"{clip.path}\ti\t0.25\t{SECONDS}"]
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    (folder / "phones.tsv").write_text("\n".join(phones) + "\n")
    (folder.parent / "splits.json").write_text(json.dumps(SPLITS))
    return folder
