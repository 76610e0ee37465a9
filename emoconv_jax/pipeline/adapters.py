"""TFDS's own `crema_d`, `libritts` and `vctk` with the rows and audio of `datasets.DatasetSource`.

    name            features used                        what becomes of them
    tfds:crema_d    audio label speaker_id               emotion; sentence and level are not in it
    tfds:libritts   speech text_normalized speaker_id    split train, validation or test by its own
                    id                                   subsets, which share no speaker
    tfds:vctk       speech text speaker gender id        the microphone `mic1`

They are read where `tfds build NAME --file_format=array_record` has put them and never downloaded
from here: the first and the second are many gigabytes, and some need Apache Beam. TFDS's own
random split of crema_d is passed over; data/splits/crema_d.json divides its speakers.

Opening one imports TensorFlow, of which TFDS's audio feature makes use; it gets no accelerator.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.pipeline.corpora.crema_d import EMOTIONS
from emoconv_jax.pipeline.corpora.listing import named
from emoconv_jax.pipeline.datasets import (
    FILE_FORMAT,
    FULL_SCALE,
    INFO,
    chosen,
    decode,
    open_records,
    read_record,
)
from emoconv_jax.pipeline.manifest import Row
from emoconv_jax.shapes import Float

PREFIX = "tfds:"

Labels = dict[str, Any]  # decoded: text as str, classes by name


@dataclasses.dataclass(frozen=True)
class Adapter:
    """How one of TFDS's datasets is read.

    Attributes:
        audio: the name of its audio feature.
        labels: the names of the features that `row` reads.
        row: (labels, split, number within the split, metadata of the dataset) -> row.
    """

    audio: str
    labels: tuple[str, ...]
    row: Callable[[Labels, str, int, Labels], Row]


def crema_d_row(labels: Labels, split: str, number: int, metadata: Labels) -> Row:
    """Returns the row of a clip of TFDS's crema_d.

    Args:
        labels: label (three letters) and speaker_id.
        split: of TFDS.
        number: within the split.
        metadata: unused.

    Returns:
        A row without text or intensity; the path is made up.
    """
    path = f"{split}/{number:05d}"
    emotion = named(EMOTIONS, labels["label"], f"{PREFIX}crema_d: {path}")
    return Row("crema_d", path, speaker=labels["speaker_id"], language="en", emotion=emotion)


def libritts_row(labels: Labels, split: str, number: int, metadata: Labels) -> Row:
    """Returns the row of an utterance of TFDS's libritts.

    Args:
        labels: id, text_normalized and speaker_id.
        split: of TFDS, for example train_clean100.
        number: unused.
        metadata: has `speakers`, where TFDS kept it, with their gender.

    Returns:
        A row without emotion.
    """
    speaker = str(labels["speaker_id"])
    known = (metadata.get("speakers") or {}).get(speaker, {})
    splits = {"train": "train", "dev": "validation", "test": "test"}
    return Row(
        corpus="libritts",
        path=f"{split}/{labels['id']}",
        speaker=speaker,
        gender=known.get("gender", ""),
        language="en",
        text=labels["text_normalized"].strip(),
        split=named(splits, split.split("_")[0], f"{PREFIX}libritts", "split"),
    )


def vctk_row(labels: Labels, split: str, number: int, metadata: Labels) -> Row:
    """Returns the row of an utterance of TFDS's vctk.

    Args:
        labels: id, text, speaker and gender.
        split: unused; there is one.
        number: unused.
        metadata: unused.

    Returns:
        A row without emotion.
    """
    return Row(
        corpus="vctk",
        path=labels["id"],
        speaker=labels["speaker"],
        gender=labels["gender"],
        language="en",
        text=labels["text"].strip(),
    )


ADAPTERS = {
    "crema_d": Adapter("audio", ("label", "speaker_id"), crema_d_row),
    "libritts": Adapter("speech", ("id", "text_normalized", "speaker_id"), libritts_row),
    "vctk": Adapter("speech", ("id", "text", "speaker", "gender"), vctk_row),
}


class TfdsSource:
    """Read access to one of TFDS's datasets; a copy in another process reopens it by name.

    Attributes:
        name: a key of ADAPTERS.
        data_dir: where TFDS keeps datasets.
    """

    def __init__(self, name: str, data_dir: pathlib.Path | None = None):
        """Opens the dataset.

        Args:
            name: a key of ADAPTERS.
            data_dir: where TFDS keeps datasets; its own default where None, which is
                $TFDS_DATA_DIR or ~/tensorflow_datasets.

        Raises:
            EmoconvError: not there, or in files of another format.
        """
        import tensorflow as tf
        import tensorflow_datasets as tfds

        tf.config.set_visible_devices([], "GPU")
        self.name, self.data_dir = name, data_dir
        place = None if data_dir is None else os.fspath(data_dir)
        try:
            self._builder: Any = tfds.builder(name, data_dir=place, try_gcs=False)
            found = pathlib.Path(self._builder.data_path)
            file_format = self._builder.info.file_format.value
            self._files = {
                split: ([pathlib.Path(path) for path in info.filepaths], info.num_examples)
                for split, info in self._builder.info.splits.items()
            }
        except Exception as error:  # of TFDS on foreign JSON: it raises many kinds
            reason = " ".join(str(error).split())
            raise EmoconvError(f"{PREFIX}{name}: damaged dataset ({reason:.200})") from None
        command = f"tfds build {name} --file_format={FILE_FORMAT}"
        command += f" --data_dir={place}" if place else ""
        if not found.is_dir():
            raise EmoconvError(f"{PREFIX}{name}: not found in {found}; to get it, run `{command}`")
        if file_format != FILE_FORMAT:
            raise EmoconvError(
                f"{found}: in {file_format} files, which have no random access; run `{command}`"
            )

    def __reduce__(self) -> tuple:
        return TfdsSource, (self.name, self.data_dir)

    def __len__(self) -> int:
        return sum(len(records) for records in self._records.values())

    @functools.cached_property
    def rows(self) -> list[Row]:
        """The labels of all utterances, split after split; audio is passed over undecoded."""
        return list(self._read_rows())

    def read(self, number: int) -> tuple[Float[np.ndarray, " n"], int]:
        """Returns one utterance's waveform.

        Args:
            number: its place in `rows`.

        Returns:
            float32, full scale 1, and its sample rate in Hz.
        """
        first = 0
        for records in self._records.values():
            if number < first + len(records):
                return read_record(records, number - first, PREFIX + self.name, self._sound)
            first += len(records)
        raise IndexError(f"{number}: {PREFIX}{self.name} holds {first} utterances")

    def _sound(self, raw: bytes) -> tuple[Float[np.ndarray, " n"], int]:
        name = ADAPTERS[self.name].audio
        audio = decode(self._audio, raw)[name]
        rate_hz = self._builder.info.features[name].sample_rate
        return audio.astype(np.float32) / FULL_SCALE, rate_hz

    def _read_rows(self) -> Iterator[Row]:
        adapter, info = ADAPTERS[self.name], self._builder.info
        features = chosen(info.features, adapter.labels)
        metadata = dict(info.metadata or {})
        for split, records in self._records.items():
            for number in range(len(records)):
                plain = read_record(
                    records, number, PREFIX + self.name, lambda raw: _labels(features, raw)
                )
                yield adapter.row(plain, split, number, metadata)

    @functools.cached_property
    def _audio(self) -> Any:
        return chosen(self._builder.info.features, [ADAPTERS[self.name].audio])

    @functools.cached_property
    def _records(self) -> dict[str, Any]:
        info = pathlib.Path(self._builder.data_path) / INFO
        return {
            split: open_records(files, count, info) for split, (files, count) in self._files.items()
        }


def open_tfds(name: str, data_dir: pathlib.Path | None = None) -> TfdsSource:
    """Opens one of TFDS's own datasets.

    Args:
        name: for example vctk, without the prefix `tfds:`.
        data_dir: where TFDS keeps datasets; its own default where None.

    Returns:
        Its rows and audio.

    Raises:
        UsageError: a dataset without an adapter.
        EmoconvError: not there, or in files of another format; says what to run.
    """
    if name not in ADAPTERS:
        allowed = ", ".join(PREFIX + known for known in ADAPTERS)
        raise UsageError(f"{PREFIX + name!r}: not a known dataset of TFDS, allowed are {allowed}")
    return TfdsSource(name, data_dir)


def _labels(features: Any, raw: bytes) -> Labels:
    return {key: _plain(features[key], value) for key, value in decode(features, raw).items()}


def _plain(feature: Any, value: Any) -> Any:
    """Returns a label as text or number: bytes decoded, classes by name."""
    if hasattr(feature, "int2str"):
        return feature.int2str(int(value))
    return value.decode("utf-8") if isinstance(value, bytes) else value
