"""Built datasets that were changed by others: refused with one line, and nothing foreign runs."""

import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
import soundfile

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.datasets import FEATURES, INFO, DatasetSource, build


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """Returns a dataset of four clips."""
    folder = tmp_path_factory.mktemp("four")
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", np.full(900, 0.1), 8000)
    rows = [f"{number}.wav\ts\n" for number in range(4)]
    (folder / "manifest.tsv").write_text("path\tspeaker\n" + "".join(rows))
    return build(folder, tmp_path_factory.mktemp("out"), log=lambda line: None)


def changed(folder: pathlib.Path, name: str, change) -> DatasetSource:
    """Opens a dataset with one of its JSON files changed, which is then put back."""
    text = (folder / name).read_text()
    content = json.loads(text)
    change(content)
    (folder / name).write_text(json.dumps(content))
    try:
        return DatasetSource(folder)
    finally:
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda info: info.update(version="x"),
        lambda info: info.update(version="2.0.0"),
        lambda info: info.update(fileFormat="tfrecord"),
        lambda info: info.update(fileFormat="../.."),
        lambda info: info.update(name="../../x"),
        lambda info: info.update(name=7),
        lambda info: info.update(splits=[]),
        lambda info: info.update(splits={}),
        lambda info: info.update(splits=[*info["splits"], *info["splits"]]),
        lambda info: info.update(splits=["corpus"]),
        lambda info: info["splits"][0].update(name="all"),
        lambda info: info["splits"][0].update(filepathTemplate="/etc/{SHARD_INDEX}"),
        lambda info: info["splits"][0].pop("shardLengths"),
        lambda info: info["splits"][0].update(shardLengths=[]),
        lambda info: info["splits"][0].update(shardLengths=["-4"]),
        lambda info: info["splits"][0].update(shardLengths=["x"]),
        lambda info: info["splits"][0].update(shardLengths=[1e400]),
        lambda info: info["splits"][0].update(shardLengths=["2"]),  # half of it
        lambda info: info["splits"][0].update(shardLengths=["5"]),
    ],
)
def test_what_the_description_of_a_dataset_says_is_checked(whole, change):
    with pytest.raises(EmoconvError, match=rf"{INFO}: damaged dataset \(.*\)$"):
        changed(whole, INFO, change)
    assert len(changed(whole, INFO, lambda info: None)) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(pythonClassName="antigravity.X"),
        lambda record: fields(record)["text"].update(pythonClassName="antigravity.Text"),
        lambda record: fields(record)["line"]["tensor"].update(dtype="int64"),
        lambda record: fields(record)["audio"]["tensor"].update(dtype="float32"),
        lambda record: record.update(extra={}),
        lambda record: fields(record).update(extra=fields(record)["text"]),
        lambda record: fields(record).pop("line"),
    ],
)
def test_a_foreign_record_is_refused_and_does_not_choose_what_is_imported(whole, change):
    with pytest.raises(EmoconvError, match=f"{FEATURES}: not the record that"):
        changed(whole, FEATURES, change)
    assert "antigravity" not in sys.modules
    assert len(changed(whole, FEATURES, lambda record: None)) == 4


def fields(record: dict) -> dict:
    return record["featuresDict"]["features"]


def foreign(raw: bytes, name: str, value: bytes | int | None) -> bytes:
    """Returns a record of which a feature has another value, or is gone."""
    from tensorflow_datasets.proto import tf_example_pb2  # without TensorFlow

    message = tf_example_pb2.Example.FromString(raw)
    feature = message.features.feature[name]
    if value is None:
        del message.features.feature[name]
    elif isinstance(value, bytes):
        feature.bytes_list.value[:] = [value]
    else:
        feature.int64_list.value[:] = [value]
    return message.SerializeToString()


@pytest.mark.parametrize(
    "record",
    [
        lambda raw: b"no protobuf at all",
        lambda raw: b"",
        lambda raw: b"\x0a\x00",  # an Example without features
        lambda raw: foreign(raw, "speaker", b"caf\xe9"),
        lambda raw: foreign(raw, "speaker", None),
        lambda raw: foreign(raw, "audio", None),
        lambda raw: foreign(raw, "audio", b""),
        lambda raw: foreign(raw, "audio", b"odd"),
        lambda raw: foreign(raw, "sample_rate_hz", 0),
    ],
)
def test_records_with_sound_checksums_and_foreign_content_are_refused(whole, tmp_path, record):
    from array_record.python.array_record_data_source import ArrayRecordDataSource
    from array_record.python.array_record_module import ArrayRecordWriter

    folder = tmp_path / "dataset"
    shutil.copytree(whole, folder)
    file = str(next(folder.glob("*array_record*")))
    raw = record(ArrayRecordDataSource(file)[0])
    writer = ArrayRecordWriter(file, "group_size:1")
    for _ in range(4):
        writer.write(raw)
    writer.close()
    source = DatasetSource(folder)
    with pytest.raises(EmoconvError, match=r"damaged dataset \(record 0: .*\)$"):
        assert source.rows[0] == source.read(0)
