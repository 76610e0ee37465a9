"""The layouts of corpora that are read as they are published, and which of them a folder has."""

import pathlib
import types
from collections.abc import Sequence

from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.pipeline.corpora import crema_d, esd, iemocap, msp_podcast, nemo, ravdess
from emoconv_jax.pipeline.corpora.listing import audio_names
from emoconv_jax.pipeline.manifest import MANIFESTS, Row, find_manifest, read_manifest

MANIFEST = "manifest"
# The last two are recognised by names of audio anywhere below, if none is by its files or folders:
# a stray clip does not make a corpus.
LAYOUTS: dict[str, types.ModuleType] = {
    layout.NAME: layout for layout in (msp_podcast, iemocap, nemo, esd, crema_d, ravdess)
}
BY_NAMES = (crema_d.NAME, ravdess.NAME)
ALLOWED = ", ".join((MANIFEST, *LAYOUTS))


def read_corpus(folder: pathlib.Path, name: str | None = None) -> list[Row]:
    """Returns the utterances of a corpus folder, whatever its layout.

    Args:
        folder: the corpus folder.
        name: its layout, a key of LAYOUTS or "manifest"; found out where None.

    Returns:
        One row per utterance: in the manifest's order, else sorted by path.

    Raises:
        UsageError: an unknown name.
        EmoconvError: not a folder, no layout or two, the same clip twice, or labels that the layout
            does not know.
    """
    return read_layout(folder, layout_of(folder, name))


def read_layout(folder: pathlib.Path, layout: str) -> list[Row]:
    """Returns the utterances of a corpus folder whose layout is known.

    Args:
        folder: the corpus folder.
        layout: what `layout_of` gave.

    Returns:
        As for `read_corpus`.

    Raises:
        EmoconvError: as for `read_corpus`, but for the layout.
    """
    if layout == MANIFEST:
        return read_manifest(folder)
    rows = LAYOUTS[layout].read(folder)
    if not rows:
        raise EmoconvError(f"{folder}: no utterances in the layout of {layout}")
    seen: dict[str, str] = {}
    for row in rows:  # some archives hold their corpus twice, in folders of different names
        clip = pathlib.PurePosixPath(row.path).stem
        if clip in seen:
            raise EmoconvError(f"{folder}: the same clip twice, {seen[clip]} and {row.path}")
        seen[clip] = row.path
    return rows


def layout_of(folder: pathlib.Path, name: str | None = None) -> str:
    """Returns the name of a corpus folder's layout.

    Args:
        folder: the corpus folder.
        name: what it is said to be; found out where None, and a manifest comes first.

    Returns:
        A key of LAYOUTS, or "manifest".

    Raises:
        UsageError: an unknown name.
        EmoconvError: not a folder, or no layout or two recognise it.
    """
    if name is not None and name not in (MANIFEST, *LAYOUTS):
        raise UsageError(f"corpus {name!r}: unknown, allowed are {ALLOWED}")
    if not folder.is_dir():
        raise EmoconvError(f"{folder}: not a folder, a corpus folder is needed")
    if name == MANIFEST or (name is None and find_manifest(folder)):
        return MANIFEST
    candidates = list(LAYOUTS) if name is None else [name]
    found: list[str] = []
    for by_names in (False, True):
        tried = [key for key in candidates if (key in BY_NAMES) == by_names]
        found = found or [key for key in tried if LAYOUTS[key].recognises(folder)]
    if len(found) > 1:
        raise EmoconvError(f"{folder}: holds {' and '.join(found)}; name one of them")
    if not found:
        wanted = (
            f"{' or '.join(MANIFESTS)}, the layout of {', '.join(candidates)}, or the folder that "
            "`emoconv build` named as built"
        )
        raise EmoconvError(f"{folder}: unknown layout, expected {wanted} (data/corpora.md)")
    return found[0]


def passed_over(folder: pathlib.Path, rows: Sequence[Row]) -> list[str]:
    """Lists the audio files of a corpus folder that are no part of the corpus.

    Args:
        folder: the corpus folder.
        rows: what `read_corpus` gave.

    Returns:
        Paths relative to the folder; hidden files are not among them.
    """
    known = {pathlib.PurePosixPath(row.path).as_posix() for row in rows}
    return [path for path in audio_names(folder) if path not in known]
