"""Distances to recordings of the same words: spectra of known shape, tones of known pitch."""

import math

import numpy as np
import pytest
from tiny_store import entries
from tones import RATE_HZ, tone

from emoconv_jax.audio.cepstra import cepstra
from emoconv_jax.config import MelConfig
from emoconv_jax.evaluation.parallel import (
    Parallels,
    Recording,
    analyse,
    counterparts,
    distances,
)

ABOUT = (  # speaker, words, emotion, intensity
    ("ann", "dogs", "neutral", "normal"),
    ("ann", "dogs", "angry", "strong"),
    ("ann", "dogs", "angry", "normal"),
    ("ann", "dogs", "angry", "normal"),
    ("ann", "kids", "sad", "normal"),
    ("bea", "dogs", "happy", "normal"),
    ("ann", "dogs", "neutral", "normal"),
    ("ann", "", "calm", "normal"),
)
CLIPS = entries(
    [9] * len(ABOUT),
    lambda i: {
        "split": "test",
        **dict(zip(("speaker", "text", "emotion", "intensity"), ABOUT[i], strict=True)),
    },
)
MEL = MelConfig()


def shaped(*sizes: float) -> np.ndarray:
    """Frames of the log-mel 1 + size cos(3 pi (n + 1/2) / 80): one coefficient and a level."""
    place = (np.arange(80) + 0.5) / 80
    return 1.0 + np.array(sizes)[:, None] * np.cos(3 * math.pi * place)[None]


def test_a_counterpart_has_voice_and_words_and_best_the_strength():
    """Of the three angry clips the first that is as normal as clip 0; never the clip itself, other
    words, another voice, or words that nobody knows."""
    assert counterparts(CLIPS, 0) == {"angry": 2, "neutral": 6}
    assert counterparts(CLIPS, 1) == {"neutral": 0, "angry": 2}
    assert counterparts(CLIPS, 7) == {}


def test_a_difference_in_one_coefficient_is_its_size_in_decibels():
    """c_3 alone differs, by .5: 10 / ln 10 sqrt(2 x .25) = 3.0709 dB. The level differs too, which
    does not count."""
    one, other = (cepstra(shaped(0.0, 0.0)), cepstra(2.0 + shaped(0.5, 0.5)))
    assert other[:, 2] == pytest.approx([0.5, 0.5])
    nothing = np.full(2, np.nan)
    told = distances(Recording(one, nothing), Recording(other, nothing))
    assert told == {"mcd_db": pytest.approx(3.0709, abs=1e-4)}


def test_another_pace_is_no_distance():
    slow, fast = shaped(0.0, 0.0, 0.4, 0.4, 0.9, 0.9), shaped(0.0, 0.4, 0.9)
    f0_hz = np.array([100.0, 200.0, 300.0])
    told = distances(Recording(cepstra(slow), np.repeat(f0_hz, 2)), Recording(cepstra(fast), f0_hz))
    assert told == {"mcd_db": pytest.approx(0.0), "f0_error_semitones": pytest.approx(0.0)}


def test_an_interval_of_tones_is_the_error_of_their_pitch():
    """160 Hz three semitones up is 190.3 Hz; pYIN's steps are a fifth of a semitone."""
    low, high = (analyse(tone(f0, 0.1).astype(np.float32), MEL) for f0 in (160.0, 190.27))
    told = distances(low, high)
    assert told["f0_error_semitones"] == pytest.approx(3.0, abs=0.2)
    assert distances(low, low) == {"mcd_db": 0.0, "f0_error_semitones": 0.0}


def test_outputs_are_compared_with_what_there_is_of_the_emotions():
    assert MEL.sample_rate_hz == RATE_HZ
    pitches = {2: 190.27, 6: 160.0}
    read = []

    def sound(utterance):
        index = CLIPS.index(utterance)
        read.append(index)
        return tone(pitches[index], 0.1).astype(np.float32)

    parallels = Parallels(CLIPS, MEL, sound)
    output = tone(160.0, 0.1).astype(np.float32)
    angry = parallels.figures(output, 0, ("angry", "disgust"))
    both = parallels.figures(output, 0, ("angry", "neutral"))
    assert angry["f0_error_semitones"] == pytest.approx(3.0, abs=0.2)
    assert both["f0_error_semitones"] == pytest.approx(angry["f0_error_semitones"] / 2)
    assert both["mcd_db"] == pytest.approx(angry["mcd_db"] / 2)
    assert parallels.figures(output, 0, ("disgust",)) == {}
    assert read == [2, 6]  # each once
