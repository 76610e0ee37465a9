"""The yardsticks move what they say they move, by as much, and nothing else."""

import numpy as np
import pytest
from tones import tone

from emoconv_jax.audio.prosody import level_db, median_f0_hz
from emoconv_jax.evaluation import yardsticks

RATE_HZ = 22_050


def test_the_rule_moves_pitch_pace_and_level():
    """One step up: 1.6 semitones are a factor 1.0968, 5 % faster, 2.5 dB louder."""
    audio = tone(150.0, 0.2).astype(np.float32)
    moved = yardsticks.signal(audio, RATE_HZ, 1.0)
    assert len(moved) / len(audio) == pytest.approx(1 / 1.05, rel=0.01)
    before, after = (median_f0_hz(one, RATE_HZ) for one in (audio, moved))
    assert after / before == pytest.approx(2 ** (1.6 / 12), rel=0.015)
    # the tilt adds up to 1.5 dB of what lies above 1 kHz
    assert 2.0 < level_db(moved, RATE_HZ) - level_db(audio, RATE_HZ) < 4.2


def test_no_step_changes_neither_pitch_nor_length():
    audio = tone(150.0, 0.2).astype(np.float32)
    still = yardsticks.signal(audio, RATE_HZ, 0.0)
    assert len(still) == pytest.approx(len(audio), abs=RATE_HZ * 0.02)
    assert median_f0_hz(still, RATE_HZ) == pytest.approx(150.0, rel=0.015)


def test_a_level_is_moved_by_decibels_and_stays_within_full_scale():
    audio = np.float32(0.1) * np.sin(np.arange(4000) / 20).astype(np.float32)
    moved = yardsticks.level(audio, -2.0)
    np.testing.assert_allclose(moved, audio * 10 ** (-5.0 / 20), rtol=1e-5)
    assert np.abs(yardsticks.level(audio, 20.0)).max() == pytest.approx(0.99)


def test_copies_have_the_length_of_the_mel(converter, speech):
    frames = len(speech) // 256
    assert yardsticks.unchanged("source", speech, converter) is speech
    for name in ("copy_synthesis", "average_voice"):
        assert yardsticks.unchanged(name, speech, converter).shape == (frames * 256,)
