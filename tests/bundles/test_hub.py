"""Bundles on the Hub, against a server on this machine that speaks its routes."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import huggingface_hub.constants
import numpy as np
import pytest
from hub_server import Hub, serving
from tiny_bundle import CONFIG, SAMPLE

from emoconv_jax.bundles import hub
from emoconv_jax.bundles.cards import CARD_FILE, SECTIONS, card, check_card
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
    """Returns what a later load could take up: files of snapshots, blobs and references."""
    places = ("snapshots", "blobs", "refs")
    return [p for place in places for p in cache.glob(f"models--*/{place}/**/*") if p.is_file()]


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
    with pytest.raises(EmoconvError, match=r"org/tiny@main: the Hub cannot be reached .* no copy"):
        fetch(server, cache)


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("org/absent", None, r"^org/absent@main: not found on the Hub, or private"),
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
        ({f"{i}.json": b"{}" for i in range(60)}, {}, "66 files, at most 64 allowed"),
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
    server.add(NAME, {name: text for name, text in files.items() if name != CONFIG_FILE})
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


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (CONFIG_FILE, b'{"name": "a", "_target_": "os.system"}', "config.json: _target_: unknown"),
        ("banks.safetensors", HUGE, "banks.safetensors: damaged file"),
        ("recogniser-1-of-1.safetensors", HUGE, "recogniser-1-of-1.safetensors: damaged file"),
        ("extra.safetensors", b"\x80\x04.", "extra.safetensors: damaged file"),
    ],
)
def test_what_is_refused_after_the_download_does_not_stay(
    server, cache, files, file, text, message
):
    good = server.add(NAME, files)
    folder, _ = fetch(server, cache)
    before = left_in(cache)
    evil = server.add(NAME, files | {file: text})
    with pytest.raises(EmoconvError, match=message):
        fetch(server, cache)
    assert left_in(cache) == before
    assert not list(cache.rglob(f"snapshots/{evil}"))
    server.endpoint = "http://127.0.0.1:1"
    assert fetch(server, cache) == (folder, good)  # the files both share are still there
    assert content_of(folder) == files


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


def test_offline_without_a_copy_says_so(server, cache, files):
    server.add(NAME, files)
    words = ("convert", str(SAMPLE), "--out", "o", "--arousal", "6", "--bundle", NAME)
    done = command(server, cache, *words, HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "emoconv: org/tiny@main: not in the cache, and HF_HUB_OFFLINE is set"
    assert not server.requests


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


@pytest.fixture
def published(bundle_folder, tmp_path, monkeypatch) -> pathlib.Path:
    """Returns a bundle with a card, beside which lie files that nobody wants to publish."""
    # the chunked storage behind the real Hub speaks a protocol of its own
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    (folder / CARD_FILE).write_text(CARD)
    for name in ("train.py", "weights.pt", ".token.json", "notes.txt"):
        (folder / name).write_text("private")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "state.json").write_text("private")
    return folder


def push(server: Hub, folder: pathlib.Path) -> str:
    return hub.push(folder, NAME, token="hf_made", endpoint=server.endpoint)


def test_a_push_is_one_commit_of_the_bundle_and_its_card(server, published, cache, files):
    server.add(
        NAME, {".gitattributes": b"", "score_network-2-of-2.safetensors": b"old", "a.py": b""}
    )
    commit = push(server, published)
    # what is no bundle's is left alone, an old shard would be read and is removed
    assert server.commits[NAME][commit] == files | {".gitattributes": b"", "a.py": b""}
    assert len(server.commits[NAME]) == 2
    folder, found = fetch(server, cache)
    assert (found, content_of(folder)) == (commit, files)


def test_a_push_makes_the_repository(server, published, files):
    commit = push(server, published)
    assert set(server.commits[NAME][commit]) == {".gitattributes", *files}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (CARD_FILE, None, "README.md: not found; a published bundle has a model card with '## L"),
        (CARD_FILE, CARD.replace("## Misuse", "## Use"), "'## Misuse and consent' is missing"),
        (CARD_FILE, card(CONFIG, data="d"), "section '## Metrics' is empty"),
        (CARD_FILE, CARD.split("---\n")[2], "README.md: no front matter with 'license:'"),
        ("recogniser-1-of-1.safetensors", "", "recogniser-1-of-1.safetensors: damaged file"),
        ("average_voice-1-of-1.safetensors", None, "the bundle lacks this part"),
        (CONFIG_FILE, "{}", "config.json: name: missing"),
    ],
)
def test_a_bundle_that_does_not_load_or_has_no_card_is_not_pushed(
    server, published, file, text, message
):
    path = published / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(EmoconvError, match=message):
        push(server, published)
    assert not server.requests


def test_names_that_can_be_no_repository_are_not_pushed_to(server, published):
    for name in ("tiny", "a/b/c", "../tiny", "a/b c"):
        with pytest.raises(UsageError, match="allowed is ORG/NAME"):
            hub.push(published, name, endpoint=server.endpoint)
    assert not server.requests


def test_the_published_bundle_has_a_whole_card():
    check_card(ROOT / "data" / "bundles" / "emoconv-small")


def test_a_card_has_its_sections_and_a_front_matter_of_plain_values():
    config = json.loads(json.dumps("it's: mine"))
    made = card(type(CONFIG)("x", config), data="d", metrics="m")
    assert re.findall("^## (.*)$", made, re.MULTILINE) == list(SECTIONS)
    yaml = pytest.importorskip("yaml")
    front = yaml.safe_load(made.split("---\n")[1])
    assert front["license"] == "it's: mine"
    assert front["library_name"] == "emoconv"


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
    assert "EmoconvError: huggingface_hub is not installed" in done.stderr
    assert "pip install emoconv-jax[hub]" in done.stderr


@pytest.mark.slow
def test_a_published_converter_loads_to_equal_outputs(
    converter, speech, server, cache, files, monkeypatch
):
    from emoconv_jax.inference.converter import EmotionConverter

    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    url = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    with pytest.raises(EmoconvError, match="'## Data' is empty"):
        converter.push_to_hub(NAME, token="hf_made")
    commit = converter.push_to_hub(NAME, card=CARD, token="hf_made")
    assert set(server.commits[NAME][commit]) == {".gitattributes", *files}
    again = EmotionConverter.from_pretrained(NAME, revision=commit)
    assert again.source == hub.Source(NAME, commit)
    assert (again.config, again.card) == (converter.config, CARD)
    request = {"arousal": 6.0, "steps": 1}
    expected, found = converter.convert(speech, **request), again.convert(speech, **request)
    np.testing.assert_array_equal(found.audio, expected.audio)
    assert expected.provenance["bundle_revision"] is None
    # a file's notes have no order, so that its hash may be another
    own = {"bundle_revision": f"{NAME}@{commit}", "bundle_sha256": again.sha256}
    assert found.provenance == expected.provenance | own
