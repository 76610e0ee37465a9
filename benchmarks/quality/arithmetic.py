"""The arithmetic of the looks.

    (1)  slope            least squares of heard arousal on the target within an utterance; of real
                          clips on the arousal that the acting stands for, within a voice
    (2)  share            mean (1) of the conversions over that of real clips
    (3)  in order         share of utterances with heard(low) < heard(middle) < heard(high)
    (4)  interval         95 % of the figures of sets of voices drawn with replacement: clips of one
                          voice succeed or fail together, so utterances would make it too narrow

Source: (4) the cluster bootstrap, Cameron, Gelbach and Miller (Review of Economics and Statistics
90(3), 2008).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from emoconv_jax.shapes import Float

RESAMPLES = 2000
SHARE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure and what it may be for other voices.

    Attributes:
        value: of all voices.
        low: lower end of (4).
        high: upper end.
    """

    value: float
    low: float
    high: float


def ratio(part: float, whole: float) -> float:
    """Returns a share, eq. 2.

    Args:
        part: of the conversions.
        whole: of real clips; of 0 there is no share.

    Returns:
        The share, or NaN.
    """
    return part / whole if whole else float("nan")


def clustered(
    clusters: Sequence[str],
    statistic: Callable[[np.ndarray], float],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """Returns a statistic with (4).

    Args:
        clusters: the voice of each row.
        statistic: takes the numbers of rows, some of them more than once; NaN where it has none.
        seed: of the drawing.
        resamples: sets of voices.

    Returns:
        The figure; None where the statistic of all rows is not finite.
    """
    names = sorted(set(clusters))
    rows = {name: np.flatnonzero(np.asarray(clusters) == name) for name in names}
    value = float(statistic(np.arange(len(clusters)))) if names else float("nan")
    if not np.isfinite(value):
        return None
    generator, found = np.random.default_rng(seed), []
    for drawn in generator.integers(0, len(names), (resamples, len(names))):
        found.append(statistic(np.concatenate([rows[names[i]] for i in drawn])))
    known = np.array(found, np.float64)
    known = known[np.isfinite(known)]
    low, high = np.quantile(known, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Interval(value, float(low), float(high))


def slope(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Returns the least squares slope of y on x; NaN where x does not vary.

    Args:
        x: of each point.
        y: of each point.
    """
    centred = x - x.mean()
    spread = float(centred @ centred)
    return float(centred @ (y - y.mean())) / spread if spread > 0 else float("nan")


def slope_within(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], groups: Sequence[str]
) -> float:
    """Returns (1) of all points together, the means of each group taken away.

    Args:
        x: of each point.
        y: of each point.
        groups: of each point.
    """
    x, y, names = np.array(x, np.float64), np.array(y, np.float64), np.asarray(groups)
    for name in set(groups):
        own = names == name
        x[own] -= x[own].mean()
        y[own] -= y[own].mean()
    return slope(x, y)


def in_order(heard: Float[np.ndarray, "u v"]) -> Float[np.ndarray, " u"]:
    """Returns 1 where (3) holds for an utterance, else 0; NaN where something was not heard.

    Args:
        heard: arousal of each utterance, the targets in rising order.
    """
    rising = (np.diff(heard, axis=1) > 0).all(axis=1).astype(np.float64)
    return np.where(np.isfinite(heard).all(axis=1), rising, np.nan)


def nearest(
    vector: Float[np.ndarray, " d"], centroids: Mapping[str, Float[np.ndarray, " d"]]
) -> str:
    """Returns the voice whose centroid has the greatest cosine with a vector.

    Args:
        vector: of any length but 0.
        centroids: by voice, at least one.
    """
    return max(centroids, key=lambda voice: _cosine(vector, centroids[voice]))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def mean(values: Sequence[float] | np.ndarray) -> float:
    """Returns the mean of the finite values; NaN where there is none.

    Args:
        values: any.
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else float("nan")
