"""Which utterance trains what: the split file, and the split of one row of a manifest.

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
import os
import pathlib
import re
from typing import Any

from emoconv_jax.config import from_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json
from emoconv_jax.pipeline.manifest import Row

SPLITS = ("a", "b", "train", "validation", "test")
UNUSED = "unused"


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
    """Reads a split file.

    Args:
        path: JSON as in this module's docstring.

    Returns:
        The splits by corpus.

    Raises:
        EmoconvError: a missing or damaged file, an unknown split or field, a regular expression
            that is none or has no group, or sentences asked for without one.
    """
    data = read_json(pathlib.Path(path), "expected a split file")
    if not isinstance(data, dict):
        raise EmoconvError(f"{path}: found {type(data).__name__}, expected corpora by name")
    return {corpus: _corpus(entry, f"{path}: {corpus}") for corpus, entry in data.items()}


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
