"""Noise by absolute frame, and weights by step, frame and utterance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.diffusion import solvers
from emoconv_jax.diffusion.noise import START_FOLD, frame_noise
from emoconv_jax.diffusion.sde import MeanRevertingSDE

SDE = MeanRevertingSDE()
SHAPE = (2, 12, 3)
STEPS = 6


def _keys(seed=0, count=2):
    return jax.random.split(jax.random.key(seed), count)


def _score_of(xt: jax.Array, t: jax.Array, active: tuple[int, ...]) -> jax.Array:
    """Returns the scores for data N(mean, .25) around Y = 0; the first mean is -2, the second 3."""
    alpha = jnp.exp(-(0.05 * t + 19.95 * t * t / 2) / 2)[:, None, None]
    means = [(-2.0, 3.0)[i] for i in active]
    return jnp.stack([-(xt - alpha * mean) / (1 - 0.75 * alpha**2) for mean in means])


def _sampled(solver, weights, frames=SHAPE[1], keys=None, x=None, **more):
    """Returns a run on Y = 0, from noise if from nothing else, under all conditions at once."""
    segments = ((0, STEPS, tuple(range(weights.shape[1]))),)
    keys = _keys() if keys is None else keys
    shape = (len(keys), frames, SHAPE[2])

    def run(keys, weights, x, more):
        voice = jnp.zeros(shape)
        if x is None:
            x = solvers.start_state(SDE, voice, voice, keys, first_frame=more.get("first_frame"))
        mask = jnp.ones(shape[:2])
        return solvers.sample(
            solver, SDE, _score_of, segments, weights, x, voice, mask, keys, **more
        )

    return np.asarray(jax.jit(run)(keys, jnp.asarray(weights), x, more))


def test_a_part_of_a_file_draws_what_the_whole_file_draws_there() -> None:
    whole = frame_noise(_keys(), 3, SHAPE[1:])
    first = jnp.array([0, 5], jnp.int32)
    part = frame_noise(_keys(), 3, (7, 3), first)
    np.testing.assert_array_equal(part[0], whole[0, :7])
    np.testing.assert_array_equal(part[1], whole[1, 5:])


def test_noise_is_standard_normal_and_independent_between_steps_keys_and_frames() -> None:
    noise = np.stack([frame_noise(_keys(), step, (200, 80)) for step in (0, 1, START_FOLD)])
    rows = noise.reshape(-1, 80)  # one per step, utterance and frame: 1200
    # of 96 000 values: standard errors .0032, .0023 and .016
    assert rows.mean() == pytest.approx(0, abs=0.013)
    assert rows.std() == pytest.approx(1, abs=0.01)
    assert (rows**4).mean() == pytest.approx(3, abs=0.12)  # standard error .032
    products = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
    assert np.abs(products).max() < 0.7  # sqrt(1 / 80) each; an equal pair would have 1


@pytest.mark.parametrize("solver", ["maximum_likelihood", "heun"])
def test_a_part_is_converted_as_within_its_file(solver: str) -> None:
    """With a score that looks at one frame at a time, nothing but the noise could differ."""
    weights = np.ones((STEPS, 1), np.float32)
    whole = _sampled(solver, weights)
    part = _sampled(solver, weights, frames=7, first_frame=jnp.array([0, 5], jnp.int32))
    np.testing.assert_allclose(part[0], whole[0, :7], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(part[1], whole[1, 5:], rtol=1e-5, atol=1e-5)


def test_noise_given_outright_replaces_the_keys() -> None:
    weights = np.ones((STEPS, 1), np.float32)
    drawn = jnp.stack([frame_noise(_keys(), step, SHAPE[1:]) for step in range(STEPS)])
    given = _sampled("maximum_likelihood", weights, noise=drawn)
    np.testing.assert_allclose(given, _sampled("maximum_likelihood", weights), rtol=1e-6, atol=1e-6)
    assert np.abs(given - _sampled("maximum_likelihood", weights, noise=0 * drawn)).max() > 0.1


def test_a_lone_score_of_weight_one_is_itself_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((2, *SHAPE)) * 10.0 ** rng.integers(-30, 30, (2, *SHAPE))
    scores = jnp.asarray(scores, jnp.float32)
    for row in ([1.0], [1.0, 0.0]):
        for more in ((), SHAPE[1:2], (2, 1)):
            weights = np.ones((len(row), *more)) * np.reshape(row, (-1, *(1,) * len(more)))
            found = jax.jit(solvers.mixed)(scores[: len(row)], jnp.asarray(weights, jnp.float32))
            np.testing.assert_array_equal(found, scores[0])


def _weighted(solver, weights, batch=slice(None)):
    """Returns a run with given noise, which costs no time to draw, of some of the utterances."""
    rng = np.random.default_rng(1)
    x, noise = rng.standard_normal(SHAPE), rng.standard_normal((STEPS, *SHAPE))
    x, noise = (jnp.asarray(a, jnp.float32) for a in (x[batch], noise[:, batch]))
    return _sampled(solver, weights, x=x, noise=noise, keys=_keys()[batch])


@pytest.mark.parametrize("solver", sorted(solvers.SOLVERS))
def test_weights_of_any_shape_that_say_the_same_do_the_same_bit_for_bit(solver: str) -> None:
    expected = _weighted(solver, np.ones((STEPS, 1), np.float32))
    for more in ((12,), (2, 12)):
        found = _weighted(solver, np.ones((STEPS, 1, *more), np.float32))
        np.testing.assert_array_equal(found, expected)


def test_weights_per_utterance_give_each_its_own_mix() -> None:
    rows = np.array([[0.25, 0.75], [1.5, -0.5]], np.float32)  # utterance x condition
    together = _weighted("dpmpp_2m", np.tile(rows.T[None, :, :, None], (STEPS, 1, 1, 1)))
    for i, row in enumerate(rows):
        alone = _weighted("dpmpp_2m", np.tile(row, (STEPS, 1)), slice(i, i + 1))
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-5, atol=1e-5)
