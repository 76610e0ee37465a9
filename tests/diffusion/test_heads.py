"""The two heads describe the same prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.diffusion import heads, losses
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.errors import EmoconvError

SDE = MeanRevertingSDE()
T = jnp.array([0.1, 0.5, 0.95])
ALPHA = np.exp(-(0.05 * np.asarray(T) + 19.95 * np.asarray(T) ** 2 / 2) / 2)[:, None, None]
SIGMA = np.sqrt(1 - ALPHA**2)


def _example() -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(3), 4)
    return [jax.random.normal(key, (3, 6, 4)) for key in keys]


def _predictions() -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns X_t, a wrong velocity, and the score of the same X0_hat by Gaussian arithmetic."""
    x0, average_voice, noise, wrong = _example()
    xt = losses.perturb(SDE, x0, average_voice, noise, T)
    velocity = heads.target("velocity", SDE, x0, average_voice, noise, T) + wrong
    u = xt - average_voice
    denoised = average_voice + ALPHA * u - SIGMA * velocity
    score = -(xt - ALPHA * denoised - (1 - ALPHA) * average_voice) / SIGMA**2
    return xt, velocity, score


def test_heads_agree_on_score_data_and_mean() -> None:
    average_voice = _example()[1]
    xt, velocity, score = _predictions()
    for read in (heads.score_from_output, heads.denoised_from_output, heads.mean_from_output):
        one = read("velocity", SDE, velocity, xt, average_voice, T)
        other = read("score", SDE, score, xt, average_voice, T)
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-4)


def test_both_heads_have_the_same_loss() -> None:
    x0, average_voice, noise, wrong = _example()
    _, velocity, score = _predictions()
    arguments = (x0, average_voice, noise, T)
    one = heads.score_error("velocity", SDE, velocity, *arguments)
    other = heads.score_error("score", SDE, score, *arguments)
    np.testing.assert_allclose(one, other, atol=2e-4)
    np.testing.assert_allclose(one**2, ALPHA**2 * wrong**2, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("head", heads.HEADS)
def test_perfect_output_has_no_error_and_returns_data_and_mean(head: str) -> None:
    x0, average_voice, noise, _ = _example()
    xt = losses.perturb(SDE, x0, average_voice, noise, T)
    output = heads.target(head, SDE, x0, average_voice, noise, T)
    error = heads.score_error(head, SDE, output, x0, average_voice, noise, T)
    np.testing.assert_allclose(error, 0, atol=1e-6)
    found = heads.denoised_from_output(head, SDE, output, xt, average_voice, T)
    np.testing.assert_allclose(found, x0, atol=1e-4)  # rounding of a score head over alpha = .011
    mean = heads.mean_from_output(head, SDE, output, xt, average_voice, T)
    np.testing.assert_allclose(mean, ALPHA * x0 + (1 - ALPHA) * average_voice, atol=1e-5)


def test_velocity_is_bounded_where_the_score_is_not() -> None:
    x0, average_voice, noise, _ = _example()
    sizes = {
        head: float(jnp.abs(heads.target(head, SDE, x0, average_voice, noise, 1e-5)).max())
        for head in heads.HEADS
    }
    assert sizes["score"] > 1000 > 10 > sizes["velocity"]


def test_unknown_head_is_named() -> None:
    x0, average_voice, noise, _ = _example()
    with pytest.raises(EmoconvError, match=r"'noise'.*score, velocity"):
        heads.target("noise", SDE, x0, average_voice, noise, T)
