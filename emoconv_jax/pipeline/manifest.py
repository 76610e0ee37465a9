"""Reading a corpus folder: `manifest.tsv` and the audio files that it names.

The manifest is tab-separated with a header. `path` and `speaker` are required; `gender`,
`language`, `emotion`, `intensity`, `text` and `arousal` are read where they are present.
"""

import csv
import dataclasses
import pathlib

from emoconv_jax.errors import EmoconvError

MANIFEST = "manifest.tsv"
REQUIRED = ("path", "speaker")
OPTIONAL = ("gender", "language", "emotion", "intensity", "text", "arousal")


@dataclasses.dataclass(frozen=True)
class Row:
    """One utterance of a manifest; absent fields are empty strings.

    Attributes:
        corpus: the corpus folder's name.
        path: of the audio file, relative to the corpus folder.
    """

    corpus: str
    path: str
    speaker: str
    gender: str = ""
    language: str = ""
    emotion: str = ""
    intensity: str = ""
    text: str = ""
    arousal: str = ""


def read_manifest(folder: pathlib.Path) -> list[Row]:
    """Returns the rows of a corpus folder's manifest, in the file's order.

    Args:
        folder: holds `manifest.tsv` and, below it, the audio files.

    Returns:
        One `Row` per utterance; every path exists and lies inside `folder`.

    Raises:
        EmoconvError: no manifest, a missing column, a doubled path, or a path that is missing or
            leaves the folder; names the file and the line.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise EmoconvError(f"{manifest}: not found; a corpus folder needs a {MANIFEST}")
    try:
        with manifest.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = reader.fieldnames or []
            table = list(reader)
    except UnicodeDecodeError as error:
        raise EmoconvError(f"{manifest}: not UTF-8 text ({error.reason})") from None
    absent = [name for name in REQUIRED if name not in header]
    if absent:
        raise EmoconvError(f"{manifest}: no column {absent[0]!r}; found {', '.join(header)}")
    rows, seen, root = [], set(), folder.resolve()
    for number, fields in enumerate(table, start=2):
        where = f"{manifest}:{number}"
        path = fields["path"] or ""
        audio = (folder / path).resolve()
        if not audio.is_relative_to(root) or audio == root:
            raise EmoconvError(f"{where}: path {path!r} lies outside the corpus folder")
        if not audio.is_file():
            raise EmoconvError(f"{where}: {path} is not a file")
        if path in seen:
            raise EmoconvError(f"{where}: {path} is listed twice")
        seen.add(path)
        named = {name: (fields.get(name) or "").strip() for name in (*REQUIRED, *OPTIONAL)}
        rows.append(Row(corpus=root.name, **named))
    if not rows:
        raise EmoconvError(f"{manifest}: lists no utterances")
    return rows
