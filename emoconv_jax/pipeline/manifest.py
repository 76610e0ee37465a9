"""A corpus folder of one's own: a manifest and the audio files that it names.

`manifest.tsv` (tab-separated, no quotes) or `manifest.csv` (commas, quotes as spreadsheets write
them), UTF-8, with a header. `path` and `speaker` are required; `gender`, `language`, `emotion`,
`intensity`, `arousal`, `valence`, `dominance`, `text` and `split` are read where they are present.
"""

import csv
import dataclasses
import os
import pathlib
import unicodedata

from emoconv_jax.errors import EmoconvError

MANIFESTS = {"manifest.tsv": "\t", "manifest.csv": ","}
MOST_TABLE_BYTES = 256 * 2**20  # a million utterances with their texts
ODD = "a line break, another control character or bytes that are not UTF-8"
REQUIRED = ("path", "speaker")
OPTIONAL = (
    *("gender", "language", "emotion", "intensity", "arousal", "valence", "dominance"),
    *("text", "split"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One utterance of a corpus as its labels describe it; absent fields are empty strings.

    Attributes:
        corpus: the corpus's name.
        path: of the audio file, relative to the corpus folder.
        speaker: the corpus's own name for it.
        gender: F or M.
        language: as ISO 639-1.
        emotion: a name that `labels.emotion_name` knows.
        intensity: of acting; low, normal or strong.
        text: what is said.
        arousal: on 1..7, where listeners rated it; so are valence and dominance.
        split: where the corpus defines one, a name of `splits.SPLITS`.
        line: of the manifest or label file that describes it, 0 where there is none.
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
    valence: str = ""
    dominance: str = ""
    split: str = ""
    line: int = dataclasses.field(default=0, compare=False)


def find_manifest(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns a folder's manifest.

    Args:
        folder: a corpus folder.

    Returns:
        The path; None if there is none.

    Raises:
        EmoconvError: there are two.
    """
    found = [folder / name for name in MANIFESTS if (folder / name).is_file()]
    if len(found) > 1:
        raise EmoconvError(f"{folder}: holds {' and '.join(MANIFESTS)}, allowed is one of them")
    return found[0] if found else None


def read_manifest(folder: pathlib.Path) -> list[Row]:
    """Returns the rows of a corpus folder's manifest, in the file's order.

    Args:
        folder: holds the manifest and, below it, the audio files.

    Returns:
        One `Row` per utterance; every path lies inside `folder`, links followed. Whether a file is
        there, and sound, is for whoever reads it to say.

    Raises:
        EmoconvError: no manifest, a missing column, an empty speaker, or a path that is no file
            name or leaves the folder; names the file and the line.
    """
    manifest = find_manifest(folder)
    if manifest is None:
        raise EmoconvError(f"{folder}: holds no {' or '.join(MANIFESTS)}, one is needed")
    rows, root = [], folder.resolve()
    if _is_odd(root.name):  # it is the corpus's name
        raise EmoconvError(f"{str(folder)!r}: the folder's name holds {ODD}")
    for line, fields in read_table(manifest, REQUIRED):
        where = f"{manifest}:{line}"
        named = {name: (fields.get(name) or "").strip() for name in (*REQUIRED, *OPTIONAL)}
        empty = [name for name in REQUIRED if not named[name]]
        if empty:
            raise EmoconvError(f"{where}: {empty[0]} is empty, a value is needed")
        check_path(root, named["path"], where)
        rows.append(Row(corpus=root.name, line=line, **named))
    if not rows:
        raise EmoconvError(f"{manifest}: lists no utterances")
    return rows


def read_table(path: pathlib.Path, required: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Reads a table with a header: tab-separated without quotes, or (`.csv`) commas with quotes.

    Args:
        path: the file.
        required: columns that must be there.

    Returns:
        (line number, fields by column) of each row.

    Raises:
        EmoconvError: a file that cannot be read, is not UTF-8, lacks a column, or a row with more
            fields than the header; names the file and the line.
    """
    size = path.stat().st_size if path.is_file() else 0  # a fifo would block
    if not 0 < size <= MOST_TABLE_BYTES:
        raise EmoconvError(
            f"{path}: cannot be read (a file of {size} bytes, allowed are 1 to {MOST_TABLE_BYTES})"
        )
    comma = path.suffix.lower() == ".csv"
    delimiter, quoting = (",", csv.QUOTE_MINIMAL) if comma else ("\t", csv.QUOTE_NONE)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # Excel's mark is no name
            reader = csv.DictReader(
                file,
                delimiter=delimiter,
                quoting=quoting,
                strict=comma,  # no quote left open
            )
            header = list(reader.fieldnames or [])
            table = [(reader.line_num, fields) for fields in reader]
    except UnicodeDecodeError as error:
        raise EmoconvError(f"{path}: not UTF-8 text ({error.reason})") from None
    except (csv.Error, OSError) as error:
        raise EmoconvError(f"{path}: cannot be read ({error})") from None
    absent = [name for name in required if name not in header]
    if absent:
        raise EmoconvError(f"{path}: no column {absent[0]!r}; found {header!r:.200}")
    for line, fields in table:
        if None in fields:
            raise EmoconvError(f"{path}:{line}: more fields than the {len(header)} of the header")
    return table


def check_path(root: pathlib.Path, path: str, where: str) -> None:
    """Refuses a path that is no file name, or that leaves the corpus folder, links followed.

    Args:
        root: the corpus folder, resolved.
        path: relative to it.
        where: for messages: who names the path.

    Raises:
        EmoconvError: see above; also for line breaks and bytes that are not UTF-8 in the name, and
            for links that lead in a circle.
    """
    if _is_odd(path):
        raise EmoconvError(f"{where}: path {path!r:.80} holds {ODD}")
    try:
        audio = (root / path).resolve()
        os.stat(audio)
    except FileNotFoundError:
        pass  # for the reader of the audio to say
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, a loop of links
        reason = getattr(error, "strerror", None) or error
        raise EmoconvError(f"{where}: path {path!r:.80} is no file name ({reason})") from None
    if not audio.is_relative_to(root) or audio == root:
        raise EmoconvError(f"{where}: path {path!r} lies outside the corpus folder")


def _is_odd(name: str) -> bool:
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
