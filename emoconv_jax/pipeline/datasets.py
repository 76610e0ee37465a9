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

Only `build` and the opening of a dataset import tensorflow_datasets.
"""

import contextlib
import csv
import functools
import io
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, replacing
from emoconv_jax.pipeline.corpora.layouts import MANIFEST, layout_of, read_corpus
from emoconv_jax.pipeline.corpora.listing import rating, rating_text
from emoconv_jax.pipeline.manifest import Row, read_table
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
REJECTED = "rejected.tsv"
LEFT_OUT = "left out: "
REJECTED_COLUMNS = ("corpus", "path", "line", "reason")


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
        out: where datasets are kept. `rejected.tsv` there lists the utterances left out because
            their audio cannot be read (of other corpora too, where several are built into it).
        name: the corpus's layout; found out where None.
        log: takes a line about each utterance left out, and the last one with the counts.

    Returns:
        The dataset's folder, OUT/LAYOUT/1.0.0, or OUT/FOLDER/speech_folder/1.0.0 of a manifest.

    Raises:
        UsageError: an unknown name.
        EmoconvError: an unknown layout, a bad label, a rating outside 1..7, no readable audio at
            all, or something else where the dataset belongs.
    """
    import tensorflow_datasets as tfds

    from emoconv_jax.pipeline.builders import BUILDERS

    layout = layout_of(folder, name)
    rows = read_corpus(folder, layout)
    for row in rows:
        for field in RATINGS:
            rating(getattr(row, field), 1.0, 7.0, f"{folder}: {row.path}", field)
    place = out / folder.resolve().name if layout == MANIFEST else out
    dataset = place / BUILDERS[layout].name / VERSION
    if dataset.exists() and not is_dataset(dataset):
        raise EmoconvError(f"{dataset}: is no dataset and stands where one belongs; move it away")
    for stale in (dataset, *dataset.parent.glob(f"incomplete.*_{VERSION}")):
        if stale.exists():
            shutil.rmtree(stale)
    builder = BUILDERS[layout](data_dir=os.fspath(place), rows=rows)
    with tempfile.TemporaryDirectory() as nothing, contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(  # which announces a download that there is not
            download_dir=nothing,
            download_config=tfds.download.DownloadConfig(
                manual_dir=os.fspath(folder), try_download_gcs=False
            ),
        )
    for _, reason in builder.rejected:
        log(f"{LEFT_OUT}{reason}")
    _note_rejected(out / REJECTED, rows[0].corpus, builder.rejected)
    log(f"{len(rows) - len(builder.rejected)} of {len(rows)} utterances built: {dataset}")
    return dataset


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
        """Opens the folder; files are opened on first use.

        Args:
            folder: what `build` returned.

        Raises:
            EmoconvError: no dataset, one with another record, or one whose files are not there.
        """
        self.folder = folder
        if not is_dataset(folder):
            raise EmoconvError(f"{folder}: no dataset; `emoconv build` makes one")
        _check_record(folder / FEATURES)
        absent = [path for path in self._info.filepaths if not pathlib.Path(path).is_file()]
        if absent:
            raise EmoconvError(f"{absent[0]}: not found; build the dataset again")

    def __reduce__(self) -> tuple:
        return DatasetSource, (self.folder,)

    def __len__(self) -> int:
        return self._info.num_examples

    @functools.cached_property
    def rows(self) -> list[Row]:
        """The labels of all utterances, in order; audio is passed over undecoded."""
        labels = chosen(features(), LABELS)
        return [_row(labels.deserialize_example_np(self._record(i))) for i in range(len(self))]

    def read(self, number: int) -> tuple[Float[np.ndarray, " n"], int]:
        """Returns one utterance's waveform.

        Args:
            number: its place in `rows`.

        Returns:
            float32, full scale 1, and its sample rate in Hz.
        """
        record = self._audio.deserialize_example_np(self._record(number))
        audio = record["audio"].astype(np.float32) / FULL_SCALE
        return audio, int(record["sample_rate_hz"])

    def _record(self, number: int) -> bytes:
        if not 0 <= number < len(self):
            raise IndexError(f"{number}: {self.folder} holds {len(self)} utterances")
        return record_at(self._records, number, str(self.folder))

    @functools.cached_property
    def _audio(self) -> Any:
        return chosen(features(), AUDIO)

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(os.fspath(self.folder))

    @property
    def _info(self) -> Any:
        return self._builder.info.splits[SPLIT]

    @functools.cached_property
    def _records(self) -> Any:
        return raw_records(self._builder, SPLIT)


def chosen(record: Any, names: Sequence[str]) -> Any:
    """Returns a description of some of a record's features, which decodes nothing else.

    TFDS's own PartialDecoding fails on data sources.

    Args:
        record: the whole.
        names: of the features to keep.

    Returns:
        TFDS's description of them.
    """
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict({name: record[name] for name in names})


def raw_records(builder: Any, split: str) -> Any:
    """Returns the serialised records of a split, in order, by random access.

    Args:
        builder: of a dataset in array_record files.
        split: its name there.

    Returns:
        A sequence of bytes.
    """
    import tensorflow_datasets as tfds

    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    return builder.as_data_source(split=split, deserialize_method=raw)


def record_at(records: Any, number: int, where: str) -> bytes:
    """Returns one serialised record.

    Args:
        records: what `raw_records` gave.
        number: its place.
        where: for messages: the dataset.

    Returns:
        Its bytes.

    Raises:
        EmoconvError: a damaged file.
    """
    try:
        record = records[number]
    except (RuntimeError, ValueError) as error:  # array_record keeps checksums
        reason = " ".join(str(error).split())
        raise EmoconvError(f"{where}: damaged, record {number}: {reason:.80}") from None
    if not record:  # what array_record gives for some records of a file that was cut
        raise EmoconvError(f"{where}: damaged, record {number}: empty")
    return record


def _check_record(path: pathlib.Path) -> None:
    """Refuses another record; TFDS would import whatever class a foreign one names."""
    found = read_json(path, "a dataset has one", MOST_INFO_BYTES)
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        named = {k: v["pythonClassName"] for k, v in found["featuresDict"]["features"].items()}
        kinds = {name: type(feature) for name, feature in features().items()}
        if named == {k: f"{kind.__module__}.{kind.__qualname__}" for k, kind in kinds.items()}:
            return
    raise EmoconvError(f"{path}: not the record that `emoconv build` writes")


def _row(record: dict[str, Any]) -> Row:
    fields: dict[str, Any] = {
        name: value.decode("utf-8") if isinstance(value, bytes) else value
        for name, value in record.items()
    }
    for name in RATINGS:
        value = float(fields[name])
        fields[name] = rating_text(None if value == UNRATED else value)
    return Row(**fields)


def _note_rejected(table: pathlib.Path, corpus: str, entries: list[tuple[Row, str]]) -> None:
    """Writes a corpus's lines of `rejected.tsv` in place of its earlier ones."""
    kept = read_table(table, REJECTED_COLUMNS) if table.is_file() else []
    lines = [
        [fields[name] for name in REJECTED_COLUMNS]
        for _, fields in kept
        if fields["corpus"] != corpus
    ]
    lines += [[r.corpus, r.path, str(r.line), " ".join(why.split())] for r, why in entries]
    with replacing(table) as (partial,), partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, "excel-tab", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerows([REJECTED_COLUMNS, *lines])
