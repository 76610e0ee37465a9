"""Words of a text and how many of them were misunderstood."""

import re
from collections.abc import Sequence


def words(text: str) -> list[str]:
    """Returns the words of a text, in lower case and without punctuation."""
    found = (word.strip("'") for word in re.findall(r"[\w']+", text.lower().replace("’", "'")))
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
