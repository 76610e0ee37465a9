"""`emoconv encode`: the encoders on their own, on real speech."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import soundfile
from tiny_bundle import CONFIG, SAMPLE, WAV2VEC2

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.bundles.parts import template_of
from emoconv_jax.cli.main import main
from emoconv_jax.config import EMOTIONS, MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference import encoders
from emoconv_jax.inference.encoders import DimensionalRole
from emoconv_jax.inference.hearing import Ear


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Returns a second of real speech: most of a test's time is compiling, by length."""
    path = tmp_path_factory.mktemp("samples") / "sample.flac"
    soundfile.write(path, read_audio(SAMPLE, 22050)[11025:33075], 22050)
    return path


@pytest.fixture(scope="module")
def other_rate(sample):
    """Returns the sample at 16 kHz, as another program may have stored it."""
    path = sample.with_name("16k.wav")
    soundfile.write(path, read_audio(sample, 16000), 16000)
    return path


def test_a_line_of_json_per_file_and_bad_ones_named(
    bundle_folder, sample, other_rate, tmp_path, capsys
):
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    files = [str(sample), str(tmp_path / "noise.wav"), str(other_rate)]
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


@pytest.mark.slow
def test_arrays_of_all_files(bundle_folder, sample, other_rate, tmp_path, capsys):
    out = tmp_path / "heard.npz"
    line = ["encode", str(sample), str(other_rate), "--bundle", str(bundle_folder)]
    assert main([*line, "--out", str(out)]) == 0
    assert main([*line, "--out", str(tmp_path / "heard.json")]) == 0
    listed = json.loads((tmp_path / "heard.json").read_text())
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["files"].tolist() == [str(sample), str(other_rate)]
        assert arrays["speaker"].shape == (2, 256) and arrays["probabilities"].shape == (2, 8)
        assert arrays["arousal"].tolist() == [one["arousal"] for one in listed]
    assert main([*line, "--out", str(tmp_path / "heard.txt")]) == 2
    assert "allowed are names in .npz and .json" in capsys.readouterr().err
    assert main(["encode", "--bundle", str(bundle_folder)]) == 2


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("absent/heard.npz", "cannot be written (No such file or directory)"),
        ("file/heard.json", "cannot be written (Not a directory)"),
        ("folder.npz", "is a folder, a file is needed"),
    ],
)
def test_where_nothing_can_be_written_nothing_is_done(tmp_path, capsys, out, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder.npz").mkdir()
    before = sorted(tmp_path.iterdir())
    # neither the bundle nor the recording is there: what was said first was looked at first
    line = ["encode", "absent.wav", "--bundle", str(tmp_path / "absent"), "--out"]
    assert main([*line, str(tmp_path / out)]) in (1, 2)
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"emoconv: --out: {tmp_path / out} {message}"
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture(scope="module")
def ear(bundle_folder):
    return Ear.from_pretrained(bundle_folder)


def test_a_recording_is_resampled_once_for_each_network(ear, other_rate):
    """At 16 kHz, the speaker encoder's own rate, it is not resampled at all."""
    heard = ear.hear(other_rate)
    native, rate_hz = soundfile.read(other_rate, dtype="float32")
    assert rate_hz == 16000
    np.testing.assert_allclose(heard["speaker"], ear.speaker(native, rate_hz), atol=2e-6)
    # the recogniser hears the mel that `prepare` would make of the file
    told = ear.emotion(log_mel(read_audio(other_rate, 22050), MelConfig()))
    np.testing.assert_allclose(heard["emotion"], told.embedding, atol=2e-6)
    assert heard["arousal"] == pytest.approx(told.arousal, abs=2e-6)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Returns files of three padded lengths in a mixed order, with bad ones among them."""
    folder, speech = tmp_path_factory.mktemp("recordings"), read_audio(SAMPLE, 22050)
    paths = []
    for i, seconds in enumerate((0.6, 0.3, 0.62, 0.64, 0.0, 0.66, 0.32, 1.0, 0.7)):
        path, start = folder / f"{i}.wav", 11025 * (i + 1) // 2
        rate_hz = 44100 if i == 2 else 22050  # half as long, an octave higher
        soundfile.write(path, speech[start : start + round(seconds * rate_hz)], rate_hz)
        paths.append(path)
    soundfile.write(paths[5], np.zeros(9000), 22050)
    return paths


class Watched:
    """Calls a network and writes down the shape of what it is given."""

    def __init__(self, run):
        self.run, self.shapes = run, []

    def __call__(self, variables, padded, mask):
        self.shapes.append(padded.shape[:2])
        return self.run(variables, padded, mask)


@pytest.mark.slow
def test_files_are_encoded_together_and_come_out_as_if_alone(ear, recordings, monkeypatch):
    watched = Watched(ear.emotion._recognise)
    monkeypatch.setattr(ear.emotion, "_recognise", watched)
    alone = []
    for path in recordings:
        try:
            alone.append(ear.hear(path))
        except EmoconvError as error:
            alone.append(str(error))
    assert [isinstance(one, str) for one in alone] == [i in (4, 5) for i in range(9)]
    assert "4.wav: 0 samples" in alone[4] or "4.wav: empty" in alone[4]
    assert "5.wav: silent (peak 0.0e+00)" in alone[5]
    assert watched.shapes == [(1, 64), (1, 32), (1, 64), (1, 64), (1, 32), (1, 96), (1, 64)]
    for most, shapes in (
        (2, [(2, 64), (2, 64), (2, 32), (1, 96)]),
        (3, [(3, 64), (1, 64), (3, 32), (1, 96)]),
    ):
        watched.shapes.clear()
        together = list(ear.hear_all(recordings, most))
        assert watched.shapes == shapes
        for one, expected in zip(together, alone, strict=True):
            if isinstance(expected, str):
                assert str(one) == expected
                continue
            assert isinstance(one, dict) and list(one) == list(expected)
            assert one["file"] == expected["file"]
            assert one["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
            for name in ("speaker", "emotion", "arousal"):
                np.testing.assert_allclose(one[name], expected[name], atol=1e-5)


@pytest.mark.slow
def test_the_command_takes_files_together(bundle_folder, recordings, capsys, monkeypatch):
    files = [str(path) for path in recordings[:5]]
    line = ["encode", *files, "--bundle", str(bundle_folder), "--batch"]
    assert main([*line, "8"]) == 1
    said = capsys.readouterr()
    assert [json.loads(one)["file"] for one in said.out.splitlines()] == files[:4]
    assert "4.wav" in said.err and len(said.err.splitlines()) == 1
    assert main([*line, "0"]) == 2


@pytest.mark.slow
def test_waveforms_of_wav2vec2_go_together_too_but_no_more_than_a_long_one(monkeypatch):
    """Its attention grows with the square of the length, so that a batch must not grow freely."""
    config = dataclasses.replace(CONFIG, wav2vec2=WAV2VEC2)
    shapes = template_of("wav2vec2", config)
    generator = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: generator.normal(0, 0.3, s.shape).astype("f4"), shapes)
    role = DimensionalRole(config, variables)
    role._apply = watched = Watched(role._apply)
    sounds = [generator.normal(0, 0.1, n).astype("f4") for n in (7000, 20, 9000, 8000, 10000)]
    waves = [role.prepare(sound, 16000) for sound in sounds]
    alone = [role.hear(sound, 16000) for sound in sounds]
    for seconds, count in ((60.0, 2), (1.3, 3), (0.1, 5)):
        monkeypatch.setattr(encoders, "BATCH_SECONDS", seconds)
        watched.shapes.clear()
        together = role.recognise(waves, 4)
        assert len(watched.shapes) == count
        assert all(b * n <= max(seconds * 16000, n) for b, n in watched.shapes)
        for one, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(one.embedding, expected.embedding, atol=1e-5)
            for name in ("arousal", "dominance", "valence"):
                assert getattr(one, name) == pytest.approx(getattr(expected, name), abs=1e-5)
