"""TFDS builders: one per corpus, all with the record of `pipeline.datasets`.

They are ordinary builders: `manual_dir` is the corpus folder, nothing is downloaded, and
`emoconv build` (or `datasets.build`) is the usual way to run them. They write shard by shard in
the corpus's order. TFDS's GeneratorBasedBuilder would hold 1 GB in memory before it writes, and
beyond that sort by key in files, for which it imports TensorFlow; a corpus of 200 hours needs
neither here.

Only this module defines builder classes, so only it imports tensorflow_datasets at the top.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from emoconv_jax.audio.reading import read_native
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.corpora import crema_d, esd, iemocap, msp_podcast, nemo, ravdess
from emoconv_jax.pipeline.corpora.layouts import MANIFEST, read_corpus
from emoconv_jax.pipeline.datasets import (
    FILE_FORMAT,
    FULL_SCALE,
    LABELS,
    RATINGS,
    SPLIT,
    UNRATED,
    VERSION,
    features,
)
from emoconv_jax.pipeline.manifest import Row
from emoconv_jax.pipeline.rejects import UNREADABLE
from emoconv_jax.shapes import Float, Int

SHARD_CLIPS = 256  # TFDS holds the clips of one shard in memory

Examples = Iterator[tuple[int, dict[str, Any]]]


class CorpusBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """What all builders share; a subclass only says which layout it reads.

    Attributes:
        layout: a name that `layouts.read_corpus` knows.
        rows: the corpus's utterances; read from `manual_dir` where None.
        rejected: (row, kind, reason) of every utterance left out, once the builder has run.
    """

    VERSION = tfds.core.Version(VERSION)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "manual_dir is the corpus folder; data/corpora.md has its layout"
    layout: ClassVar[str]
    url_infos: ClassVar[dict] = {}  # no downloads; TFDS would look for their checksums

    def __init__(self, *, rows: list[Row] | None = None, **options: Any):
        """Describes a build.

        Args:
            rows: the corpus's utterances; read from `manual_dir` where None.
            **options: of TFDS, first of all data_dir.
        """
        super().__init__(**({"file_format": FILE_FORMAT} | options))
        self.rows = rows
        self.rejected: list[tuple[Row, str, str]] = []

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Speech of a {self.layout} folder, see data/corpora.md of emoconv.",
            features=features(),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(
        self, dl_manager: Any
    ) -> dict[str, list[Callable[[], Examples]]]:
        folder = pathlib.Path(dl_manager.manual_dir)
        rows = read_corpus(folder, self.layout) if self.rows is None else self.rows
        self.rejected = []
        bar = tqdm(desc="build", total=len(rows), unit=" clips")
        starts = range(0, len(rows), SHARD_CLIPS)
        return {SPLIT: [functools.partial(self._shard, folder, rows, i, bar) for i in starts]}

    def _shard(self, folder: pathlib.Path, rows: list[Row], start: int, bar: tqdm) -> Examples:
        """Yields the readable clips of one shard; the others are noted."""
        for number in range(start, min(start + SHARD_CLIPS, len(rows))):
            row = rows[number]
            try:
                audio, rate_hz = read_native(folder / row.path)
                yield number, example(row, audio, rate_hz)
            except EmoconvError as error:
                self.rejected.append((row, error.kind or UNREADABLE, str(error)))
            bar.update()
        if start + SHARD_CLIPS >= len(rows):
            bar.close()
        if len(self.rejected) == len(rows):
            raise EmoconvError(
                f"{folder}: none of {len(rows)} clips can be read; {self.rejected[0][2]}"
            )


class Ravdess(CorpusBuilder):
    """RAVDESS as published."""

    layout = ravdess.NAME


class Nemo(CorpusBuilder):
    """nEMO as published."""

    layout = nemo.NAME


class Esd(CorpusBuilder):
    """ESD as published."""

    layout = esd.NAME


class MspPodcast(CorpusBuilder):
    """MSP-Podcast as published."""

    layout = msp_podcast.NAME


class Iemocap(CorpusBuilder):
    """IEMOCAP as published."""

    layout = iemocap.NAME


class CremaDFolder(CorpusBuilder):
    """CREMA-D as published; TFDS's own `crema_d` lacks sentences and levels."""

    layout = crema_d.NAME


class SpeechFolder(CorpusBuilder):
    """Any folder with a manifest."""

    layout = MANIFEST


BUILDERS: dict[str, type[CorpusBuilder]] = {
    builder.layout: builder
    for builder in (Ravdess, Nemo, Esd, MspPodcast, Iemocap, CremaDFolder, SpeechFolder)
}


def example(row: Row, audio: Float[np.ndarray, " n"], rate_hz: int) -> dict[str, Any]:
    """Returns the record of one utterance, see `pipeline.datasets`.

    Args:
        row: its labels.
        audio: mono, full scale 1.
        rate_hz: its sample rate.

    Returns:
        A value for each feature.
    """
    record = {name: getattr(row, name) for name in LABELS}
    for name in RATINGS:
        record[name] = np.float32(record[name] or UNRATED)
    return record | {"audio": sixteen_bit(audio), "sample_rate_hz": rate_hz}


def sixteen_bit(audio: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Returns a waveform as 16-bit samples; what exceeds full scale is clipped.

    Args:
        audio: full scale is 1.

    Returns:
        int16, exact for audio that was read from 16-bit samples.
    """
    scaled = np.round(audio.astype(np.float64) * FULL_SCALE)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
