"""Losses by hand arithmetic, as sums that add up, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.diffusion import heads, losses
from emoconv_jax.diffusion.sde import MeanRevertingSDE

SDE = MeanRevertingSDE()
MASK = jnp.array([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
T = jnp.array([0.3, 0.8])


def _example() -> list[jax.Array]:
    return [jax.random.normal(key, (2, 4, 3)) for key in jax.random.split(jax.random.key(4), 4)]


def test_score_loss_by_hand() -> None:
    output, x0, average_voice, noise = _example()
    total, count = losses.score_loss("score", SDE, output, x0, average_voice, noise, T, MASK)
    sigma = [np.sqrt(1 - np.exp(-(0.05 * t + 19.95 * t * t / 2))) for t in (0.3, 0.8)]
    by_hand = sum(
        (sigma[i] * float(output[i, f, m]) + float(noise[i, f, m])) ** 2
        for i, frames in enumerate((3, 1))
        for f in range(frames)
        for m in range(3)
    )
    assert float(total) == pytest.approx(by_hand, rel=1e-5)
    assert float(count) == 12


def test_reconstruction_loss_by_hand() -> None:
    x0 = jnp.zeros((2, 4, 3))
    denoised = jnp.arange(24.0).reshape(2, 4, 3) - 5
    total, count = losses.reconstruction_loss(denoised, x0, MASK, jnp.array([0.5, 2.0]))
    first = 5 + 4 + 3 + 2 + 1 + 0 + 1 + 2 + 3
    second = 7 + 8 + 9
    assert float(total) == 0.5 * first + 2 * second
    assert float(count) == 12
    plain, _ = losses.reconstruction_loss(denoised, x0, MASK)
    assert float(plain) == first + second


def test_reconstruction_weight_is_one_minus_t_squared() -> None:
    found = losses.reconstruction_weight(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(found, [1.0, 0.75, 0.0])


def test_perturb_is_mean_plus_noise() -> None:
    _, x0, average_voice, noise = _example()
    alpha = np.exp(-(0.05 * 0.3 + 19.95 * 0.09 / 2) / 2)
    expected = alpha * x0 + (1 - alpha) * average_voice + np.sqrt(1 - alpha**2) * noise
    found = losses.perturb(SDE, x0, average_voice, noise, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", heads.HEADS)
def test_sums_and_counts_of_a_split_batch_add_up(head: str) -> None:
    arrays = _example()
    total, count = losses.score_loss(head, SDE, *arrays, T, MASK)
    parts = [
        losses.score_loss(head, SDE, *(a[i : i + 1] for a in arrays), T[i : i + 1], MASK[i : i + 1])
        for i in range(2)
    ]
    assert float(total) == pytest.approx(float(parts[0][0] + parts[1][0]), rel=1e-6)
    assert float(count) == float(parts[0][1] + parts[1][1])


def test_the_velocitys_loss_is_the_score_loss_without_its_weight() -> None:
    """sigma s_hat + eps = alpha (v - v_hat), so L_s of one time is alpha^2 L_v."""
    arrays = _example()
    for i, t in enumerate((0.3, 0.8)):
        one = [a[i : i + 1] for a in arrays]
        total, count = losses.velocity_loss(SDE, *one, T[i : i + 1], MASK[i : i + 1])
        score, _ = losses.score_loss("velocity", SDE, *one, T[i : i + 1], MASK[i : i + 1])
        alpha = np.exp(-(0.05 * t + 19.95 * t * t / 2) / 2)
        assert float(score) == pytest.approx(alpha**2 * float(total), rel=1e-4)
        assert float(count) == float(MASK[i].sum()) * 3


def test_padding_enters_neither_loss() -> None:
    output, x0, average_voice, noise = _example()
    junk = output + 100 * (1 - MASK[:, :, None])
    for head in heads.HEADS:
        clean = losses.score_loss(head, SDE, output, x0, average_voice, noise, T, MASK)
        dirty = losses.score_loss(head, SDE, junk, x0, average_voice, noise, T, MASK)
        assert clean[0] == dirty[0]
    clean = losses.reconstruction_loss(output, x0, MASK)
    assert clean[0] == losses.reconstruction_loss(junk, x0, MASK)[0]


@pytest.mark.parametrize("head", heads.HEADS)
def test_ablation_on_the_noisy_mel_has_a_gradient_but_not_its_minimum_at_the_score(
    head: str,
) -> None:
    _, x0, average_voice, noise = _example()
    xt = losses.perturb(SDE, x0, average_voice, noise, T)

    def loss(output: jax.Array) -> jax.Array:
        estimate = heads.mean_from_output(head, SDE, output, xt, average_voice, T)
        return losses.reconstruction_loss(estimate, x0, MASK)[0]

    perfect = heads.target(head, SDE, x0, average_voice, noise, T)
    value, gradient = jax.value_and_grad(loss)(perfect)
    assert float(jnp.abs(gradient).max()) > 0.01
    np.testing.assert_array_equal(gradient * (1 - MASK[:, :, None]), 0)
    # Even a perfect score leaves (1 - alpha) |X_0 - Y|, which is why the paper finds it bad.
    alpha = np.exp(-(0.05 * np.asarray(T) + 19.95 * np.asarray(T) ** 2 / 2) / 2)[:, None, None]
    left = np.sum((1 - alpha) * np.abs(x0 - average_voice) * MASK[:, :, None])
    assert float(value) == pytest.approx(float(left), rel=1e-4)


def test_style_loss_by_hand() -> None:
    """One band, two channels; G = F^T F / (2 frames x 1 band x 2 channels); the third is padding.

    F_hat = [[1, 0], [0, 1]]: G_hat = [[1, 0], [0, 1]] / 4
    F     = [[1, 0], [1, 0]]: G     = [[2, 0], [0, 0]] / 4
    squared distance (1/16 + 1/16) = 1/8; a second layer that agrees halves the mean.
    """
    mask = jnp.array([[1.0, 1.0, 0.0]])
    found = jnp.array([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])[:, :, None]
    wanted = jnp.array([[[1.0, 0.0], [1.0, 0.0], [5.0, 5.0]]])[:, :, None]
    two = [jnp.tile(maps, (2, 1, 1, 1)) for maps in (found, wanted)]
    masks = [jnp.tile(mask, (2, 1))] * 2
    times = jnp.array([0.4, 0.6])  # the second example is too late to be judged
    layers = [two[0], two[1]], [two[1], two[1]]
    total, count = losses.style_loss(*layers, masks, times)
    assert (float(total), float(count)) == (1 / 16, 1.0)
    huge = [two[0] * jnp.array([1.0, jnp.inf])[:, None, None, None], two[1]]
    assert float(losses.style_loss(huge, layers[1], masks, times)[0]) == 1 / 16
