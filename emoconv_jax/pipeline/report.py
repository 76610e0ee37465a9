"""What a feature folder holds, in figures: hours, voices, emotions, arousal, length, level, pitch.

Everything is a pure function of the index's utterances, and JSON-ready by `config.to_dict`: names,
numbers, lists, and None where there is nothing to measure; never NaN. Histograms of one quantity
share their bins, so that those of corpora and splits can be stacked and compared.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from emoconv_jax.audio.prosody import HIGHEST_F0_HZ, LOWEST_F0_HZ
from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW, EMOTIONS, TRAINING_SPLITS, MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.splits import SPLITS, UNUSED
from emoconv_jax.pipeline.store import Utterance
from emoconv_jax.shapes import Float, Int

HELD_OUT_SPLITS = ("validation", "test")
RECOGNISERS = ("a", "b")  # the one that conditions and the one that judges
ALL_SPLITS = (*SPLITS, UNUSED)
NONE = "none"  # stands for the empty name of a label

LEAST_VOICED = 0.1  # of the frames; vowels alone are more of any speech
FULL_SCALE_DB = -0.1  # a sample within 1 % of full scale
SHORTEST_S = 0.5  # a third of a training crop of 128 frames: one word
LONGEST_S = 20.0  # a crop hears a fourteenth; one label rarely holds for so long
LEAST_CLIPS = 8  # of a speaker, for a standard deviation that says something
SEMITONE = 2 ** (1 / 12)

# The widest that reading, the level's gate, the F0 tracker and the scales allow.
EDGES = {
    "arousal": np.linspace(AROUSAL_LOW, AROUSAL_HIGH, 13),
    "length_s": 2.0 ** np.arange(-4, 10.01, 0.25),  # 0.06 to 1024 s, four bins to an octave
    "level_db": np.arange(-70.0, 0.1, 2.0),
    "level_spread_db": np.arange(0.0, 20.1, 1.0),
    "peak_db": np.arange(-80.0, 0.1, 2.0),
    "f0_hz": 55 * 2.0 ** (np.arange(25) / 6),  # 55 to 880 Hz, bins of two semitones
    "f0_spread": np.arange(0.0, 15.1, 0.5),
    "voiced": np.linspace(0.0, 1.0, 21),
    "speaker_minutes": 2.0 ** np.arange(-4, 14.01, 0.5),
}
TEXTS = ("corpus", "speaker", "gender", "language", "split", "emotion", "alignment")
NUMBERS = (
    *("frames", "arousal", "valence", "dominance", "level_db", "level_spread_db", "peak_db"),
    *("f0_hz", "f0_spread", "voiced", "rated"),
)


@dataclasses.dataclass(frozen=True)
class Distribution:
    """One quantity over many utterances.

    Attributes:
        count: how many have it.
        mean: of them.
        deviation: their standard deviation.
        least: the smallest.
        p05: the 5th percentile.
        median: the 50th.
        p95: the 95th.
        greatest: the largest.
        edges: of the histogram's bins, one more than bins.
        counts: of each bin; the outer ones hold what lies beyond them too.
    """

    count: int
    mean: float
    deviation: float
    least: float
    p05: float
    median: float
    p95: float
    greatest: float
    edges: list[float]
    counts: list[int]


@dataclasses.dataclass(frozen=True)
class Figures:
    """What some utterances hold; a distribution is None where none of them has the quantity.

    Attributes:
        utterances: how many.
        hours: of audio.
        speakers: how many.
        genders: speakers by gender.
        languages: utterances by language.
        emotions: utterances by emotion, those of the vocabulary always among them.
        alignments: utterances by where their phone times came from.
        split_hours: hours by split.
        rated: utterances whose arousal the corpus gave.
        valence_rated: utterances with a valence.
        dominance_rated: utterances with a dominance.
        unvoiced: utterances with less than LEAST_VOICED of their frames voiced, or no F0.
        f0_at_limits: utterances with a median F0 within a semitone of the tracker's limits.
        full_scale: utterances whose peak reaches FULL_SCALE_DB.
        short: utterances under SHORTEST_S.
        long_hours: hours in utterances over LONGEST_S.
        speaker_level_deviation_db: of the level of a speaker's utterances, the median over the
            speakers with LEAST_CLIPS or more; None where there is no such speaker.
        arousal: labels, 1..7.
        length_s: of utterances.
        level_db: of active speech, dBFS.
        level_spread_db: within an utterance.
        peak_db: dBFS.
        f0_hz: median F0 of the voiced utterances.
        f0_spread: semitones, within a voiced utterance.
        voiced: share of frames, 0..1.
        speaker_minutes: of audio, over speakers.
    """

    utterances: int
    hours: float
    speakers: int
    genders: dict[str, int]
    languages: dict[str, int]
    emotions: dict[str, int]
    alignments: dict[str, int]
    split_hours: dict[str, float]
    rated: int
    valence_rated: int
    dominance_rated: int
    unvoiced: int
    f0_at_limits: int
    full_scale: int
    short: int
    long_hours: float
    speaker_level_deviation_db: float | None
    arousal: Distribution | None
    length_s: Distribution | None
    level_db: Distribution | None
    level_spread_db: Distribution | None
    peak_db: Distribution | None
    f0_hz: Distribution | None
    f0_spread: Distribution | None
    voiced: Distribution | None
    speaker_minutes: Distribution | None


@dataclasses.dataclass(frozen=True)
class Report:
    """The figures of a feature folder.

    Attributes:
        overall: of all utterances.
        training: of those that train something.
        corpora: by corpus, in the order of the index.
        splits: by split, in the order of `pipeline.splits`; only those that occur.
        leaked_speakers: who is heard in training and held out as well.
        shared_speakers: whom both recognisers learn from.
    """

    overall: Figures
    training: Figures
    corpora: dict[str, Figures]
    splits: dict[str, Figures]
    leaked_speakers: list[str]
    shared_speakers: list[str]


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The index column by column: texts as codes, of which `names` gives the meaning."""

    names: dict[str, list[str]]
    codes: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray]


def make_report(utterances: Sequence[Utterance], mel: MelConfig) -> Report:
    """Returns the figures of a feature folder.

    Args:
        utterances: of its index.
        mel: its settings, which give a frame's length.

    Returns:
        The report.

    Raises:
        EmoconvError: there is no utterance.
    """
    if not utterances:
        raise EmoconvError("no utterance in the feature folder, at least one is needed")
    columns = _columns(utterances, mel)
    splits, speakers = _members(columns, "split"), columns.codes["speaker"]
    nobody = np.zeros(0, np.int64)

    def of(*names: str) -> Int[np.ndarray, " b"]:
        return np.concatenate([splits.get(name, nobody) for name in names])

    def shared(some: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
        both = np.intersect1d(speakers[of(*some)], speakers[of(*others)])
        return sorted(columns.names["speaker"][code] for code in both)

    order = [name for name in ALL_SPLITS if name in splits]
    order += [name for name in splits if name not in ALL_SPLITS]
    return Report(
        overall=_figures(columns, np.arange(len(utterances))),
        training=_figures(columns, of(*TRAINING_SPLITS)),
        corpora={name: _figures(columns, at) for name, at in _members(columns, "corpus").items()},
        splits={name: _figures(columns, splits[name]) for name in order},
        leaked_speakers=shared(TRAINING_SPLITS, HELD_OUT_SPLITS),
        shared_speakers=shared(RECOGNISERS[:1], RECOGNISERS[1:]),
    )


def duration(hours: float) -> str:
    """Returns a duration with its unit: 1,234 h, 2.05 h, 12.3 min, 2.4 s.

    Args:
        hours: 0 or more.

    Returns:
        The text.
    """
    if hours >= 1:
        return f"{hours:,.0f} h" if hours >= 100 else f"{hours:.{2 - (hours >= 10)}f} h"
    return f"{hours * 60:.1f} min" if hours >= 1 / 60 else f"{hours * 3600:.1f} s"


def plain_name(name: str, letters: int) -> str:
    """Returns a name that is safe to show: without control characters, cut to a length.

    Args:
        name: of a corpus, which may be any folder's name.
        letters: the most to keep, 2 or more.

    Returns:
        The name.
    """
    clean = "".join(letter if letter.isprintable() else "?" for letter in name)
    return clean if len(clean) <= letters else clean[: letters - 1] + "…"


def _columns(utterances: Sequence[Utterance], mel: MelConfig) -> _Columns:
    names, codes = {}, {}
    for field in TEXTS:
        known: dict[str, int] = {}
        values = [known.setdefault(getattr(u, field) or NONE, len(known)) for u in utterances]
        names[field], codes[field] = list(known), np.array(values, np.int64)
    numbers = {
        field: np.array([getattr(u, field) for u in utterances], np.float64) for field in NUMBERS
    }
    numbers["length_s"] = numbers.pop("frames") * mel.hop_samples / mel.sample_rate_hz
    return _Columns(names, codes, numbers)


def _members(columns: _Columns, field: str) -> dict[str, np.ndarray]:
    """Returns the utterances of each value of a text column, in one sort."""
    codes = columns.codes[field]
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(columns.names[field])))
    return dict(zip(columns.names[field], np.split(order, ends[:-1]), strict=True))


def _figures(columns: _Columns, at: Int[np.ndarray, " b"]) -> Figures:
    values = {name: column[at] for name, column in columns.numbers.items()}
    length_s, f0_hz = values["length_s"], values["f0_hz"]
    labelled, pitched = values["arousal"] >= AROUSAL_LOW, f0_hz > 0
    lowest_hz, highest_hz = LOWEST_F0_HZ * SEMITONE, HIGHEST_F0_HZ / SEMITONE
    voices, first, voice = np.unique(
        columns.codes["speaker"][at], return_index=True, return_inverse=True
    )

    def tally(field: str, where: np.ndarray, always: Sequence[str] = ()) -> dict[str, int]:
        counts = np.bincount(columns.codes[field][where], minlength=len(columns.names[field]))
        found = dict(zip(columns.names[field], counts.tolist(), strict=True))
        order = sorted(found, key=lambda name: (name == NONE, name))
        return dict.fromkeys(always, 0) | {name: found[name] for name in order if found[name]}

    return Figures(
        utterances=len(at),
        hours=_hours(length_s),
        speakers=len(voices),
        genders=tally("gender", at[first]),
        languages=tally("language", at),
        emotions=tally("emotion", at, EMOTIONS),
        alignments=tally("alignment", at),
        split_hours={
            columns.names["split"][code]: _hours(length_s[columns.codes["split"][at] == code])
            for code in np.unique(columns.codes["split"][at])
        },
        rated=int((labelled & (values["rated"] > 0)).sum()),
        valence_rated=int((values["valence"] >= AROUSAL_LOW).sum()),
        dominance_rated=int((values["dominance"] >= AROUSAL_LOW).sum()),
        unvoiced=int((~pitched | (values["voiced"] < LEAST_VOICED)).sum()),
        f0_at_limits=int((pitched & ((f0_hz <= lowest_hz) | (f0_hz >= highest_hz))).sum()),
        full_scale=int((values["peak_db"] >= FULL_SCALE_DB).sum()),
        short=int((length_s < SHORTEST_S).sum()),
        long_hours=_hours(length_s[length_s > LONGEST_S]),
        speaker_level_deviation_db=_deviation_within(values["level_db"], voice),
        arousal=_distribution("arousal", values["arousal"][labelled]),
        f0_hz=_distribution("f0_hz", f0_hz[pitched]),
        f0_spread=_distribution("f0_spread", values["f0_spread"][pitched]),
        speaker_minutes=_distribution(
            "speaker_minutes", np.bincount(voice, weights=length_s) / 60.0
        ),
        **{
            name: _distribution(name, values[name])
            for name in ("length_s", "level_db", "level_spread_db", "peak_db", "voiced")
        },
    )


def _hours(length_s: Float[np.ndarray, " b"]) -> float:
    return float(length_s.sum()) / 3600.0


def _deviation_within(
    values: Float[np.ndarray, " b"], group: Int[np.ndarray, " b"]
) -> float | None:
    """Returns the median, over groups of LEAST_CLIPS or more, of the standard deviation within."""
    count = np.bincount(group)
    mean = np.bincount(group, weights=values) / np.maximum(count, 1)
    variance = np.bincount(group, weights=(values - mean[group]) ** 2) / np.maximum(count, 1)
    large = count >= LEAST_CLIPS
    return float(np.median(np.sqrt(variance[large]))) if large.any() else None


def _distribution(name: str, values: Float[np.ndarray, " b"]) -> Distribution | None:
    if not values.size:
        return None
    edges = EDGES[name]
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    p05, median, p95 = np.percentile(values, (5, 50, 95)).tolist()
    return Distribution(
        count=len(values),
        mean=float(values.mean()),
        deviation=float(values.std()),
        least=float(values.min()),
        p05=p05,
        median=median,
        p95=p95,
        greatest=float(values.max()),
        edges=edges.tolist(),
        counts=counts.tolist(),
    )
