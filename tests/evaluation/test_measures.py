"""Measures of one utterance against a tone whose figures are known."""

import numpy as np
import pytest

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.config import MelConfig
from emoconv_jax.evaluation.measures import cosine, measure, nearest_speaker


def test_cosine_and_nearest_do_not_see_lengths():
    a, b = np.array([3.0, 4.0]), np.array([4.0, 3.0])
    assert cosine(a, b) == pytest.approx(24 / 25)
    assert cosine(a, -2 * a) == pytest.approx(-1.0)
    assert nearest_speaker(a, {"far": 100 * b, "near": 0.01 * a}) == "near"


def test_a_tone_has_its_pitch_and_level(converter):
    """A sine of amplitude .1 has 20 lg .1 - 3.01 = -23.01 dBFS."""
    time_s = np.arange(15_360) / 22050
    tone = (0.1 * np.sin(2 * np.pi * 200 * time_s)).astype(np.float32)
    mel = MelConfig()
    found = measure(tone, mel, converter.emotion, converter.speaker)
    assert found.f0_hz == pytest.approx(200, rel=0.01)
    assert found.level_db == pytest.approx(-23.01, abs=0.05)
    assert np.linalg.norm(found.speaker) == pytest.approx(1.0, abs=1e-5)
    assert found.arousal == pytest.approx(converter.emotion(log_mel(tone, mel)).arousal)
    quiet = measure(0.05 * tone, mel, converter.emotion, converter.speaker)
    assert quiet.level_db == pytest.approx(-23.01 + 20 * np.log10(0.05), abs=0.05)
