"""`emoconv encode`: the encoders on their own, on real speech."""

import json

import numpy as np
import pytest
import soundfile
from tiny_bundle import SAMPLE

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.cli.main import main
from emoconv_jax.config import EMOTIONS


@pytest.fixture(scope="module")
def other_rate(tmp_path_factory):
    """Returns the sample at 16 kHz, as another program may have stored it."""
    path = tmp_path_factory.mktemp("rates") / "16k.wav"
    soundfile.write(path, read_audio(SAMPLE, 16000), 16000)
    return path


def test_a_line_of_json_per_file_and_bad_ones_named(bundle_folder, other_rate, tmp_path, capsys):
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    files = [str(SAMPLE), str(tmp_path / "noise.wav"), str(other_rate)]
    assert main(["encode", *files, "--bundle", str(bundle_folder)]) == 1
    said = capsys.readouterr()
    assert "noise.wav" in said.err and len(said.err.splitlines()) == 1
    first, second = map(json.loads, said.out.splitlines())
    assert (first["file"], second["file"]) == (files[0], files[2])
    assert np.linalg.norm(first["speaker"]) == pytest.approx(1, abs=1e-4)
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert list(first["probabilities"]) == list(EMOTIONS)
    assert len(first["emotion"]) == 8 and "valence" not in first
    # the same speech at another rate is the same voice
    assert np.dot(first["speaker"], second["speaker"]) > 0.99


def test_arrays_of_all_files(bundle_folder, other_rate, tmp_path, capsys):
    out = tmp_path / "heard.npz"
    line = ["encode", str(SAMPLE), str(other_rate), "--bundle", str(bundle_folder)]
    assert main([*line, "--out", str(out)]) == 0
    assert main([*line, "--out", str(tmp_path / "heard.json")]) == 0
    listed = json.loads((tmp_path / "heard.json").read_text())
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["files"].tolist() == [str(SAMPLE), str(other_rate)]
        assert arrays["speaker"].shape == (2, 256) and arrays["probabilities"].shape == (2, 8)
        assert arrays["arousal"].tolist() == [one["arousal"] for one in listed]
    assert main([*line, "--out", str(tmp_path / "heard.txt")]) == 2
    assert "allowed are names in .npz and .json" in capsys.readouterr().err
    assert main(["encode", "--bundle", str(bundle_folder)]) == 2
