"""Files: written whole or not at all, and JSON that someone else may have written."""

import collections
import contextlib
import errno
import json
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import Any, BinaryIO

from emoconv_jax.errors import EmoconvError

MOST_FOREIGN_BYTES = 4 << 30


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[tuple[BinaryIO, int]]:
    """Opens a foreign file for reading, whatever it may be.

    Args:
        path: of the file.

    Yields:
        The file and its size, 1 to MOST_FOREIGN_BYTES.

    Raises:
        EmoconvError: no regular file, one of another size, or one that cannot be read, then or in
            the block.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise EmoconvError(f"{path}: not a regular file")  # a pipe would be waited for
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if not 0 < size <= MOST_FOREIGN_BYTES:
                raise EmoconvError(f"{path}: {size} bytes, allowed are 1 to {MOST_FOREIGN_BYTES}")
            file.seek(0)
            yield file, size
    except OSError as error:
        raise EmoconvError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def replacing(*targets: pathlib.Path) -> Iterator[list[pathlib.Path]]:
    """Gives a temporary path beside each target; they take the targets' names when all is well.

    Where the block raises, or a target cannot be written, earlier files stay as they were.

    Args:
        targets: files to write; their folders must exist.

    Yields:
        One path per target, in order. The names are short: a target's own may be as long as the
        system allows.

    Raises:
        OSError: a target that is a folder, or a file that cannot be written.
    """
    for target in targets:
        if target.is_dir():  # also raises where the name is longer than the system allows
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    partial = [target.with_name(f".{secrets.token_hex(8)}.part") for target in targets]
    try:
        yield partial
        for path, target in zip(partial, targets, strict=True):
            os.replace(path, target)
    finally:
        for path in partial:
            path.unlink(missing_ok=True)


def write_text(target: pathlib.Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all.

    Args:
        target: the file; its folder must exist.
        text: its content.

    Raises:
        OSError: a file that cannot be written.
    """
    with replacing(target) as (partial,):
        partial.write_text(text, encoding="utf-8")


def read_json(path: pathlib.Path, expected: str, most_bytes: int | None = None) -> Any:
    """Reads a JSON file, unchecked but for its size.

    Args:
        path: the file.
        expected: what it should be, for the message where it is absent.
        most_bytes: refuses a greater file unread; None is no limit.

    Returns:
        The content.

    Raises:
        EmoconvError: absent, too large, unreadable, not JSON or with a field that occurs twice.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise EmoconvError(f"{path}: not a regular file")  # a pipe would be waited for
        size = path.stat().st_size
        if most_bytes is not None and size > most_bytes:
            raise EmoconvError(f"{path}: {size} bytes, at most {most_bytes} allowed")
        return parse_json(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise EmoconvError(f"{path}: not found; {expected}") from None
    except OSError as error:
        raise EmoconvError(f"{path}: cannot be read ({error.strerror})") from None


def parse_json(text: bytes | str, where: str) -> Any:
    """Parses JSON in which no object has a field twice: readers differ in which one they take.

    Args:
        text: UTF-8 where bytes.
        where: what it is, for messages.

    Returns:
        The content.

    Raises:
        EmoconvError: not JSON, nested too deeply, or a field that occurs twice, by name.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            ((twice, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
            raise EmoconvError(f"{where}: field {twice!r:.80} occurs twice")
        return made

    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise EmoconvError(f"{where}: not JSON ({error})") from None
