"""Where utterances come from: a corpus folder, a dataset that `emoconv build` made, or TFDS's own.

    FOLDER        a manifest folder or a corpus in its published layout (`pipeline.corpora`), or a
                  built dataset
    tfds:NAME     a dataset of TensorFlow Datasets that has an adapter (`pipeline.adapters`)

A source is named by a word, so that worker processes can open it themselves.
"""

import functools
import pathlib
from typing import Any

import numpy as np

from emoconv_jax.audio.reading import read_native
from emoconv_jax.pipeline.manifest import Row
from emoconv_jax.shapes import Float

TFDS = "tfds:"


def rows_of(source: str) -> list[Row]:
    """Returns what a source describes.

    Args:
        source: see this module's docstring.

    Returns:
        One `Row` per utterance, in the source's order.

    Raises:
        EmoconvError: a source that is not there or not understood.
    """
    if is_folder(source):
        from emoconv_jax.pipeline.corpora.layouts import read_corpus

        return read_corpus(pathlib.Path(source))
    return _dataset(source).rows


def read_row(
    source: str, number: int, row: Row, max_seconds: float
) -> tuple[Float[np.ndarray, " n"], int]:
    """Returns the sound of an utterance.

    Args:
        source: which `rows_of` described.
        number: the row's place in it, from 0.
        row: that row.
        max_seconds: the longest file that is read.

    Returns:
        Mono waveform, float32, at its own rate in Hz.

    Raises:
        EmoconvError: the sound cannot be read, as `audio.reading.read_native` says.
    """
    if is_folder(source):
        return read_native(pathlib.Path(source) / row.path, max_seconds=max_seconds)
    return _dataset(source).read(number)


def is_folder(source: str) -> bool:
    """Tells whether a source is a folder of audio files.

    Args:
        source: see this module's docstring.

    Returns:
        False for datasets.
    """
    from emoconv_jax.pipeline.datasets import is_dataset

    return not source.startswith(TFDS) and not is_dataset(pathlib.Path(source))


@functools.lru_cache(maxsize=4)
def _dataset(source: str) -> Any:
    if source.startswith(TFDS):
        from emoconv_jax.pipeline.adapters import open_tfds

        return open_tfds(source.removeprefix(TFDS))
    from emoconv_jax.pipeline.datasets import DatasetSource

    return DatasetSource(pathlib.Path(source))
