"""The algorithms by name: what each computes beforehand, and its one step from t to s.

All are written on the residual U = X - Y, where the process is the ordinary variance-preserving
one. Four of them are linear in U and the score S, with h = t - s:

    (1)  U' = a U + b S + c z,   z ~ N(0, I)

    (2)  probability_flow     a = 1 + beta_t h / 2,   b = beta_t h / 2,   c = 0
    (3)  euler_maruyama       a = 1 + beta_t h / 2,   b = beta_t h,       c = sqrt(beta_t h)
    (4)  maximum_likelihood, with g(p, q) = alpha_q / alpha_p:
         a = mu + nu / g(0, t),   b = g(0, s) (1 - g(s, t)^2) / g(0, t)
         c = sqrt((1 - g(0, s)^2) (1 - g(s, t)^2) / (1 - g(0, t)^2))
         mu = g(s, t) (1 - g(0, s)^2) / (1 - g(0, t)^2)
         nu = g(0, s) (1 - g(s, t)^2) / (1 - g(0, t)^2)
    (5)  ddim, with X0_hat and eps_hat = -sigma S held over the step, so that s may be on either
         side of t:
         a = alpha_s / alpha_t,   b = sigma_t (a sigma_t - sigma_s),   c = 0

Two are of second order. heun takes the mean of the flow's slopes at both ends, where (2) takes
that at t, for one more score per step; into t = 0, where a score says nothing, it does not:

    (6)  U1 = (2) of U,   U' = U1 + beta_s h / 4 (U1 + S(U1, s)) - beta_t h / 4 (U + S)

dpmpp_2m adds to (5) how the estimate of the data D changed since the step before, for no score
more. A first step has nothing to compare to, and one into t = 0 has no lambda: there it is (5).

    (7)  U' = (5) of U + r / 2 (alpha_s - alpha_t sigma_s / sigma_t) (D - D_before)
         D = (U + sigma_t^2 S) / alpha_t,   r = (lambda_s - lambda_t) / (lambda_t - lambda_before)
         lambda = ln(alpha / sigma)

What does not depend on U is computed in float64 and then cast: in float32 the coefficients of (4)
lose 1.7 % at N = 100 and 73 % at N = 500.

Source: DiffVC (arXiv 2109.13821), section 4; (1) collects its kappa and omega into a and b.
DDIM: arXiv 2010.02502. Heun's method and its last step: EDM (arXiv 2206.00364), algorithm 1.
(7): DPM-Solver++(2M) (arXiv 2211.01095), algorithm 2, whose first-order part is DDIM.
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from emoconv_jax.diffusion.grids import Grid, log_snr
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.shapes import Array, Float

Table = dict[str, Float[np.ndarray, "s"]]
"""Coefficients by name, one value per step, in float64."""
Row = dict[str, Float[Array, ""]]
"""The coefficients of one step."""
State = Float[Array, "b f m"]
ScoreAt = Callable[[Array, Array], Array]
"""`score_at(u, t)`: a residual and a scalar time to the score of the plan's mix, `b f m`."""
Times = tuple[Float[Array, ""], Float[Array, ""]]
"""The ends t and s of a step."""


def probability_flow(sde: MeanRevertingSDE, grid: Grid) -> Table:
    """Returns the coefficients (2): Euler steps of the deterministic flow.

    Args:
        sde: the forward process.
        grid: falling times, or rising ones for an inversion.

    Returns:
        `state`, `score` and `noise` of all steps.
    """
    rate = np.asarray(sde.beta(grid[:-1])) * -np.diff(grid)
    return {"state": 1 + 0.5 * rate, "score": 0.5 * rate, "noise": np.zeros(len(rate))}


def euler_maruyama(sde: MeanRevertingSDE, grid: Grid) -> Table:
    """Returns the coefficients (3): Euler steps of the reverse SDE.

    Args:
        sde: the forward process.
        grid: falling times.

    Returns:
        `state`, `score` and `noise` of all steps.
    """
    rate = np.asarray(sde.beta(grid[:-1])) * -np.diff(grid)
    return {"state": 1 + 0.5 * rate, "score": rate, "noise": np.sqrt(rate)}


def maximum_likelihood(sde: MeanRevertingSDE, grid: Grid) -> Table:
    """Returns the coefficients (4), with which each step is the exact Gaussian posterior.

    Args:
        sde: the forward process.
        grid: falling times.

    Returns:
        `state`, `score` and `noise` of all steps; a step into t = 0 adds no noise.
    """
    now, after = (np.asarray(sde.beta_integral(times)) for times in (grid[:-1], grid[1:]))
    lost = -np.expm1(after - now)  # 1 - g(s, t)^2
    noise_now, noise_after = -np.expm1(-now), -np.expm1(-after)
    growth = np.exp(0.5 * (now - after))  # g(0, s) / g(0, t)
    mu = noise_after / noise_now / growth
    return {
        "state": mu + growth * lost / noise_now,
        "score": growth * lost,
        "noise": np.sqrt(noise_after * lost / noise_now),
    }


def ddim(sde: MeanRevertingSDE, grid: Grid) -> Table:
    """Returns the coefficients (5): exact steps of the flow for data of one point.

    Args:
        sde: the forward process.
        grid: times in (0, 1], or 0 at the end, falling or rising.

    Returns:
        `state`, `score` and `noise` of all steps.
    """
    weight, std = _weight_and_std(sde, grid)
    ratio = weight[1:] / weight[:-1]
    score = std[:-1] * (ratio * std[:-1] - std[1:])
    return {"state": ratio, "score": score, "noise": np.zeros(len(ratio))}


def heun(sde: MeanRevertingSDE, grid: Grid) -> Table:
    """Returns what (6) needs.

    Args:
        sde: the forward process.
        grid: falling times, or rising ones for an inversion.

    Returns:
        Half of beta times the step's length: `now` with beta of its beginning, `after` with that
        of its end.
    """
    half = -0.5 * np.diff(grid)
    beta = np.asarray(sde.beta(grid))
    return {"now": beta[:-1] * half, "after": beta[1:] * half}


def dpmpp_2m(sde: MeanRevertingSDE, grid: Grid) -> Table:
    """Returns what (7) needs.

    Args:
        sde: the forward process.
        grid: falling times, or rising ones for an inversion.

    Returns:
        `state` and `score` of (5), `data_state` and `data_score` that D consists of, and the
        factor `change` of its change: 0 on the first step and on one into t = 0.
    """
    first_order = ddim(sde, grid)
    weight, std = _weight_and_std(sde, grid)
    step = np.diff(log_snr(sde, grid))
    gain = weight[1:] - weight[:-1] * std[1:] / std[:-1]
    change = 0.5 * step[1:] / step[:-1] * gain[1:]
    return {
        "state": first_order["state"],
        "score": first_order["score"],
        "data_state": 1 / weight[:-1],
        "data_score": std[:-1] ** 2 / weight[:-1],
        "change": np.concatenate([[0.0], np.where(grid[2:] > 0, change, 0.0)]),
    }


def linear_step(
    u: State,
    memory: State | None,
    score_at: ScoreAt,
    times: Times,
    row: Row,
    noise: State | None,
) -> tuple[State, State | None]:
    """Returns the state one step closer to the data, equation (1).

    Args:
        u: the residual at the first of the times.
        memory: what the step before left for this one; not used.
        score_at: the score of the mix.
        times: the ends of the step.
        row: its `state`, `score` and `noise`.
        noise: standard normal noise; None for a deterministic algorithm.

    Returns:
        The residual at the second of the times, and the memory as it was.
    """
    after = row["state"] * u + row["score"] * score_at(u, times[0])
    return (after if noise is None else after + row["noise"] * noise), memory


def heun_step(
    u: State,
    memory: State | None,
    score_at: ScoreAt,
    times: Times,
    row: Row,
    noise: State | None,
) -> tuple[State, State | None]:
    """Returns the state one step closer to the data, equation (6).

    Args:
        u: as in `linear_step`.
        memory: not used.
        score_at: the score of the mix, asked once more unless the step leads into t = 0.
        times: the ends of the step.
        row: of `heun`.
        noise: not used.

    Returns:
        The residual at the second of the times, and the memory as it was.
    """
    slope = u + score_at(u, times[0])
    guess = u + row["now"] * slope

    def corrected() -> Array:
        slope_after = guess + score_at(guess, times[1])
        return guess + 0.5 * (row["after"] * slope_after - row["now"] * slope)

    return jax.lax.cond(times[1] > 0, corrected, lambda: guess), memory


def dpmpp_2m_step(
    u: State,
    memory: State | None,
    score_at: ScoreAt,
    times: Times,
    row: Row,
    noise: State | None,
) -> tuple[State, State | None]:
    """Returns the state one step closer to the data, equation (7).

    Args:
        u: as in `linear_step`.
        memory: the estimate of the data that the step before made; anything finite on the first.
        score_at: the score of the mix.
        times: the ends of the step.
        row: of `dpmpp_2m`.
        noise: not used.

    Returns:
        The residual at the second of the times, and this step's estimate of the data.
    """
    score = score_at(u, times[0])
    assert memory is not None
    data = row["data_state"] * u + row["data_score"] * score
    after = row["state"] * u + row["score"] * score + row["change"] * (data - memory)
    return after, data


@dataclasses.dataclass(frozen=True)
class Solver:
    """An algorithm.

    Attributes:
        coefficients: process and grid to the coefficients of every step.
        step: one step with its row of them.
        draws_noise: whether steps read noise.
        remembers: whether a step leaves something for the next.
        scores_per_step: how often a step asks for the score; one into t = 0 asks once.
    """

    coefficients: Callable[[MeanRevertingSDE, Grid], Table]
    step: Callable[..., tuple[Array, Array | None]] = linear_step
    draws_noise: bool = False
    remembers: bool = False
    scores_per_step: int = 1

    def evaluations(self, steps: int) -> int:
        """Returns how often the score is evaluated in a run down to t = 0.

        Args:
            steps: of the run, at least 1.
        """
        return self.scores_per_step * (steps - 1) + 1


SOLVERS: dict[str, Solver] = {
    "probability_flow": Solver(probability_flow),
    "euler_maruyama": Solver(euler_maruyama, draws_noise=True),
    "maximum_likelihood": Solver(maximum_likelihood, draws_noise=True),
    "ddim": Solver(ddim),
    "heun": Solver(heun, heun_step, scores_per_step=2),
    "dpmpp_2m": Solver(dpmpp_2m, dpmpp_2m_step, remembers=True),
}
DETERMINISTIC = tuple(name for name, solver in SOLVERS.items() if not solver.draws_noise)


def _weight_and_std(sde: MeanRevertingSDE, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    integral = np.asarray(sde.beta_integral(grid))
    return np.exp(-0.5 * integral), np.sqrt(-np.expm1(-integral))
