"""Built datasets: what goes in comes out, what cannot be read is listed, what is killed is gone."""

import csv
import dataclasses
import os
import pathlib
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from emoconv_jax.audio.reading import read_native
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.pipeline.datasets import (
    FEATURES,
    INFO,
    MOST_INFO_BYTES,
    DatasetSource,
    build,
    is_dataset,
)
from emoconv_jax.pipeline.manifest import Row, read_manifest
from emoconv_jax.pipeline.rejects import REJECTED, missing_lines, write_rejects

RATE_HZ = 16_000
HEADER = "path\tspeaker\tgender\tlanguage\temotion\tintensity\tarousal\tvalence\ttext\tsplit"


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32768, samples).astype(np.int16)


@pytest.fixture
def corpus(tmp_path) -> pathlib.Path:
    """Returns a manifest folder: a 16-bit mono file, a stereo one, a float one and two bad ones."""
    folder = tmp_path / "żółw, v2 100%"
    (folder / "a").mkdir(parents=True)
    soundfile.write(folder / "a/2.wav", noise(4001), RATE_HZ, subtype="PCM_16")
    soundfile.write(folder / "a/1.flac", noise(12_000, 1).reshape(-1, 2), 44_100)
    loud = np.linspace(-1.5, 1.5, 5000).astype(np.float32)
    soundfile.write(folder / "loud.wav", loud, 8000, subtype="FLOAT")
    (folder / "broken.wav").write_bytes(b"RIFF, more or less")
    lines = [
        HEADER,
        "a/2.wav\tx\tF\tpl\tanger\tstrong\t6.5\t\tZażółć „gęślą”.\tvalidation",
        "broken.wav\tx\t\t\t\t\t\t\t\t",
        "a/1.flac\ty\tM\ten\t\t\t1\t2.3333\tsecond\t",
        "absent.wav\ty\t\t\t\t\t\t\t\t",
        "loud.wav\tz\t\t\t\t\t\t\t\t",
    ]
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def built(folder: pathlib.Path, **options) -> tuple[DatasetSource, list[str]]:
    lines: list[str] = []
    return DatasetSource(build(folder, folder.parent / "out", log=lines.append, **options)), lines


def test_rows_and_sound_come_back_in_order(corpus):
    source, _ = built(corpus)
    wanted = [row for row in read_manifest(corpus) if row.path not in ("broken.wav", "absent.wav")]
    assert source.rows == wanted
    assert [row.line for row in source.rows] == [2, 4, 6]
    assert len(source) == 3
    for number, row in enumerate(source.rows[:2]):
        audio, rate_hz = source.read(number)
        there, there_hz = read_native(corpus / row.path)
        assert (rate_hz, audio.dtype) == (there_hz, np.float32)
        # of two channels the mean may lie between two 16-bit values
        np.testing.assert_allclose(audio, there, rtol=0, atol=0.5 / 32768 if number else 0)


def test_sixteen_bit_sound_is_stored_exactly(corpus):
    source, _ = built(corpus)
    np.testing.assert_array_equal(source.read(0)[0], noise(4001).astype(np.float32) / 32768)


def test_what_exceeds_full_scale_is_clipped_and_the_rest_rounded(corpus):
    source, _ = built(corpus)
    audio, rate_hz = source.read(2)
    loud = np.linspace(-1.5, 1.5, 5000)
    assert (audio.min(), audio.max(), rate_hz) == (-1.0, 32767 / 32768, 8000)
    inside = np.abs(loud) < 0.999
    np.testing.assert_allclose(audio[inside], loud[inside], rtol=0, atol=0.51 / 32768)


def test_what_cannot_be_read_is_listed_beside_the_dataset(corpus):
    (corpus / "empty.ogg").write_bytes(b"")
    (corpus / "odd.ogg").write_bytes(b"OggS" + bytes(60))
    soundfile.write(corpus / "cut.ogg", noise(4000), RATE_HZ)
    (corpus / "cut.ogg").write_bytes((corpus / "cut.ogg").read_bytes()[:-1])
    with (corpus / "manifest.tsv").open("a", encoding="utf-8") as file:
        for name in ("empty.ogg", "odd.ogg", "cut.ogg", "gone.ogg"):
            file.write(f"{name}\tz\t\t\t\t\t\t\t\t\n")
    (corpus / "stray.ogg").write_bytes(b"")
    source, lines = built(corpus)
    with (source.folder.parent / REJECTED).open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    assert header == ["corpus", "path", "line", "kind", "reason"]
    expected = {
        "broken.wav": ("3", "unreadable", "cannot be decoded"),
        "absent.wav": ("5", "missing", "No such file"),
        "empty.ogg": ("7", "empty", "0 bytes"),
        "odd.ogg": ("8", "unreadable", "damaged"),
        "cut.ogg": ("9", "unreadable", "truncated"),
        "gone.ogg": ("10", "missing", "No such file"),
    }
    for found, (path, (line, kind, reason)) in zip(rows, expected.items(), strict=True):
        assert found[:4] == [corpus.name, path, line, kind]
        assert reason in found[4]
    for line, path in zip(lines, ("broken.wav", "empty.ogg", "odd.ogg", "cut.ogg"), strict=False):
        assert line.startswith("left out: ") and path in line
    assert lines[4] == (
        f"left out: {corpus.name}: manifest.tsv names absent.wav, which is not there (and 1 more)"
    )
    assert lines[5] == "passed over: 1 audio files, for example stray.ogg"
    assert lines[6].startswith("3 of 9 utterances built: ")


def test_missing_files_are_told_by_corpus(tmp_path):
    """With a manifest it is named; the labels of other layouts are several files."""
    (tmp_path / "manifest.csv").write_text("")
    rows = [("own", "a.wav"), ("nemo", "samples/b.wav"), ("own", "c.wav"), ("own", "d.wav")]
    entries = [(Row(corpus, path, "x"), "missing", "No such file") for corpus, path in rows]
    entries.insert(0, (Row("own", "e.wav", "x"), "empty", "0 bytes"))
    assert missing_lines(entries, {"own": tmp_path, "nemo": tmp_path / "other"}) == [
        "own: manifest.csv names a.wav, which is not there (and 2 more)",
        "nemo: its labels name samples/b.wav, which is not there",
    ]
    assert missing_lines(entries[:1], {}) == []


def test_rejects_are_one_line_each(tmp_path):
    row = Row("my\tcorpus", "a  b.wav", "x", line=4)
    write_rejects(tmp_path / REJECTED, [(row, "too long", "a\nb\tc  d")])
    text = (tmp_path / REJECTED).read_bytes()
    assert text == (
        b"corpus\tpath\tline\tkind\treason\nmy corpus\ta  b.wav\t4\ttoo long\ta b c d\n"
    )


def test_a_copy_in_another_process_reads_the_same(corpus):
    source, _ = built(corpus)
    with pytest.raises(IndexError, match=r"3: .* holds 3 utterances"):
        source.read(3)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(1)[0], source.read(1)[0])
    assert len(pickle.dumps(source)) < 1000


def test_more_clips_than_a_shard_holds_keep_their_order(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    lines = ["path\tspeaker"]
    for number in range(520):  # the second of three shards has nothing readable
        if not 256 <= number < 512:
            soundfile.write(folder / f"{number}.wav", noise(900, number), 8000, subtype="PCM_16")
        lines.append(f"{number}.wav\ts")
    (folder / "manifest.tsv").write_text("\n".join(lines), encoding="utf-8")
    source, _ = built(folder)
    numbers = [*range(256), *range(512, 520)]
    assert [row.path for row in source.rows] == [f"{number}.wav" for number in numbers]
    audio = np.stack([source.read(i)[0] for i in range(len(source))])
    np.testing.assert_array_equal(audio * 32768, np.stack([noise(900, n) for n in numbers]))


def test_nothing_readable_is_no_dataset_and_bad_labels_keep_the_old_one(corpus):
    source, _ = built(corpus)
    text = (corpus / "manifest.tsv").read_text(encoding="utf-8")
    (corpus / "manifest.tsv").write_text(text.replace("6.5", "8"), encoding="utf-8")
    with pytest.raises(EmoconvError, match=r"a/2.wav: arousal '8', allowed are 1 to 7"):
        built(corpus)
    assert len(DatasetSource(source.folder)) == 3
    (corpus / "manifest.tsv").write_text("path\tspeaker\nbroken.wav\tx\n", encoding="utf-8")
    with pytest.raises(EmoconvError, match=r"none of 1 clips can be read; .*broken.wav"):
        built(corpus)
    assert not source.folder.exists()
    assert list(source.folder.parent.glob("incomplete*")) == []


def test_a_rebuild_shows_the_corpus_as_it_is_now(corpus):
    built(corpus)
    soundfile.write(corpus / "broken.wav", noise(2000), RATE_HZ)
    source, _ = built(corpus)
    assert [row.path for row in source.rows] == ["a/2.wav", "broken.wav", "a/1.flac", "loud.wav"]


def test_what_stands_in_the_way_is_not_removed(corpus):
    place = corpus.parent / "out" / corpus.name / "speech_folder" / "1.0.0"
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("x")
    with pytest.raises(EmoconvError, match="is no dataset and stands where one belongs"):
        built(corpus)
    assert (place / "thesis.txt").exists()


def test_a_published_layout_goes_to_a_folder_of_its_name(tmp_path):
    folder = tmp_path / "anything"
    (folder / "Actor_02").mkdir(parents=True)
    soundfile.write(folder / "Actor_02/03-01-05-02-01-01-02.wav", noise(48_000), 48_000)
    source, _ = built(folder)
    assert source.folder == tmp_path / "out" / "ravdess" / "1.0.0"
    assert is_dataset(source.folder)
    assert not is_dataset(folder)
    assert dataclasses.replace(source.rows[0], text="") == Row(
        *("ravdess", "Actor_02/03-01-05-02-01-01-02.wav", "02", "F", "en", "angry", "strong")
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / FEATURES).unlink(), "no dataset; `emoconv build` makes one"),
        (lambda folder: (folder / FEATURES).write_text("[]"), "not the record that"),
        (lambda folder: (folder / FEATURES).write_text("{"), "not JSON"),
        (lambda folder: next(folder.glob("*array_record*")).unlink(), "not found; build the data"),
        (lambda folder: halve(next(folder.glob("*array_record*"))), "damaged dataset "),
        (
            lambda folder: next(folder.glob("*array_record*")).write_bytes(b"x" * 70_000),
            "damaged dataset ",
        ),
        (lambda folder: (folder / INFO).write_text("{"), f"{INFO}: not JSON"),
        (lambda folder: (folder / INFO).write_text("{}"), "damaged dataset .*'splits'"),
        (lambda folder: (folder / INFO).write_text("[]"), "damaged dataset "),
        (lambda folder: (folder / INFO).write_text(" " * MOST_INFO_BYTES + "{}"), "bytes, at most"),
        (
            lambda folder: (folder / INFO).write_text((folder / INFO).read_text(), "utf-16"),
            f"{INFO}: not JSON",
        ),
    ],
)
def test_damaged_datasets_are_refused(corpus, damage, message):
    source, _ = built(corpus)
    damage(source.folder)
    with pytest.raises(EmoconvError, match=message):
        DatasetSource(source.folder).read(0)


def halve(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def python(code: str, *words: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


WITHOUT_TENSORFLOW = """
import pathlib, sys
from emoconv_jax.pipeline.datasets import DatasetSource, build, is_dataset
is_dataset(pathlib.Path("."))
first = "tensorflow_datasets" in sys.modules
source = DatasetSource(build(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), log=str))
source.read(len(source.rows) - 1)
print(first, "tensorflow" in sys.modules)
"""


@pytest.mark.slow
def test_building_and_reading_do_not_import_tensorflow(corpus):
    process = python(WITHOUT_TENSORFLOW, str(corpus), str(corpus.parent / "out"))
    out, error = process.communicate(timeout=120)
    assert out.split() == ["False", "False"], error


KILLED = """
import os, pathlib, signal, sys
from emoconv_jax.pipeline import builders, datasets
real = builders.read_native
def read(path):
    if path.name == "loud.wav":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path)
builders.read_native = read
datasets.build(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""


def test_a_killed_build_leaves_no_dataset_and_the_next_one_works(corpus):
    out = corpus.parent / "out"
    process = python(KILLED, str(corpus), str(out))
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert [path for path in out.rglob("*") if is_dataset(path)] == []
    place = out / corpus.name / "speech_folder"
    assert [path.name[:10] for path in place.iterdir() if path.is_dir()] == ["incomplete"]
    source, _ = built(corpus)
    assert len(source) == 3
    assert [path.name for path in source.folder.parent.iterdir() if path.is_dir()] == ["1.0.0"]


def command(*words: str) -> int:
    from absl import flags as absl_flags

    from emoconv_jax.cli import build as module

    flags = absl_flags.FlagValues()
    module.define(flags)
    return module.run(flags, flags(["emoconv build", *words])[1:])


def test_the_command_says_what_it_did(corpus, capsys):
    out = f"--out={corpus.parent / 'out'}"
    assert command(str(corpus), out) == 1
    assert command(str(corpus), out, "--allow_rejects", "--corpus=manifest") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        f"3 of 5 utterances built: {corpus.parent}/out/{corpus.name}/speech_folder/1.0.0"
    )
    for name in ("broken.wav", "absent.wav"):
        (corpus / name).write_bytes((corpus / "a/2.wav").read_bytes())
    assert command(str(corpus), out) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x"], "--out: missing"),
        (["x", "--out="], "--out: missing"),
        (["--out=x"], "0 corpus folders given, expected one"),
        (["--out=x", "a", "b"], "2 corpus folders given"),
        (["--out=x", ".", "--corpus=savee"], "'savee': unknown, allowed are manifest"),
    ],
)
def test_the_command_refuses_what_it_cannot_understand(words, message):
    with pytest.raises(UsageError, match=message):
        command(*words)


@pytest.mark.corpora
@pytest.mark.slow
def test_real_clips_come_back_bit_for_bit(tmp_path):
    whole = pathlib.Path(os.environ["EMOCONV_CORPORA"]) / "ravdess"
    folder = tmp_path / "ravdess"
    (folder / "17").mkdir(parents=True)
    for path in sorted((whole / "17").iterdir())[:20]:
        (folder / "17" / path.name).write_bytes(path.read_bytes())
    source, lines = built(folder)
    assert lines[-1].startswith("20 of 20")
    for number, row in enumerate(source.rows):
        np.testing.assert_array_equal(source.read(number)[0], read_native(folder / row.path)[0])
