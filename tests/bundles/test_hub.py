"""Bundles on the Hub, against a server on this machine that speaks its routes."""

import os
import pathlib
import shutil
import subprocess
import sys

import huggingface_hub.constants
import pytest
from hub_server import Hub, serving
from tiny_bundle import CONFIG, SAMPLE

from emoconv_jax.bundles import hub
from emoconv_jax.bundles.cards import CARD_FILE, card
from emoconv_jax.bundles.format import CONFIG_FILE
from emoconv_jax.errors import EmoconvError, UsageError

NAME = "org/tiny"
CARD = card(CONFIG, data="80 made utterances.", metrics="None: the weights are random.")
ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def cache(tmp_path) -> pathlib.Path:
    return tmp_path / "cache"


@pytest.fixture
def files(bundle_folder) -> dict[str, bytes]:
    """Returns a published bundle's content, by file name."""
    content = {path.name: path.read_bytes() for path in bundle_folder.iterdir()}
    return content | {CARD_FILE: CARD.encode()}


def fetch(server: Hub, cache: pathlib.Path, revision: str | None = None, name: str = NAME):
    return hub.fetch(name, revision, endpoint=server.endpoint, cache=cache)


def content_of(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def left_in(cache: pathlib.Path) -> list[pathlib.Path]:
    """Returns what the cache holds, but for empty locks and the mark that it is a cache."""
    paths = [p for p in cache.rglob("*") if p.is_file() and p.name != "CACHEDIR.TAG"]
    return sorted(p for p in paths if p.parent.parent.name != ".locks" or p.stat().st_size)


def test_only_tensors_json_and_text_of_the_pinned_commit_are_asked_for(server, cache, files):
    other = {"payload.py": b"import os", "pytorch_model.bin": b"\x80", "nested/config.json": b"{"}
    first = server.add(NAME, files | other | {".gitattributes": b"", "model.pkl": b"."})
    server.add(NAME, files | {CARD_FILE: b"newer"})
    folder, commit = fetch(server, cache, first)
    assert commit == first == folder.name
    assert content_of(folder) == files
    assert server.asked("GET") | server.asked("HEAD") == set(files)
    assert (fetch(server, cache)[0] / CARD_FILE).read_bytes() == b"newer"
    asked = len(server.requests)
    assert fetch(server, cache, first) == (folder, first)
    assert len(server.requests) == asked  # a commit never changes, so nobody has to be asked


def test_without_a_server_the_copy_is_used(server, cache, files):
    commit = server.add(NAME, files, "v1")
    found = fetch(server, cache, "v1")
    server.endpoint = "http://127.0.0.1:1"  # nobody listens there
    assert fetch(server, cache, "v1") == found == (found[0], commit)
    message = r"^no such folder, and org/tiny@main: the Hub cannot be reached \(.*, and no copy is "
    with pytest.raises(EmoconvError, match=message):
        fetch(server, cache)


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        # a folder was meant, as likely as not
        ("data/bundels", None, "^no such folder, and data/bundels@main: not found on the Hub, or"),
        (NAME, "v9", r"^org/tiny@v9: the repository has no such revision$"),
        (NAME, "0" * 40, r"@0{40}: the repository has no such revision$"),
        ("org/gated", None, r"^org/gated@main: gated; accept its terms"),
        ("absent", None, r"'absent': no such folder; allowed are a bundle's folder and ORG/NAME"),
        ("a/b/c", None, "no such folder"),
        ("../b", None, "no such folder"),
        ("a/..", None, "no such folder"),
        ("https://a.org/b", None, "no such folder"),
        (NAME, "../../x", "revision: found '../../x', allowed is a branch, a tag or a commit"),
        (NAME, "a/../../b", "revision: found"),
        (NAME, "", "revision: found ''"),
    ],
)
def test_what_is_not_there_is_one_line(server, cache, files, name, revision, message):
    server.add(NAME, files)
    server.gated.add("org/gated")
    with pytest.raises(EmoconvError, match=message) as caught:
        fetch(server, cache, revision, name)
    assert "\n" not in str(caught.value)
    assert not left_in(cache)


def test_a_folder_is_taken_as_it_is_and_has_no_revision(server, bundle_folder, monkeypatch):
    assert hub.fetch(bundle_folder, endpoint=server.endpoint) == (bundle_folder, None)
    monkeypatch.chdir(bundle_folder.parent)
    assert hub.fetch("tiny", endpoint=server.endpoint) == (pathlib.Path("tiny"), None)
    with pytest.raises(UsageError, match=r"revision: found 'v1', but .* is a folder"):
        hub.fetch(bundle_folder, "v1")
    assert not server.requests


@pytest.mark.parametrize(
    ("more", "sizes", "message"),
    [
        ({"../evil.json": b"{}"}, {}, r"file name '\.\./evil\.json' is not allowed"),
        ({"/etc/evil.json": b"{}"}, {}, "'/etc/evil.json' is not allowed"),
        ({"a/../../evil.md": b""}, {}, "is not allowed"),
        ({"..\\evil.json": b"{}"}, {}, "is not allowed"),
        ({"c:evil.json": b"{}"}, {}, "is not allowed"),
        ({"a\n.json": b"{}"}, {}, r"'a\\n\.json' is not allowed"),
        ({"-rf .json": b"{}"}, {}, "file '-rf .json' of 2 bytes"),
        ({}, {"banks.safetensors": 5 << 30}, r"banks.safetensors has 5368709120\), at most 4294"),
        ({}, {"banks.safetensors": -1}, "file 'banks.safetensors' of -1 bytes"),
        ({f"{i}.json": b"{}" for i in range(58)}, {}, "66 files, at most 64 allowed"),
        ({f"{i}.py": b"" for i in range(4100)}, {}, "more than 4096 files"),
    ],
)
def test_odd_names_and_sizes_are_refused_before_a_file_is_asked_for(
    server, cache, files, more, sizes, message
):
    commit = server.add(NAME, files | more)
    server.sizes = sizes
    with pytest.raises(EmoconvError, match=message) as caught:
        fetch(server, cache)
    assert f"{NAME}@{commit}: " in str(caught.value)
    assert not server.asked() | server.asked("HEAD")
    assert not left_in(cache)


def test_a_repository_without_a_configuration_is_no_bundle(server, cache, files):
    server.add(NAME, without(files, CONFIG_FILE))
    with pytest.raises(EmoconvError, match=r"no config\.json, so no bundle"):
        fetch(server, cache)
    assert not server.asked()


def test_a_commit_that_is_no_hash_is_refused(server, cache, files):
    server.add(NAME, files)
    server.hash = "../../../outside"
    with pytest.raises(EmoconvError, match=r"the Hub names commit '\.\./\.\./\.\./outside'"):
        fetch(server, cache)
    assert not left_in(cache)


HUGE = (1 << 30).to_bytes(8, "little") + b"{}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (CONFIG_FILE, b'{"name": "a", "_target_": "os.system"}', "config.json: _target_: unknown"),
        ("banks.safetensors", HUGE, "banks.safetensors: damaged file"),
        ("recogniser-1-of-1.safetensors", HUGE, "recogniser-1-of-1.safetensors: damaged file"),
        ("extra.safetensors", b"\x80\x04.", "extra.safetensors: damaged file"),
        ("recogniser-1-of-1.safetensors", None, "recogniser-1-of-1.safetensors is missing"),
        ("recogniser-2-of-3.safetensors", b"", "recogniser-1-of-3.safetensors is missing"),
    ],
)
def test_what_is_refused_after_the_download_does_not_stay(
    server, cache, files, file, text, message
):
    good = server.add(NAME, files)
    folder, _ = fetch(server, cache)
    before = left_in(cache)
    evil = server.add(NAME, files | {file: text} if text is not None else without(files, file))
    with pytest.raises(EmoconvError, match=message):
        fetch(server, cache)
    assert left_in(cache) == before
    assert not list(cache.rglob(f"*{evil}*"))
    server.endpoint = "http://127.0.0.1:1"
    assert fetch(server, cache) == (folder, good)  # the files both share are still there
    assert content_of(folder) == files


def test_nothing_stays_of_a_repository_whose_only_commit_is_refused(server, cache, files):
    server.add(NAME, files | {"extra.safetensors": b"\x80\x04."})
    with pytest.raises(EmoconvError, match="damaged file"):
        fetch(server, cache)
    assert not left_in(cache)
    assert not list(cache.glob("models--*"))


def test_a_refused_repository_takes_nothing_of_another_with_it(server, cache, files):
    """Copies of one history have commits of the same hash."""
    server.add("org/twin", files)
    commit = fetch(server, cache, name="org/twin")[1]
    assert commit is not None
    before = left_in(cache)
    server.commits[NAME] = {commit: files | {CONFIG_FILE: b"{}"}}
    server.branches[NAME] = {"main": commit}
    with pytest.raises(EmoconvError, match="name: missing"):
        fetch(server, cache)
    assert left_in(cache) == before


def without(files: dict[str, bytes], *names: str) -> dict[str, bytes]:
    return {name: text for name, text in files.items() if name not in names}


PART = "recogniser-1-of-1.safetensors"


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
@pytest.mark.parametrize(
    ("file", "told"),
    [(CONFIG_FILE,) * 2, ("banks.safetensors",) * 2, (PART,) * 2, (CARD_FILE, "one that no part")],
)
def test_an_interrupted_download_is_not_taken_as_whole(
    server, cache, files, file, told, listed, tmp_path, monkeypatch
):
    """Version 2 of the library keeps the listing of a commit and sees what lacks, 1 does not."""
    commit = server.add(NAME, files)
    complete, _ = fetch(server, cache)
    copy = shutil.copytree(cache, tmp_path / "copy", symlinks=True)  # the process knows the first
    folder = copy / complete.relative_to(cache)
    (folder / file).resolve().unlink()
    (folder / file).unlink()
    if not listed:
        shutil.rmtree(folder.parent.parent / "trees", ignore_errors=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    if file == CARD_FILE and not listed:  # nobody can know, and it has all that converts
        assert fetch(server, copy, commit) == (folder, commit)
        return
    for revision in (commit, None):
        with pytest.raises(EmoconvError, match=f"{told}.* is missing") as caught:
            fetch(server, copy, revision)
        assert str(caught.value).startswith(
            f"{NAME}@{revision or 'main'}: HF_HUB_OFFLINE is set, and it is incomplete in the "
            "cache; fetch it again online ("
        )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert fetch(server, copy, commit) == (folder, commit)  # what is missing is fetched
    assert content_of(folder) == files


def test_a_copy_that_is_incomplete_is_told_without_a_server(server, cache, files):
    server.add(NAME, files)
    folder, _ = fetch(server, cache)
    (folder / PART).resolve().unlink()  # a link to nothing is left
    server.endpoint = "http://127.0.0.1:1"
    message = rf"@main: the Hub cannot be reached .*, and it is incomplete in the cache; .*{PART}"
    with pytest.raises(EmoconvError, match=message):
        fetch(server, cache)


def test_a_file_of_another_size_than_listed_does_not_stay(server, cache, files):
    server.add(NAME, files)
    server.sizes = {CARD_FILE: 1}
    with pytest.raises(EmoconvError, match=r"README.md has \d+ bytes, the Hub lists 1"):
        fetch(server, cache)
    assert not left_in(cache)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.symlink_to(SAMPLE), "config.json is a link out of the Hub's cache"),
        (lambda path: path.symlink_to("/dev/zero"), "config.json is a link out of the Hub's cache"),
        (lambda path: path.mkdir(), "config.json is not a regular file"),
        (os.mkfifo, "config.json is not a regular file"),
    ],
    ids=["link", "device", "folder", "pipe"],
)
def test_links_out_of_the_cache_and_odd_files_are_refused(server, cache, files, make, message):
    server.add(NAME, files)
    folder, commit = fetch(server, cache)
    (folder / CONFIG_FILE).unlink()
    make(folder / CONFIG_FILE)
    with pytest.raises(EmoconvError, match=message):
        fetch(server, cache, commit)


def command(server: Hub, cache: pathlib.Path, *words: str, **settings: str):
    """Runs `emoconv` in a process whose Hub is the server."""
    environment = os.environ | {"HF_ENDPOINT": server.endpoint, "HF_HUB_CACHE": str(cache)}
    return subprocess.run(
        [sys.executable, "-m", "emoconv_jax.cli.main", *words],
        env=environment | {"PYTHONPATH": str(ROOT)} | settings,
        cwd=cache.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_offline_without_a_copy_says_so(server, cache, files):
    server.add(NAME, files)
    words = ("convert", str(SAMPLE), "--out", "o", "--arousal", "6", "--bundle", NAME)
    done = command(server, cache, *words, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == (
        "emoconv: no such folder, and org/tiny@main: HF_HUB_OFFLINE is set, and no copy is in the "
        "cache"
    )
    assert not server.requests


@pytest.mark.slow
def test_the_command_takes_a_name_and_a_revision_and_the_copy_when_offline(server, cache, files):
    server.add(NAME, files, "v1")
    server.add(NAME, {CONFIG_FILE: b"{}"})
    # which emotions there are is read from the bundle
    words = ("convert", "a.wav", "--out", "o", "--mix", "odd", "--bundle", NAME)
    for settings in ({}, {"HF_HUB_OFFLINE": "1"}):
        done = command(server, cache, *words, "--revision", "v1", **settings)
        assert done.returncode == 2
        assert "emotion 'odd' is unknown" in done.stderr
        assert server.asked() == set(files)
        server.commits.clear()


@pytest.mark.slow
def test_without_the_library_one_line_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from emoconv_jax.bundles.hub import fetch\n"
        "fetch('org/tiny')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "EmoconvError: no such folder, and huggingface_hub is not installed" in done.stderr
    assert "pip install -e .[hub]" in done.stderr
