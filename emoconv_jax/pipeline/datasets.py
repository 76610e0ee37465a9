"""Built datasets: corpora as TFDS array_record files with one record for all of them.

    feature          shape      dtype     meaning
    audio            [samples]  int16     mono, 32768 is full scale, at its own rate and level
    sample_rate_hz   []         int32
    corpus           []         string    name of the corpus; these strings are those of `Row`, ""
    path             []         string    where there is nothing
    speaker          []         string
    gender           []         string    F, M
    language         []         string    ISO 639-1
    emotion          []         string
    intensity        []         string    low, normal, strong
    text             []         string
    split            []         string    the corpus's own, as `pipeline.splits` names it
    arousal          []         float32   rated on 1..7, -1 where there is none
    valence          []         float32   the same
    dominance        []         float32   the same
    line             []         int32     of the label file, 0 where there is none

All records are in one TFDS split, `corpus`, in the corpus's order: which utterance trains is chosen
at preparation. (TFDS reserves the name `all`.) Audio is stored as raw bytes, which array_record
compresses: on RAVDESS to two thirds of PCM, and without the cost of decoding FLAC. Samples of more
than 16 bits are rounded. array_record is written and read without TensorFlow.

A dataset is opened by what its JSON files say and by nothing they name: TFDS would import whatever
class a foreign `features.json` asks for. Only `features` and `build` import tensorflow_datasets.
"""

import contextlib
import functools
import io
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from emoconv_jax.audio.reading import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, write_text
from emoconv_jax.pipeline.corpora.layouts import MANIFEST, layout_of, passed_over, read_layout
from emoconv_jax.pipeline.corpora.listing import rating_text
from emoconv_jax.pipeline.labels import INTENSITIES, check_names, rating
from emoconv_jax.pipeline.manifest import Row
from emoconv_jax.pipeline.rejects import REJECTED, told, write_rejects
from emoconv_jax.pipeline.splits import assign_splits
from emoconv_jax.shapes import Float

SPLIT, VERSION = "corpus", "1.0.0"
FULL_SCALE = 32768  # of int16 samples
AUDIO = ("audio", "sample_rate_hz")
STRINGS = (
    *("corpus", "path", "speaker", "gender", "language"),
    *("emotion", "intensity", "text", "split"),
)
RATINGS = ("arousal", "valence", "dominance")
LABELS = (*STRINGS, *RATINGS, "line")
UNRATED = -1.0
FEATURES, INFO = "features.json", "dataset_info.json"  # as TFDS names them
MOST_INFO_BYTES = 2**20
FILE_FORMAT = "array_record"
WRITTEN = {  # to dataset_info.json by every build
    **{"version": VERSION, "fileFormat": FILE_FORMAT, "split": SPLIT},
    "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
}
BUILT_FROM = "built_from.txt"  # beside the dataset: the corpus folder
LEFT_OUT = "left out: "
GENDERS = ("F", "M")

T = TypeVar("T")


def features() -> Any:
    """Returns the record of every built dataset, as this module's docstring has it.

    Returns:
        TFDS's description of it.
    """
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict(
        {
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
            "sample_rate_hz": tfds.features.Scalar(np.int32),
            **{name: tfds.features.Text() for name in STRINGS},
            **{name: tfds.features.Scalar(np.float32) for name in RATINGS},
            "line": tfds.features.Scalar(np.int32),
        }
    )


def build(
    folder: pathlib.Path,
    out: pathlib.Path,
    name: str | None = None,
    log: Callable[[str], None] = print,
) -> pathlib.Path:
    """Builds the dataset of a corpus folder; an earlier one is removed when the labels are sound.

    A dataset folder gets its name when it is whole; a build that was killed leaves a folder
    `incomplete.*`, which the next one removes. Do not build one dataset twice at the same time.

    Args:
        folder: the corpus, see data/corpora.md.
        out: where datasets are kept. Beside the dataset, `rejected.tsv` lists the utterances left
            out because their audio cannot be read, and `built_from.txt` names the corpus folder.
        name: the corpus's layout; found out where None.
        log: takes a line about each utterance left out, one about all whose files are not there,
            one about audio files that are no part of the corpus, and the last with the counts.

    Returns:
        The dataset's folder, OUT/LAYOUT/1.0.0, or OUT/FOLDER/speech_folder/1.0.0 of a manifest.

    Raises:
        UsageError: an unknown name.
        EmoconvError: an unknown layout, a bad label, a rating outside 1..7, no readable audio at
            all, or something else where the dataset belongs, be it that of another folder.
    """
    import tensorflow_datasets as tfds

    from emoconv_jax.pipeline.builders import BUILDERS

    layout = layout_of(folder, name)
    rows = read_layout(folder, layout)
    _check_labels(rows)
    place = out / folder.resolve().name if layout == MANIFEST else out
    dataset = place / BUILDERS[layout].name / VERSION
    _make_room(dataset, os.fsencode(folder.resolve()).decode("utf-8", "replace"))
    builder = BUILDERS[layout](data_dir=os.fspath(place), rows=rows)
    with tempfile.TemporaryDirectory() as nothing, contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(  # which announces a download that there is not
            download_dir=nothing,
            download_config=tfds.download.DownloadConfig(
                manual_dir=os.fspath(folder), try_download_gcs=False
            ),
        )
    write_rejects(dataset.parent / REJECTED, builder.rejected)
    for line in told(builder.rejected, {rows[0].corpus: folder} if layout == MANIFEST else {}):
        log(f"{LEFT_OUT}{line}")
    strangers = passed_over(folder, rows)
    if strangers:
        log(f"passed over: {len(strangers)} audio files, for example {strangers[0]}")
    log(f"{len(rows) - len(builder.rejected)} of {len(rows)} utterances built: {dataset}")
    return dataset


def _check_labels(rows: Sequence[Row]) -> None:
    """Refuses what a preparation would refuse, before any audio is read."""
    for row in rows:
        check_names(row)
        for field in RATINGS:
            rating(row, field)
        for field, allowed in (("gender", GENDERS), ("intensity", INTENSITIES)):
            if (value := getattr(row, field)) not in ("", *allowed):
                raise EmoconvError(
                    f"{row.corpus}/{row.path}: {field} {value!r:.40}, allowed are "
                    f"{', '.join(allowed)} or nothing"
                )
    assign_splits({}, rows)


def _make_room(dataset: pathlib.Path, source: str) -> None:
    """Removes the dataset that was built from the same folder, and leavings of a killed build."""
    note = dataset.parent / BUILT_FROM
    if dataset.is_symlink():
        raise EmoconvError(f"{dataset}: a link, expected a folder; remove it and build again")
    if dataset.exists():
        if not is_dataset(dataset):
            raise EmoconvError(
                f"{dataset}: is no dataset and stands where one belongs; move it away"
            )
        known = note.read_text(encoding="utf-8", errors="replace").strip() if note.is_file() else ""
        if known != source.strip():
            raise EmoconvError(
                f"{dataset}: was built from {known or 'an unknown folder'}, not from {source}; "
                "remove it first, or choose another folder for datasets"
            )
    for stale in (dataset, *dataset.parent.glob(f"incomplete.*_{VERSION}")):
        if stale.exists():
            shutil.rmtree(stale)
    dataset.parent.mkdir(parents=True, exist_ok=True)
    (dataset.parent / REJECTED).unlink(missing_ok=True)
    write_text(note, source + "\n")


def is_dataset(folder: pathlib.Path) -> bool:
    """Tells whether a folder is a built dataset.

    Args:
        folder: any.

    Returns:
        True if it holds a TFDS dataset.
    """
    return (folder / INFO).is_file() and (folder / FEATURES).is_file()


class DatasetSource:
    """Read access to a built dataset; a copy in another process reopens it by its folder.

    Attributes:
        folder: of the dataset.
    """

    def __init__(self, folder: pathlib.Path):
        """Opens the folder and counts the records of its files.

        Args:
            folder: what `build` returned.

        Raises:
            EmoconvError: no dataset, one with another record, or one whose files are not there,
                are damaged or hold another number of records than they should.
        """
        self.folder = folder
        if not is_dataset(folder):
            raise EmoconvError(f"{folder}: no dataset; `emoconv build` makes one")
        files, count = _declared(folder / INFO)
        _check_record(folder / FEATURES)
        self._records = open_records([folder / name for name in files], count, folder / INFO)

    def __reduce__(self) -> tuple:
        return DatasetSource, (self.folder,)

    def __len__(self) -> int:
        return len(self._records)

    @functools.cached_property
    def rows(self) -> list[Row]:
        """The labels of all utterances, in order; audio is passed over undecoded."""
        labels = chosen(features(), LABELS)
        return [self._read(i, lambda raw: _row(decode(labels, raw))) for i in range(len(self))]

    def read(self, number: int) -> tuple[Float[np.ndarray, " n"], int]:
        """Returns one utterance's waveform.

        Args:
            number: its place in `rows`.

        Returns:
            float32, full scale 1, and its sample rate in Hz.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"{number}: {self.folder} holds {len(self)} utterances")
        return self._read(number, lambda raw: _sound(decode(self._audio, raw)))

    def _read(self, number: int, meaning: Callable[[bytes], T]) -> T:
        return read_record(self._records, number, str(self.folder), meaning)

    @functools.cached_property
    def _audio(self) -> Any:
        return chosen(features(), AUDIO)


def chosen(record: Any, names: Sequence[str]) -> Any:
    """Returns a description of some of a record's features, which decodes nothing else.

    Args:
        record: the whole.
        names: of the features to keep.

    Returns:
        TFDS's description of them.
    """
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict({name: record[name] for name in names})


def open_records(files: Sequence[pathlib.Path], count: int, where: pathlib.Path) -> Any:
    """Opens array_record files for random access.

    Args:
        files: in order.
        count: of the records they should hold together.
        where: for messages: what says so.

    Returns:
        A sequence of bytes.

    Raises:
        EmoconvError: a file that is not there or is damaged, or another number of records.
    """
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    for path in files:
        if not path.is_file():
            raise EmoconvError(f"{path}: not found; build the dataset again")
    try:
        records = ArrayRecordDataSource([os.fspath(path) for path in files])
        found = len(records)
    except Exception as error:  # of a C++ library on a foreign file; it raises several kinds
        raise _damaged(where.parent, "no array_record files", error) from None
    if found != count:
        raise EmoconvError(f"{where}: damaged dataset ({count} records, the files hold {found})")
    return records


def read_record(records: Any, number: int, where: str, meaning: Callable[[bytes], T]) -> T:
    """Returns what one record says.

    Args:
        records: what `open_records` gave.
        number: its place.
        where: for messages: the dataset.
        meaning: of its bytes.

    Returns:
        What `meaning` gave.

    Raises:
        EmoconvError: a damaged file, or a record that is none of the dataset's.
    """
    try:
        return meaning(records[number])  # array_record keeps checksums
    except EmoconvError:
        raise
    except Exception as error:  # of libraries on foreign bytes: they raise a dozen kinds
        raise _damaged(where, f"record {number}", error) from None


def decode(record: Any, raw: bytes) -> dict[str, Any]:
    """Returns a record's features.

    Args:
        record: the description of some of them, from `chosen`.
        raw: the serialised record.

    Returns:
        A value for each feature of the description.

    Raises:
        ValueError: one is missing; other kinds where the bytes are no record at all.
    """
    found = record.deserialize_example_np(raw)
    absent = [name for name in record if name not in found]
    if absent:
        raise ValueError(f"no {absent[0]}")
    return found


def _damaged(where: object, part: str, error: Exception) -> EmoconvError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return EmoconvError(f"{where}: damaged dataset ({part}: {reason:.80})")


def _declared(path: pathlib.Path) -> tuple[list[str], int]:
    """Returns the names of a dataset's files and the number of their records, as its JSON says."""
    info = read_json(path, "a dataset has one", MOST_INFO_BYTES)
    try:
        (split,) = info["splits"]
        found = {
            **{"version": info["version"], "fileFormat": info["fileFormat"]},
            **{"split": split["name"], "filepathTemplate": split["filepathTemplate"]},
        }
        for field, wanted in WRITTEN.items():
            if found[field] != wanted:
                raise ValueError(f"{field} {found[field]!r:.30}, expected {wanted!r}")
        # protobuf writes large integers as strings
        name, lengths = info["name"], [int(length) for length in split["shardLengths"]]
        if not re.fullmatch("[a-z][a-z0-9_]*", name) or not lengths or min(lengths) < 0:
            raise ValueError(f"name {name!r:.30} or shardLengths {lengths!r:.30}")
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise _damaged(path, "not as built", error) from None
    shards = range(len(lengths))
    files = [f"{name}-{SPLIT}.{FILE_FORMAT}-{i:05d}-of-{len(lengths):05d}" for i in shards]
    return files, sum(lengths)


def _check_record(path: pathlib.Path) -> None:
    """Refuses a description of the record that is not the very one that is written here."""
    from google.protobuf import json_format

    found = read_json(path, "a dataset has one", MOST_INFO_BYTES)
    if found != json_format.MessageToDict(features().to_proto()):
        raise EmoconvError(f"{path}: not the record that `emoconv build` writes")


def _sound(record: dict[str, Any]) -> tuple[Float[np.ndarray, " n"], int]:
    rate_hz = int(record["sample_rate_hz"])
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise ValueError(f"sample rate {rate_hz} Hz")
    if not len(record["audio"]):
        raise ValueError("no samples")
    return record["audio"].astype(np.float32) / FULL_SCALE, rate_hz


def _row(record: dict[str, Any]) -> Row:
    fields: dict[str, Any] = {
        name: value.decode("utf-8") if isinstance(value, bytes) else value
        for name, value in record.items()
    }
    for name in RATINGS:
        value = float(fields[name])
        fields[name] = rating_text(None if value == UNRATED else value)
    return Row(**fields)
