"""`rejected.tsv`: the utterances left out and why, of a build as of a preparation.

    corpus path line kind reason

`line` is that of the manifest or label file, 0 where there is none. Files that are not there may be
thousands, of a corpus that was copied in part; a run says so in one line, see `missing_lines`.
"""

import pathlib
import re
from collections.abc import Mapping, Sequence

from emoconv_jax.files import write_text
from emoconv_jax.pipeline.manifest import Row, find_manifest

REJECTED = "rejected.tsv"
COLUMNS = ("corpus", "path", "line", "kind", "reason")
UNREADABLE = "unreadable"  # the kind of an error that has none
MISSING = "missing"  # the kind of a file that is not there
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


def told(entries: Sequence[tuple[Row, str, str]], folders: Mapping[str, pathlib.Path]) -> list[str]:
    """Says what was left out where there is a line for each.

    Args:
        entries: as for `write_rejects`.
        folders: as for `missing_lines`.

    Returns:
        The reasons, and at the end what `missing_lines` has for files that are not there.
    """
    reasons = [reason for _, kind, reason in entries if kind != MISSING]
    return reasons + missing_lines(entries, folders)


def missing_lines(
    entries: Sequence[tuple[Row, str, str]], folders: Mapping[str, pathlib.Path]
) -> list[str]:
    """Says which files are named and not there.

    Args:
        entries: as for `write_rejects`.
        folders: of corpora that may have a manifest, by name.

    Returns:
        A line for each corpus that lacks any: the first of them, and how many more there are.
    """
    missing: dict[str, list[Row]] = {}
    for row, kind, _ in entries:
        if kind == MISSING:
            missing.setdefault(row.corpus, []).append(row)
    lines = []
    for corpus, rows in missing.items():
        manifest = find_manifest(folders[corpus]) if corpus in folders else None
        named = f"{manifest.name} names" if manifest else "its labels name"
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        lines.append(f"{corpus}: {named} {rows[0].path}, which is not there{more}")
    return lines
