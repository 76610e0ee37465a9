"""Checksums of all files of a folder, beside them in the format of the tool `sha256sum`.

Why: Orbax gives back wrong numbers where a byte of an array's compressed data is flipped, and a
wrong description where one of its metadata is; only the data base's own index has checksums.
The list guards itself: a flip in it makes a line differ from its file or name one that is not
there. `sha256sum -c SHA256SUMS` in the folder checks it too.
"""

import errno
import hashlib
import os
import pathlib

SUMS = "SHA256SUMS"


def write_checksums(folder: pathlib.Path) -> None:
    """Writes the list, and has the system put every file on the disk itself.

    Args:
        folder: whose files are all complete.

    Raises:
        OSError: a file that cannot be read, or the list cannot be written.
    """
    text = _listing(_digests(folder, settle=True))
    with (folder / SUMS).open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def find_damage(folder: pathlib.Path) -> str:
    """Returns what is wrong with a folder that has been given a list, or '' if nothing is.

    Args:
        folder: to check; all its files are read.

    Returns:
        The first file that changed, is missing or was added, as a sentence.

    Raises:
        OSError: this process may not read the folder (an error of the disk counts as damage).
    """
    path = folder / SUMS
    if not path.is_file():
        return f"{SUMS} is missing"
    found, listed = _digests(folder), path.read_bytes().decode("utf-8", errors="replace")
    if listed == _listing(found):
        return ""
    lines = (line.partition("  ") for line in listed.splitlines())
    expected = {name: digest for digest, _, name in lines}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not listed in {SUMS}"
        if found[name] != expected[name]:
            return f"{name} has changed"
    return f"{SUMS} has changed"


def _listing(digests: dict[str, str]) -> str:
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def _digests(folder: pathlib.Path, settle: bool = False) -> dict[str, str]:
    """Returns each file's SHA-256 by its path below the folder, without the list itself."""
    found = {}
    for here, _, names in os.walk(folder, onerror=_raise):
        for path in (pathlib.Path(here, name) for name in names):
            if path != folder / SUMS:
                found[path.relative_to(folder).as_posix()] = _digest(path, settle)
    return found


def _digest(path: pathlib.Path, settle: bool) -> str:
    try:
        with path.open("rb") as file:
            if settle:
                os.fsync(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if settle or error.errno != errno.EIO:
            raise
        return "unreadable"


def _raise(error: OSError) -> None:
    raise error
