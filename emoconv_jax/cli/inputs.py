"""Which files a command's arguments name, and where below an output folder each result goes.

An argument is a file, a folder (searched to any depth for audio by suffix) or a glob in quotes, in
which `**` stands for any folders. The tree below the folder, or below the part of the glob without
wildcards, is mirrored in the output. Hidden names are left out, and so is what lies in the output
folder, which a second run would otherwise take for its input. Links to folders are followed, and no
folder is searched twice, so that a link to one above does no harm.
"""

import dataclasses
import fnmatch
import glob
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from emoconv_jax.audio.reading import SUFFIXES
from emoconv_jax.errors import EmoconvError, UsageError

ANY_FOLDERS = "**"
BESIDE = ("", ".json", ".png")  # what a result may be written as, after its name


@dataclasses.dataclass(frozen=True)
class Input:
    """One file to work on.

    Attributes:
        path: of the file.
        below: where it lies below what the argument named; for a file its name.
    """

    path: pathlib.Path
    below: pathlib.PurePath


def find_inputs(words: Sequence[str], out: pathlib.Path) -> list[Input]:
    """Returns the files that arguments name.

    Args:
        words: files, folders and globs. A file that does not exist is returned as it is: reading
            it says what is wrong.
        out: the output folder, which need not exist; folders and globs find nothing in it.

    Returns:
        The files, in the order of the arguments and sorted within each.

    Raises:
        UsageError: an argument that names nothing, or only what lies in the output folder.
        EmoconvError: a folder that cannot be listed.
    """
    found: list[Input] = []
    for word in words:
        if not word or "\0" in word:
            raise UsageError(f"{word!r}: names no file, folder or glob")
        path = pathlib.Path(word)
        if os.path.isdir(path):
            found += _below(path, (ANY_FOLDERS,), word, out)
        elif os.path.lexists(path) or not glob.has_magic(word):
            if path.name in ("", ".."):
                raise UsageError(f"{word}: names no file, folder or glob")
            found.append(Input(path, pathlib.PurePath(path.name)))
        else:
            fixed = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
            found += _below(pathlib.Path(*path.parts[:fixed]), path.parts[fixed:], word, out)
    return found


def targets_of(
    inputs: Sequence[Input],
    out: pathlib.Path,
    suffix: str,
    others: Iterable[str | os.PathLike[str]] = (),
) -> dict[pathlib.Path, pathlib.Path]:
    """Returns where the result of each file goes.

    Args:
        inputs: of `find_inputs`.
        out: the output folder.
        suffix: of the results, without the dot.
        others: files that the work reads as well.

    Returns:
        Result -> file. A file that is named twice for one result is there once.

    Raises:
        UsageError: two results of one name, or a result that would overwrite, itself or with what
            is written beside it, an input or one of the others.
    """
    targets: dict[pathlib.Path, pathlib.Path] = {}
    sources = {os.path.realpath(path) for path in [*(one.path for one in inputs), *others]}
    for one in inputs:
        target = out / one.below.with_suffix(f".{suffix}")
        if target in targets:
            if os.path.realpath(targets[target]) == os.path.realpath(one.path):
                continue
            raise UsageError(_clash(targets[target], one.path, target))
        for beside in (target.with_name(target.name + end) for end in BESIDE):
            if os.path.realpath(beside) in sources:
                raise UsageError(
                    f"{beside}: an input, which would be overwritten; choose another --out"
                )
        targets[target] = one.path
    return targets


def _clash(first: pathlib.Path, second: pathlib.Path, target: pathlib.Path) -> str:
    """Returns the message for two files with one result, with what helps."""
    advice = "name the folder above them, so that its tree is kept, or convert them in two runs"
    if os.path.realpath(first.parent) == os.path.realpath(second.parent):
        advice = "rename one, or convert them in two runs, each with its own --out"
    return f"{first} and {second} would both become {target}; {advice}"


def _below(root: pathlib.Path, pattern: Sequence[str], word: str, out: pathlib.Path) -> list[Input]:
    """Returns the audio files below a folder whose names match a pattern's parts."""
    if ".." in pattern:
        raise UsageError(f"{word}: has '..' after a wildcard, allowed is '..' before the first")
    real_out = os.path.realpath(out)
    if _within(os.path.realpath(root), real_out):
        raise UsageError(
            f"{word}: lies in --out {out}, where nothing is looked for; choose another --out"
        )
    depth = None if ANY_FOLDERS in pattern else len(pattern)
    files = _walk(root, depth, real_out) if os.path.isdir(root) else ()
    found = [
        Input(path, path.relative_to(root))
        for path in files
        if _matches(path.relative_to(root).parts, pattern)
    ]
    if not found:
        raise UsageError(f"{word}: no audio files there; looked for {', '.join(SUFFIXES)}")
    return found


def _walk(root: pathlib.Path, depth: int | None, real_out: str) -> Iterator[pathlib.Path]:
    """Yields audio files in order, each folder's own first; without hidden names."""
    seen: set[str] = set()
    waiting = [(root, 1)]
    while waiting:
        folder, level = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen or _within(real, real_out):
            continue
        seen.add(real)
        try:
            names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except OSError as error:
            raise EmoconvError(f"{folder}: cannot be listed ({error.strerror})") from None
        folders = [name for name in names if os.path.isdir(folder / name)]
        for name in sorted(set(names) - set(folders)):
            if name.lower().endswith(SUFFIXES):
                yield folder / name
        if depth is None or level < depth:
            waiting += [(folder / name, level + 1) for name in reversed(folders)]


def _within(real: str, real_folder: str) -> bool:
    return real == real_folder or real.startswith(real_folder.rstrip(os.sep) + os.sep)


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Says whether a path matches a glob, both in parts: `**` is any number of folders.

    All ways through the pattern are followed at once, so that many `**` cost no more than one.
    """

    def onward(places: set[int]) -> set[int]:
        for place in sorted(places):
            while place < len(pattern) and pattern[place] == ANY_FOLDERS:
                place += 1
                places.add(place)
        return places

    places = onward({0})
    for name in names:
        places = onward(
            {
                place + (pattern[place] != ANY_FOLDERS)
                for place in places
                if place < len(pattern)
                and (pattern[place] == ANY_FOLDERS or fnmatch.fnmatchcase(name, pattern[place]))
            }
        )
    return len(pattern) in places
