"""Words of a text and how many of them were misunderstood, which is at most all of them.

English is normalised as Whisper's authors do before they count: "eleven" and "11", "won't" and
"will not" are no errors.

Source: Radford et al., Whisper (arXiv 2212.04356), appendix C, in transformers' implementation.
"""

import functools
import re
from collections.abc import Callable, Sequence


def words(text: str, language: str = "en") -> list[str]:
    """Returns the words of a text, in lower case and without punctuation.

    Args:
        text: what was written or understood.
        language: as ISO 639-1.

    Raises:
        ModuleNotFoundError: `transformers` is absent, which normalises English.
    """
    text = text.replace("’", "'")
    if language == "en":
        text = english_normalizer()(text)
    found = (word.strip("'") for word in re.findall(r"[\w']+", text.lower()))
    return [word for word in found if word]


def edits(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Returns the fewest items to insert, delete or replace that make one sequence the other.

    Args:
        wanted: words, or the characters of a text.
        found: of the other.
    """
    row = list(range(len(found) + 1))
    for i, word in enumerate(wanted, start=1):
        before, row = row, [i]
        for j, other in enumerate(found, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (word != other)))
    return row[-1]


def errors(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Returns how many items of a text were misunderstood: `edits`, at most all of them.

    So an error rate lies within 0 and 1. Nothing is worse than to be understood in nothing, and a
    recogniser that goes on about silence must not outweigh the clips beside it in a mean.

    Args:
        wanted: words, or the characters of a text.
        found: of what was understood.
    """
    return min(edits(wanted, found), len(wanted))


@functools.cache
def english_normalizer() -> Callable[[str], str]:
    """Returns what spells numbers and short forms of English in one way.

    Raises:
        ModuleNotFoundError: `transformers` is absent; listeners ask for it before any work.
    """
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})  # no table of British spellings comes with the package
