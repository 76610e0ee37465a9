"""TFDS's own datasets, written by their builders with made-up examples and read back."""

import importlib.resources
import json
import pathlib
import pickle
import sys
from collections.abc import Callable

import numpy as np
import pytest

from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.pipeline.adapters import open_tfds
from emoconv_jax.pipeline.datasets import INFO
from emoconv_jax.pipeline.manifest import Row


def noise(samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32768, samples).astype(np.int16)


TFDS_EXAMPLES = {
    "crema_d": {
        "train": [{"label": "ANG", "speaker_id": "1001"}, {"label": "NEU", "speaker_id": "1002"}],
        "test": [{"label": "FEA", "speaker_id": "1003"}],
    },
    "libritts": {
        "train_clean100": [
            {
                **{"id": "84_121550_000007_000000", "speaker_id": 84, "chapter_id": 121550},
                **{"text_original": "Mr. A", "text_normalized": "Mister A\n"},
            }
        ],
        "dev_clean": [
            {
                **{"id": "174_5_1_0", "speaker_id": 174, "chapter_id": 5},
                **{"text_original": "B", "text_normalized": "B"},
            }
        ],
    },
    "vctk": {
        "train": [
            {
                **{"id": "p226_001", "text": "Please call Stella.", "speaker": "p226"},
                **{"gender": "M", "accent": "English"},
            }
        ],
    },
}
TFDS_ROWS = {
    "crema_d": [
        Row("crema_d", "train/00000", "1001", language="en", emotion="angry"),
        Row("crema_d", "train/00001", "1002", language="en", emotion="neutral"),
        Row("crema_d", "test/00000", "1003", language="en", emotion="fearful"),
    ],
    "libritts": [
        Row(
            *("libritts", "train_clean100/84_121550_000007_000000", "84", "", "en"),
            text="Mister A",
            split="train",
        ),
        Row("libritts", "dev_clean/174_5_1_0", "174", "", "en", text="B", split="validation"),
    ],
    "vctk": [Row("vctk", "p226_001", "p226", "M", "en", text="Please call Stella.")],
}
TFDS_AUDIO = {
    "crema_d": ("audio", np.int64, 16_000),
    "libritts": ("speech", np.int64, 24_000),
    "vctk": ("speech", np.int16, 48_000),
}


def write_tfds(name: str, data_dir: pathlib.Path, monkeypatch, file_format: str) -> None:
    """Writes examples with TFDS's own builder and features, as `tfds build` would after a fetch."""
    import tensorflow_datasets as tfds

    audio, kind, _ = TFDS_AUDIO[name]
    generators = {
        split: enumerate({**labels, audio: noise(500, i).astype(kind)} for i, labels in
                         enumerate(examples))
        for split, examples in TFDS_EXAMPLES[name].items()
    }  # fmt: skip
    builder = tfds.builder(name, data_dir=data_dir, file_format=file_format, try_gcs=False)
    monkeypatch.setattr(type(builder), "_split_generators", lambda *_: generators)
    # which TFDS imports to look for checksums and does not require since Python 3.9
    monkeypatch.setitem(sys.modules, "importlib_resources", importlib.resources)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TFDS_EXAMPLES)
def test_tfds_own_datasets_have_the_same_rows_and_sound(name, tmp_path, monkeypatch):
    with pytest.raises(EmoconvError, match=f"run `tfds build {name} --file_format=array_record"):
        open_tfds(name, tmp_path)
    write_tfds(name, tmp_path, monkeypatch, "array_record")
    source = pickle.loads(pickle.dumps(open_tfds(name, tmp_path)))
    assert source.rows == TFDS_ROWS[name]
    assert len(source) == len(source.rows)
    places = [i for examples in TFDS_EXAMPLES[name].values() for i in range(len(examples))]
    for number, place in enumerate(places):
        audio, rate_hz = source.read(number)
        assert (audio.dtype, rate_hz) == (np.float32, TFDS_AUDIO[name][2])
        np.testing.assert_array_equal(audio * 32768, noise(500, place))
    with pytest.raises(IndexError):
        source.read(len(source))


@pytest.mark.slow
def test_tfds_data_without_random_access_is_refused(tmp_path, monkeypatch):
    write_tfds("vctk", tmp_path, monkeypatch, "tfrecord")
    with pytest.raises(EmoconvError, match="in tfrecord files, which have no random access; run"):
        open_tfds("vctk", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / INFO).write_text("{"),
        lambda folder: (folder / INFO).write_text('{"version": "x"}'),
        lambda folder: (folder / INFO).write_text((folder / INFO).read_text(), "utf-16"),
        lambda folder: edit(folder, lambda info: info["splits"][0].update(shardLengths=["1"])),
        lambda folder: edit(folder, lambda info: info["splits"][0].update(shardLengths=["3"])),
        lambda folder: edit(folder, lambda info: info.update(fileFormat="bogus")),
        lambda folder: edit(folder, lambda info: info["splits"][0].update(filepathTemplate="{X}")),
        lambda folder: next(folder.glob("*train.array*")).write_bytes(b"x" * 70_000),
        lambda folder: overwrite(next(folder.glob("*train.array*")), b"no protobuf at all"),
        lambda folder: overwrite(next(folder.glob("*train.array*")), b"\x0a\x00"),
    ],
)
def test_damaged_tfds_datasets_are_refused(tmp_path, monkeypatch, change):
    write_tfds("crema_d", tmp_path, monkeypatch, "array_record")
    (folder,) = (path.parent for path in tmp_path.rglob(INFO))
    change(folder)
    with pytest.raises(EmoconvError, match=r"^[^\n]*crema_d[^\n]*: damaged dataset \([^\n]*\)$"):
        assert open_tfds("crema_d", tmp_path).rows[0].corpus == "another"


def edit(folder: pathlib.Path, change: Callable[[dict], None]) -> None:
    info = json.loads((folder / INFO).read_text())
    assert info["splits"][0]["shardLengths"] in (["2"], ["1"])
    info["splits"].sort(key=lambda split: split["name"], reverse=True)  # train comes first
    change(info)
    (folder / INFO).write_text(json.dumps(info))


def overwrite(path: pathlib.Path, record: bytes) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for _ in range(2):
        writer.write(record)
    writer.close()


@pytest.mark.parametrize("name", ["savee", "", "tfds:crema_d"])
def test_a_tfds_dataset_without_an_adapter_is_named(name):
    with pytest.raises(UsageError, match=rf"'tfds:{name}': not a known .*tfds:crema_d, tfds:libri"):
        open_tfds(name)
