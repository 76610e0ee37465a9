"""The forward process against its own differential equation, Tweedie against exact scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.diffusion.sde import MeanRevertingSDE

SDE = MeanRevertingSDE()


@pytest.mark.slow
def test_marginal_is_the_law_of_the_simulated_path() -> None:
    steps, paths, end = 4000, 20000, 0.4
    generator = np.random.default_rng(0)
    x0, average_voice = 2.0, -1.0
    x = np.full(paths, x0)
    h = end / steps
    for i in range(steps):
        rate = 0.05 + i * h * (20.0 - 0.05)
        x += 0.5 * rate * (average_voice - x) * h
        x += np.sqrt(rate * h) * generator.standard_normal(paths)
    mean, std = SDE.marginal(jnp.full((1, 1, 1), x0), jnp.full((1, 1, 1), average_voice), end)
    # Standard errors: std / sqrt(paths) = 0.006 of the mean, 0.005 of the deviation.
    assert float(mean[0, 0, 0]) == pytest.approx(x.mean(), abs=0.025)
    assert float(std) == pytest.approx(x.std(), abs=0.02)


def test_beta_integral_is_the_integral_of_beta() -> None:
    grid = np.linspace(0.0, 0.7, 10001)
    rate = np.asarray(SDE.beta(grid))
    area = np.sum((rate[1:] + rate[:-1]) / 2 * np.diff(grid))
    assert float(SDE.beta_integral(0.7)) == pytest.approx(area, rel=1e-9)


def test_end_of_the_process_has_the_published_weight_and_variance() -> None:
    assert float(SDE.weight(1.0)) == pytest.approx(0.006654, abs=1e-6)
    assert float(SDE.std(1.0)) ** 2 == pytest.approx(0.999956, abs=1e-6)


def test_std_keeps_its_digits_near_the_data() -> None:
    t = 1e-5
    exact = np.sqrt(-np.expm1(-(0.05 * t + 19.95 * t * t / 2)))
    assert float(SDE.std(jnp.float32(t))) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("t", [1e-3, 0.5, 1.0])
def test_tweedie_returns_the_data_for_the_exact_score(t: float) -> None:
    keys = jax.random.split(jax.random.key(1), 3)
    x0, average_voice, noise = (jax.random.normal(key, (2, 5, 3)) for key in keys)
    mean, std = SDE.marginal(x0, average_voice, t)
    score = -noise / std  # gradient of log N(x; mean, std^2) at mean + std noise
    found = SDE.denoise(mean + std * noise, average_voice, score, t)
    np.testing.assert_allclose(found, x0, atol=2e-4)


def test_one_time_per_utterance_equals_one_call_each() -> None:
    keys = jax.random.split(jax.random.key(2), 3)
    x0, average_voice, score = (jax.random.normal(key, (2, 4, 3)) for key in keys)
    t = jnp.array([0.2, 0.9])
    mean, std = SDE.marginal(x0, average_voice, t)
    found = SDE.denoise(x0, average_voice, score, t)
    for i in range(2):
        one = slice(i, i + 1)
        alone, alone_std = SDE.marginal(x0[one], average_voice[one], t[i])
        np.testing.assert_allclose(mean[one], alone, rtol=1e-6)
        np.testing.assert_allclose(std[i], alone_std, rtol=1e-6)
        other = SDE.denoise(x0[one], average_voice[one], score[one], t[i])
        np.testing.assert_allclose(found[one], other, rtol=1e-5, atol=1e-5)
