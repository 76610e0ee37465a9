"""What all layouts share: the audio below a folder, label files as text, labels by a table.

Files and folders whose names begin with a dot are passed over: macOS leaves `._NAME.wav`, which is
no audio, beside `NAME.wav`.
"""

import math
import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.manifest import check_path, read_table

AUDIO_ENDINGS = (".wav", ".flac", ".ogg")
MOST_TEXT_BYTES = 64 * 2**20


def audio_files(folder: pathlib.Path, below: str = "") -> list[str]:
    """Lists the audio files of a folder.

    Args:
        folder: the corpus folder.
        below: only within this subfolder.

    Returns:
        Paths relative to `folder`, sorted. Links to folders are not entered: what they show within
        the corpus folder is found at its own place.

    Raises:
        EmoconvError: a name that `check_path` refuses, a link that leaves the folder, or a folder
            that cannot be read.
    """
    root = folder.resolve()
    found = []
    for path, is_audio in _walk(root, below, _refuse):
        check_path(root, path, str(folder))
        found += [path] if is_audio else []
    return sorted(found)


def audio_names(folder: pathlib.Path) -> Iterator[str]:
    """Yields the audio files of a folder as they are found, unchecked: to look at, not to open.

    Args:
        folder: where to look, at any depth; what cannot be read is passed over.

    Yields:
        Paths relative to `folder`.
    """
    return (path for path, is_audio in _walk(folder.resolve(), "") if is_audio)


def holds_audio(folder: pathlib.Path, name: re.Pattern[str]) -> bool:
    """Tells whether any audio file of a folder has a name of a certain form.

    Args:
        folder: where to look, at any depth.
        name: the form of the file's name, without its folders.

    Returns:
        True at the first that is found.
    """
    return any(name.fullmatch(path.rpartition("/")[2]) for path in audio_names(folder))


def label_file(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """Returns a label file that is safe to read whole.

    Args:
        folder: the corpus folder.
        name: of the file, relative to it.

    Returns:
        Its path; None if there is none.

    Raises:
        EmoconvError: no regular file, one outside of the folder (links followed), or one larger
            than 64 MiB.
    """
    path = folder / name
    if not os.path.lexists(path):
        return None
    check_path(folder.resolve(), name, str(folder))
    try:
        status = path.stat()
    except OSError as error:
        raise EmoconvError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise EmoconvError(f"{path}: not a regular file, expected a label file")
    if status.st_size > MOST_TEXT_BYTES:
        raise EmoconvError(f"{path}: {status.st_size} bytes, at most {MOST_TEXT_BYTES} allowed")
    return path


def read_text(
    folder: pathlib.Path, name: str, encodings: Sequence[str] = ("utf-8-sig",)
) -> str | None:
    """Reads a label file.

    Args:
        folder: the corpus folder.
        name: of the file, relative to it.
        encodings: tried in turn; the first that fits is taken. A file with zero bytes, which the
            others never hold, is read as UTF-16.

    Returns:
        Its text; None if there is no such file.

    Raises:
        EmoconvError: as for `label_file`, or unreadable, or in none of the encodings.
    """
    path = label_file(folder, name)
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EmoconvError(f"{path}: cannot be read ({error.strerror})") from None
    if b"\0" in content:
        encodings = ("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-16-le",)
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise EmoconvError(f"{path}: not text in {' or '.join(encodings)}")


def label_table(
    folder: pathlib.Path, name: str, columns: tuple[str, ...]
) -> Iterator[tuple[str, int, dict[str, str]]]:
    """Reads a table of labels with a header, see `manifest.read_table`.

    Args:
        folder: the corpus folder.
        name: of the file, relative to it.
        columns: that must be there.

    Yields:
        (file and line for messages, line, those columns without blanks around them) of each row;
        nothing if there is no such file.

    Raises:
        EmoconvError: as for `label_file` and `read_table`.
    """
    path = label_file(folder, name)
    for line, fields in read_table(path, columns) if path else ():
        yield f"{path}:{line}", line, {name: (fields[name] or "").strip() for name in columns}


def file_name(name: str, where: str, field: str) -> str:
    """Refuses what is not the plain name of a file.

    Args:
        name: as a table of labels has it.
        where: for messages: file and line.
        field: for messages: its column.

    Returns:
        The name.

    Raises:
        EmoconvError: empty, or a path.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise EmoconvError(f"{where}: {field} {name!r:.80}, expected the name of a file")
    return name


def named(table: Mapping[str, str], label: str, where: str, field: str = "emotion") -> str:
    """Returns what a corpus's label is called here.

    Args:
        table: every label of the corpus; "" where we have no name for it.
        label: as the corpus writes it.
        where: for messages: file and line.
        field: for messages: what is labelled.

    Returns:
        The table's entry.

    Raises:
        EmoconvError: a label that is not in the table.
    """
    if label not in table:
        raise EmoconvError(
            f"{where}: {field} {label!r:.40} unknown, allowed are {', '.join(map(repr, table))}"
        )
    return table[label]


def read_rating(text: str, low: float, high: float, where: str, field: str) -> float | None:
    """Reads a rating.

    Args:
        text: a number; empty where there is none.
        low: the least allowed.
        high: the greatest allowed.
        where: for messages: file and line.
        field: for messages: what is rated.

    Returns:
        The number, or None.

    Raises:
        EmoconvError: no number, or one outside of the range.
    """
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise EmoconvError(f"{where}: {field} {text!r:.40}, allowed are {low:g} to {high:g}")
    return value


def rating_text(value: float | None) -> str:
    """Writes a rating as `Row` holds it.

    Args:
        value: on 1..7, or None.

    Returns:
        Up to six digits; empty for None.
    """
    return "" if value is None else f"{value:.6g}"


def _walk(
    root: pathlib.Path, below: str, refuse: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, bool]]:
    """Yields (path, True) of audio files and (path, False) of links to folders."""
    for place, folders, names in os.walk(root / below, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = pathlib.Path(place).relative_to(root)
        for name in folders:
            if os.path.islink(os.path.join(place, name)):
                yield (relative / name).as_posix(), False
        for name in sorted(names):
            if name.lower().endswith(AUDIO_ENDINGS) and not name.startswith("."):
                yield (relative / name).as_posix(), True


def _refuse(error: OSError) -> None:
    raise EmoconvError(f"{error.filename}: cannot be read ({error.strerror})") from None
