"""The times between which a solver steps, from t_0 down to 0.

    (1)  uniform_t    t_i = t_0 (N - i) / N
    (2)  log_snr      lambda(t) = ln(alpha_t / sigma_t) = -ln(exp(B(t)) - 1) / 2, equally spaced
                      from t_0 to LEAST_START in N - 1 steps; the last step leads from there to 0
    (3)  its inverse  t = 2 B / (beta_0 + sqrt(beta_0^2 + 2 (beta_1 - beta_0) B)),
                      B = ln(1 + exp(-2 lambda))

(2) spends its steps where the noise is weak: of 30 from t = 1, 12 begin below t = .1, of (1) 2. At
t = 0 itself lambda is infinite, hence the one step apart.

Source: DPM-Solver (arXiv 2206.00927), whose inverse for the linear schedule is (3).
"""

import numpy as np

from emoconv_jax.config import LEAST_START
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.errors import UsageError
from emoconv_jax.shapes import Float

SPACINGS = ("uniform_t", "log_snr")

Grid = Float[np.ndarray, "edges"]


def time_grid(
    steps: int,
    start: float | int = 1.0,
    spacing: str = "uniform_t",
    sde: MeanRevertingSDE | None = None,
) -> Grid:
    """Returns the times between which the steps lead.

    Args:
        steps: number of steps N, at least 1.
        start: the first time t_0, from LEAST_START to 1.
        spacing: of SPACINGS.
        sde: the forward process, which "log_snr" depends on.

    Returns:
        N + 1 falling times in float64, the first `start` and the last 0.

    Raises:
        UsageError: fewer than one step, a start out of range, an unknown spacing, or "log_snr"
            of no process.
    """
    if steps < 1:
        raise UsageError(f"steps: found {steps}, at least 1 is needed")
    if not LEAST_START <= start <= 1:  # also refuses NaN
        raise UsageError(f"start: found {start}, allowed is {LEAST_START} to 1")
    if spacing not in SPACINGS:
        raise UsageError(f"spacing: found {spacing!r}, allowed are {', '.join(SPACINGS)}")
    if spacing == "uniform_t":
        return start * np.arange(steps, -1, -1, dtype=np.float64) / steps
    if sde is None:
        raise UsageError("sde: found none, spacing log_snr needs the forward process")
    least = min(LEAST_START, start / 2)
    ends = log_snr(sde, np.array([start, least], np.float64))
    times = time_of_log_snr(sde, np.linspace(ends[0], ends[1], steps))
    return np.concatenate([[float(start)], times[1:], [0.0]])


def log_snr(sde: MeanRevertingSDE, t: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Returns lambda of (2), the logarithm of how far the data stand above the noise.

    Args:
        sde: the forward process.
        t: diffusion times in [0, 1].

    Returns:
        The logarithms, infinite at t = 0 and falling with t.
    """
    with np.errstate(divide="ignore"):
        return -0.5 * np.log(np.expm1(sde.beta_integral(t)))


def time_of_log_snr(
    sde: MeanRevertingSDE, wanted: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Returns the diffusion time at which `log_snr` has a value, equation (3).

    Args:
        sde: the forward process.
        wanted: values of `log_snr`; infinity is t = 0.

    Returns:
        The times.
    """
    integral = np.logaddexp(0.0, -2.0 * wanted)
    slope = sde.beta_1 - sde.beta_0
    return 2 * integral / (sde.beta_0 + np.sqrt(sde.beta_0**2 + 2 * slope * integral))
