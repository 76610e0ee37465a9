"""Distances between runs of solvers, and noise that is the same for all of them.

The log-mel distance of two utterances is

    (1)  d = mean over frames of sqrt(mean over bins of (20 / ln 10 (X - X_ref))^2)   in dB

A Brownian path is made of independent increments between all times of all grids. What a step of any
grid sees is a sum of them, and standard normal once divided by the square root of its length:

    (2)  z_i = (W(t_i) - W(t_{i+1})) / sqrt(t_i - t_{i+1})
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from emoconv_jax.diffusion.grids import Grid
from emoconv_jax.shapes import Float

DECIBELS = 20 / np.log(10)  # of the mel, which is the natural logarithm of a magnitude


def distance_db(
    found: Float[np.ndarray, "b f m"],
    reference: Float[np.ndarray, "b f m"],
    mask: Float[np.ndarray, "b f"],
) -> Float[np.ndarray, " b"]:
    """Returns the log-mel distance (1) of each utterance.

    Args:
        found: log-mels.
        reference: log-mels.
        mask: 1.0 on the frames that count.

    Returns:
        Decibels.
    """
    per_frame = DECIBELS * np.sqrt(np.square(found - reference).mean(axis=2, dtype=np.float64))
    return (per_frame * mask).sum(axis=1) / mask.sum(axis=1)


class BrownianPath:
    """One path through all times of some grids, and the increments that each grid sees of it."""

    def __init__(self, seed: int, grids: Sequence[Grid], shape: tuple[int, ...]):
        """Draws the path.

        Args:
            seed: of it.
            grids: of times.
            shape: of the state.
        """
        self.times = np.unique(np.concatenate(grids))
        generator = np.random.default_rng(seed)
        widths = np.sqrt(np.diff(self.times)).astype(np.float32)
        self.path = np.zeros((len(self.times), *shape), np.float32)
        for i, width in enumerate(widths):
            drawn = generator.standard_normal(shape, np.float32)
            self.path[i + 1] = self.path[i] + width * drawn

    def noise(self, grid: Grid) -> Callable[[int], jax.Array]:
        """Returns the noise of each step, standard normal.

        Args:
            grid: one of those that the path was drawn for.
        """
        places = np.searchsorted(self.times, grid)

        def at(step: int) -> jax.Array:
            now, after = places[step], places[step + 1]
            width = np.float32(np.sqrt(abs(self.times[now] - self.times[after])))
            return jax.numpy.asarray((self.path[now] - self.path[after]) / width)

        return at


def bins_over_seeds(
    runs: Float[np.ndarray, "seeds b f m"],
) -> tuple[Float[np.ndarray, "b f m"], Float[np.ndarray, "b f m"]]:
    """Returns mean and standard deviation of every bin over the seeds, the latter unbiased.

    Args:
        runs: two or more.
    """
    return runs.mean(axis=0, dtype=np.float64), runs.std(axis=0, ddof=1, dtype=np.float64)


def spread_figures(
    means: Float[np.ndarray, "b f m"],
    spreads: Float[np.ndarray, "b f m"],
    limit: Float[np.ndarray, "b f m"],
    mask: Float[np.ndarray, "b f"],
    seeds: int,
) -> dict[str, Any]:
    """Returns what is said of means and spreads over seeds.

    Args:
        means: of every bin.
        spreads: likewise.
        limit: the means at the most steps.
        mask: 1.0 on the frames that count.
        seeds: behind each mean.

    Returns:
        shift_db: root mean square of the means' distance to the limit; chance_db: what it would be
        between two sets of seeds of one law; spread_db; and both by mel bin.
    """
    real = mask > 0
    spread = spreads[real]
    figures = {
        "shift_db": float(DECIBELS * np.sqrt(np.square(means - limit)[real].mean())),
        "chance_db": float(DECIBELS * np.sqrt(2 / seeds * np.square(spread).mean())),
        "spread_db": float(DECIBELS * spread.mean()),
        "mean_by_bin": means[real].mean(axis=0).tolist(),
        "spread_db_by_bin": (DECIBELS * spread.mean(axis=0)).tolist(),
    }
    return {name: finite(value) for name, value in figures.items()}


def finite(value: Any) -> Any:
    """Returns a figure, or None where a run has blown up, which JSON has no number for.

    Args:
        value: a number, or a list of them, each of which may be None instead.
    """
    if isinstance(value, list):
        return [finite(one) for one in value]
    return value if np.isfinite(value) else None
