"""The figures of a look from its rows, and the line that they make in the table of trials.

Every figure is a statistic of rows that can be drawn again by voice, so that each has an interval.
Where voices have no acted clips (LJ, Kokoro), a listener's scale is that of RAVDESS's same split.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.quality.arithmetic import Interval, clustered, in_order, mean, ratio, slope
from benchmarks.quality.look import AROUSALS, COPY, EMOTIONS, REAL, Row, by_target, utterances

Scale = Mapping[str, Mapping[str, Any]]  # CORPUS/SPLIT -> `real_speech.figures`
Found = dict[str, Interval | None]


def scale_of(group: str, scale: Scale) -> Mapping[str, Any]:
    """Returns what a listener hears on real clips like those of a group.

    Args:
        group: CORPUS/SPLIT.
        scale: of the listener.
    """
    split = group.split("/")[1]
    for name in (group, f"ravdess/{split}"):
        if name in scale:
            return scale[name]
    return next(iter(scale.values()))


def line(rows: Sequence[Row], scales: Mapping[str, Scale], seed: int = 0) -> Found:
    """Returns all figures of a look.

    Args:
        rows: of it.
        scales: by listener.
        seed: of the intervals.

    Returns:
        By name; None where there is nothing to tell.
    """
    found: Found = {}
    for listener, scale in scales.items():
        found |= _emotion(rows, listener, scale, seed)
    found |= _words(rows, "word", seed) | _words(rows, "character", seed)
    found |= _quality(rows, seed) | _voice(rows, seed) | _prosody(rows, seed)
    speed = [r.wall_s / r.seconds for r in rows if r.wall_s > 0]
    if speed:  # the first of a length compiles
        found["seconds_per_second"] = Interval(*np.quantile(speed, [0.5, 0.1, 0.9]).tolist())
    return found


def _emotion(rows: Sequence[Row], listener: str, scale: Scale, seed: int) -> Found:
    asked = np.array(AROUSALS, np.float64)
    heard = by_target(rows, f"{listener}_arousal", [f"{a:d}" for a in AROUSALS])
    voices = list(utterances(rows).values())
    groups = {(r.clip, r.seed): r.group for r in rows}
    real = np.array(
        [scale_of(groups[key], scale).get("slope", np.nan) for key in utterances(rows)], np.float64
    )
    slopes = np.array([slope(asked, row) for row in heard])
    order = in_order(heard)
    found: Found = {
        f"{listener}_slope": clustered(voices, lambda i: mean(slopes[i]), seed),
        f"{listener}_real_slope": clustered(voices, lambda i: mean(real[i]), seed),
        f"{listener}_share": clustered(
            voices, lambda i: ratio(mean(slopes[i]), mean(real[i])), seed
        ),
        f"{listener}_order": clustered(voices, lambda i: mean(order[i]), seed),
    }
    named = [r for r in rows if r.target in EMOTIONS and r.named.get(listener)]
    right = np.array([float(r.named[listener] == r.target) for r in named])
    sure = np.array([r.figures.get(f"{listener}_{r.target}", np.nan) for r in named])
    wanted = np.array(
        [scale_of(r.group, scale).get("named", {}).get(r.target, np.nan) for r in named], np.float64
    )
    of = [r.voice for r in named]
    found[f"{listener}_named"] = clustered(of, lambda i: mean(right[i]), seed)
    found[f"{listener}_probability"] = clustered(of, lambda i: mean(sure[i]), seed)
    found[f"{listener}_real_named"] = clustered(of, lambda i: mean(wanted[i]), seed)
    for emotion in EMOTIONS:
        own = np.array([r.target == emotion for r in named], bool)
        found[f"{listener}_named_{emotion}"] = clustered(
            [r.voice for r in named if r.target == emotion],
            lambda i, own=own: mean(right[own][i]),
            seed,
        )
    return found


def _words(rows: Sequence[Row], unit: str, seed: int) -> Found:
    """Returns the share of words, or of Polish characters, that was misunderstood."""
    found: Found = {}
    for name, kept in ((f"{unit}_errors", _is_made), (f"{unit}_errors_copy", _is_copy)):
        own = [r for r in rows if kept(r) and f"{unit}s" in r.figures]
        pairs = np.array([[r.figures[f"{unit}_errors"], r.figures[f"{unit}s"]] for r in own])
        found[name] = clustered([r.voice for r in own], lambda i, p=pairs: _rate(p[i]), seed)
    return found


def _rate(pairs: np.ndarray) -> float:
    """Returns errors over chances."""
    return float(pairs[:, 0].sum() / pairs[:, 1].sum()) if len(pairs) else float("nan")


def _quality(rows: Sequence[Row], seed: int) -> Found:
    copies = {r.clip: r.figures.get("ovrl", np.nan) for r in rows if _is_copy(r)}
    found: Found = {
        "ovrl_copy": clustered(
            [r.voice for r in rows if _is_copy(r)],
            lambda i: mean(np.array(list(copies.values()))[i]),
            seed,
        )
    }
    for target, own in _made_by_target(rows).items():
        less = np.array([r.figures.get("ovrl", np.nan) - copies.get(r.clip, np.nan) for r in own])
        found[f"ovrl_{target}"] = clustered(
            [r.voice for r in own], lambda i, v=less: mean(v[i]), seed
        )
    return found


def _voice(rows: Sequence[Row], seed: int) -> Found:
    """Returns how often the own voice is the nearest, of those that compete."""
    found: Found = {}
    kinds: dict[str, list[Row]] = {"real": [r for r in rows if r.target == REAL]}
    kinds |= {"copy": [r for r in rows if _is_copy(r)]} | _made_by_target(rows)
    kinds["all"] = [r for r in rows if _is_made(r)]
    for name, all_rows in kinds.items():
        own = [r for r in all_rows if r.nearest]
        hits = np.array([float(r.nearest == r.voice) for r in own])
        found[f"voice_{name}"] = clustered(
            [r.voice for r in own], lambda i, v=hits: mean(v[i]), seed
        )
    return found


def _prosody(rows: Sequence[Row], seed: int) -> Found:
    """Returns the change of level in dB and of median F0 in semitones against the copies."""
    copies = {r.clip: r.figures for r in rows if _is_copy(r)}
    changes: dict[str, tuple[str, Callable[[float, float], float]]] = {
        "level": ("level_db", lambda now, before: now - before),
        "f0": ("f0_hz", lambda now, before: 12 * float(np.log2(now / before))),
    }
    found: Found = {}
    for target, own in _made_by_target(rows).items():
        for name, (figure, change) in changes.items():
            both = [r for r in own if figure in r.figures and figure in copies.get(r.clip, {})]
            values = np.array([change(r.figures[figure], copies[r.clip][figure]) for r in both])
            found[f"{name}_{target}"] = clustered(
                [r.voice for r in both], lambda i, v=values: mean(v[i]), seed
            )
    return found


def _is_made(row: Row) -> bool:
    return row.target not in (COPY, REAL)


def _is_copy(row: Row) -> bool:
    return row.target == COPY


def _made_by_target(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Returns the conversions by target, in the order of their first rows."""
    names = dict.fromkeys(r.target for r in rows if _is_made(r))
    return {name: [r for r in rows if r.target == name] for name in names}
