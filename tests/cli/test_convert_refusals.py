"""What `emoconv convert` refuses before the networks are loaded, in one line."""

import pathlib
import re

import numpy as np
import pytest
import soundfile

from emoconv_jax.cli.main import main

BAD = {
    "empty": r"empty \(0 bytes\)",
    "long": r"61\.0 s long, allowed are up to 60 s",
    "text": "cannot be decoded|format",
    "absent": "No such file",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, speech) -> dict[str, pathlib.Path]:
    """Good and bad inputs by name."""
    folder = tmp_path_factory.mktemp("inputs")
    soundfile.write(folder / "good.wav", speech, 22050)
    soundfile.write(folder / "copy.flac", speech, 22050)
    soundfile.write(folder / "long.wav", np.full(61 * 8000, 0.1), 8000)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("no audio at all")
    return {path.stem: path for path in folder.iterdir()} | {"absent": folder / "absent.wav"}


REFUSED = [
    (["--mix", "bored:1"], "emotion 'bored' is unknown, allowed are angry, calm"),
    (["--mix", "happy:1", "--base", "bored"], "emotion 'bored' is unknown"),
    (["--mix", "happy:-1,sad:2"], "mix.happy: found weight -1"),
    (["--mix", "happy:0,sad:0"], "at least one weight must be above 0"),
    (["--mix", "happy:nan"], "mix.happy: found weight nan"),
    (["--mix="], "--mix: a name is missing"),
    (["--mix", "happy:1", "--strength", "0.5"], "strength: needs a base"),
    (["--mix", "happy", "--base", "sad", "--strength", "2"], "strength: found 2.0"),
    (["--mix", "happy", "--base", "sad", "--strength", "-0.5"], "strength: found -0.5"),
    (["--arousal", "3", "--mix", "happy:1"], "give one of arousal, mix, curve; found arousal and"),
    ([], "give arousal, mix, curve or emotion_ref; found none of them"),
    (["--arousal", "3", "--strength", "0.5"], "strength: needs a base"),
    (["--arousal", "0"], "arousal: found 0.0, allowed is 1..7"),
    (["--arousal", "8"], "arousal: found 8.0, allowed is 1..7"),
    (["--arousal", "-1"], "arousal: found -1.0, allowed is 1..7"),
    (["--arousal=nan"], "arousal: found nan, allowed is 1..7"),
    (["--arousal", "3", "--steps", "0"], "steps: found 0, allowed is 1..1000"),
    (["--arousal", "3", "--steps", "-1"], "steps: found -1"),
    (["--arousal", "3", "--solver", "magic"], "solver: found 'magic', allowed are "),
    (["--arousal", "3", "--guidance", "-2"], "guidance: found -2"),
    (["--arousal", "3", "--seed", "-1"], "seed: found -1"),
    (["--arousal", "3", "--format", "mp3"], "--format: found 'mp3', allowed are wav, flac, ogg"),
    (["--arousal", "3", "--bits", "8"], "--bits: found 8, allowed are 16, 24"),
    (["--arousal", "3", "--bits", "16", "--format", "ogg"], "--bits: belongs to wav and flac"),
    (["--arousal", "3", "--sample_rate_hz", "0"], "--sample_rate_hz: found 0, allowed is 4000"),
    (["--arousal", "3", "--sample_rate_hz", "384001"], "--sample_rate_hz: found 384001"),
    (
        ["--arousal", "3", "--sample_rate_hz", "191999", "--format", "flac"],
        "--sample_rate_hz: found 191999, which FLAC cannot hold",
    ),
    (
        ["--arousal", "3", "--sample_rate_hz", "200001", "--format", "ogg"],
        "--sample_rate_hz: found 200001, allowed is 4000 to 192000",
    ),
    (["--mix", "happy:1_0"], "--mix: '1_0' is not a number, in 'happy:1_0'"),
    (["--arousal", "3", "--batch", "0"], "--batch: found 0, at least 1"),
    (["--arousal", "3", "--guidance", "inf"], "guidance: found inf, allowed is 0 to 100"),
    (["--arousal", "3", "--latent", "air"], "latent: found 'air', allowed are noise, source"),
    (["--arousal", "3", "--start", "0"], "start: found 0.0, allowed is 0.001 to 1"),
    (["--arousal", "3", "--start", "1.5"], "start: found 1.5, allowed is 0.001 to 1"),
]


def refused(capsys, code: int, message: str, *words) -> None:
    """Runs in this process: what is refused before the networks are loaded costs nothing."""
    assert main(["convert", *map(str, words)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("emoconv: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_requests_that_make_no_sense_are_refused(
    capsys, files, bundle_folder, tmp_path, words, message
):
    out = tmp_path / "out"
    refused(capsys, 2, message, files["good"], "--bundle", bundle_folder, "--out", out, *words)
    assert not out.exists()


def test_an_output_folder_that_is_a_file_is_refused_and_kept(
    capsys, files, bundle_folder, tmp_path
):
    (tmp_path / "out").write_text("mine")
    words = [files["good"], "--arousal", 3, "--bundle", bundle_folder]
    refused(capsys, 2, "is a file, a folder is needed", *words, "--out", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_two_inputs_of_one_name_and_an_input_that_would_be_overwritten_are_refused(
    capsys, files, tmp_path
):
    (tmp_path / "good.mp3").write_bytes(b"")
    words = ["--arousal", 3, "--out", tmp_path / "out"]
    message = f"{files['good']} and {tmp_path / 'good.mp3'} would both become"
    refused(capsys, 2, message, files["good"], tmp_path / "good.mp3", *words)
    words = ["--arousal", 3, "--out", files["good"].parent]
    refused(capsys, 2, "would be overwritten", files["good"], *words)
    link = tmp_path / "link"
    link.symlink_to(files["good"].parent)
    refused(capsys, 2, "would be overwritten", files["good"], "--arousal", 3, "--out", link)


def test_what_the_work_reads_besides_is_not_overwritten(capsys, files, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    voice, curve = out / "good.wav", out / "good.wav.json"
    voice.write_bytes(files["copy"].read_bytes())
    curve.write_text("seconds,arousal\n0,3\n")
    before = [path.read_bytes() for path in (voice, curve)]
    for words in (["--emotion_ref", voice], ["--curve", curve, "--nosidecar"]):
        refused(capsys, 2, "would be overwritten", files["good"], "--out", out, *words)
    assert [path.read_bytes() for path in (voice, curve)] == before


@pytest.mark.parametrize(("name", "message"), BAD.items())
def test_a_reference_that_cannot_be_read_is_named_before_the_bundle_is_looked_at(
    capsys, files, tmp_path, name, message
):
    words = ["--emotion_ref", files[name], "--bundle", tmp_path / "absent", "--out", tmp_path / "o"]
    assert main(["convert", str(files["good"]), *map(str, words)]) == 1
    captured = capsys.readouterr()
    assert str(files[name]) in captured.err
    assert re.search(message, captured.err)
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_json_file_of_somebody_else_is_refused_before_any_work(
    capsys, files, bundle_folder, tmp_path
):
    (tmp_path / "good.wav.json").write_text("{}")
    (tmp_path / "copy.wav").touch()
    (tmp_path / "copy.wav.json").write_text("{}")
    words = [files["good"], files["copy"], "--arousal", 3, "--skip_existing", "--out", tmp_path]
    message = f"{tmp_path / 'good.wav.json'}: is in the way"
    refused(capsys, 1, message, *words, "--bundle", bundle_folder)
    assert (tmp_path / "good.wav.json").read_text() == "{}"


def test_help_says_what_loudness_needs(capsys):
    assert main(["convert", "--help"]) == 0
    assert "[loudness]" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json: not found"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not JSON"),
        (lambda folder: (folder / "banks.safetensors").unlink(), "banks.safetensors: not found"),
        (lambda folder: (folder / "banks.safetensors").write_bytes(b"x" * 99), "damaged file"),
        (
            lambda folder: (folder / "score_network-1-of-1.safetensors").write_bytes(b""),
            "score_network-1-of-1.safetensors: damaged file",
        ),
    ],
)
def test_a_spoilt_bundle_is_named(capsys, files, bundle_folder, tmp_path, spoil, message):
    copy = tmp_path / "bundle"
    copy.mkdir()
    for path in bundle_folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    spoil(copy)
    out = tmp_path / "out"
    refused(capsys, 1, message, files["good"], "--arousal", 3, "--bundle", copy, "--out", out)
    assert not out.exists()


@pytest.mark.slow
def test_an_output_folder_that_cannot_be_made_is_named(capsys, files, bundle_folder):
    words = [files["good"], "--arousal", 3, "--bundle", bundle_folder, "--out", "/proc/converted"]
    refused(capsys, 1, "/proc/converted: cannot be made a folder", *words)


@pytest.mark.slow
def test_an_output_folder_that_cannot_be_written_to_is_named(capsys, files, bundle_folder):
    words = [files["good"], "--arousal", 3, "--bundle", bundle_folder, "--out", "/proc"]
    refused(capsys, 1, "/proc: no file can be written there", *words)
