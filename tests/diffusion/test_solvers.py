"""Solvers under exact Gaussian scores, where theory gives the answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.diffusion import algorithms, plan, solvers
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.errors import UsageError

SDE = MeanRevertingSDE()


def _b(t: float) -> float:
    return 0.05 * t + 19.95 * t * t / 2


def _gaussian_scores(means: list[float], std: float, voice: jax.Array):
    """Returns `score_of` for data N(mean, std^2), exact at every t, one condition per mean."""

    def score_of(xt: jax.Array, t: jax.Array, active: tuple[int, ...]) -> jax.Array:
        alpha = jnp.exp(-(0.05 * t + 19.95 * t * t / 2) / 2)[:, None, None]
        variance = alpha**2 * std**2 + 1 - alpha**2
        return jnp.stack(
            [-(xt - alpha * means[i] - (1 - alpha) * voice) / variance for i in active]
        )

    return score_of


def _run(
    solver: str, wanted: plan.EmotionPlan, means: list[float], std: float, shape=(2, 8, 4), **more
) -> jax.Array:
    voice = jnp.full(shape, 0.5)
    keys = jax.random.split(jax.random.key(5), shape[0])
    start = solvers.start_state(SDE, voice, voice, keys)
    score_of = _gaussian_scores(means, std, voice)
    table, mask = jnp.asarray(wanted.weights), jnp.ones(shape[:2])

    def run(table: jax.Array, start: jax.Array) -> jax.Array:
        return solvers.sample(
            solver, SDE, score_of, wanted.segments(), table, start, voice, mask, keys, **more
        )

    return jax.jit(run)(table, start)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["euler_maruyama", "maximum_likelihood"])
def test_drawn_noise_leads_to_mean_and_std_of_gaussian_data(solver: str) -> None:
    x0 = _run(solver, plan.single("happy", 400), [-2.0], 0.7, shape=(4, 64, 32))
    # 8192 values: standard errors .008 and .005; the rest is the solver's own step error.
    assert float(x0.mean()) == pytest.approx(-2.0, abs=0.04)
    assert float(x0.std()) == pytest.approx(0.7, abs=0.04)


@pytest.mark.parametrize("solver", ["probability_flow", "euler_maruyama", "ddim"])
def test_error_falls_with_the_first_power_of_the_step(solver: str) -> None:
    """The law of a linear solver is followed exactly: variance through a + b ds/dx and c."""

    def error(steps: int) -> float:
        grid = solvers.time_grid(steps)
        found = solvers.SOLVERS[solver].coefficients(SDE, grid)
        variance, target = 1.0, 0.7**2
        for i, t in enumerate(grid[:-1]):
            alpha2 = np.exp(-_b(t))
            gain = found["state"][i] - found["score"][i] / (alpha2 * target + 1 - alpha2)
            variance = gain**2 * variance + found["noise"][i] ** 2
        return abs(np.sqrt(variance) - 0.7)

    assert error(400) / error(800) == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize(("steps", "start"), [(1, 1.0), (6, 1.0), (30, 0.4), (500, 1.0)])
def test_maximum_likelihood_step_is_the_gaussian_posterior(steps: int, start: float) -> None:
    """Given X_0 = Y + r the score is known, and q(U_s | U_t, U_0) is plain Gaussian algebra."""
    found = algorithms.maximum_likelihood(SDE, solvers.time_grid(steps, start))
    r, h = 1.3, start / steps
    for i in range(steps):
        t = start - i * h
        s = t - h if i < steps - 1 else 0.0
        alpha_t, alpha_s, between = (np.exp(-b / 2) for b in (_b(t), _b(s), _b(t) - _b(s)))
        var_t, var_s, var_between = 1 - alpha_t**2, 1 - alpha_s**2, 1 - between**2
        for u in (-0.8, 2.1):
            mean = (between * var_s * u + alpha_s * var_between * r) / var_t
            score = -(u - alpha_t * r) / var_t
            step = found["state"][i] * u + found["score"][i] * score
            # 1 - alpha^2 in this test cancels to about 1e-16 / var_t, hence not tighter.
            assert step == pytest.approx(mean, rel=1e-6, abs=1e-6)
        assert found["noise"][i] ** 2 == pytest.approx(var_s * var_between / var_t, abs=1e-9)
    assert found["noise"][-1] == 0.0


def test_maximum_likelihood_is_diffvc_s_formula() -> None:
    """Against DiffVC's kappa and omega, evaluated in extended precision."""
    steps = 50
    found = algorithms.maximum_likelihood(SDE, solvers.time_grid(steps))
    h = np.longdouble(1) / steps
    for i in range(steps):
        t = 1 - i * h
        s = t - h
        rate = (0.05 + t * np.longdouble(19.95)) * h

        def g(p, q, power):
            return np.exp(-power / 2 * (0.05 + np.longdouble(19.95) * (p + q) / 2) * (q - p))

        mu = g(s, t, 1) * (1 - g(0, s, 2)) / (1 - g(0, t, 2))
        nu = g(0, s, 1) * (1 - g(s, t, 2)) / (1 - g(0, t, 2))
        omega = nu / g(0, t, 1) + mu - (rate / 2 + 1)
        kappa = g(0, s, 1) * (1 - g(s, t, 2)) / (g(0, t, 1) * rate) - 1
        assert found["state"][i] == pytest.approx(float(1 + rate / 2 + omega), rel=1e-10)
        assert found["score"][i] == pytest.approx(float((1 + kappa) * rate), rel=1e-10)


@pytest.mark.parametrize("solver", sorted(solvers.SOLVERS))
def test_coefficients_are_double_precision(solver: str) -> None:
    found = solvers.SOLVERS[solver].coefficients(SDE, solvers.time_grid(500))
    for column in found.values():
        assert column.dtype == np.float64
        assert column.shape == (500,)


def test_maximum_likelihood_lands_on_the_data_when_they_are_known() -> None:
    x0 = _run("maximum_likelihood", plan.single("happy", 6), [1.7], 0.0)
    np.testing.assert_allclose(x0, 1.7, atol=1e-4)


@pytest.mark.parametrize("solver", sorted(solvers.SOLVERS))
@pytest.mark.parametrize(("strength", "mean"), [(0.0, -2.0), (1.0, 3.0)])
def test_ends_of_a_mix_are_the_pure_emotions_bit_for_bit(
    solver: str, strength: float, mean: float
) -> None:
    mix = plan.emomix(plan.single("sad", 10), plan.single("happy", 10), strength)
    pure = _run(solver, plan.single("any", 10), [mean], 0.3)
    np.testing.assert_array_equal(_run(solver, mix, [mean], 0.3), pure)


@pytest.mark.slow
def test_a_weight_of_one_among_several_conditions_changes_nothing() -> None:
    wanted = plan.EmotionPlan(("sad", "happy"), np.tile([1.0, 0.0], (10, 1)))
    every = ((0, 10, (0, 1)),)
    voice, mask = jnp.zeros((1, 4, 3)), jnp.ones((1, 4))
    keys = jax.random.split(jax.random.key(6), 1)
    start = solvers.start_state(SDE, voice, voice, keys)
    score_of = _gaussian_scores([-2.0, 3.0], 0.3, voice)
    both, one = (
        solvers.sample(
            "maximum_likelihood", SDE, score_of, segments, wanted.weights, start, voice, mask, keys
        )
        for segments in (every, wanted.segments())
    )
    np.testing.assert_allclose(both, one, rtol=1e-6, atol=1e-6)


def test_mixed_gaussian_scores_meet_at_the_weighted_mean() -> None:
    """A product of Gaussians of one variance is the Gaussian at the weighted mean."""
    wanted = plan.mix({"sad": 1.0, "happy": 3.0}, 200)
    x0 = _run("probability_flow", wanted, [-2.0, 2.0], 0.5, shape=(4, 32, 32))
    assert float(x0.mean()) == pytest.approx(1.0, abs=0.05)


def test_guidance_moves_the_mean_beyond_the_emotion() -> None:
    wanted = plan.guided(plan.single("happy", 200), "neutral", 1.5)
    x0 = _run("probability_flow", wanted, [2.0, 0.0], 0.5, shape=(4, 32, 32))
    assert float(x0.mean()) == pytest.approx(3.0, abs=0.07)


def test_weights_per_frame_give_each_frame_its_emotion() -> None:
    weights = np.zeros((10, 2, 8), np.float32)
    weights[:, 0, :5] = 1
    weights[:, 1, 5:] = 1
    x0 = _run("maximum_likelihood", plan.EmotionPlan(("sad", "happy"), weights), [-2.0, 3.0], 0.0)
    np.testing.assert_allclose(x0[:, :5], -2.0, atol=1e-4)
    np.testing.assert_allclose(x0[:, 5:], 3.0, atol=1e-4)


def test_only_conditions_with_a_weight_are_evaluated() -> None:
    seen = []

    def score_of(xt: jax.Array, t: jax.Array, active: tuple[int, ...]) -> jax.Array:
        seen.append((active, t.shape))
        return jnp.stack([-xt] * len(active))

    wanted = plan.emomix(plan.single("sad", 10), plan.single("happy", 10), 0.5)
    x = jnp.zeros((2, 4, 3))
    keys = jax.random.split(jax.random.key(7), 2)
    solvers.sample(
        "probability_flow",
        SDE,
        score_of,
        wanted.segments(),
        wanted.weights,
        x,
        x,
        jnp.ones((2, 4)),
        keys,
    )
    assert list(dict.fromkeys(seen)) == [((0,), (2,)), ((0, 1), (2,)), ((1,), (2,))]


@pytest.mark.slow
@pytest.mark.parametrize("solver", sorted(solvers.SOLVERS))
def test_padding_and_batch_do_not_change_real_frames(solver: str) -> None:
    key = jax.random.key(8)
    mel = jax.random.normal(jax.random.fold_in(key, 0), (2, 5, 3))
    keys = jax.random.split(jax.random.fold_in(key, 1), 2)
    wanted = plan.single("happy", 7)

    def convert(mel: jax.Array, keys: jax.Array, frames: int) -> jax.Array:
        padding = frames - mel.shape[1]
        voice = jnp.pad(mel, ((0, 0), (0, padding), (0, 0)), constant_values=9.0)
        mask = jnp.pad(jnp.ones(mel.shape[:2]), ((0, 0), (0, padding)))
        return solvers.sample(
            solver,
            SDE,
            _gaussian_scores([1.0], 0.5, voice),
            wanted.segments(),
            wanted.weights,
            solvers.start_state(SDE, voice, voice, keys),
            voice,
            mask,
            keys,
        )

    short = convert(mel, keys, 5)
    long = convert(mel, keys, 12)
    np.testing.assert_allclose(long[:, :5], short, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(long[:, 5:], 0)
    alone = convert(mel[1:], keys[1:], 5)
    np.testing.assert_allclose(alone, short[1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("start", [1.0, 0.3])
def test_start_state_has_the_law_of_its_time(start: float) -> None:
    source, voice = jnp.full((4, 64, 32), 3.0), jnp.full((4, 64, 32), -1.0)
    keys = jax.random.split(jax.random.key(9), 4)
    mean = -1 + 4 * np.exp(-_b(start) / 2)
    noise = solvers.start_state(SDE, source, voice, keys, start) - mean
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.04)
    assert float(noise.std()) == pytest.approx(np.sqrt(1 - np.exp(-_b(start))), abs=0.03)
    assert abs(np.corrcoef(np.asarray(noise).reshape(4, -1))[0, 1]) < 0.1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_renewed_state_keeps_its_variance_and_as_much_of_itself_as_is_asked(share: float) -> None:
    source, voice = jnp.full((4, 64, 32), 3.0), jnp.full((4, 64, 32), -1.0)
    start, keys = 0.5, jax.random.split(jax.random.key(9), 4)
    mean = -1 + 4 * np.exp(-_b(start) / 2)
    std = np.sqrt(1 - np.exp(-_b(start)))
    own = std * np.random.default_rng(3).normal(size=source.shape).astype(np.float32)
    state = jnp.asarray(mean + own, jnp.float32)
    found = solvers.renewed(SDE, state, source, voice, keys, jnp.float32(share), start) - mean
    assert float(found.std()) == pytest.approx(std, abs=0.03)
    kept = np.corrcoef(np.asarray(found).ravel(), own.ravel())[0, 1]
    assert kept == pytest.approx(np.sqrt(1 - share), abs=0.03)


@pytest.mark.parametrize("start", [0.2, 0.4, 0.8])
def test_an_early_start_keeps_the_share_of_the_source_that_theory_says(start: float) -> None:
    """Backwards from X_t of a source x to data N(m, s^2): E X_0 is the Gaussian posterior mean.

    The flow maps the law of X_t onto the data, so a state c above the mean of N(alpha m, v) ends
    s c / sqrt(v) above m, v = alpha^2 s^2 + 1 - alpha^2; the source's c is alpha (x - m).
    """
    shape, x, m, s = (4, 64, 32), 2.0, -1.0, 0.5
    source, voice, mask = jnp.full(shape, x), jnp.zeros(shape), jnp.ones(shape[:2])
    keys = jax.random.split(jax.random.key(11), 4)
    wanted = plan.single("sad", 200)
    x0 = solvers.sample(
        "probability_flow",
        SDE,
        _gaussian_scores([m], s, voice),
        wanted.segments(),
        wanted.weights,
        solvers.start_state(SDE, source, voice, keys, start),
        voice,
        mask,
        keys,
        grid=solvers.time_grid(200, start),
    )
    alpha2 = np.exp(-_b(start))
    kept = s * np.sqrt(alpha2 / (alpha2 * s**2 + 1 - alpha2))
    assert float(x0.mean()) == pytest.approx(m + kept * (x - m), abs=0.03)


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.4), (0.5, 0.0), (0.02, 0.7), (0.3, 1.0)])
def test_ddim_is_exact_in_one_step_either_way_for_data_of_one_point(t: float, s: float) -> None:
    """U_t = alpha_t r + sigma_t e with one e at all times; the score is then -e / sigma_t."""
    found = algorithms.ddim(SDE, np.array([t, s]))
    r, e = 1.3, -0.6
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        (np.exp(-_b(time) / 2), np.sqrt(1 - np.exp(-_b(time)))) for time in (t, s)
    )
    step = found["state"][0] * (alpha_t * r + sigma_t * e) + found["score"][0] * (-e / sigma_t)
    assert step == pytest.approx(alpha_s * r + sigma_s * e, rel=1e-9)
    assert found["noise"][0] == 0


@pytest.mark.parametrize("start", [0.4, 1.0])
def test_inversion_is_the_flow_of_the_sources_own_law_and_the_way_back_that_of_the_target(
    start: float,
) -> None:
    """The flow keeps the number of standard deviations c from the mean (here Y = 0).

    From N(m, s^2) it leads a source m + c s to alpha m + c sqrt(v), v = alpha^2 s^2 + sigma^2,
    and from there back under N(m', s^2) to m' + (alpha (m - m') / sqrt(v) + c) s.
    """
    shape, m, other, s, c = (1, 4, 3), -1.0, 2.0, 0.5, 1.4
    voice, mask, grid = jnp.zeros(shape), jnp.ones(shape[:2]), solvers.time_grid(400, start)
    scores = _gaussian_scores([m, other], s, voice)
    source = jnp.full(shape, m + c * s)
    latent = solvers.invert(SDE, scores, source, voice, mask, grid, "ddim")
    alpha = np.exp(-_b(start) / 2)
    v = alpha**2 * s**2 + 1 - alpha**2
    np.testing.assert_allclose(latent, alpha * m + c * np.sqrt(v), atol=0.03)

    def back(condition: int) -> jax.Array:
        segments, weights = ((0, 400, (condition,)),), np.eye(2)[np.full(400, condition)]
        return solvers.sample(
            "ddim", SDE, scores, segments, weights, latent, voice, mask, None, grid=grid
        )

    np.testing.assert_allclose(back(0), source, atol=0.03)
    expected = other + (alpha * (m - other) / np.sqrt(v) + c) * s
    np.testing.assert_allclose(back(1), expected, atol=0.05)


def test_a_solver_that_draws_noise_needs_keys() -> None:
    x = jnp.zeros((1, 4, 3))
    with pytest.raises(UsageError, match="keys: found none, solver euler_maruyama draws noise"):
        solvers.sample(
            "euler_maruyama",
            SDE,
            lambda xt, t, active: xt[None],
            ((0, 2, (0,)),),
            jnp.ones((2, 1)),
            x,
            x,
            jnp.ones((1, 4)),
            None,
        )


@pytest.mark.parametrize("start", [0.0, -0.1, 1e-36, 1.01, float("nan")])
def test_a_start_out_of_range_is_refused(start: float) -> None:
    with pytest.raises(UsageError, match=r"start: found .*, allowed is 0.001 to 1"):
        solvers.time_grid(10, start)


def test_steps_are_reported_as_they_finish() -> None:
    reported = []
    wanted = plan.emomix(plan.single("sad", 10), plan.single("happy", 10), 0.5)
    _run("maximum_likelihood", wanted, [-1.0, 1.0], 0.5, on_step=reported.append)
    jax.effects_barrier()
    assert sorted(reported) == list(range(1, 11))


@pytest.mark.parametrize(
    ("solver", "segments", "message"),
    [
        ("magic", ((0, 2, (0,)),), "solver: found 'magic', allowed are: probability_flow"),
        ("euler_maruyama", ((0, 1, (0,)),), "must cover steps 0 to 2"),
        ("euler_maruyama", ((0, 1, (0,)), (1, 2, ())), "must cover steps 0 to 2"),
    ],
)
def test_wrong_requests_are_refused(solver: str, segments: tuple, message: str) -> None:
    x = jnp.zeros((1, 4, 3))
    keys = jax.random.split(jax.random.key(10), 1)
    with pytest.raises(UsageError, match=message):
        solvers.sample(
            solver,
            SDE,
            lambda xt, t, active: xt[None],
            segments,
            jnp.ones((2, 1)),
            x,
            x,
            jnp.ones((1, 4)),
            keys,
        )
