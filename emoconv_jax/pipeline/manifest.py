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
        EmoconvError: no manifest, a missing column, an empty speaker, a doubled path, or a path
            that is missing or leaves the folder; names the file and the line.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise EmoconvError(f"{manifest}: not found; a corpus folder needs a {MANIFEST}")
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:  # Excel's mark is no name
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = reader.fieldnames or []
            table = [(reader.line_num, fields) for fields in reader]
    except UnicodeDecodeError as error:
        raise EmoconvError(f"{manifest}: not UTF-8 text ({error.reason})") from None
    except (csv.Error, OSError) as error:
        raise EmoconvError(f"{manifest}: cannot be read ({error})") from None
    absent = [name for name in REQUIRED if name not in header]
    if absent:
        raise EmoconvError(f"{manifest}: no column {absent[0]!r}; found {', '.join(header)}")
    rows, seen, root = [], set(), folder.resolve()
    for number, fields in table:
        where = f"{manifest}:{number}"
        if None in fields:
            raise EmoconvError(f"{where}: more fields than the {len(header)} of the header")
        named = {name: (fields.get(name) or "").strip() for name in (*REQUIRED, *OPTIONAL)}
        empty = [name for name in REQUIRED if not named[name]]
        if empty:
            raise EmoconvError(f"{where}: {empty[0]} is empty, a value is needed")
        audio = _inside(root, named["path"], where)
        if audio in seen:
            raise EmoconvError(f"{where}: {named['path']} is listed twice")
        seen.add(audio)
        rows.append(Row(corpus=root.name, **named))
    if not rows:
        raise EmoconvError(f"{manifest}: lists no utterances")
    return rows


def _inside(root: pathlib.Path, path: str, where: str) -> pathlib.Path:
    """Returns the file a row names, which must lie in the corpus folder, links followed."""
    try:
        audio = (root / path).resolve()
        known = audio.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a loop of links
        raise EmoconvError(f"{where}: path {path!r:.80} is no file name") from None
    if not audio.is_relative_to(root) or audio == root:
        raise EmoconvError(f"{where}: path {path!r} lies outside the corpus folder")
    if not known:
        raise EmoconvError(f"{where}: {path} is not a file")
    return audio
