"""From noise at t = 1 to a mel at t = 0 in N steps of an algorithm, or the other way.

The algorithms are those of `algorithms.SOLVERS`; what they all share is here: the state they set
out from, the mixed score, the mask, and the loop over a plan's segments. The loop runs on the
residual U = X - Y.

The state to set out from is noise drawn anew around the average voice (`start_state`), as in the
papers, or the source's own (`invert`): the deterministic flow run forwards under the source's own
emotion. Backwards under the same emotion it would return the source; under another one, what
differs is the emotion, and voice, melody and words stay. Both ways are run by the same algorithm,
for the way back cannot mend what the way there lost. Either start may be before t = 1, which keeps
more of the source.

A segment starts every algorithm afresh. Where the mix jumps, what a multistep algorithm remembers
belongs to the mix before, and to go on from there costs it its order.

Source: DDIM's inversion: arXiv 2010.02502; starts below 1: SDEdit, arXiv 2108.01073.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.diffusion.algorithms import DETERMINISTIC, SOLVERS, Solver
from emoconv_jax.diffusion.grids import Grid, time_grid
from emoconv_jax.diffusion.noise import START_FOLD, frame_noise
from emoconv_jax.diffusion.plan import Segment
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.errors import UsageError
from emoconv_jax.shapes import Array, Float, Int, Key

__all__ = ["DETERMINISTIC", "SOLVERS", "invert", "mixed", "sample", "start_state", "time_grid"]

ScoreOf = Callable[[Array, Array, tuple[int, ...]], Array]
"""`score_of(xt, t, active)`: `b f m`, `b` and condition indices to scores `k b f m`."""
Weights = (
    Float[Array | np.ndarray, "s k"]
    | Float[Array | np.ndarray, "s k #f"]
    | Float[Array | np.ndarray, "s k #b #f"]
)
"""Weights of conditions at every step, the same for all or per frame, or per utterance too."""

INVERSION_START = 0.02  # at t = 0 itself a score says nothing; sigma is .07 here


def start_state(
    sde: MeanRevertingSDE,
    x_source: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    keys: Key[Array, "b"],
    start: float = 1.0,
    first_frame: Int[Array, "b"] | None = None,
) -> Float[Array, "b f m"]:
    """Returns the state from which the reverse process starts: noisy source.

    Args:
        sde: the forward process.
        x_source: log-mel of the source.
        average_voice: its average voice.
        keys: one typed key per utterance; the same keys may then go to `sample`.
        start: the time t_0 of the state, 0 to 1; at 1 it is average voice under unit noise.
        first_frame: as in `noise.frame_noise`.

    Returns:
        alpha X_source + (1 - alpha) Y + sigma N(0, I), with alpha and sigma of t_0.
    """
    mean, std = sde.marginal(x_source, average_voice, start)
    frames, mels = x_source.shape[1:]
    return mean + std * frame_noise(keys, START_FOLD, (frames, mels), first_frame)


def renewed(
    sde: MeanRevertingSDE,
    x_start: Float[Array, "b f m"],
    x_source: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    keys: Key[Array, "b"],
    share: Float[Array, ""],
    start: float = 1.0,
    first_frame: Int[Array, "b"] | None = None,
) -> Float[Array, "b f m"]:
    """Returns a state at the start of which a share of the variance is drawn anew.

    What an inversion leads to is a mean and, around it, noise in which the source's melody, voice
    and emotion are written. Of independent parts variances add up, so the state keeps its own.

    Args:
        sde: the forward process.
        x_start: the state that an inversion leads to.
        x_source: log-mel of the source.
        average_voice: its average voice.
        keys: one typed key per utterance, as of `start_state`.
        share: 0, the state as it is, to 1, that of `start_state`.
        start: the time of the state.
        first_frame: as in `noise.frame_noise`.

    Returns:
        mean + sqrt(1 - share) (x_start - mean) + sqrt(share) sigma N(0, I).
    """
    mean, _ = sde.marginal(x_source, average_voice, start)
    fresh = start_state(sde, x_source, average_voice, keys, start, first_frame)
    return mean + jnp.sqrt(1 - share) * (x_start - mean) + jnp.sqrt(share) * (fresh - mean)


def invert(
    sde: MeanRevertingSDE,
    score_of: ScoreOf,
    x_source: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    mask: Float[Array, "b f"],
    grid: Grid,
    solver: str,
    on_step: Callable[[int], None] | None = None,
) -> Float[Array, "b f m"]:
    """Returns the state that the deterministic flow leads from the source to.

    Args:
        sde: the forward process.
        score_of: the score under the source's own emotion, as one condition.
        x_source: log-mel of the source.
        average_voice: its average voice.
        mask: 1.0 on real frames.
        grid: the falling times of the solver that is to follow; they are walked from end to start.
        solver: a deterministic one of `algorithms.SOLVERS`.
        on_step: as in `sample`.

    Returns:
        The state at `grid[0]`.
    """
    rising = grid[::-1].copy()
    rising[0] = min(INVERSION_START, rising[1] / 2)
    steps = len(rising) - 1
    own, every = jnp.ones((steps, 1)), ((0, steps, (0,)),)
    return sample(
        solver,
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
    weights: Weights,
    x_start: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    mask: Float[Array, "b f"],
    keys: Key[Array, "b"] | None,
    grid: Grid | None = None,
    on_step: Callable[[int], None] | None = None,
    first_frame: Int[Array, "b"] | None = None,
    noise: Float[Array | np.ndarray, "s b f m"] | None = None,
) -> Float[Array, "b f m"]:
    """Runs the reverse process under an emotion plan, with one scan per segment.

    Args:
        solver: a name in `algorithms.SOLVERS`.
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
        first_frame: number of each utterance's first frame within its whole file, where it is a
            part of one; None is 0 for all.
        noise: standard normal noise of every step, given outright; keys are then not read.

    Returns:
        The log-mel at the last time of the grid, 0 by default; zero on padding.

    Raises:
        UsageError: an unknown solver, one that draws noise with neither keys nor noise, or
            weights or segments of other steps than the grid's.
    """
    algorithm = _algorithm(solver, has_noise=keys is not None or noise is not None)
    grid = time_grid(weights.shape[0]) if grid is None else grid
    _check_segments(segments, weights.shape[0], len(grid) - 1)
    batch, frames, mels = x_start.shape
    real = mask[:, :, None]
    average_voice = average_voice * real
    u = x_start * real - average_voice

    def noise_at(index: Array, given: Array | None) -> Array | None:
        if algorithm.draws_noise and given is None and keys is not None:
            given = frame_noise(keys, index, (frames, mels), first_frame)
        return real * given if algorithm.draws_noise and given is not None else None

    for begin, stop, active in segments:

        def body(carry: tuple, step: tuple, active: tuple[int, ...] = active) -> tuple:
            index, times, row, shares, given = step

            def score_at(residual: Array, t: Array) -> Array:
                xt = average_voice + residual
                scores = score_of(xt, jnp.broadcast_to(t, (batch,)), active)
                return real * mixed(scores, shares)

            carry = algorithm.step(*carry, score_at, times, row, noise_at(index, given))
            if on_step is not None:
                _report(on_step, index, carry[0])
            return carry, None

        here = slice(begin, stop)
        shares = jnp.asarray(weights)[here, jnp.array(active)]
        times, rows = _table(algorithm, sde, grid[begin : stop + 1])
        given = None if noise is None else jnp.asarray(noise)[here]
        memory = jnp.zeros_like(u) if algorithm.remembers else None
        run = (jnp.arange(begin, stop), times, rows, shares, given)
        (u, _), _ = jax.lax.scan(body, (u, memory), run)
    return average_voice + u


def mixed(
    scores: Float[Array, "k b f m"],
    row: Float[Array, "k"] | Float[Array, "k #f"] | Float[Array, "k #b #f"],
) -> Float[Array, "b f m"]:
    """Returns the weighted sum of the conditions' scores.

    Written as a sum and not as a matrix product, which accelerators round to fewer bits; the
    score of one condition under weight 1 comes back as it is.

    Args:
        scores: one score per condition.
        row: one weight per condition, or one per condition and frame, or one per condition,
            utterance and frame.

    Returns:
        The mixed score.
    """
    axes = {1: (1, 2, 3), 2: (1, 3), 3: (3,)}[row.ndim]
    return jnp.sum(jnp.expand_dims(row, axes) * scores, axis=0)


def _algorithm(solver: str, has_noise: bool) -> Solver:
    if solver not in SOLVERS:
        raise UsageError(f"solver: found {solver!r}, allowed are: {', '.join(SOLVERS)}")
    if SOLVERS[solver].draws_noise and not has_noise:
        raise UsageError(f"keys: found none, solver {solver} draws noise")
    return SOLVERS[solver]


def _table(
    algorithm: Solver, sde: MeanRevertingSDE, grid: Grid
) -> tuple[tuple[Array, Array], dict[str, Array]]:
    """Returns the ends of every step and its coefficients, in float32."""
    table = algorithm.coefficients(sde, grid)
    now, after = (jnp.asarray(times, jnp.float32) for times in (grid[:-1], grid[1:]))
    return (now, after), {name: jnp.asarray(row, jnp.float32) for name, row in table.items()}


def _check_segments(segments: tuple[Segment, ...], rows: int, steps: int) -> None:
    if rows != steps:
        raise UsageError(f"weights: found {rows} steps, the grid has {steps}")
    edges = [0] + [stop for _, stop, _ in segments]
    starts = [start for start, _, _ in segments]
    if starts != edges[:-1] or edges[-1] != steps or not all(active for _, _, active in segments):
        raise UsageError(f"segments: found {segments}, must cover steps 0 to {steps} in order")


def _report(on_step: Callable[[int], None], index: Array, u: Array) -> None:
    """Calls `on_step` once the state after step `index` exists, hence the unused value of it."""
    jax.debug.callback(lambda finished, _: on_step(int(finished)), index + 1, u[0, 0, 0])
