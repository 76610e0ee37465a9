"""`rejected.tsv`: the utterances left out and why, of a build as of a preparation.

    corpus path line kind reason

`line` is that of the manifest or label file, 0 where there is none.
"""

import pathlib
import re
from collections.abc import Sequence

from emoconv_jax.files import write_text
from emoconv_jax.pipeline.manifest import Row

REJECTED = "rejected.tsv"
COLUMNS = ("corpus", "path", "line", "kind", "reason")
UNREADABLE = "unreadable"  # the kind of an error that has none
# what would break the table, or cannot be written: folders may have tabs in their names
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def write_rejects(path: pathlib.Path, entries: Sequence[tuple[Row, str, str]]) -> None:
    """Writes the table anew, whole or not at all.

    Args:
        path: the file; its folder must exist.
        entries: (row, kind, reason) of each; a reason's line breaks and tabs become spaces.

    Raises:
        OSError: a file that cannot be written.
    """
    lines: list[tuple[str, ...]] = [COLUMNS]
    for row, kind, reason in entries:
        lines.append((row.corpus, row.path, str(row.line), kind, " ".join(reason.split())))
    text = "".join("\t".join(CONTROL.sub(" ", field) for field in line) + "\n" for line in lines)
    write_text(path, text)
