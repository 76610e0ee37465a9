"""Files: written whole or not at all, and JSON that someone else may have written."""

import contextlib
import errno
import json
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import Any

from emoconv_jax.errors import EmoconvError


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
        EmoconvError: absent, too large, unreadable or not JSON.
    """
    try:
        size = path.stat().st_size
        if most_bytes is not None and size > most_bytes:
            raise EmoconvError(f"{path}: {size} bytes, at most {most_bytes} allowed")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EmoconvError(f"{path}: not found; {expected}") from None
    except OSError as error:
        raise EmoconvError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise EmoconvError(f"{path}: not JSON ({error})") from None
