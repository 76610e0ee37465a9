"""Solvers of the process: from noise at t = 1 to a mel at t = 0 in N steps, or the other way.

On the residual U = X - Y every solver here is a linear step with its own three coefficients,

    (1)  U' = a U + b score + c z,   z ~ N(0, I),   from t to s = t - h

    (2)  probability flow     a = 1 + beta_t h / 2,   b = beta_t h / 2,   c = 0
    (3)  Euler-Maruyama       a = 1 + beta_t h / 2,   b = beta_t h,       c = sqrt(beta_t h)
    (4)  maximum likelihood, with g(p, q) = alpha_q / alpha_p:
         a = mu + nu / g(0, t),   b = g(0, s) (1 - g(s, t)^2) / g(0, t)
         c = sqrt((1 - g(0, s)^2) (1 - g(s, t)^2) / (1 - g(0, t)^2))
         mu = g(s, t) (1 - g(0, s)^2) / (1 - g(0, t)^2)
         nu = g(0, s) (1 - g(s, t)^2) / (1 - g(0, t)^2)
    (5)  DDIM, with X0_hat and eps_hat = -sigma score held over the step, so that s may be on
         either side of t:
         a = alpha_s / alpha_t,   b = sigma_t (a sigma_t - sigma_s),   c = 0

Coefficients are computed in float64 and then cast: in float32 those of (4) lose 1.7 % at
N = 100 and 73 % at N = 500.

The state from which (1) sets out is noise drawn anew around the average voice (`start_state`), as
in the papers, or the source's own (`invert`): the deterministic flow run forwards under the
source's own emotion. Backwards under the same emotion it would return the source; under another
one, what differs is the emotion, and voice, melody and words stay. Either may set out before t = 1,
which keeps more of the source.

Source: DiffVC (arXiv 2109.13821), section 4; (1) collects its kappa and omega into a and b. DDIM
and its inversion: arXiv 2010.02502; starts below 1: SDEdit, arXiv 2108.01073.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.config import LEAST_START
from emoconv_jax.diffusion.plan import Segment
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.errors import UsageError
from emoconv_jax.shapes import Array, Float, Key

ScoreOf = Callable[[Array, Array, tuple[int, ...]], Array]
"""`score_of(xt, t, active)`: `b f m`, `b` and condition indices to scores `k b f m`."""

Grid = Float[np.ndarray, "edges"]
INVERSION_START = 0.02  # at t = 0 itself a score says nothing; sigma is .07 here
START_FOLD = 2**31 - 1  # no solver has that many steps, so start and step noise never coincide


@dataclasses.dataclass(frozen=True)
class Coefficients:
    """The three coefficients of (1) at every step, in float64."""

    residual: Float[np.ndarray, "s"]
    score: Float[np.ndarray, "s"]
    noise: Float[np.ndarray, "s"]


def time_grid(steps: int, start: float = 1.0) -> Float[np.ndarray, "edges"]:
    """Returns the times between which the steps lead, equally spaced.

    Args:
        steps: number of steps N, at least 1.
        start: the first time t_0, from LEAST_START to 1.

    Returns:
        t_0, t_0 (N - 1) / N, .., t_0 / N, 0 in float64.

    Raises:
        UsageError: fewer than one step, or a start out of range.
    """
    if steps < 1:
        raise UsageError(f"steps: found {steps}, at least 1 is needed")
    if not LEAST_START <= start <= 1:  # also refuses NaN
        raise UsageError(f"start: found {start}, allowed is {LEAST_START} to 1")
    return start * np.arange(steps, -1, -1, dtype=np.float64) / steps


def probability_flow(sde: MeanRevertingSDE, grid: Grid) -> Coefficients:
    """Returns the coefficients (2): Euler steps of the deterministic flow.

    Args:
        sde: the forward process.
        grid: from `time_grid`, or any other that falls to 0.

    Returns:
        The coefficients of all steps.
    """
    rate = np.asarray(sde.beta(grid[:-1])) * -np.diff(grid)
    return Coefficients(1 + 0.5 * rate, 0.5 * rate, np.zeros(len(rate)))


def euler_maruyama(sde: MeanRevertingSDE, grid: Grid) -> Coefficients:
    """Returns the coefficients (3): Euler steps of the reverse SDE.

    Args:
        sde: the forward process.
        grid: from `time_grid`, or any other that falls to 0.

    Returns:
        The coefficients of all steps.
    """
    rate = np.asarray(sde.beta(grid[:-1])) * -np.diff(grid)
    return Coefficients(1 + 0.5 * rate, rate, np.sqrt(rate))


def maximum_likelihood(sde: MeanRevertingSDE, grid: Grid) -> Coefficients:
    """Returns the coefficients (4), with which each step is the exact Gaussian posterior.

    Args:
        sde: the forward process.
        grid: from `time_grid`, or any other that falls to 0.

    Returns:
        The coefficients of all steps; the last adds no noise.
    """
    now, after = (np.asarray(sde.beta_integral(times)) for times in (grid[:-1], grid[1:]))
    lost = -np.expm1(after - now)  # 1 - g(s, t)^2
    noise_now, noise_after = -np.expm1(-now), -np.expm1(-after)
    growth = np.exp(0.5 * (now - after))  # g(0, s) / g(0, t)
    mu = noise_after / noise_now / growth
    return Coefficients(
        residual=mu + growth * lost / noise_now,
        score=growth * lost,
        noise=np.sqrt(noise_after * lost / noise_now),
    )


def ddim(sde: MeanRevertingSDE, grid: Grid) -> Coefficients:
    """Returns the coefficients (5): exact steps of the flow for data of one point.

    Args:
        sde: the forward process.
        grid: times in (0, 1], or 0 at the end, falling or rising.

    Returns:
        The coefficients of all steps.
    """
    integral = np.asarray(sde.beta_integral(grid))
    weight, std = np.exp(-0.5 * integral), np.sqrt(-np.expm1(-integral))
    ratio = weight[1:] / weight[:-1]
    return Coefficients(ratio, std[:-1] * (ratio * std[:-1] - std[1:]), np.zeros(len(ratio)))


SOLVERS: dict[str, Callable[[MeanRevertingSDE, Grid], Coefficients]] = {
    "probability_flow": probability_flow,
    "euler_maruyama": euler_maruyama,
    "maximum_likelihood": maximum_likelihood,
    "ddim": ddim,
}
DETERMINISTIC = ("probability_flow", "ddim")


def start_state(
    sde: MeanRevertingSDE,
    x_source: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    keys: Key[Array, "b"],
    start: float = 1.0,
) -> Float[Array, "b f m"]:
    """Returns the state from which the reverse process starts: noisy source.

    Args:
        sde: the forward process.
        x_source: log-mel of the source.
        average_voice: its average voice.
        keys: one typed key per utterance; the same keys may then go to `sample`.
        start: the time t_0 of the state, 0 to 1; at 1 it is average voice under unit noise.

    Returns:
        alpha X_source + (1 - alpha) Y + sigma N(0, I), with alpha and sigma of t_0.
    """
    mean, std = sde.marginal(x_source, average_voice, start)
    return mean + std * _noise(keys, START_FOLD, x_source)


def invert(
    sde: MeanRevertingSDE,
    score_of: ScoreOf,
    x_source: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    mask: Float[Array, "b f"],
    grid: Grid,
    on_step: Callable[[int], None] | None = None,
) -> Float[Array, "b f m"]:
    """Returns the state that the deterministic flow leads from the source to, with (5).

    Args:
        sde: the forward process.
        score_of: the score under the source's own emotion, as one condition.
        x_source: log-mel of the source.
        average_voice: its average voice.
        mask: 1.0 on real frames.
        grid: the falling times of the solver that is to follow; they are walked from end to start.
        on_step: as in `sample`.

    Returns:
        The state at `grid[0]`.
    """
    rising = grid[::-1].copy()
    rising[0] = min(INVERSION_START, rising[1] / 2)
    steps = len(rising) - 1
    own, every = jnp.ones((steps, 1)), ((0, steps, (0,)),)
    return sample(
        "ddim",
        sde,
        score_of,
        every,
        own,
        x_source,
        average_voice,
        mask,
        keys=None,
        grid=rising,
        on_step=on_step,
    )


def sample(
    solver: str,
    sde: MeanRevertingSDE,
    score_of: ScoreOf,
    segments: tuple[Segment, ...],
    weights: Float[Array | np.ndarray, "s k"] | Float[Array | np.ndarray, "s k f"],
    x_start: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    mask: Float[Array, "b f"],
    keys: Key[Array, "b"] | None,
    grid: Grid | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Float[Array, "b f m"]:
    """Runs the reverse process under an emotion plan, with one scan per segment.

    An utterance's noise depends on its key, the step, the frame and the bin alone: neither the
    batch around it nor its padding changes it.

    Args:
        solver: a name in `SOLVERS`.
        sde: the forward process.
        score_of: scores of the active conditions in one call; gets `t` as one value per
            utterance and the static tuple of active condition indices.
        segments: the plan's segments (static), covering all steps in order.
        weights: the plan's weights; may be traced.
        x_start: the state at the first time, see `start_state` and `invert`.
        average_voice: log-mel of the average voice.
        mask: 1.0 on real frames; padding stays 0 throughout.
        keys: one typed key per utterance; a solver in DETERMINISTIC needs none.
        grid: from `time_grid` (static); None is that of all steps from t = 1.
        on_step: called on the host with the number of finished steps, 1..N (static). Calls
            are not ordered against the caller's own code; `jax.effects_barrier` waits for them.

    Returns:
        The log-mel at t = 0, zero on padding.

    Raises:
        UsageError: an unknown solver, one that draws noise without keys, or segments that do not
            cover the weights' steps.
    """
    grid = time_grid(weights.shape[0]) if grid is None else grid
    times, table = _table(solver, sde, grid)
    _check_segments(segments, len(grid) - 1)
    if solver in DETERMINISTIC:
        keys = None
    elif keys is None:
        raise UsageError(f"keys: found none, solver {solver} draws noise")
    real = mask[:, :, None]
    average_voice = average_voice * real
    xt = x_start * real
    for begin, stop, active in segments:
        rows = jnp.asarray(weights)[begin:stop, jnp.array(active)]

        def body(xt: Array, step: tuple, active: tuple[int, ...] = active) -> tuple[Array, None]:
            index, t, coefficients, row = step
            scores = score_of(xt, jnp.broadcast_to(t, xt.shape[:1]), active)
            noise = None if keys is None else _noise(keys, index, xt)
            xt = real * reverse_step(xt, average_voice, mixed(scores, row), noise, coefficients)
            if on_step is not None:
                _report(on_step, index, xt)
            return xt, None

        steps_here = slice(begin, stop)
        run = (jnp.arange(begin, stop), times[steps_here], table[steps_here], rows)
        xt, _ = jax.lax.scan(body, xt, run)
    return xt


def reverse_step(
    xt: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    score: Float[Array, "b f m"],
    noise: Float[Array, "b f m"] | None,
    coefficients: Float[Array, "3"],
) -> Float[Array, "b f m"]:
    """Returns the state one step closer to the data, equation (1).

    Args:
        xt: the state.
        average_voice: log-mel of the average voice.
        score: gradient of log p_t at `xt`.
        noise: standard normal noise; None for a deterministic solver.
        coefficients: a, b and c of this step.

    Returns:
        The next state.
    """
    residual = coefficients[0] * (xt - average_voice) + coefficients[1] * score
    if noise is not None:
        residual = residual + coefficients[2] * noise
    return average_voice + residual


def mixed(
    scores: Float[Array, "k b f m"], row: Float[Array, "k"] | Float[Array, "k f"]
) -> Float[Array, "b f m"]:
    """Returns the weighted sum of the conditions' scores.

    Written as a sum and not as a matrix product, which accelerators round to fewer bits.

    Args:
        scores: one score per condition.
        row: one weight per condition, or one per condition and frame.

    Returns:
        The mixed score.
    """
    factor = row[:, None, None, None] if row.ndim == 1 else row[:, None, :, None]
    return jnp.sum(factor * scores, axis=0)


def _table(solver: str, sde: MeanRevertingSDE, grid: Grid) -> tuple[Array, Array]:
    """Returns times `s` and coefficients `s 3` in float32."""
    if solver not in SOLVERS:
        raise UsageError(f"solver: found {solver!r}, allowed are: {', '.join(SOLVERS)}")
    found = SOLVERS[solver](sde, grid)
    columns = np.stack([found.residual, found.score, found.noise], axis=1)
    return jnp.asarray(grid[:-1], jnp.float32), jnp.asarray(columns, jnp.float32)


def _check_segments(segments: tuple[Segment, ...], steps: int) -> None:
    edges = [0] + [stop for _, stop, _ in segments]
    starts = [start for start, _, _ in segments]
    if starts != edges[:-1] or edges[-1] != steps or not all(active for _, _, active in segments):
        raise UsageError(f"segments: found {segments}, must cover steps 0 to {steps} in order")


def _report(on_step: Callable[[int], None], index: Array, xt: Array) -> None:
    """Calls `on_step` once the state after step `index` exists, hence the unused value of it."""
    jax.debug.callback(lambda finished, _: on_step(int(finished)), index + 1, xt[0, 0, 0])


def _noise(keys: Array, step: Array | int, like: Array) -> Array:
    """Returns noise `b f m`, drawn frames first so that padding only appends to it."""

    def draw(key: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, step), like.shape[1:], like.dtype)

    return jax.vmap(draw)(keys)
