"""Does more of a request give more of the emotion: the order of what is asked and what is heard.

Each chosen utterance is converted to rising values of one request with the same seed,

    mixes     neutral with an emotion mixed in (EmoMix) at strength 0, .2, .4, .6, .8: what is heard
              is the probability that the recogniser gives that emotion
    levels    arousal 1 to 7: what is heard is the recogniser's arousal

and what is heard is compared within the utterance, as it is and at equal loudness (a gain is not an
emotion):

    (1)  pairs in order: of all pairs of values, those whose greater one is heard as more
    (2)  Kendall's tau-b between asked and heard, its mean over the utterances; where everything
         sounds the same it is 0

The recogniser is the bundle's own, so both say that the conversion does what it was asked, not that
people hear it.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from emoconv_jax.audio.prosody import level_db, set_level
from emoconv_jax.bundles.banks import LEVELS
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.evaluation.measures import EQUAL_LEVEL_DB
from emoconv_jax.evaluation.rows import SUMMARY_FILE, collect
from emoconv_jax.evaluation.statistics import figure, pairs_in_order, taus
from emoconv_jax.evaluation.subjects import choose
from emoconv_jax.evaluation.trials import MIXED_IN, STRENGTHS, shared_out
from emoconv_jax.files import write_text
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.request import NEUTRAL, Request, resolve
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.shapes import Float

MIXES, AROUSALS = "mixes", "levels"


@dataclasses.dataclass(frozen=True)
class Row:
    """What is heard in one conversion.

    Attributes:
        corpus: of the source.
        path: of it.
        speaker: of it.
        mixed_in: the emotion; empty at strength 0, which is neutral for all, and for an arousal.
        value: strength, or arousal asked for.
        level_db: of the speech.
        probabilities: of emotions.
        probabilities_equal_level: at equal loudness.
        arousal: 1..7.
        arousal_equal_level: at equal loudness.
    """

    corpus: str
    path: str
    speaker: str
    mixed_in: str
    value: float
    level_db: float
    probabilities: dict[str, float]
    probabilities_equal_level: dict[str, float]
    arousal: float
    arousal_equal_level: float

    def heard(self, mixed_in: str, *, equal_level: bool) -> float:
        """Returns the figure that should rise.

        Args:
            mixed_in: the emotion; empty for the arousal.
            equal_level: after the loudness was set equal.
        """
        if not mixed_in:
            return self.arousal_equal_level if equal_level else self.arousal
        found = self.probabilities_equal_level if equal_level else self.probabilities
        return found[mixed_in]


def evaluate(
    converter: EmotionConverter,
    store: FeatureStore,
    corpora: pathlib.Path,
    out: pathlib.Path,
    *,
    what: str = MIXES,
    values: Sequence[float] | None = None,
    split: str = "test",
    limit: int = 48,
    emotions: Sequence[str] = MIXED_IN,
    each: int = 1,
    seed: int = 0,
    **request: Any,
) -> dict:
    """Converts held-out utterances to rising values of a request and looks at the order.

    Args:
        converter: of the bundle.
        store: prepared features, which say who is unseen.
        corpora: folder that holds the corpus folders.
        out: gets `settings.json`, `rows.jsonl` (an interrupted run continues) and `summary.json`.
        what: MIXES or AROUSALS.
        values: strengths or arousals to ask for; None is STRENGTHS or 1 to 7.
        split: what to convert.
        limit: utterances at most.
        emotions: to mix in.
        each: how many of them per utterance; the others are for other utterances.
        seed: of choice and noise.
        **request: further fields of `Request`, such as steps.

    Returns:
        The summary, as `summarise` gives it.

    Raises:
        UsageError: a request that makes no sense.
        EmoconvError: no utterances, a source that cannot be read, an `out` of other settings, or a
            recogniser that tells no emotions.
    """
    known = converter.config.recogniser.emotions
    if what == MIXES and converter.config.roles.emotion != "recogniser":
        raise EmoconvError(f"{converter.source.name}: its recogniser tells no emotions")
    if what == MIXES and not set(emotions) <= set(known):
        raise UsageError(f"mixed_in: found {', '.join(emotions)}, allowed are {', '.join(known)}")
    if not 1 <= each <= len(emotions):
        raise UsageError(f"each: found {each}, allowed is 1..{len(emotions)}")
    requests = _requests(what, values, emotions, {"seed": seed} | request)
    filled = {
        name: resolve(one, converter.config, converter.banks).request
        for name, one in requests.items()
    }
    chosen = choose(store, split, limit, seed)
    settings = {
        "what": what,
        "bundle": converter.config.name,
        "bundle_sha256": converter.sha256,
        "split": split,
        "requests": [dataclasses.asdict(one) for one in filled.values()],
    }
    shares = shared_out([store.utterances[i].speaker for i in chosen], emotions, each)
    jobs = {}
    for index, names in zip(chosen, shares, strict=True):
        utterance = store.utterances[index]
        for name, one in filled.items():
            if name[0] in ("", *names):
                work = functools.partial(_convert, converter, store, corpora, index, name, one)
                jobs[(utterance.corpus, utterance.path, *name)] = work
    rows = collect(out, settings, Row, lambda r: (r.corpus, r.path, r.mixed_in, r.value), jobs)
    summary = settings | summarise(rows)
    write_text(out / SUMMARY_FILE, json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary


def _requests(
    what: str, values: Sequence[float] | None, emotions: Sequence[str], fields: dict[str, Any]
) -> dict[tuple[str, float], Request]:
    """Returns the requests by mixed-in emotion and value."""
    if what == AROUSALS:
        return {("", float(v)): Request(arousal=v, **fields) for v in values or LEVELS}
    found = {}
    for emotion in emotions:
        for strength in values or STRENGTHS:
            name = emotion if strength else ""
            mixed = Request(mix={emotion: 1.0}, base=NEUTRAL, strength=strength, **fields)
            found.setdefault((name, strength), mixed)
    return found


def _convert(
    converter: EmotionConverter,
    store: FeatureStore,
    corpora: pathlib.Path,
    index: int,
    name: tuple[str, float],
    request: Request,
) -> Row:
    """Returns what is heard in one conversion."""
    utterance, rate_hz = store.utterances[index], converter.config.mel.sample_rate_hz
    path = corpora / utterance.corpus / utterance.path
    audio = converter.convert(path, **dataclasses.asdict(request)).audio
    equal = set_level(audio, EQUAL_LEVEL_DB, rate_hz)
    told, told_equal = (converter.emotion.hear(sound, rate_hz) for sound in (audio, equal))
    return Row(
        corpus=utterance.corpus,
        path=utterance.path,
        speaker=utterance.speaker,
        mixed_in=name[0],
        value=name[1],
        level_db=float(level_db(audio, rate_hz)),
        probabilities=told.probabilities,
        probabilities_equal_level=told_equal.probabilities,
        arousal=told.arousal,
        arousal_equal_level=told_equal.arousal,
    )


@dataclasses.dataclass(frozen=True)
class Series:
    """The rows of one utterance and request, their values rising."""

    mixed_in: str
    rows: tuple[Row, ...]


def in_series(rows: Sequence[Row]) -> list[Series]:
    """Returns the complete series among rows.

    Args:
        rows: of one `what`.

    Returns:
        One series per utterance and mixed-in emotion, each with all the values that any has.
    """
    clips: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        clips.setdefault((row.corpus, row.path), {}).setdefault(row.mixed_in, []).append(row)
    found = []
    for by_name in clips.values():
        neutral = by_name.pop("", [])
        found += [Series(name, _rising(neutral + more)) for name, more in by_name.items()]
        if not by_name:
            found.append(Series("", _rising(neutral)))
    most = max((len(one.rows) for one in found), default=0)
    mixes = any(one.mixed_in for one in found)
    return [one for one in found if len(one.rows) == most and bool(one.mixed_in) == mixes]


def _rising(rows: list[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: row.value))


def summarise(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Returns (1) and (2), over all, per mixed-in emotion and per corpus.

    Args:
        rows: of one `what`; an utterance that lacks a value is left out.

    Returns:
        "all", each emotion and each corpus -> the figures of `order`, as they are and under names
        that end in "_equal_level".
    """
    found = in_series(rows)
    groups = {"all": found}
    for name in sorted({one.mixed_in for one in found} - {""}):
        groups[name] = [one for one in found if one.mixed_in == name]
    for corpus in sorted({one.rows[0].corpus for one in found}):
        groups[corpus] = [one for one in found if one.rows[0].corpus == corpus]
    summary = {}
    for name, members in groups.items():
        values = np.array([row.value for row in members[0].rows])
        clips = {(one.rows[0].corpus, one.rows[0].path) for one in members}
        counts: dict[str, Any] = {"utterances": len(clips), "series": len(members)}
        for equal_level in (False, True):
            heard = [
                [r.heard(s.mixed_in, equal_level=equal_level) for r in s.rows] for s in members
            ]
            tail = "_equal_level" if equal_level else ""
            counts |= {f"{key}{tail}": v for key, v in order(values, np.array(heard)).items()}
        levels = np.array([[row.level_db for row in one.rows] for one in members])
        counts["level_db"] = dict(
            zip(map(_name, values), levels.mean(axis=0).tolist(), strict=True)
        )
        summary[name] = counts
    return summary


def order(asked: Float[np.ndarray, " v"], heard: Float[np.ndarray, "u v"]) -> dict[str, Any]:
    """Returns how far what is heard rises with what was asked.

    Args:
        asked: rising values.
        heard: of each utterance at each value.

    Returns:
        pairs_in_order (1) and tau (2), the interval that holds tau in 95 % of resampled sets of
        utterances, the share of utterances whose last value is heard as more than the first, and
        `means` of what is heard by value.
    """
    tau = figure(taus(asked, heard))
    assert tau is not None  # there is an utterance
    means = heard.mean(axis=0).tolist()
    return {
        "pairs_in_order": float(pairs_in_order(asked, heard).mean()),
        "ends_in_order": float((heard[:, -1] > heard[:, 0]).mean()),
        "tau": tau.value,
        "tau_low": tau.low,
        "tau_high": tau.high,
        "means": dict(zip(map(_name, asked), means, strict=True)),
    }


def _name(value: float) -> str:
    return f"{value:g}"
