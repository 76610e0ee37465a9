"""Which files are found, where their results go, and what is refused before any work."""

import os
import pathlib

import pytest

from emoconv_jax.cli.inputs import find_inputs, targets_of
from emoconv_jax.errors import EmoconvError, UsageError

FILES = (
    "in/a.wav",
    "in/B.FLAC",
    "in/notes.txt",
    "in/.hidden.wav",
    "in/.git/x.wav",
    "in/deep/c.mp3",
    "in/deep/er/d.ogg",
    "in/deep/er/odd..name.v2.wav",
    "in/deep/[1].wav",
    "single.bin",
)
TREE = {
    "a.flac": "in/a.wav",
    "B.flac": "in/B.FLAC",
    "deep/c.flac": "in/deep/c.mp3",
    "deep/[1].flac": "in/deep/[1].wav",
    "deep/er/d.flac": "in/deep/er/d.ogg",
    "deep/er/odd..name.v2.flac": "in/deep/er/odd..name.v2.wav",
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> pathlib.Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty.wav").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(*words: str, out: str = "out") -> dict[str, str]:
    """What becomes of what, below the output folder."""
    targets = targets_of(find_inputs(words, pathlib.Path(out)), pathlib.Path(out), "flac")
    return {
        target.relative_to(out).as_posix(): source.as_posix() for target, source in targets.items()
    }


@pytest.mark.parametrize("word", ["in", "in/", "./in", "in/**", "in/**/*"])
def test_a_folder_is_mirrored(word):
    assert plan(word) == TREE


def test_order_is_that_of_the_words_and_sorted_within():
    assert next(iter(plan("single.bin", "in").values())) == "single.bin"
    assert list(plan("in").values()) == sorted(TREE.values(), key=lambda p: (p.count("/"), p))


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("in/*.wav", {"a.flac": "in/a.wav"}),
        ("in/*/*", {"deep/c.flac": "in/deep/c.mp3", "deep/[1].flac": "in/deep/[1].wav"}),
        ("in/**/d.*", {"deep/er/d.flac": "in/deep/er/d.ogg"}),
        ("**/d.ogg", {"in/deep/er/d.flac": "in/deep/er/d.ogg"}),
        ("i?/deep/**/*.ogg", {"in/deep/er/d.flac": "in/deep/er/d.ogg"}),
        ("in/../in/deep/e*/d*", {"er/d.flac": "in/../in/deep/er/d.ogg"}),
        ("in/deep/[1].wav", {"[1].flac": "in/deep/[1].wav"}),  # a file first of all
        ("in/deep/[[]*", {"[1].flac": "in/deep/[1].wav"}),
        ("in/**/**/**/deep/**/**/c.mp3", {"deep/c.flac": "in/deep/c.mp3"}),
        ("single.bin", {"single.flac": "single.bin"}),
        ("in/.hidden.wav", {".hidden.flac": "in/.hidden.wav"}),  # named outright
        ("absent.wav", {"absent.flac": "absent.wav"}),
        ("in/deep/../a.wav", {"a.flac": "in/deep/../a.wav"}),
    ],
)
def test_globs_and_files(word, found):
    assert plan(word) == found


def test_a_glob_agrees_with_the_standard_library(place):
    """Except for suffixes that are no audio, which it does not know."""
    for pattern in ("**/*", "**/e*/*", "*/*", "*/d*/**/*.ogg", "in/**/?.*", "[!x]*/*.*"):
        expected = {p.as_posix() for p in pathlib.Path().glob(pattern) if p.is_file()}
        expected = {p for p in expected if p in TREE.values()}
        assert set(plan(pattern).values()) == expected


def test_links_to_folders_are_followed_once(place):
    (place / "in" / "deep" / "loop").symlink_to("..")
    (place / "in" / "self").symlink_to("self")
    (place / "in" / "up").symlink_to(place)
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "e.wav").touch()
    (place / "in" / "link").symlink_to(place / "elsewhere")
    (place / "in" / "broken.wav").symlink_to("absent")
    assert set(plan("in").values()) - set(TREE.values()) == {"in/broken.wav", "in/link/e.wav"}
    assert set(plan("in/**/*.wav").values()) >= {"in/link/e.wav", "in/a.wav"}


def test_the_output_folder_is_not_searched(place):
    for name in ("in/out/a.wav", "in/out/deep/c.wav"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    assert plan("in", out="in/out") == TREE
    (place / "in" / "deep" / "way").symlink_to(place / "in" / "out" / "deep")
    assert plan("in/**/*", out="in/../in/out") == TREE
    for word in ("in/out", "in/out/deep", "in/out/*.wav", "in"):
        out = "in" if word == "in" else "in/out"
        with pytest.raises(UsageError, match="lies in --out"):
            plan(word, out=out)
    assert plan("in/out/a.wav", out="in/out") == {"a.flac": "in/out/a.wav"}  # named outright


@pytest.mark.parametrize(
    ("words", "out", "message"),
    [
        ([""], "out", "'': names no file"),
        (["a\0b"], "out", "names no file"),
        (["absent/.."], "out", "names no file"),
        (["in/*.aiff"], "out", r"in/\*.aiff: no audio files there; looked for .wav, .flac"),
        (["absent/**"], "out", r"no audio files there"),
        (["in", "empty.wav"], "out", r"empty\.wav: no audio files there"),
        (["in/*/../a.wav"], "out", r"'\.\.' after a wildcard"),
        (["in", "single.bin", "in/deep"], "out2", None),
        (["in/B.FLAC"], "in", None),
    ],
)
def test_what_is_refused(words, out, message):
    if message is None:
        assert plan(*words, out=out)
        return
    with pytest.raises(UsageError, match=message):
        plan(*words, out=out)


def test_a_file_named_twice_is_converted_once(place):
    assert plan("in", "in/a.wav", "in/deep/../a.wav", str(place / "in" / "a.wav")) == TREE


def test_the_advice_on_two_of_one_name_fits(place):
    (place / "in" / "a.mp3").touch()
    with pytest.raises(UsageError, match=r"out/a\.flac; rename one, or convert them in two runs"):
        plan("in/a.wav", "in/a.mp3")
    (place / "other").mkdir()
    (place / "other" / "a.wav").touch()
    with pytest.raises(UsageError, match=r"out/a\.flac; name the folder above them"):
        plan("in/a.wav", "other/a.wav")


@pytest.mark.parametrize("name", ["single.flac", "single.flac.json", "single.flac.png"])
def test_what_else_the_work_reads_is_not_overwritten(place, name):
    (place / "out").mkdir()
    (place / "out" / name).touch()
    (place / "link").symlink_to(place / "out" / name)
    out = pathlib.Path("out")
    for other in (pathlib.Path("out") / name, "link"):
        with pytest.raises(UsageError, match=rf"out/{name}: an input, which would be overwritten"):
            targets_of(find_inputs(["single.bin"], out), out, "flac", [other])
    assert targets_of(find_inputs(["single.bin"], out), out, "ogg", ["link", "absent"])


def test_two_of_one_name_and_an_input_in_the_way_are_refused(place):
    (place / "in" / "a.ogg").touch()
    with pytest.raises(UsageError, match=r"in/a\.ogg and in/a\.wav would both become out/a\.flac"):
        plan("in")
    (place / "in" / "deep" / "c.flac").touch()
    (place / "link").symlink_to(place / "in" / "deep")
    for out in ("in/deep", "link"):
        with pytest.raises(UsageError, match=r"c\.flac: an input, which would be overwritten"):
            plan("in/deep/c.mp3", "in/deep/c.flac", out=out)
    # also where it is another's input
    (place / "x").mkdir()
    (place / "x" / "c.flac").touch()
    with pytest.raises(UsageError, match="would be overwritten"):
        plan("in/deep/c.mp3", "x/c.flac", out="x")


def test_a_folder_that_cannot_be_listed_is_named(place, monkeypatch):
    real = os.listdir

    def listdir(folder):
        if pathlib.Path(folder).name == "er":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "listdir", listdir)  # root may list anything
    with pytest.raises(EmoconvError, match=r"in/deep/er: cannot be listed .Permission denied"):
        plan("in")
