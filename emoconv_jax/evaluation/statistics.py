"""Figures of many utterances with how far they may be trusted: all resample whole utterances.

    (1)  pairs in order   of all pairs of values asked for, those whose greater one is heard as
                          more; a tie is not in order
    (2)  tau              Kendall's tau-b between asked and heard within an utterance; 0 where
                          everything sounds the same
    (3)  slope            least squares of heard on asked within an utterance
    (4)  L_mse, L_abs     squared and absolute difference of asked and heard arousal, both mapped
                          from 1..7 to 0..1; a constant answer of 4 has L_abs .286 over 1..7

An interval holds its figure in 95 % of the resampled sets of utterances (the bootstrap's
percentiles); a paired test asks how often differences of random sign have as great a mean.

Source: (4) Prabhu et al., EmoConv-Diff (arXiv 2309.07828), section 4; the bootstrap Efron and
Tibshirani, An Introduction to the Bootstrap, chapters 13 and 16.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW
from emoconv_jax.evaluation.rows import SUMMARY_FILE
from emoconv_jax.files import write_text
from emoconv_jax.shapes import Float

RESAMPLES = 10_000
DIGITS = 3  # of an arousal or a probability; what differs by less is the same sound to a recogniser
SHARE = 0.95
FEWEST = 3  # two points always lie on a line


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of some utterances.

    Attributes:
        value: of all of them.
        low: lower end of the interval.
        high: upper end.
        utterances: how many have a value.
    """

    value: float
    low: float
    high: float
    utterances: int


def figure(
    values: Float[np.ndarray, " u"],
    seed: int = 0,
    statistic: Callable[..., np.ndarray] = np.mean,
) -> Figure | None:
    """Returns the mean (or another statistic) of the utterances' values, with its interval.

    Args:
        values: one per utterance; those that are not finite are left out.
        seed: of the resampling.
        statistic: takes an array and `axis=`; `np.mean` or `np.median`.

    Returns:
        The figure; None where no utterance has a value.
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if not known.size:
        return None
    low, high = np.quantile(_resampled(known, seed, statistic), [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Figure(float(statistic(known, axis=0)), float(low), float(high), len(known))


def ratio_figure(pairs: Float[np.ndarray, "u 2"], seed: int = 0) -> Figure | None:
    """Returns errors over chances of all utterances together, with its interval.

    Args:
        pairs: errors and chances (words, say) of each utterance.
        seed: of the resampling.

    Returns:
        The figure; None where there is no chance of an error.
    """
    known = np.asarray(pairs, np.float64)
    if not len(known) or not known[:, 1].sum():
        return None
    drawn = np.random.default_rng(seed).integers(0, len(known), (RESAMPLES, len(known)))
    errors, chances = known[drawn].sum(axis=1).T
    rates = errors[chances > 0] / chances[chances > 0]
    low, high = np.quantile(rates, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    errors, chances = known.sum(axis=0)
    return Figure(float(errors / chances), float(low), float(high), len(known))


def correlation_figure(
    x: Float[np.ndarray, " u"],
    y: Float[np.ndarray, " u"],
    *,
    less: Float[np.ndarray, " u"] | None = None,
    seed: int = 0,
) -> Figure | None:
    """Returns Pearson's r, or the lead of one over another, with its interval.

    Args:
        x: one value per utterance.
        y: what is correlated with it.
        less: whose correlation with x is subtracted, in every resampled set.
        seed: of the resampling.

    Returns:
        The figure; None where values do not differ or fewer than FEWEST utterances have all of
        them. Those that lack one are left out.
    """
    columns = [np.asarray(one, np.float64) for one in ((x, y) if less is None else (x, y, less))]
    known = np.isfinite(columns).all(axis=0)
    x, *others = (one[known] for one in columns)
    if len(x) < FEWEST or min(np.ptp(values) for values in (x, *others)) == 0:
        return None

    def lead(rows: np.ndarray) -> np.ndarray:
        r = [_correlations(x[rows], values[rows]) for values in others]
        return r[0] if less is None else r[0] - r[1]

    generator, resampled = np.random.default_rng(seed), []
    for begin in range(0, RESAMPLES, 1000):  # bounds the memory
        size = min(1000, RESAMPLES - begin), len(x)
        resampled.append(lead(generator.integers(0, len(x), size)))
    low, high = np.nanquantile(np.concatenate(resampled), [(1 - SHARE) / 2, (1 + SHARE) / 2])
    value = float(lead(np.arange(len(x))[None])[0])
    return Figure(value, float(low), float(high), len(x))


def _correlations(x: Float[np.ndarray, "r u"], y: Float[np.ndarray, "r u"]) -> np.ndarray:
    """Returns Pearson's r of each row, NaN where a row is constant."""
    constant = (np.ptp(x, axis=1) == 0) | (np.ptp(y, axis=1) == 0)  # a mean of .1s is not quite .1
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    spread = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return (x * y).sum(1) / np.where(constant, np.nan, spread)


@dataclasses.dataclass(frozen=True)
class Paired:
    """What two ways of converting the same utterances differ by.

    Attributes:
        difference: mean of the one minus the other.
        low: lower end of its interval.
        high: upper end.
        p: two-sided, of no difference.
        utterances: that have both.
    """

    difference: float
    low: float
    high: float
    p: float
    utterances: int


def paired(
    ours: Float[np.ndarray, " u"], theirs: Float[np.ndarray, " u"], seed: int = 0
) -> Paired | None:
    """Compares two ways of converting the same utterances.

    Args:
        ours: one value per utterance.
        theirs: of the same utterances in the same order.
        seed: of the resampling.

    Returns:
        The comparison; None where no utterance has both values.
    """
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    found = figure(difference, seed)
    if found is None:
        return None
    p = _sign_flip(difference[np.isfinite(difference)], seed)
    return Paired(found.value, found.low, found.high, p, found.utterances)


def _sign_flip(differences: Float[np.ndarray, " u"], seed: int) -> float:
    """Returns how often a mean is as far from 0 if every difference had either sign alike."""
    count = len(differences)
    if 2**count <= RESAMPLES:  # all of them
        signs = 1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
        extra = 0
    else:  # the observed signs count as one more, so that p is never 0
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], (RESAMPLES, count))
        extra = 1
    observed = abs(differences.mean())
    hits = np.count_nonzero(np.abs(signs @ differences) / count >= observed * (1 - 1e-12))
    return float((hits + extra) / (len(signs) + extra))


def _resampled(
    values: Float[np.ndarray, " u"], seed: int, statistic: Callable[..., np.ndarray]
) -> Float[np.ndarray, " r"]:
    """Returns the statistic of sets drawn from the values with replacement."""
    generator, found = np.random.default_rng(seed), []
    for begin in range(0, RESAMPLES, 1000):  # bounds the memory
        drawn = generator.integers(0, len(values), (min(1000, RESAMPLES - begin), len(values)))
        found.append(statistic(values[drawn], axis=1))
    return np.concatenate(found)


def pairs_in_order(asked: Float[np.ndarray, " v"], heard: Float[np.ndarray, "u v"]) -> np.ndarray:
    """Returns (1) of each utterance.

    Args:
        asked: rising values.
        heard: of each utterance at each value.
    """
    low, high = np.triu_indices(len(asked), 1)
    heard = np.round(heard, DIGITS)
    rising = (heard[:, high] > heard[:, low]).mean(axis=1)
    return np.where(np.isfinite(heard).all(axis=1), rising, np.nan)


def taus(asked: Float[np.ndarray, " v"], heard: Float[np.ndarray, "u v"]) -> np.ndarray:
    """Returns (2) of each utterance.

    Args:
        asked: values, not all the same.
        heard: of each utterance at each value.
    """
    heard = np.round(heard, DIGITS)
    found = np.array([float(np.asarray(kendalltau(asked, row))[0]) for row in heard])
    same = np.ptp(heard, axis=1) == 0
    return np.where(same, 0.0, found)


def slopes(asked: Float[np.ndarray, " v"], heard: Float[np.ndarray, "u v"]) -> np.ndarray:
    """Returns (3) of each utterance.

    Args:
        asked: values, not all the same.
        heard: of each utterance at each value.
    """
    centred = asked - asked.mean()
    return (heard - heard.mean(axis=1, keepdims=True)) @ centred / (centred @ centred)


def arousal_errors(
    asked: Float[np.ndarray, " v"], heard: Float[np.ndarray, "u v"]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns L_mse and L_abs of (4) of each utterance.

    Args:
        asked: arousals, 1..7.
        heard: of each utterance at each.
    """
    error = (heard - asked[None]) / (AROUSAL_HIGH - AROUSAL_LOW)
    return np.square(error).mean(axis=1), np.abs(error).mean(axis=1)


def save(out: pathlib.Path, found: Mapping[str, Any]) -> None:
    """Writes figures to `summary.json` of a folder, which is made if absent.

    Args:
        out: the folder.
        found: figures in any nesting of names, None where there is none.
    """
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, default=dataclasses.asdict, indent=1, allow_nan=False)
    write_text(out / SUMMARY_FILE, text + "\n")
