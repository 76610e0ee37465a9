"""Rows to figures with intervals, by system and corpus, and comparisons of systems.

Figures of one value per utterance are averaged over its rows first, so that an interval is over
utterances and not over conversions of the same one. Error rates are errors over words of all
utterances together; a resampled set counts both anew.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emoconv_jax.bundles.banks import LEVELS
from emoconv_jax.evaluation import statistics
from emoconv_jax.evaluation.evaluation import Row
from emoconv_jax.evaluation.subjects import Voices
from emoconv_jax.evaluation.trials import AROUSAL, EMOTIONS, MIXINGS, MODEL

HEARERS, LOUDNESS = ("own", "second"), ("", "_equal_level")
PLAIN = (
    *("own_voice", "second_voice", "own_nearest", "second_nearest"),
    *("sig", "ovrl", "distillmos", "level_db", "f0_hz", "f0_range_semitones", "pace"),
    *("mcd_db", "f0_error_semitones"),
)
RATES = {"wer": ("word_errors", "words"), "cer": ("character_errors", "characters")}
COMPARED = (  # of the model and a yardstick
    *(f"{name}_{hearer}_equal_level" for name in ("tau", "l_abs") for hearer in HEARERS),
    *("ovrl", "wer"),
)
Table = dict[str, dict[str, Any]]  # corpus or "all" -> figure -> `statistics.Figure` as a dict


def summarise(rows: Sequence[Row], voices: Mapping[str, Voices], seed: int = 0) -> dict[str, Any]:
    """Returns all figures.

    Args:
        rows: of one evaluation.
        voices: real ones by speaker encoder.
        seed: of the resampling.

    Returns:
        systems: system -> corpus or "all" -> figure; towards_arousal: system -> figure, of the way
        to an arousal alone and of what has no target; paired: yardstick -> figure -> comparison of
        the model with it; real_voices: encoder -> what it says of real clips. JSON-ready.
    """
    by_system: dict[str, list[Row]] = collections.defaultdict(list)
    for row in rows:
        by_system[row.system].append(row)
    values = {name: _values(own, voices) for name, own in by_system.items()}
    corpora = {row.clip: row.corpus for row in rows}
    # the yardsticks know no emotions: compared is what all do, the way to an arousal
    alone = {
        name: _values([row for row in own if row.what in ("", AROUSAL)], voices)
        for name, own in by_system.items()
    }
    systems: dict[str, Table] = {}
    for name, figures in values.items():
        systems[name] = {"all": _figures(figures, None, corpora, seed)}
        for corpus in sorted({row.corpus for row in by_system[name]}):
            systems[name][corpus] = _figures(figures, corpus, corpora, seed)
    return {
        "systems": systems,
        "towards_arousal": {
            name: _figures(figures, None, corpora, seed) for name, figures in alone.items()
        },
        "paired": {
            name: _compared(alone[MODEL], figures, seed)
            for name, figures in alone.items()
            if name != MODEL and alone.get(MODEL)
        },
        "real_voices": {name: _real(one) for name, one in voices.items()},
    }


PerClip = dict[str, dict[tuple[str, str], tuple[float, float]]]  # figure -> clip -> (sum, weight)


def _values(rows: Sequence[Row], voices: Mapping[str, Voices]) -> PerClip:
    """Returns each figure's value of each utterance, as (sum, weight)."""
    clips: dict[tuple[str, str], list[Row]] = collections.defaultdict(list)
    for row in rows:
        clips[row.clip].append(row)
    found: PerClip = collections.defaultdict(dict)
    for clip, own in clips.items():
        for name, value in _plain(own).items():
            found[name][clip] = (value, 1.0)
        for name, (errors, count) in RATES.items():
            known = [row.figures for row in own if errors in row.figures]
            language = own[0].language or "en"
            if known and (name == "cer" or language == "en"):
                key = name if language == "en" else f"{name}_{language}"
                total = sum(figures[count] for figures in known)
                found[key][clip] = (sum(figures[errors] for figures in known), total)
        for part in (_arousal(own), _emotions(own), *(_mixes(own, one) for one in MIXINGS)):
            for name, value in part.items():
                found[name][clip] = (value, 1.0)
        for name, one in voices.items():
            if clip in found[f"{name}_nearest"]:
                found[f"{name}_nearest_real"][clip] = (one.real_rate(own[0].speaker), 1.0)
                found[f"{name}_nearest_guess"][clip] = (one.guess(own[0].speaker), 1.0)
    return found


def _plain(rows: Sequence[Row]) -> dict[str, float]:
    """Returns the means of what every row has one value of."""
    found: dict[str, list[float]] = collections.defaultdict(list)
    for row in rows:
        figures = dict(row.figures)
        figures["pace"] = figures["source_seconds"] / figures["seconds"]
        for name in PLAIN:
            if name in figures:
                found[name].append(figures[name])
    return {name: float(np.mean(values)) for name, values in found.items()}


def _arousal(rows: Sequence[Row]) -> dict[str, float]:
    """Returns tau, slope, pairs in order and errors of an utterance over the arousals 1 to 7.

    A row without target stands for the same answer to all of them.
    """
    asked = np.array(LEVELS, np.float64)
    by_value = {row.value: row.figures for row in rows if row.what == AROUSAL}
    if not by_value and all(not row.what for row in rows):
        by_value = dict.fromkeys(asked, rows[0].figures)
    if set(by_value) != set(asked):
        return {}
    found = _risen(by_value[asked[0]], by_value[asked[-1]])
    for hearer in HEARERS:
        for loudness in LOUDNESS:
            key, tail = f"{hearer}_arousal{loudness}", f"{hearer}{loudness}"
            if any(key not in figures for figures in by_value.values()):
                continue
            heard = np.array([[by_value[value][key] for value in asked]])
            squared, absolute = statistics.arousal_errors(asked, heard)
            found |= {
                f"tau_{tail}": float(statistics.taus(asked, heard)[0]),
                f"slope_{tail}": float(statistics.slopes(asked, heard)[0]),
                f"in_order_{tail}": float(statistics.pairs_in_order(asked, heard)[0]),
                f"l_mse_{tail}": float(squared[0]),
                f"l_abs_{tail}": float(absolute[0]),
            }
            for value, one in zip(asked, heard[0], strict=True):
                found[f"heard_{tail}_{value:g}"] = float(one)
                error = statistics.arousal_errors(np.array([value]), np.array([[one]]))[1]
                found[f"l_abs_{tail}_{value:g}"] = float(error[0])
    return found


def _risen(least: Mapping[str, float], greatest: Mapping[str, float]) -> dict[str, float]:
    """Returns how much higher and louder an utterance is at the greatest target."""
    found = {}
    if "f0_hz" in least and "f0_hz" in greatest:
        found["f0_risen_semitones"] = float(12 * np.log2(greatest["f0_hz"] / least["f0_hz"]))
    if "level_db" in least and "level_db" in greatest:
        found["level_risen_db"] = greatest["level_db"] - least["level_db"]
    return found


def _emotions(rows: Sequence[Row]) -> dict[str, float]:
    """Returns how often an emotion asked for is the likeliest one heard."""
    asked = [row for row in rows if row.what == EMOTIONS]
    found = {}
    for hearer in HEARERS:
        for loudness in LOUDNESS:
            hits = []
            for row in asked:
                heard = {
                    e.emotion: row.figures.get(_probability(hearer, e.emotion, loudness))
                    for e in asked
                }
                if None not in heard.values():
                    hits.append(max(heard, key=lambda e: heard[e] or 0.0) == row.emotion)
            if hits:
                found[f"accuracy_{hearer}{loudness}"] = float(np.mean(hits))
    return found


def _mixes(rows: Sequence[Row], mixing: str) -> dict[str, float]:
    """Returns order and tau of an emotion's probability over the strengths it is mixed in with."""
    mixes = [row for row in rows if row.what == mixing]
    neutral = [row for row in mixes if not row.emotion]
    found: dict[str, list[float]] = collections.defaultdict(list)
    for emotion in sorted({row.emotion for row in mixes} - {""}):
        own = [row for row in mixes if row.emotion == emotion]
        series = sorted([*neutral, *own], key=lambda row: row.value)
        asked = np.array([row.value for row in series])
        for hearer in HEARERS:
            for loudness in LOUDNESS:
                key, tail = _probability(hearer, emotion, loudness), f"{hearer}{loudness}"
                if any(key not in row.figures for row in series):
                    continue
                heard = np.array([[row.figures[key] for row in series]])
                found[f"{mixing}_tau_{tail}"].append(float(statistics.taus(asked, heard)[0]))
                found[f"{mixing}_in_order_{tail}"].append(
                    float(statistics.pairs_in_order(asked, heard)[0])
                )
                for i, value in enumerate(asked):
                    found[f"{mixing}_heard_{tail}_{value:g}"].append(float(heard[0, i]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _probability(hearer: str, emotion: str, loudness: str) -> str:
    return f"{hearer}_{emotion}{loudness}"


def _figures(
    values: PerClip, corpus: str | None, corpora: Mapping[tuple[str, str], str], seed: int
) -> dict[str, Any]:
    """Returns the figures of one system, over all utterances or those of a corpus."""
    found = {}
    for name, by_clip in values.items():
        chosen = [v for clip, v in by_clip.items() if corpus in (None, corpora[clip])]
        if not chosen:
            continue
        if name.split("_")[0] in RATES:
            one = statistics.ratio_figure(np.array(chosen, np.float64), seed)
        else:
            statistic = np.median if name.startswith("tau_") else np.mean
            one = statistics.figure(np.array([value for value, _ in chosen]), seed, statistic)
        if one is not None:
            found[name] = dataclasses.asdict(one)
    return found


def _compared(ours: PerClip, theirs: PerClip, seed: int) -> dict[str, Any]:
    """Returns the model minus a yardstick: means of values of the utterances that both have.

    So a rate of words is here the mean of the utterances' rates.
    """
    found = {}
    for name in COMPARED:
        clips = sorted(set(ours.get(name, {})) & set(theirs.get(name, {})))
        one, other = (
            (
                np.array([side[name][clip][0] / side[name][clip][1] for clip in clips])
                for side in (ours, theirs)
            )
            if clips
            else (np.zeros(0), np.zeros(0))
        )
        result = statistics.paired(one, other, seed)
        if result is not None:
            found[name] = dataclasses.asdict(result)
    return found


def _real(voices: Voices) -> dict[str, float | None]:
    names = ("own_median", "other_median")
    pairs = zip(names, voices.real_medians(), strict=True)
    return {name: value if np.isfinite(value) else None for name, value in pairs}
