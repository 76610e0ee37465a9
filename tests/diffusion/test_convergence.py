"""How fast each solver converges: against closed forms, and against other people's formulas.

For data N(mean, std^2) and Y = 0 the score is -(x - alpha mean) / v, v = alpha^2 std^2 + sigma^2,
and the deterministic flow keeps the number of standard deviations from the mean, (x - alpha mean)
/ sqrt(v).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.diffusion import solvers
from emoconv_jax.diffusion.grids import SPACINGS, log_snr, time_grid, time_of_log_snr
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.errors import UsageError

SDE = MeanRevertingSDE()
SHAPE = (1, 41, 1)
STATES = np.linspace(-2.5, 2.5, 41).reshape(SHAPE)  # as of a standard normal, at t = 1
MEAN, STD = -2.0, 0.5


def _alpha_sigma(t):
    power = 0.05 * t + 19.95 * t * t / 2
    return np.exp(-power / 2), np.sqrt(-np.expm1(-power))


def _score(x, t, mean=MEAN):
    alpha, sigma = _alpha_sigma(t)
    return -(x - alpha * mean) / (alpha**2 * STD**2 + sigma**2)


def _scores(*means):
    def score_of(xt: jax.Array, t: jax.Array, active: tuple[int, ...]) -> jax.Array:
        alpha = jnp.exp(-(0.05 * t + 19.95 * t * t / 2) / 2)[:, None, None]
        variance = alpha**2 * STD**2 + 1 - alpha**2
        return jnp.stack([-(xt - alpha * means[i]) / variance for i in active])

    return score_of


def _flow(x, grid, mean=MEAN):
    """Returns where the deterministic flow leads from the first of the times to the last."""
    (alpha, sigma), (alpha_end, sigma_end) = _alpha_sigma(grid[0]), _alpha_sigma(grid[-1])
    scale = np.sqrt((alpha_end**2 * STD**2 + sigma_end**2) / (alpha**2 * STD**2 + sigma**2))
    return alpha_end * mean + scale * (x - alpha * mean)


def _sampled(solver, grid, score_of=None, segments=None, noise=None, x=STATES):
    """Returns a run of `sample`; each segment has one condition, by default all steps the first."""
    steps = len(grid) - 1
    segments = segments or ((0, steps, (0,)),)
    conditions = 1 + max(active[0] for _, _, active in segments)
    x = jnp.asarray(x, jnp.float32)
    run = jax.jit(
        lambda x, noise: solvers.sample(
            solver,
            SDE,
            score_of or _scores(MEAN),
            segments,
            np.ones((steps, conditions), np.float32),
            x,
            jnp.zeros_like(x),
            jnp.ones(x.shape[:2]),
            None,
            grid=grid,
            noise=noise,
        )
    )
    return np.asarray(run(x, noise), np.float64)


def _rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def _between(spacing, steps, end=0.2):
    """Returns times of a spacing from 1 to an end above 0, where no step is of another kind."""
    if spacing == "uniform_t":
        return np.linspace(1.0, end, steps + 1)
    ends = log_snr(SDE, np.array([1.0, end]))
    return time_of_log_snr(SDE, np.linspace(ends[0], ends[1], steps + 1))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(
    ("solver", "order"), [("probability_flow", 1), ("ddim", 1), ("heun", 2), ("dpmpp_2m", 2)]
)
def test_error_of_a_flow_falls_with_its_order(solver: str, order: int, spacing: str) -> None:
    errors = []
    for steps in (20, 40):
        grid = _between(spacing, steps)
        errors.append(_rms(_sampled(solver, grid) - _flow(STATES, grid)))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_heun_keeps_its_order_down_to_the_data() -> None:
    errors = [
        _rms(_sampled("heun", time_grid(steps)) - _flow(STATES, [1.0, 0.0])) for steps in (30, 60)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m"])
def test_a_second_order_is_worth_it_in_thirty_steps(solver: str) -> None:
    """Against the first order at no fewer scores, down to the data."""
    grid, exact = time_grid(30, 1.0, "log_snr", SDE), _flow(STATES, [1.0, 0.0])
    error = _rms(_sampled(solver, grid) - exact)
    scores = solvers.SOLVERS[solver].evaluations(30)
    first = _sampled("ddim", time_grid(scores, 1.0, "log_snr", SDE))
    assert error < 0.3 * _rms(first - exact)


def test_dpmpp_2m_keeps_its_order_where_the_mix_jumps() -> None:
    """To remember the estimate under the mix before would cost it an order."""
    errors = []
    for steps in (20, 40):
        grid, jump = _between("log_snr", steps), steps // 2
        segments = ((0, jump, (0,)), (jump, steps, (1,)))
        found = _sampled("dpmpp_2m", grid, _scores(-1.0, 1.5), segments)
        exact = _flow(_flow(STATES, grid[: jump + 1], -1.0), grid[jump:], 1.5)
        errors.append(_rms(found - exact))
    assert np.log2(errors[0] / errors[1]) > 1.7


def test_dpmpp_2m_is_the_published_update() -> None:
    """In the variance-exploding variables x / alpha and sigma / alpha of k-diffusion's loop."""

    def score(x, t, xp):  # of two points at -1 and 2, so that nothing is linear in x
        power = 0.05 * t + 19.95 * t * t / 2
        alpha, variance = xp.exp(-power / 2), -xp.expm1(-power)
        log_odds = (3 * alpha * x - 1.5 * alpha**2) / variance  # of 2 against -1
        return (alpha * (0.5 + 1.5 * xp.tanh(log_odds / 2)) - x) / variance

    def score_of(xt: jax.Array, t: jax.Array, active: tuple[int, ...]) -> jax.Array:
        return score(xt, t[:, None, None], jnp)[None]

    grid = time_grid(12, 1.0, "log_snr", SDE)
    alphas, sigmas = _alpha_sigma(grid)
    levels = sigmas / alphas
    x, before = STATES / alphas[0], None
    for i in range(12):
        xt = alphas[i] * x
        data = (xt + sigmas[i] ** 2 * score(xt, grid[i], np)) / alphas[i]
        used = data
        if i > 0 and levels[i + 1] > 0:
            h, h_last = np.log(levels[i] / levels[i + 1]), np.log(levels[i - 1] / levels[i])
            r = h_last / h
            used = (1 + 1 / (2 * r)) * data - 1 / (2 * r) * before
        shrunk = levels[i + 1] / levels[i]
        x, before = shrunk * x + (1 - shrunk) * used, data
    assert np.abs(x).max() < 3
    np.testing.assert_allclose(_sampled("dpmpp_2m", grid, score_of), x, atol=2e-4)


def test_heun_is_the_trapezium_of_the_flow() -> None:
    grid = time_grid(5)
    x = STATES
    for t, s in itertools.pairwise(grid):
        slope = -(0.05 + 19.95 * t) / 2 * (x + _score(x, t))
        guess = x + (s - t) * slope
        after = -(0.05 + 19.95 * s) / 2 * (guess + _score(guess, s))
        x = guess if s == 0 else x + (s - t) * (slope + after) / 2
    np.testing.assert_allclose(_sampled("heun", grid), x, atol=1e-4)


@pytest.mark.parametrize(("solver", "expected"), [("heun", 9), ("dpmpp_2m", 5), ("ddim", 5)])
def test_solvers_ask_for_the_score_as_often_as_they_say(solver: str, expected: int) -> None:
    asked = []

    def score_of(xt: jax.Array, t: jax.Array, active: tuple[int, ...]) -> jax.Array:
        jax.debug.callback(lambda t: asked.append(float(t)), t[0])
        return -xt[None]

    _sampled(solver, time_grid(5), score_of)
    jax.effects_barrier()
    assert len(asked) == expected == solvers.SOLVERS[solver].evaluations(5)
    assert min(asked) > 0  # no score at t = 0, which says nothing


def test_euler_maruyama_converges_strongly_with_order_one() -> None:
    """Path by path, on shared Brownian motions; the noise is additive, hence 1 and not 1/2."""
    rng, fine, paths = np.random.default_rng(3), 4096, (1, 128, 4)
    increments = rng.standard_normal((fine, *paths)) / np.sqrt(fine)
    start = rng.standard_normal(paths)
    x, h = start, 1 / fine
    for i, dw in enumerate(increments):
        t = 1 - i * h
        beta = 0.05 + 19.95 * t
        x = x + beta * (x / 2 + _score(x, t)) * h + np.sqrt(beta) * dw
    errors = []
    for steps in (64, 128):
        noise = increments.reshape(steps, fine // steps, *paths).sum(axis=1) * np.sqrt(steps)
        found = _sampled(
            "euler_maruyama", time_grid(steps), noise=jnp.asarray(noise, jnp.float32), x=start
        )
        errors.append(_rms(found - x))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("solver", sorted(solvers.SOLVERS))
def test_mean_and_variance_of_the_data_are_reached(solver: str, spacing: str) -> None:
    """On a Gaussian score the result is affine in the first state and in the noise of every step.

    So the law is known without a draw: one bin has no noise at all, which gives the mean, and each
    other has a single 1 in one of these places, whose effects add up in squares.
    """
    steps = 200
    places = np.eye(steps + 2, dtype=np.float32)[1:, None, None]  # of the first state and the steps
    grid = time_grid(steps, 1.0, spacing, SDE)
    found = _sampled(solver, grid, noise=jnp.asarray(places[1:]), x=places[0]).ravel()
    assert found[0] == pytest.approx(MEAN, abs=0.03)
    assert np.sqrt(np.sum((found[1:] - found[0]) ** 2)) == pytest.approx(STD, abs=0.03)


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_an_inversion_is_of_its_solvers_order(solver: str, order: int) -> None:
    """On a log-SNR grid, whose least time leaves next to nothing to err at the data's end."""
    source = jnp.asarray(_flow(STATES, [1.0, 0.0]), jnp.float32)
    errors = []
    for steps in (20, 40):
        grid, mask = time_grid(steps, 1.0, "log_snr", SDE), jnp.ones(SHAPE[:2])
        latent = solvers.invert(SDE, _scores(MEAN), source, jnp.zeros(SHAPE), mask, grid, solver)
        errors.append(np.abs(np.asarray(latent) - STATES).max())
    print(errors)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("start", [1.0, 0.3, 0.001])
def test_a_log_snr_grid_is_even_in_log_snr(start: float) -> None:
    grid = time_grid(30, start, "log_snr", SDE)
    assert grid.shape == (31,) and grid[0] == start and grid[-1] == 0
    assert grid[-2] == pytest.approx(min(0.001, start / 2), rel=1e-9)
    alpha, sigma = _alpha_sigma(grid[:-1])
    steps = np.diff(np.log(alpha / sigma))
    assert steps.min() > 0
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-6)


def test_the_inverse_of_log_snr_returns_the_time() -> None:
    times = np.concatenate([[0.0], np.geomspace(1e-9, 1, 50)])
    np.testing.assert_allclose(time_of_log_snr(SDE, log_snr(SDE, times)), times, rtol=1e-12)
    constant = MeanRevertingSDE(3.0, 3.0)
    np.testing.assert_allclose(time_of_log_snr(constant, log_snr(constant, times)), times)


def test_one_step_of_either_spacing_leads_all_the_way() -> None:
    for spacing in SPACINGS:
        np.testing.assert_array_equal(time_grid(1, 0.7, spacing, SDE), [0.7, 0.0])


@pytest.mark.parametrize(
    ("spacing", "sde", "message"),
    [
        ("karras", SDE, "spacing: found 'karras', allowed are uniform_t, log_snr"),
        ("log_snr", None, "sde: found none, spacing log_snr needs the forward process"),
    ],
)
def test_a_wrong_spacing_is_refused(spacing: str, sde, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        time_grid(10, 1.0, spacing, sde)
