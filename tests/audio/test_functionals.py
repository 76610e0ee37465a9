"""Functionals of signals whose pitch, level and slopes are known."""

import numpy as np
import pytest

from emoconv_jax.audio.functionals import NAMES, RATE_HZ, functionals


def named(audio: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, functionals(audio, RATE_HZ).tolist(), strict=True))


def harmonics(f0_hz: np.ndarray) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    return (sum(np.sin(k * phase) / k for k in range(1, 12)) * 0.05).astype(np.float32)


@pytest.mark.slow
def test_pitch_that_rises_an_octave_a_second_has_that_slope():
    seconds = np.arange(RATE_HZ) / RATE_HZ
    found = named(harmonics(150 * 2**seconds))
    assert found["f0_slope"] == pytest.approx(1.0, abs=0.05)
    assert found["f0_mean"] == pytest.approx(np.log2(150) + 0.5, abs=0.05)
    assert found["f0_point90"] - found["f0_point10"] == pytest.approx(0.8, abs=0.08)
    assert found["voiced_share"] > 0.9 and found["log_seconds"] == pytest.approx(0.0)


@pytest.mark.slow
def test_a_gain_moves_energy_and_the_first_coefficient_alone():
    """Noise has no pitch; 20 dB on 40 bands are 20 sqrt(40) of an orthonormal cosine transform."""
    noise = np.random.default_rng(0).normal(0, 0.01, RATE_HZ).astype(np.float32)
    soft, loud = named(noise), named(10 * noise)
    moved = {name for name in NAMES if abs(loud[name] - soft[name]) > 1e-2}
    means = ("mean", "point10", "point50", "point90")
    assert moved == {f"{c}_{m}" for c in ("energy", "cepstrum0") for m in means}
    assert loud["energy_mean"] - soft["energy_mean"] == pytest.approx(20.0, abs=0.01)
    difference = loud["cepstrum0_mean"] - soft["cepstrum0_mean"]
    assert difference == pytest.approx(20 * np.sqrt(40), abs=0.05)
    assert soft["voiced_share"] < 0.2


@pytest.mark.parametrize("samples", [1, 300, 4410])
def test_fragments_and_silence_have_finite_functionals(samples):
    assert np.isfinite(functionals(np.zeros(samples, np.float32), RATE_HZ)).all()
