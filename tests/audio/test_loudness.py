"""Loudness against the figures that the recommendation itself gives."""

import sys

import numpy as np
import pyloudnorm
import pytest

from emoconv_jax.audio.loudness import check_installed, loudness_lufs, match_loudness
from emoconv_jax.errors import EmoconvError


def sine(peak=1.0, seconds=3.0, rate_hz=48000, f0_hz=997.0):
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (peak * np.sin(2 * np.pi * f0_hz * times_s)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [16000, 22050, 48000])
def test_a_sine_of_full_scale_has_the_loudness_of_the_recommendation(rate_hz):
    """ITU-R BS.1770-4, annex 1: 997 Hz at 0 dBFS in one channel reads -3.01 LKFS."""
    assert loudness_lufs(sine(rate_hz=rate_hz), rate_hz) == pytest.approx(-3.01, abs=0.1)
    assert loudness_lufs(sine(0.1, rate_hz=rate_hz), rate_hz) == pytest.approx(-23.01, abs=0.1)


def test_pauses_do_not_count_and_bass_counts_less():
    pause = np.zeros(6 * 48000, np.float32)
    with_pause = np.concatenate([sine(0.1), pause])
    # a power average over all of it would read 10 log10(3) = 4.8 dB less
    assert loudness_lufs(with_pause, 48000) == pytest.approx(-23.0, abs=0.7)
    assert loudness_lufs(sine(f0_hz=30.0), 48000) < -10


@pytest.mark.parametrize("seconds", [0.1, 0.39, 0.4])
def test_what_is_shorter_than_a_block_is_one_block(seconds):
    assert loudness_lufs(sine(seconds=seconds), 48000) == pytest.approx(-3.01, abs=0.3)


def test_every_length_around_a_block_can_be_measured(monkeypatch):
    """Without the filters, which take time and check no length."""
    monkeypatch.setattr(pyloudnorm.IIRfilter, "apply_filter", lambda _, samples: samples)
    tone = sine(rate_hz=22050)
    found = [loudness_lufs(tone[:n], 22050) for n in range(2205, 8822)]
    # 0.691 dB and the mean square of a sine, up to a part of a period
    np.testing.assert_allclose(found, -0.691 - 10 * np.log10(2), atol=0.1)


def test_whatever_pyloudnorm_raises_is_one_line(monkeypatch):
    def integrated_loudness(*_):
        raise ZeroDivisionError("of\nanother's")

    monkeypatch.setattr(pyloudnorm.Meter, "integrated_loudness", integrated_loudness)
    with pytest.raises(EmoconvError, match=r"^loudness: cannot be measured of .*\(of another's\)$"):
        match_loudness(sine(), sine(), 48000)


@pytest.mark.parametrize("seconds", [0.2, 2.0])
@pytest.mark.parametrize("peak", [0.002, 0.05, 0.9])
def test_what_is_matched_is_as_loud_as_its_reference(seconds, peak):
    reference = np.random.default_rng(0).normal(size=round(seconds * 22050)) * 0.05
    matched = match_loudness(sine(peak, seconds, 22050), reference.astype(np.float32), 22050)
    assert matched.dtype == np.float32
    found, wanted = (loudness_lufs(a, 22050) for a in (matched, reference.astype(np.float32)))
    assert found == pytest.approx(wanted, abs=0.01)
    # scaled and not otherwise changed
    np.testing.assert_allclose(
        matched / np.abs(matched).max(), sine(peak, seconds, 22050) / peak, atol=1e-3
    )


def test_the_peak_stays_below_full_scale():
    clicks = np.zeros(22050, np.float32)
    clicks[::2205] = 0.5
    matched = match_loudness(clicks, sine(0.9, 1.0, 22050), 22050)
    assert np.abs(matched).max() == pytest.approx(0.99)


def test_silence_changes_nothing():
    silence, tone = np.zeros(22050, np.float32), sine(0.3, 1.0, 22050)
    assert loudness_lufs(silence, 22050) == -np.inf
    np.testing.assert_array_equal(match_loudness(tone, silence, 22050), tone)
    np.testing.assert_array_equal(match_loudness(silence, tone, 22050), silence)


def test_without_pyloudnorm_it_says_what_to_install(monkeypatch):
    """A path on which nothing is found, as in an environment that has only the base."""
    monkeypatch.delitem(sys.modules, "pyloudnorm", raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(EmoconvError, match=r"needs pyloudnorm.*pip install -e \.\[loudness\]"):
        check_installed()
