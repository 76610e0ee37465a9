"""What all layouts share: the audio below a folder, label files as text, labels by a table.

Files and folders whose names begin with a dot are passed over: macOS leaves `._NAME.wav`, which is
no audio, beside `NAME.wav`.
"""

import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.manifest import check_path

AUDIO_ENDINGS = (".wav", ".flac")
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
    return sorted(_walk(folder, below))


def holds_audio(folder: pathlib.Path, name: re.Pattern[str]) -> bool:
    """Tells whether any audio file of a folder has a name of a certain form.

    Args:
        folder: where to look, at any depth.
        name: the form of the file's name, without its folders.

    Returns:
        True at the first that is found.
    """
    return any(name.fullmatch(path.rpartition("/")[2]) for path in _walk(folder, ""))


def read_text(path: pathlib.Path, encodings: Sequence[str] = ("utf-8-sig",)) -> str:
    """Reads a label file.

    Args:
        path: the file.
        encodings: tried in turn; the first that fits is taken. A file with zero bytes, which the
            others never hold, is read as UTF-16.

    Returns:
        Its text.

    Raises:
        EmoconvError: unreadable, larger than 64 MiB, or in none of the encodings.
    """
    try:
        size = path.stat().st_size
        if size > MOST_TEXT_BYTES:
            raise EmoconvError(f"{path}: {size} bytes, at most {MOST_TEXT_BYTES} allowed")
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


def rating(text: str, low: float, high: float, where: str, field: str) -> float | None:
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


def _walk(folder: pathlib.Path, below: str) -> Iterator[str]:
    root = folder.resolve()
    for place, folders, names in os.walk(root / below, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = pathlib.Path(place).relative_to(root)
        for name in folders:
            if os.path.islink(os.path.join(place, name)):
                check_path(root, (relative / name).as_posix(), str(folder))
        for name in sorted(names):
            if name.lower().endswith(AUDIO_ENDINGS) and not name.startswith("."):
                path = (relative / name).as_posix()
                check_path(root, path, str(folder))
                yield path


def _refuse(error: OSError) -> None:
    raise EmoconvError(f"{error.filename}: cannot be read ({error.strerror})") from None
