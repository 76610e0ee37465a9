"""What the recogniser's augmentation may and may not do to a mel."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.config import MelConfig
from emoconv_jax.training import augmentation

FLOOR = math.log(MelConfig().floor)


def keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(0), count)


def augment(mel: jax.Array, own: jax.Array, gain_db: float, masked_bands: int) -> jax.Array:
    """Compiles it anew for every call, and whole: the strengths are constants of the module."""
    call = jax.jit(lambda *arrays: augmentation.augment(*arrays, gain_db, masked_bands))
    return call(mel, own)


def test_with_every_strength_at_zero_nothing_changes(monkeypatch):
    for name, value in {"WARP": 0.0, "TILT_DB": 0.0, "WAVE_DB": 0.0, "NOISY": 0.0}.items():
        monkeypatch.setattr(augmentation, name, value)
    mel = jnp.asarray(np.random.default_rng(0).normal(-4.0, 1.0, (3, 10, 80)), jnp.float32)
    np.testing.assert_allclose(augment(mel, keys(3), 0.0, 0), mel, atol=1e-5)


def test_gains_are_as_wide_as_asked_for_and_no_wider(monkeypatch):
    for name, value in {"WARP": 0.0, "TILT_DB": 0.0, "WAVE_DB": 0.0, "NOISY": 0.0}.items():
        monkeypatch.setattr(augmentation, name, value)
    mel = jnp.zeros((200, 4, 80))
    gain_db = np.asarray(augment(mel, keys(200), 12.0, 0))[:, 0, 0] * 20 / math.log(10)
    assert np.abs(gain_db).max() <= 12.001 and gain_db.max() > 11 and gain_db.min() < -11


@pytest.mark.slow
def test_a_warp_moves_a_peak_by_at_most_its_share(monkeypatch):
    for name, value in {"TILT_DB": 0.0, "WAVE_DB": 0.0, "NOISY": 0.0}.items():
        monkeypatch.setattr(augmentation, name, value)
    mel = jnp.full((100, 4, 80), -8.0).at[:, :, 50].set(0.0)
    peaks = np.asarray(augment(mel, keys(100), 0.0, 0))[:, 0].argmax(-1)
    assert peaks.min() < 48 and peaks.max() > 52  # 50 (1 +- .08) = 46 .. 54
    assert peaks.min() >= 46 and peaks.max() <= 54


def test_noise_fills_silence_and_lies_below_speech(monkeypatch):
    for name, value in {"WARP": 0.0, "TILT_DB": 0.0, "WAVE_DB": 0.0, "NOISY": 1.0}.items():
        monkeypatch.setattr(augmentation, name, value)
    mel = jnp.full((50, 8, 80), FLOOR).at[:, :4].set(0.0)  # half of it speech, half silence
    heard = np.asarray(augment(mel, keys(50), 0.0, 0))
    db = (heard[:, 4:] * 20 / math.log(10)).mean((1, 2))
    # 15 to 50 dB below the mean power, which is 3 dB below that of the speech
    assert db.max() <= -18 + 0.1 and db.min() >= -53 - 0.1 and np.ptp(db) > 25
    np.testing.assert_allclose(heard[:, :4], 0.0, atol=0.01)


def test_never_below_the_floor_and_one_band_at_most_is_lost():
    mel = jnp.full((20, 6, 80), FLOOR + 6.0)
    heard = np.asarray(augment(mel, keys(20), 3.0, 12))
    assert heard.min() >= FLOOR - 1e-5
    lost = (heard[:, 0] <= FLOOR + 1e-5).sum(-1)
    assert lost.max() <= 12 and lost.max() > 0


@pytest.mark.slow
def test_each_example_has_its_own_draw_whatever_stands_beside_it():
    mel = jnp.asarray(np.random.default_rng(0).normal(-4.0, 1.0, (4, 10, 80)), jnp.float32)
    together = augment(mel, keys(4), 12.0, 12)
    alone = augment(mel[2:3], keys(4)[2:3], 12.0, 12)
    np.testing.assert_allclose(together[2:3], alone, rtol=1e-5, atol=1e-5)
