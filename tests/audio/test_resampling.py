import numpy as np
import pytest

from emoconv_jax.audio.resampling import resample


@pytest.mark.parametrize(("from_hz", "to_hz"), [(48000, 22050), (22050, 16000), (8000, 22050)])
def test_a_sine_stays_the_same_sine(from_hz, to_hz):
    source = np.sin(2 * np.pi * 1000 * np.arange(from_hz) / from_hz).astype(np.float32)
    result = resample(source, from_hz, to_hz)
    expected = np.sin(2 * np.pi * 1000 * np.arange(to_hz) / to_hz)
    assert result.dtype == np.float32
    assert abs(len(result) - to_hz) <= 1
    inner = slice(to_hz // 10, -to_hz // 10)  # the filter rings at the ends
    assert np.abs(result[:to_hz] - expected[: len(result)])[inner].max() < 1e-3


def test_what_the_new_rate_cannot_hold_is_removed():
    source = np.sin(2 * np.pi * 10_000 * np.arange(48000) / 48000).astype(np.float32)
    assert np.abs(resample(source, 48000, 16000)[1600:-1600]).max() < 1e-3


def test_an_equal_rate_changes_nothing():
    source = np.random.default_rng(0).normal(size=100).astype(np.float32)
    np.testing.assert_array_equal(resample(source, 16000, 16000), source)
