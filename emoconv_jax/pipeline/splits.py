"""Which utterance trains what: split files, and the split of every row of a corpus.

A corpus's split comes from the split file that was asked for, else from the corpus itself (a
manifest's column `split`, MSP-Podcast's own), else from the published file that names it, else from
its speakers by chance, see `split_by_speaker`. A split file holds

    {"CORPUS": {"sentence": "REGEX WITH ONE GROUP",
                "splits": {"SPLIT": {"speakers": [...], "sentences": [...],
                                     "without_sentences": [...]}}}}

A row belongs to the split whose conditions it meets; an absent condition is met by all. `sentence`
reads the sentence's id from a row's path. What belongs to no split is unused.

    a           conditioning recogniser and banks; score network; average-voice encoder
    b           the independent, scoring recogniser only; score network; average-voice encoder
    train       score network and average-voice encoder
    validation  chooses the checkpoint
    test        is never seen before the report
"""

import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Collection, Sequence
from typing import Any

from emoconv_jax.config import from_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json
from emoconv_jax.pipeline.manifest import Row

SPLITS = ("a", "b", "train", "validation", "test")
UNUSED = "unused"
# What corpora call their own splits. Theirs to train on is a, which everything trains on.
OWN_NAMES = {"train": "a", "dev": "validation", "valid": "validation", "eval": "test"}


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What a row must meet; None asks for nothing."""

    speakers: tuple[str, ...] | None = None
    sentences: tuple[str, ...] | None = None
    without_sentences: tuple[str, ...] | None = None

    def met(self, speaker: str, sentence: str) -> bool:
        """Tells whether a speaker's sentence belongs to the split.

        Args:
            speaker: the speaker's name.
            sentence: the sentence's id, empty if the corpus states none.

        Returns:
            True if every condition is met.
        """
        return (
            (self.speakers is None or speaker in self.speakers)
            and (self.sentences is None or sentence in self.sentences)
            and (self.without_sentences is None or sentence not in self.without_sentences)
        )


@dataclasses.dataclass(frozen=True)
class CorpusSplits:
    """The splits of one corpus.

    Attributes:
        sentence: a regular expression whose first group is the sentence's id in a path; empty
            where no split asks for sentences.
        splits: conditions by the split's name.
    """

    sentence: str
    splits: dict[str, Conditions]


def load_splits(path: str | os.PathLike[str]) -> dict[str, CorpusSplits]:
    """Reads a split file, or every split file of a folder.

    Args:
        path: JSON as in this module's docstring, or a folder of such.

    Returns:
        The splits by corpus.

    Raises:
        EmoconvError: a missing or damaged file, a corpus in two files, an unknown split or field, a
            regular expression that is none or has no group, or sentences asked for without one.
    """
    place = pathlib.Path(path)
    splits: dict[str, CorpusSplits] = {}
    for file in sorted(place.glob("*.json")) if place.is_dir() else [place]:
        data = read_json(file, "expected a split file")
        if not isinstance(data, dict):
            raise EmoconvError(f"{file}: found {type(data).__name__}, expected corpora by name")
        for corpus, entry in data.items():
            if corpus in splits:
                raise EmoconvError(f"{file}: {corpus} is in another file of {place} as well")
            splits[corpus] = _corpus(entry, f"{file}: {corpus}")
    return splits


def assign_splits(
    splits: dict[str, CorpusSplits],
    rows: Sequence[Row],
    published: dict[str, CorpusSplits] | None = None,
) -> list[str]:
    """Returns the split of every utterance.

    Args:
        splits: asked for: what `load_splits` gave.
        rows: of one corpus or of several, each as a whole.
        published: of corpora that have neither those nor their own.

    Returns:
        Members of SPLITS, or "unused".

    Raises:
        EmoconvError: as for `split_of`, or a corpus's own split of another name.
    """
    speakers: dict[str, set[str]] = {}
    own = {row.corpus for row in rows if row.split}
    for row in rows:
        speakers.setdefault(row.corpus, set()).add(row.speaker)
    filed = {name: entry for name, entry in (published or {}).items() if name not in own} | splits
    chosen = {
        corpus: split_by_speaker(corpus, names)
        for corpus, names in speakers.items()
        if corpus not in filed and corpus not in own
    }
    return [
        split_of(filed, row)
        if row.corpus in filed
        else _own_split(row)
        if row.corpus in own
        else chosen[row.corpus][row.speaker]
        for row in rows
    ]


def split_by_speaker(corpus: str, speakers: Collection[str]) -> dict[str, str]:
    """Divides the speakers of a corpus for which nobody defined splits.

    A tenth of them, and one at least, goes to validation, as many to test, the others to a. Fewer
    than three speakers cannot be divided and all train. Who goes where follows from the names
    alone (by the order of their SHA-256), so that it is the same everywhere.

    Args:
        corpus: its name.
        speakers: theirs.

    Returns:
        The split by speaker.
    """
    order = sorted(speakers, key=lambda name: hashlib.sha256(f"{corpus}/{name}".encode()).digest())
    held = max(1, len(order) // 10) if len(order) >= 3 else 0
    places = ["validation"] * held + ["test"] * held + ["a"] * len(order)
    return dict(zip(order, places, strict=False))


def _own_split(row: Row) -> str:
    name = row.split.lower()
    name = OWN_NAMES.get(name, name)
    if name not in ("", UNUSED, *SPLITS):
        raise EmoconvError(
            f"{row.corpus}/{row.path}: split {row.split!r}, allowed are "
            f"{', '.join((*SPLITS, UNUSED, *OWN_NAMES))}"
        )
    return name or UNUSED


def split_of(splits: dict[str, CorpusSplits], row: Row) -> str:
    """Returns the split of an utterance.

    Args:
        splits: what `load_splits` gave.
        row: the utterance.

    Returns:
        A member of SPLITS, or "unused" (also for a corpus that the file does not name).

    Raises:
        EmoconvError: the row meets the conditions of two splits, or its path does not show the
            sentence that a split asks for.
    """
    if row.corpus not in splits:
        return UNUSED
    corpus, sentence = splits[row.corpus], ""
    if corpus.sentence:
        found = re.search(corpus.sentence, row.path)
        if found is None:
            raise EmoconvError(
                f"{row.corpus}/{row.path}: no sentence id, expected a path like {corpus.sentence}"
            )
        sentence = found[1]
    met = [name for name, asked in corpus.splits.items() if asked.met(row.speaker, sentence)]
    if len(met) > 1:
        raise EmoconvError(
            f"{row.corpus}/{row.path}: in the splits {' and '.join(met)}, allowed is one"
        )
    return met[0] if met else UNUSED


def _corpus(entry: Any, where: str) -> CorpusSplits:
    if not isinstance(entry, dict) or not isinstance(entry.get("splits"), dict):
        raise EmoconvError(f"{where}: expected an object with the field splits")
    unknown = sorted(set(entry) - {"sentence", "splits"})
    if unknown:
        raise EmoconvError(f"{where}.{unknown[0]}: unknown, allowed are sentence, splits")
    sentence = entry.get("sentence", "")
    try:
        groups = re.compile(sentence).groups
    except (re.error, TypeError):
        raise EmoconvError(f"{where}.sentence: {sentence!r} is no regular expression") from None
    if sentence and groups != 1:
        raise EmoconvError(f"{where}.sentence: {groups} groups in {sentence!r}, expected 1")
    splits = {}
    for name, conditions in entry["splits"].items():
        if name not in SPLITS:
            raise EmoconvError(f"{where}.{name}: no split, allowed are {', '.join(SPLITS)}")
        splits[name] = from_dict(Conditions, conditions, f"{where}.{name}")
        asks = splits[name].sentences is not None or splits[name].without_sentences is not None
        if asks and not sentence:
            raise EmoconvError(f"{where}.{name}: asks for sentences, the field sentence is missing")
    return CorpusSplits(sentence=sentence, splits=splits)
