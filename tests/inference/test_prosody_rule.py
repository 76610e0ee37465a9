"""Prosody by rule, by arithmetic."""

import numpy as np
import pytest

from emoconv_jax.inference.prosody_rule import (
    HIGHEST_HZ,
    LOUDEST,
    LOWEST_HZ,
    asked,
    durations,
    limited,
    middle_of,
    places,
    speech_share,
    stretched,
    told,
)

FRAME_S = 256 / 22050
DB = np.log(10) / 20


def own(octaves, voicing=1.0, energy=-3.0) -> np.ndarray:
    octaves = np.asarray(octaves, np.float64)
    return np.stack(
        [octaves, np.broadcast_to(voicing, octaves.shape), np.broadcast_to(energy, octaves.shape)],
        axis=1,
    ).astype(np.float32)


def change(frames, octaves=0.0, log_range=0.0, nepers=0.0, log_duration=0.0) -> np.ndarray:
    return np.tile([octaves, log_range, nepers, log_duration], (frames, 1))


def test_pitch_is_moved_and_its_range_scaled_about_the_middle():
    """Around a middle of 7.5: .2 below becomes .4 below at twice the range, and all .3 higher."""
    source = own([7.3, 7.5, 7.8])
    found = asked(source, change(3, 0.3, np.log(2)), np.full(3, 7.5))
    np.testing.assert_allclose(found[:, 0], [7.4, 7.8, 8.4], atol=1e-6)
    np.testing.assert_array_equal(found[:, 1:], source[:, 1:])


def test_no_change_changes_nothing():
    source = own(np.linspace(5.0, 9.9, 20), [0.0, 1.0] * 10, np.linspace(-11, -1, 20))
    np.testing.assert_array_equal(asked(source, change(20), middle_of(source, FRAME_S)), source)


def test_pitch_is_put_out_within_50_to_600_hz():
    source = own(np.log2([70.0, 200.0, 690.0]))
    for octaves, hz in ((3.2, HIGHEST_HZ), (-4.0, LOWEST_HZ)):
        found = asked(source, change(3, octaves), np.full(3, np.log2(200.0)))
        np.testing.assert_allclose(2 ** found[:, 0], hz, rtol=1e-5)


def test_what_has_no_voice_keeps_its_pitch():
    source = own(np.zeros(5), 0.0)
    np.testing.assert_array_equal(middle_of(source, FRAME_S), np.zeros(5))
    found = asked(source, change(5, 0.5, 0.1, 0.2), np.zeros(5))
    np.testing.assert_array_equal(found[:, :2], source[:, :2])


@pytest.mark.parametrize(("db", "expected_db"), [(20, 6), (3, 3), (-3, -3), (-20, -8)])
def test_level_is_limited_and_said(db, expected_db):
    source, asks = own(np.full(50, 7.0)), change(50, nepers=db * DB)
    found = asked(source, asks, np.full(50, 7.0))
    np.testing.assert_allclose(found[:, 2] - source[:, 2], expected_db * DB, atol=1e-6)
    numbers = told(source, asks, found)
    assert numbers["level_db"] == pytest.approx(expected_db)
    assert numbers["level_unlimited_db"] == pytest.approx(db)


def test_loud_speech_is_not_driven_into_full_scale():
    source = own(np.full(50, 7.0), energy=LOUDEST - 1 * DB)
    np.testing.assert_allclose(limited(source, np.full(50, 1.0)), 1 * DB, atol=1e-6)
    source = own(np.full(50, 7.0), energy=LOUDEST + 1 * DB)
    np.testing.assert_allclose(limited(source, np.full(50, 1.0)), 0, atol=1e-6)


def test_pauses_keep_their_level():
    """4 nepers below the loud frames is half-way between a pause and speech."""
    energy = np.full(100, -3.0)
    energy[:30], energy[30:40] = -9.0, -7.0
    share = speech_share(own(np.full(100, 7.0), energy=energy))
    np.testing.assert_allclose(share, np.repeat([0, 0.5, 1], [30, 10, 60]), atol=1e-6)


def test_the_middle_follows_a_second_speaker_and_not_a_phrase():
    """A minute at 7 octaves, then a minute at 8, with a phrase of 2 s half an octave up."""
    minute = round(60 / FRAME_S)
    octaves = np.repeat([7.0, 8.0], minute)
    octaves[minute // 2 : minute // 2 + round(2 / FRAME_S)] += 0.5
    middle = middle_of(own(octaves), FRAME_S)
    assert len(middle) == 2 * minute
    np.testing.assert_allclose(middle[: minute - round(6 / FRAME_S)], 7.0, atol=1e-6)
    np.testing.assert_allclose(middle[minute + round(6 / FRAME_S) :], 8.0, atol=1e-6)


def test_where_little_is_voiced_the_middle_is_that_of_the_whole():
    octaves, voicing = np.full(4000, 7.0), np.zeros(4000)
    voicing[10:15], octaves[10:15], voicing[3000:3100], octaves[3000:3100] = 1, 9.0, 1, 7.5
    assert middle_of(own(octaves, voicing), FRAME_S)[12] == pytest.approx(7.5)


@pytest.mark.parametrize("ratio", [0.85, 1.0, 1.2])
def test_speech_lasts_as_asked_and_voices_give_more_than_pauses(ratio):
    voicing = np.repeat([1.0, 0.0, 1.0, 0.0], 50)
    source, asks = own(np.full(200, 7.0), voicing), change(200, log_duration=np.log(ratio))
    lasts = durations(source, asks, np.zeros(200, bool))
    assert lasts.sum() == pytest.approx(200 * ratio)
    voice, pause = lasts[20] - 1, lasts[70] - 1
    assert voice == pytest.approx(2.5 * pause)


@pytest.mark.parametrize(("ratio", "allowed"), [(0.5, 0.8), (2.0, 1.25)])
def test_pace_has_limits(ratio, allowed):
    source, asks = own(np.full(80, 7.0)), change(80, log_duration=np.log(ratio))
    lasts = durations(source, asks, np.zeros(80, bool))
    np.testing.assert_allclose(lasts, allowed)
    assert len(places(lasts)) == 80 * allowed


def test_what_is_kept_lasts_as_long_and_lies_where_it_lay():
    kept = np.zeros(128, bool)
    kept[:32], kept[-32:] = True, True
    source, asks = own(np.full(128, 7.0)), change(128, log_duration=np.log(1.25))
    at = places(durations(source, asks, kept))
    assert len(at) == 128 + 64 / 4
    np.testing.assert_allclose(at[:32], np.arange(32), atol=1e-9)
    np.testing.assert_allclose(at[-32:], np.arange(96, 128), atol=1e-9)
    np.testing.assert_allclose(durations(source, asks, np.ones(128, bool)), 1)


def test_a_stretched_line_is_a_line():
    table = np.stack([np.arange(40.0), 3 - 0.5 * np.arange(40.0)], axis=1).astype(np.float32)
    at = places(np.full(40, 1.2))
    assert len(at) == 48
    inner = (at >= 0) & (at <= 39)
    found = stretched(table, at)
    np.testing.assert_allclose(found[inner, 0], at[inner], rtol=1e-5)
    np.testing.assert_allclose(found[inner, 1], 3 - 0.5 * at[inner], atol=1e-4)
    np.testing.assert_allclose(np.diff(at), 1 / 1.2)
    single = stretched(table[:1], places(np.array([1.25])))
    np.testing.assert_array_equal(single, table[:1])
