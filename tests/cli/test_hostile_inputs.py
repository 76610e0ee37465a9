"""Whatever is given, the answer is a result or one line of our own: no other exception.

The examples are drawn anew from the same seed on every run, so that a failure is not an accident.
"""

import os
import pathlib
import shutil

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from emoconv_jax.audio.reading import read_audio, read_header
from emoconv_jax.audio.writing import MOST_COMMENT_BYTES
from emoconv_jax.cli.inputs import find_inputs, targets_of
from emoconv_jax.cli.main import main
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.conversion import made_by_emoconv

RATE_HZ = 16000
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "wavex.wav": ("WAVEX", "PCM_24"),
    "rf64.wav": ("RF64", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
FEW = {"derandomize": True, "deadline": None, "database": None}
SAME_FOLDER = [HealthCheck.function_scoped_fixture]  # every example writes over the last


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """A file of each kind, with a comment in its header."""
    folder = tmp_path_factory.mktemp("whole")
    tone = 0.5 * np.sin(np.arange(RATE_HZ // 4) / 10)
    for name, (container, subtype) in KINDS.items():
        path = folder / f"a.{name}"
        with soundfile.SoundFile(path, "w", RATE_HZ, 1, subtype, format=container) as file:
            file.comment = "said by somebody"
            file.write(tone)
    return {name: (folder / f"a.{name}").read_bytes() for name in KINDS}


text = st.binary(max_size=20).map(os.fsdecode)
# where and what: most hits go to the header, where the claims are
hit = st.tuples(
    st.one_of(st.integers(0, 120), st.integers(0, 2**16)),
    st.one_of(
        st.binary(min_size=1, max_size=4),
        st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"]),
    ),
)


@pytest.mark.slow
@settings(max_examples=250, suppress_health_check=SAME_FOLDER, **FEW)
@given(
    kind=st.sampled_from(list(KINDS)),
    hits=st.lists(hit, min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 4000),
    tail=st.binary(max_size=40),
)
def test_damaged_audio_gives_sound_or_one_error(whole, tmp_path, kind, hits, cut, tail):
    content = bytearray(whole[kind])
    for place, value in hits:
        place %= len(content)
        content[place : place + len(value)] = value
    path = tmp_path / f"a.{kind}"
    path.write_bytes(bytes(content[:cut]) + tail)
    for read in (read_header, read_audio):
        try:
            found = read(path, max_seconds=10, max_decoded_bytes=2**22)
        except EmoconvError as error:
            assert "\n" not in str(error) and path.name in str(error)
            continue
        if isinstance(found, np.ndarray):
            assert found.dtype == np.float32 and np.isfinite(found).all()
            assert 0 < np.abs(found).max() <= 1
        else:
            assert 0 < found.duration_s <= 10


@settings(max_examples=40, **FEW)
@given(text | st.recursive(st.none(), st.lists, max_leaves=5).map(str))
@example('{"notice":' * 150)
@example("x" * (MOST_COMMENT_BYTES + 1))
def test_no_comment_is_taken_for_ours_by_chance(comment):
    assert made_by_emoconv(comment) is None


NAMES = ["a.wav", "in", "..", ".", "*", "**", "?.wav", "[", "[a-", "[!]", "~", "x" * 300, "é\udc80"]
words = st.lists(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=5).map("/".join)
    | text
    | st.sampled_from(["", "/", "//", "/dev/null", "\0", "-", "in/link", "in/gone.wav"]),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """A small tree with links to nowhere and to itself."""
    place = tmp_path_factory.mktemp("place")
    for name in ("a.wav", "in/a.wav", "in/in/b.flac", "in/in/.c.wav"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x")
    (place / "in" / "link").symlink_to("..")
    (place / "in" / "gone.wav").symlink_to("absent")
    return place


@settings(max_examples=200, suppress_health_check=SAME_FOLDER, **FEW)
@given(words=words, out=st.sampled_from(["out", "in", ".", "..", "in/in", "in/link", "a.wav"]))
def test_any_words_name_files_or_are_refused(place, monkeypatch, words, out):
    monkeypatch.chdir(place)
    folder = pathlib.Path(out)
    outside = [w for w in words if w.startswith(("/", "..", ".")) or "/.." in w]  # of the place
    try:
        inputs = find_inputs([w for w in words if w not in outside] or ["in"], folder)
        targets = targets_of(inputs, folder, "wav")
    except EmoconvError as error:
        assert "\n" not in str(error) or any("\n" in word for word in words)
        return
    for target, source in targets.items():
        assert ".." not in target.relative_to(folder).parts
        assert os.path.realpath(target) != os.path.realpath(source)


@pytest.fixture(scope="module")
def half_a_bundle(tmp_path_factory, bundle_folder) -> pathlib.Path:
    """A bundle that says what it has and has no network: a request that makes sense ends there."""
    folder = tmp_path_factory.mktemp("bundles") / "half"
    shutil.copytree(bundle_folder, folder)
    (folder / "score_network-1-of-1.safetensors").unlink()
    return folder


NUMBERS = ["0", "-1", "1", "3.5", "nan", "inf", "-inf", "1e400", "9" * 5000, "", "six", "0x10", "٣"]
MIXES = ["happy:1,sad:2", "happy:nan", "happy:1e308,sad:1e308", "null", "arousal 3:1", ":", "é:1"]
VALUES = {
    "out": ["out", "", "a.wav", "a.wav/x", "/proc/x", "in/../in", "x" * 300],
    "format": ["wav", "FLAC", "ogg", ""],
    "bits": [*NUMBERS, "24"],
    "sample_rate_hz": [*NUMBERS, "16000"],
    "batch": NUMBERS,
    "mix": MIXES,
    "base": ["neutral", "", "bored", "null", "arousal 99"],
    "solver": ["ddim", "", "heun", "magic"],
    "latent": ["noise", "source", ""],
    **dict.fromkeys(("arousal", "strength", "guidance", "start", "steps", "seed"), NUMBERS),
    "nonsense": ["1"],
}
flag = st.sampled_from(list(VALUES)).flatmap(
    lambda name: st.sampled_from(VALUES[name]).map(lambda value: f"--{name}={value}")
)


@settings(max_examples=25, suppress_health_check=SAME_FOLDER, **FEW)
@given(flags=st.lists(flag, max_size=5), target=st.sampled_from(["--arousal=3", "--mix=sad", "--"]))
@example(flags=["--emotion_ref=/dev/zero"], target="--")
@example(flags=["--nosidecar", "--sidecar=maybe"], target="--arousal=3")
@example(flags=[f"--arousal={'9' * 5000}"], target="--arousal=3")
def test_any_request_ends_in_one_line(place, half_a_bundle, monkeypatch, capsys, flags, target):
    """No network is loaded: the bundle has none, so that every request ends before."""
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    code = main(["convert", f"--bundle={half_a_bundle}", "--out=out", *flags, target, "in/a.wav"])
    captured = capsys.readouterr()
    assert code in (1, 2)
    assert captured.out == ""
    assert captured.err.startswith("emoconv: ")
    assert captured.err.count("\n") == 1
    assert sorted(place.rglob("*")) == before
