"""Bundles on the Hugging Face Hub: a name becomes a folder, a folder becomes a repository.

What lies on the Hub is foreign. Names and sizes are checked from the listing of one commit before a
byte of a file is asked for; only tensors, JSON and text are asked for; what came is checked again.

    fetch  (1) name and revision -> commit; (2) list its files, refuse odd names and sizes;
           (3) download into the Hub's own cache; (4) check that all files are there, and their
           headers, and remove them from the cache where they are refused
    push   (1) load the bundle as a user would; (2) check its model card; (3) one commit of the
           bundle's own files

Source: the layout of the cache (refs/, snapshots/, blobs/) is documented in huggingface_hub's guide
"Understand caching".
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from emoconv_jax.bundles.cards import check_card
from emoconv_jax.bundles.contents import check_bundle, check_outside, is_own, lacking
from emoconv_jax.bundles.format import CONFIG_FILE
from emoconv_jax.bundles.parts import PARTS, parts_of
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import write_text

SUFFIXES = (".safetensors", ".json", ".md")
PATTERNS = [f"*{suffix}" for suffix in SUFFIXES]
NESTED = ["*/*"]  # a bundle has no folders
MOST_FILES, MOST_BYTES = 64, 4 << 30
MOST_LISTED = 4096  # of a repository's files, other kinds included
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
FILE = re.compile(r"[A-Za-z0-9][\w.-]{0,199}", re.ASCII)
MAIN = "main"


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a bundle came from.

    Attributes:
        name: "org/name" on the Hub, or a folder as the caller gave it.
        commit: the full hash on the Hub; None of a folder.
    """

    name: str
    commit: str | None


def fetch(
    name: str | os.PathLike[str],
    revision: str | None = None,
    *,
    endpoint: str | None = None,
    cache: pathlib.Path | None = None,
) -> tuple[pathlib.Path, str | None]:
    """Returns the folder of a bundle, downloading it from the Hub where need be.

    With HF_HUB_OFFLINE=1, or without a network, the Hub's cache is the only source. A commit that
    lies there is never asked for again.

    Args:
        name: a folder, or "org/name" on the Hub; where both exist the folder is meant.
        revision: branch, tag or commit on the Hub; None is the main branch.
        endpoint: address of the Hub; None is $HF_ENDPOINT or the public one.
        cache: folder of the Hub's cache; None is its own.

    Returns:
        The folder, and the full hash of the commit or None where it was a folder.

    Raises:
        UsageError: a revision that can be none, or one of a folder.
        EmoconvError: neither a folder nor such a name, not on the Hub, not accessible, no network
            and no copy or a part of one, or a repository that is refused, by file.
    """
    folder = pathlib.Path(name)
    if folder.exists():
        if revision is not None:
            raise UsageError(f"revision: found {revision!r:.80}, but {name} is a folder, no name")
        return folder, None
    repository = os.fspath(name)
    if not REPOSITORY.fullmatch(repository) or ".." in repository:
        raise EmoconvError(
            f"{repository!r:.200}: no such folder; allowed are a bundle's folder and ORG/NAME on "
            "the Hub"
        )
    wanted = MAIN if revision is None else revision
    if not REVISION.fullmatch(wanted) or ".." in wanted:
        raise UsageError(f"revision: found {wanted!r:.80}, allowed is a branch, a tag or a commit")
    try:
        return _fetched(repository, wanted, endpoint, cache)
    except _Absent as error:  # a mistyped folder looks like a name
        raise EmoconvError(f"no such folder, and {error}") from None


def push(
    folder: pathlib.Path,
    name: str,
    *,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload of a bundle",
    endpoint: str | None = None,
) -> str:
    """Publishes a bundle on the Hub in one commit; files of the bundle before it are removed.

    Other files stay where they are: those of the folder here, those of the repository there.

    Args:
        folder: of the bundle.
        name: "org/name"; the repository is made where there is none.
        private: whether a new repository is.
        token: with the right to write; None is the one the Hub's login has stored.
        message: of the commit.
        endpoint: address of the Hub; None is $HF_ENDPOINT or the public one.

    Returns:
        The full hash of the commit.

    Raises:
        UsageError: no such form of a name.
        EmoconvError: the bundle does not load, its card lacks a section, or the Hub refuses.
    """
    if not REPOSITORY.fullmatch(name) or ".." in name:
        raise UsageError(f"{name!r:.200}: allowed is ORG/NAME on the Hub")
    parts = parts_of(check_bundle(folder))
    check_card(folder)
    if missing := lacking(folder):
        raise EmoconvError(f"{folder}: {missing} is missing")
    files = [path for path in _files(folder) if is_own(path.name, parts)]
    _check_sizes({path.name: path.stat().st_size for path in files}, str(folder))
    hub = _library()
    with _told(hub, name, MAIN):
        api = hub.HfApi(endpoint=endpoint, token=token)
        api.create_repo(name, private=private, exist_ok=True)
        there = _listed(api, name, MAIN)
        new = {path.name for path in files}
        changes = [hub.CommitOperationAdd(path.name, str(path)) for path in files]
        old = [file for file in there if file not in new and is_own(file, PARTS)]
        changes += [hub.CommitOperationDelete(file) for file in old]
        return api.create_commit(name, changes, commit_message=message).oid


class _Absent(EmoconvError):
    """Nobody knows a bundle of this name."""


class _Unreachable(_Absent):
    """The Hub did not answer."""


class _Incomplete(EmoconvError):
    """Files of a bundle are missing."""


def _library() -> ModuleType:
    """Returns huggingface_hub, which only bundles on the Hub need."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise _Absent(
            f"{error.name} is not installed; bundles on the Hub need `pip install -e .[hub]`"
        ) from None
    return huggingface_hub


@contextlib.contextmanager
def _told(hub: ModuleType, name: str, revision: str) -> Iterator[None]:
    """Turns what the library raises into one line that says what it was about."""
    errors, where = hub.errors, _at(name, revision)
    try:
        yield
    except EmoconvError:
        raise
    except errors.GatedRepoError:
        raise EmoconvError(
            f"{where}: gated; accept its terms on the Hub and log in with `hf auth login`"
        ) from None
    except errors.RevisionNotFoundError:
        raise EmoconvError(f"{where}: the repository has no such revision") from None
    except errors.RepositoryNotFoundError:
        raise _Absent(
            f"{where}: not found on the Hub, or private; `hf auth login` shows what is yours"
        ) from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None) or 500
        kind = _Unreachable if status >= 500 else EmoconvError
        raise kind(f"{where}: the Hub answers {status}: {_line(error)}") from None
    except Exception as error:  # every version has another network library, with its own errors
        network = isinstance(error, OSError) or type(error).__module__.startswith(
            ("httpx", "httpcore", "requests", "urllib3")
        )
        text = f"{where}: the Hub cannot be {'reached' if network else 'used'} ({_line(error)})"
        raise (_Unreachable if network else EmoconvError)(text) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _at(name: str, revision: str) -> str:
    return f"{name}@{revision}"


def _fetched(
    name: str, revision: str, endpoint: str | None, cache: pathlib.Path | None
) -> tuple[pathlib.Path, str]:
    """Returns a bundle's folder in the Hub's cache and its commit."""
    hub = _library()
    kept: dict[str, Any] = {"allow_patterns": PATTERNS, "ignore_patterns": NESTED}
    kept |= {"cache_dir": cache, "endpoint": endpoint}
    if hub.constants.HF_HUB_OFFLINE:
        why = f"{_at(name, revision)}: HF_HUB_OFFLINE is set"
        return _cached(hub, name, revision, kept, why)
    if COMMIT.fullmatch(revision):
        with contextlib.suppress(_Absent, _Incomplete):
            return _cached(hub, name, revision, kept, "")
    try:
        with _told(hub, name, revision):
            return _download(hub, name, revision, kept)
    except _Unreachable as error:
        return _cached(hub, name, revision, kept, str(error))


def _cached(
    hub: ModuleType, name: str, revision: str, kept: dict[str, Any], why: str
) -> tuple[pathlib.Path, str]:
    """Returns the copy in the cache; `why` the Hub is not asked is said where there is none."""
    incomplete = getattr(hub.errors, "IncompleteSnapshotError", ())  # version 1 has none
    try:
        try:
            found = hub.snapshot_download(name, revision=revision, local_files_only=True, **kept)
        except incomplete as error:
            _checked(pathlib.Path(error.snapshot_path), name)  # says which file it is
            raise _Incomplete("one that no part needs is missing") from None
        return _checked(pathlib.Path(found), name)
    except _Incomplete as error:  # a download was interrupted
        raise _Incomplete(
            f"{why}, and it is incomplete in the cache; fetch it again online ({error})"
        ) from None
    except hub.errors.LocalEntryNotFoundError:
        raise _Absent(f"{why}, and no copy is in the cache") from None


def _download(
    hub: ModuleType, name: str, revision: str, kept: dict[str, Any]
) -> tuple[pathlib.Path, str]:
    """Downloads one commit after its listing has been checked; keeps nothing that is refused."""
    api = hub.HfApi(endpoint=kept["endpoint"])
    commit = api.model_info(name, revision=revision).sha
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise EmoconvError(f"{_at(name, revision)}: the Hub names commit {commit!r:.80}")
    sizes = _listed(api, name, commit)
    _check_sizes(sizes, _at(name, commit))
    folder = pathlib.Path(hub.snapshot_download(name, revision=commit, **kept))
    try:
        checked = _checked(folder, name)
        for path in _files(folder):
            if path.stat().st_size != sizes.get(path.name):
                raise EmoconvError(
                    f"{_at(name, commit)}: {path.name} has {path.stat().st_size} bytes, the Hub "
                    f"lists {sizes.get(path.name)}"
                )
    except EmoconvError:
        _discard(hub, folder)
        raise
    if revision != commit:  # what the name stands for when the Hub cannot be asked
        reference = folder.parent.parent / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_text(reference, commit)
    return checked


def _listed(api: Any, name: str, commit: str) -> dict[str, int]:
    """Returns the sizes of a commit's files that a bundle may have; refuses names that mislead."""
    sizes: dict[str, int] = {}
    entries = api.list_repo_tree(name, revision=commit, recursive=True)
    for number, entry in enumerate(itertools.islice(entries, MOST_LISTED + 1)):
        path, size = entry.path, getattr(entry, "size", None)
        parts = re.split(r"[/\\:]", path)
        if "\\" in path or ":" in path or not path.isprintable() or {"", ".", ".."} & {*parts}:
            raise EmoconvError(f"{_at(name, commit)}: file name {path!r:.120} is not allowed")
        if number == MOST_LISTED:
            raise EmoconvError(f"{_at(name, commit)}: more than {MOST_LISTED} files and folders")
        if len(parts) > 1 or size is None or not path.endswith(SUFFIXES):
            continue
        if not FILE.fullmatch(path) or type(size) is not int or size < 0:
            raise EmoconvError(f"{_at(name, commit)}: file {path!r:.120} of {size!r:.40} bytes")
        if path in sizes:
            raise EmoconvError(f"{_at(name, commit)}: file {path!r:.120} is listed twice")
        sizes[path] = size
    return sizes


def _check_sizes(sizes: dict[str, int], where: str) -> None:
    """Refuses what no bundle needs: many files, many bytes; and what is no bundle."""
    if CONFIG_FILE not in sizes:
        raise EmoconvError(f"{where}: no {CONFIG_FILE}, so no bundle")
    if len(sizes) > MOST_FILES:
        raise EmoconvError(f"{where}: {len(sizes)} files, at most {MOST_FILES} allowed")
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda file: sizes[file])
        raise EmoconvError(
            f"{where}: {sum(sizes.values())} bytes ({largest} has {sizes[largest]}), at most "
            f"{MOST_BYTES} allowed"
        )


def _files(folder: pathlib.Path) -> Sequence[pathlib.Path]:
    """Returns a folder's files of the kinds that a bundle has, in order."""
    files = (path for path in folder.iterdir() if FILE.fullmatch(path.name))
    return sorted(path for path in files if path.name.endswith(SUFFIXES))


def _checked(folder: pathlib.Path, name: str) -> tuple[pathlib.Path, str]:
    """Returns a snapshot and its commit, its files checked without reading a tensor."""
    where = _at(name, folder.name)
    repository = folder.parent.parent.resolve()
    allowed = (repository / "blobs", repository.parent / "blobs", folder.resolve())
    files = _files(folder)
    for path in files:
        target = path.resolve()
        if not any(target.is_relative_to(place) for place in allowed):
            raise EmoconvError(f"{where}: {path.name} is a link out of the Hub's cache")
        if not target.exists():
            raise _Incomplete(f"{where}: {path.name} is missing")
        if not target.is_file():
            raise EmoconvError(f"{where}: {path.name} is not a regular file")
    if missing := lacking(folder):
        raise _Incomplete(f"{where}: {missing} is missing")
    _check_sizes({path.name: path.stat().st_size for path in files}, where)
    check_outside(folder)
    return folder, folder.name


def _discard(hub: ModuleType, folder: pathlib.Path) -> None:
    """Removes a snapshot from the cache: its links, blobs that no other links to, its listing."""
    repository, commit = folder.parent.parent, folder.name
    cache = hub.scan_cache_dir(repository.parent)
    own = frozenset(one for one in cache.repos if one.repo_path == repository.resolve())
    dataclasses.replace(cache, repos=own).delete_revisions(commit).execute()
    (repository / "trees" / f"{commit}.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # of a cache too odd for the library to touch
