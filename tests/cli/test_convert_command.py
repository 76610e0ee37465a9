"""`emoconv convert` as a stranger runs it: real audio, hostile files, refused requests."""

import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from emoconv_jax.audio import reading as audio_reading
from emoconv_jax.audio import writing
from emoconv_jax.audio.loudness import loudness_lufs
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.cli.main import main
from emoconv_jax.inference import converter as converting

ROOT = pathlib.Path(__file__).parent.parent.parent


def wav_header(rate_hz: int, data_bytes: int, channels: int = 1) -> bytes:
    """The header of a 16-bit WAV that may claim anything."""
    block = 2 * channels
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * block % 2**32, block, 16)
    size = min(36 + data_bytes, 2**32 - 1)
    return (
        struct.pack("<4sI4s4sI", b"RIFF", size, b"WAVE", b"fmt ", 16)
        + fmt
        + struct.pack("<4sI", b"data", data_bytes)
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory, speech) -> dict[str, pathlib.Path]:
    """Good and bad inputs by name."""
    folder = tmp_path_factory.mktemp("inputs")
    write = soundfile.write
    write(folder / "good.wav", speech, 22050)
    write(folder / "copy.flac", speech, 22050)
    (folder / "empty.wav").write_bytes(b"")
    whole = (folder / "good.wav").read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    write(folder / "silent.wav", np.zeros(22050), 22050)
    broken = np.where(np.arange(22050) == 9000, np.nan, 0.1)
    write(folder / "nan.wav", broken, 22050, subtype="FLOAT")
    write(folder / "one_sample.wav", np.full(1, 0.5), 22050)
    write(folder / "channels.wav", np.full((2205, 1000), 0.1), 22050)
    samples = struct.pack("<h", 1000) * 22050
    (folder / "hours.wav").write_bytes(wav_header(22050, 2**32 - 100) + samples)
    (folder / "rate.wav").write_bytes(wav_header(2**31, len(samples)) + samples)
    with (folder / "long.wav").open("wb") as file:  # sparse
        file.write(wav_header(8000, 2 * 8000 * 3601))
        file.truncate(44 + 2 * 8000 * 3601)
    with (folder / "wide.wav").open("wb") as file:
        file.write(wav_header(192_000, 2 * 32 * 192_000 * 90, 32))
        file.truncate(44 + 2 * 32 * 192_000 * 90)
    (folder / "text.wav").write_text("no audio at all")
    return {path.stem: path for path in folder.iterdir()} | {"absent": folder / "absent.wav"}


BAD = {
    "empty": r"empty \(0 bytes\)",
    "truncated": "truncated",
    "silent": "silent",
    "nan": "NaN",
    "one_sample": "1 samples .* 0.1 s or more",
    "channels": "1000 channels, allowed are 1 to 32",
    "hours": "truncated",
    "rate": "rate|cannot be decoded",
    "long": r"3601\.0 s long, allowed are up to 3600 s",
    "wide": "2109 MiB when decoded, allowed are up to 2048 MiB",
    "text": "cannot be decoded|format",
    "absent": "No such file",
}


def emoconv(*words, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "emoconv_jax.cli.main", *map(str, words)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


def told(done: subprocess.CompletedProcess) -> list[str]:
    """The lines of stderr that are the program's own, without the progress bar."""
    return [line for line in re.split(r"[\r\n]+", done.stderr) if line.startswith("emoconv: ")]


def read(path: pathlib.Path) -> np.ndarray:
    audio, rate_hz = soundfile.read(path)
    assert rate_hz == 22050
    return audio


@pytest.mark.slow
def test_a_batch_goes_on_past_bad_files(files, speech, bundle_folder, tmp_path, capsys):
    """One run over two good files and every bad one, the good ones first and last."""
    out = tmp_path / "made" / "deeper"
    inputs = [files["good"], *(files[name] for name in BAD), files["copy"]]
    words = ["--bundle", bundle_folder, "--arousal", 6, "--steps", 2]
    done = emoconv("convert", *inputs, *words, "--out", out, "--seed", 1, JAX_LOG_COMPILES="1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for line, (name, message) in zip(told(done), BAD.items(), strict=True):
        assert str(files[name]) in line
        assert re.search(message, line), line
        assert len(line) < 400
    assert done.stderr.endswith(f"\n2 converted, 0 skipped, {len(BAD)} failed\n")
    assert done.stdout.split() == [str(out / "good.wav"), str(out / "copy.wav")]
    assert sorted(path.name for path in out.iterdir()) == [
        "copy.wav",
        "copy.wav.json",
        "good.wav",
        "good.wav.json",
    ]
    # "compiling (once)" is said, and true: one file after the other used the same sampler
    assert "compiling (once)" in done.stderr
    assert len(re.findall(r"Finished XLA compilation of jit\(_run\)", done.stderr)) == 1

    audio = read(out / "good.wav")
    assert audio.shape == speech.shape
    assert 0 < np.abs(audio).max() <= 1
    assert np.corrcoef(audio, speech)[0, 1] < 0.9  # not the source
    np.testing.assert_array_equal(read(out / "copy.wav"), audio)  # same samples, same seed
    assert_told_of(out / "good.wav.json")

    words = [files["good"], *words, "--out", tmp_path, "--seed", 2, "--format", "flac"]
    assert main(["convert", *map(str, words)]) == 0
    captured = capsys.readouterr()
    assert "emoconv: " not in captured.err
    assert captured.err.endswith("\n1 converted, 0 skipped, 0 failed\n")
    other = read(tmp_path / "good.flac")
    assert other.shape == audio.shape
    assert np.abs(other - audio).max() > 0.01


def assert_told_of(path: pathlib.Path) -> None:
    provenance = json.loads(path.read_text())
    assert provenance["source"] == "good.wav"
    assert provenance["bundle"] == "tiny"
    assert provenance["licence"] == "CC0-1.0"
    assert "synthetic" in provenance["notice"]
    assert provenance["request"] == {
        "arousal": 6.0,
        "mix": None,
        "emotion_ref": None,
        "curve": None,
        "base": None,
        "strength": None,
        "intensity": 1.0,
        "negative": "null",
        "solver": "maximum_likelihood",  # left open: the bundle's own, as latent and start
        "steps": 2,
        "spacing": "uniform_t",
        "guidance": 1.0,
        "latent": "noise",
        "latent_noise": 0.0,
        "start": 1.0,
        "seed": 1,
        "prosody": None,
        "rate": None,
    }


@pytest.fixture
def tree(tmp_path, speech, monkeypatch) -> pathlib.Path:
    """Three recordings in three formats and folders, and one file that is none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep" / "er").mkdir(parents=True)
    soundfile.write("in/a.wav", 0.3 * speech, 22050)
    soundfile.write("in/deep/b.flac", speech, 22050)
    soundfile.write("in/deep/er/c.ogg", speech, 22050)
    (tmp_path / "in" / "deep" / "notes.txt").write_text("none")
    return tmp_path


def convert(capsys, *words) -> tuple[int, list[str], str]:
    """Runs the command in this process; returns exit code, the files it names, and its stderr."""
    code = main(["convert", *map(str, words), "--steps", "2", "--arousal", "6"])
    captured = capsys.readouterr()
    return code, captured.out.split(), captured.err


def below(folder: pathlib.Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.slow
def test_a_tree_is_mirrored_as_asked_and_done_only_once(capsys, tree, bundle_folder):
    bundle_folder = shutil.copytree(bundle_folder, tree / "bundle")
    words = ["in", "--out", "out", "--bundle", bundle_folder, "--format", "flac", "--nosidecar"]
    words += ["--sample_rate_hz", 16000, "--bits", 24, "--match_loudness", "--skip_existing"]
    (tree / "out" / "deep").mkdir(parents=True)
    (tree / "out" / "deep" / "b.flac").write_text("done earlier")
    code, made, err = convert(capsys, *words, "--plot")
    assert (code, made) == (0, ["out/a.flac", "out/deep/er/c.flac"])
    assert err.endswith("\n2 converted, 1 skipped, 0 failed\n")
    pictures = ["a.flac.png", "deep/er/c.flac.png"]
    assert below(tree / "out") == sorted([*made_below(made), "deep/b.flac", *pictures])
    assert (tree / "out" / "deep" / "b.flac").read_text() == "done earlier"
    # the audio has its name last, so that --skip_existing finds what is not complete
    assert os.stat("out/a.flac.png").st_mtime_ns <= os.stat("out/a.flac").st_mtime_ns
    found = soundfile.info("out/a.flac")
    assert (found.samplerate, found.subtype) == (16000, "PCM_24")
    loudness = [loudness_lufs(read_audio(p, 16000), 16000) for p in ("in/a.wav", "out/a.flac")]
    assert loudness[1] == pytest.approx(loudness[0], abs=0.5)

    # nothing is left to do: not even the networks are loaded
    (bundle_folder / "vocoder-1-of-1.safetensors").rename(tree / "kept")
    try:
        assert convert(capsys, *words) == (0, [], "0 converted, 3 skipped, 0 failed\n")
    finally:
        (tree / "kept").rename(bundle_folder / "vocoder-1-of-1.safetensors")

    # a conversion says that it is one, by its metadata alone
    code, made, err = convert(capsys, "out/a.flac", "--out", "again", "--bundle", bundle_folder)
    assert (code, made) == (0, ["again/a.wav"])
    assert "note: out/a.flac is itself a conversion" in err


def made_below(made: list[str]) -> list[str]:
    return [path.removeprefix("out/") for path in made]


@pytest.mark.slow
def test_a_file_that_vanishes_and_a_folder_in_the_way_fail_alone(
    capsys, tree, bundle_folder, monkeypatch
):
    (tree / "out" / "a.wav.json").mkdir(parents=True)
    real = audio_reading.read_audio

    def read_audio_then_lose_another(path, *args, **options):
        pathlib.Path("in/deep/er/c.ogg").unlink(missing_ok=True)
        return real(path, *args, **options)

    monkeypatch.setattr(converting, "read_audio", read_audio_then_lose_another)
    code, made, err = convert(capsys, "in", "--out", "out", "--bundle", bundle_folder)
    assert (code, made) == (1, ["out/deep/b.wav"])
    assert "in/deep/er/c.ogg" in err and "No such file" in err
    assert "out/a.wav.json: cannot be written" in err
    assert err.endswith("\n1 converted, 0 skipped, 2 failed\n")
    assert below(tree / "out") == ["deep/b.wav", "deep/b.wav.json"]


@pytest.mark.slow
def test_ctrl_c_leaves_whole_files_only(capsys, tree, bundle_folder, monkeypatch):
    """The signal comes while the second file is being written."""
    real, calls = writing._whole, []

    def whole(*args):
        calls.append(args)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(*args)

    monkeypatch.setattr(writing, "_whole", whole)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job may ignore it
    try:
        code, made, err = convert(capsys, "in", "--out", "out", "--bundle", bundle_folder)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, made) == (130, ["out/a.wav"])
    assert below(tree / "out") == ["a.wav", "a.wav.json"]
    assert err.endswith(
        "1 converted, 0 skipped, 0 failed, 2 not begun or not finished\nemoconv: interrupted\n"
    )
    assert read("out/a.wav").shape == (15_435,)
