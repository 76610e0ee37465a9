"""Does the target arousal arrive, and does the voice stay: converts held-out speech and counts.

Each chosen utterance is converted to a low and a high target with the same seed. Counted are

    (1)  how often the recogniser's arousal at the high target exceeds that at the low one;
    (2)  the same after both outputs were set to equal loudness (a gain is not an emotion);
    (3)  how often the median F0 moves the same way;
    (4)  how often an output is nearest to its own speaker's centroid among the test speakers of the
         same gender, against how often that speaker's real emotional clips are. A centroid never
         contains the clip in question.

The recogniser is the bundle's own, so (1) and (2) say that the conversion does what it was asked,
not that people hear it.
"""

import collections
import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation.measures import measure
from emoconv_jax.evaluation.rows import SUMMARY_FILE, collect
from emoconv_jax.evaluation.subjects import Voices, choose
from emoconv_jax.files import write_text
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.request import Request, resolve
from emoconv_jax.pipeline.store import FeatureStore


@dataclasses.dataclass(frozen=True)
class Row:
    """The figures of one utterance at one target."""

    corpus: str
    path: str
    speaker: str
    target: float
    arousal: float
    arousal_equal_level: float
    f0_hz: float
    level_db: float
    nearest: str


def evaluate(
    converter: EmotionConverter,
    store: FeatureStore,
    corpora: pathlib.Path,
    out: pathlib.Path,
    *,
    split: str = "test",
    targets: tuple[float, float] = (1.0, 7.0),
    limit: int = 48,
    seed: int = 0,
    **request: Any,
) -> dict:
    """Converts held-out utterances to a low and a high target and counts.

    Args:
        converter: of the bundle.
        store: prepared features, where d-vectors of real clips come from.
        corpora: folder that holds the corpus folders.
        out: gets `settings.json`, `rows.jsonl` (an interrupted run continues) and `summary.json`.
        split: what to convert.
        targets: low and high arousal.
        limit: utterances at most.
        seed: of choice and noise.
        **request: further fields of `Request`, such as steps.

    Returns:
        The summary, as `summarise` gives it.

    Raises:
        EmoconvError: no utterances, a source that cannot be read, an `out` of other settings, or a
            bundle with a speaker encoder of its own, which the store's d-vectors are not of.
    """
    encoder = converter.config.roles.speaker
    if encoder != "registry":
        raise EmoconvError(
            f"{converter.source.name}: roles.speaker is {encoder!r}, but the features' d-vectors, "
            "which outputs are compared with, are of the 'registry' encoder"
        )
    asked = [Request(arousal=target, seed=seed, **request) for target in targets]
    requests = [resolve(one, converter.config, converter.banks).request for one in asked]
    chosen = choose(store, split, limit, seed)
    settings = {
        "bundle": converter.config.name,
        "bundle_sha256": converter.sha256,
        "split": split,
        "requests": [dataclasses.asdict(one) for one in requests],
    }
    voices = Voices(store, split, np.array(store.array("speaker")))
    jobs = {
        (store.utterances[i].corpus, store.utterances[i].path, target): functools.partial(
            _convert, converter, voices, corpora, i, target, one
        )
        for i in chosen
        for target, one in zip(targets, requests, strict=True)
    }
    rows = collect(out, settings, Row, lambda row: (row.corpus, row.path, row.target), jobs)
    summary = settings | summarise(rows, targets, voices)
    write_text(out / SUMMARY_FILE, json.dumps(summary, indent=1) + "\n")
    return summary


def _convert(
    converter: EmotionConverter,
    voices: Voices,
    corpora: pathlib.Path,
    index: int,
    target: float,
    request: Request,
) -> Row:
    """Returns the figures of one utterance at one target."""
    mel, utterance = converter.config.mel, voices.store.utterances[index]
    path = corpora / utterance.corpus / utterance.path
    converted = converter.convert(path, **dataclasses.asdict(request)).audio
    found = measure(converted, mel, converter.emotion, converter.speaker)
    return Row(
        corpus=utterance.corpus,
        path=utterance.path,
        speaker=utterance.speaker,
        target=target,
        arousal=found.arousal,
        arousal_equal_level=found.arousal_equal_level,
        f0_hz=found.f0_hz,
        level_db=found.level_db,
        nearest=voices.nearest(found.speaker, index),
    )


def summarise(rows: Iterable[Row], targets: tuple[float, float], voices: Voices) -> dict:
    """Returns the counts (1) to (4), over all and per corpus.

    Args:
        rows: of both targets.
        targets: low and high.
        voices: of the test speakers.

    Returns:
        "all" and each corpus -> name of the count -> value; shares are 0..1.
    """
    pairs: dict[tuple[str, str], dict[float, Row]] = collections.defaultdict(dict)
    for row in rows:
        pairs[row.corpus, row.path][row.target] = row
    both = [(p[targets[0]], p[targets[1]]) for p in pairs.values() if set(targets) <= set(p)]
    corpora = sorted({low.corpus for low, _ in both})
    summary = {"all": _counts(both, voices)}
    for corpus in corpora:
        summary[corpus] = _counts([pair for pair in both if pair[0].corpus == corpus], voices)
    return summary


def _counts(pairs: list[tuple[Row, Row]], voices: Voices) -> dict[str, float | int]:
    outputs = [row for pair in pairs for row in pair]
    voiced = [(a.f0_hz, b.f0_hz) for a, b in pairs if np.isfinite([a.f0_hz, b.f0_hz]).all()]
    own = float(np.mean([row.nearest == row.speaker for row in outputs]))
    real = float(np.mean([voices.real_rate(low.speaker) for low, _ in pairs]))
    return {
        "utterances": len(pairs),
        "voiced_pairs": len(voiced),
        "arousal_rises": float(np.mean([b.arousal > a.arousal for a, b in pairs])),
        "arousal_rises_equal_level": float(
            np.mean([b.arousal_equal_level > a.arousal_equal_level for a, b in pairs])
        ),
        "f0_rises": float(np.mean([b > a for a, b in voiced])) if voiced else float("nan"),
        "arousal_low": float(np.mean([a.arousal for a, _ in pairs])),
        "arousal_high": float(np.mean([b.arousal for _, b in pairs])),
        "f0_low_hz": float(np.mean([a for a, _ in voiced])) if voiced else float("nan"),
        "f0_high_hz": float(np.mean([b for _, b in voiced])) if voiced else float("nan"),
        "level_low_db": float(np.mean([a.level_db for a, _ in pairs])),
        "level_high_db": float(np.mean([b.level_db for _, b in pairs])),
        "own_speaker_nearest": own,
        "own_speaker_nearest_real": real,
        "own_speaker_ratio": own / real if real else float("nan"),
    }
