"""`emoconv data_report` on a feature folder: what it prints, writes and refuses."""

import json
import pathlib

import pytest
from absl import flags as absl_flags
from tiny_store import entries

from emoconv_jax.cli import data_report
from emoconv_jax.cli.main import main
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.pipeline.store import write_index


@pytest.fixture
def features(tmp_path) -> pathlib.Path:
    """A folder of twelve utterances; the index is all that a report reads."""
    folder = tmp_path / "features"
    folder.mkdir()
    made = entries(
        [200] * 12,
        lambda i: {"speaker": f"made/{i % 3}", "split": "a", "emotion": "sad", "arousal": 2.0},
    )
    write_index(folder, MelConfig(), made, [2400])
    return folder


def call(*words) -> int:
    flags = absl_flags.FlagValues()
    data_report.define(flags)
    return data_report.run(flags, flags(["data_report", *map(str, words)])[1:])


def test_figures_and_warnings_are_printed_and_the_exit_code_is_0(features, capsys):
    assert call(features) == 0
    out = capsys.readouterr().out
    assert out.startswith("27.9 s of speech")  # 2400 frames of 11.6 ms
    assert "3 training speakers (wanted: 10 or more)" in out
    assert [path.name for path in features.iterdir()] == ["index.json"]


def test_json_and_picture_are_written_whole(features, tmp_path, capsys):
    out = tmp_path / "deep" / "report"
    assert call(features, "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.png"]
    data = json.loads((out / "report.json").read_text(), parse_constant=pytest.fail)
    assert data["overall"]["utterances"] == 12
    assert data["corpora"]["made"] == data["splits"]["a"] == data["overall"]
    assert data["overall"]["emotions"]["sad"] == 12
    names = [warning["name"] for warning in data["warnings"]]
    assert "few_speakers" in names
    assert f"{len(names)} warnings" in capsys.readouterr().out
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_a_target_that_cannot_be_written_leaves_the_old_files(features, tmp_path):
    out = tmp_path / "report"
    (out / "report.png").mkdir(parents=True)
    (out / "report.json").write_text("old")
    with pytest.raises(IsADirectoryError):
        call(features, "--out", out)
    assert (out / "report.json").read_text() == "old"
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.png"]


def test_a_folder_that_is_a_file_ends_in_one_line(features, tmp_path, capsys):
    out = tmp_path / "report"
    out.write_text("mine")
    assert main(["data_report", str(features), "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"emoconv: {out}: File exists\n"
    assert "wrote" not in captured.out
    assert out.read_text() == "mine"


@pytest.mark.parametrize("count", [0, 2])
def test_one_folder_is_asked_for(features, count):
    with pytest.raises(UsageError, match=f"found {count} folders, expected one"):
        call(*[features] * count)


def test_a_folder_without_an_index_is_an_error(tmp_path):
    with pytest.raises(EmoconvError, match=r"index\.json: not found"):
        call(tmp_path)


def test_an_empty_index_is_an_error(tmp_path):
    write_index(tmp_path, MelConfig(), [], [])
    with pytest.raises(EmoconvError, match="no utterance"):
        call(tmp_path, "--out", tmp_path / "report")
    assert not (tmp_path / "report").exists()
