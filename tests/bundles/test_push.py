"""Publishing a bundle: what is uploaded, what is left alone, and what is refused."""

import json
import pathlib
import re
import shutil

import huggingface_hub.constants
import numpy as np
import pytest
from hub_server import Hub, serving
from safetensors.numpy import save_file
from tiny_bundle import CONFIG

from emoconv_jax.bundles import hub
from emoconv_jax.bundles.cards import CARD_FILE, SECTIONS, card, check_card
from emoconv_jax.bundles.format import CONFIG_FILE
from emoconv_jax.errors import EmoconvError, UsageError

NAME = "org/tiny"
CARD = card(CONFIG, data="80 made utterances.", metrics="None: the weights are random.")
ROOT = pathlib.Path(__file__).parent.parent.parent
EMPTY = (2).to_bytes(8, "little") + b"{}"  # a file of no tensors


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def files(bundle_folder) -> dict[str, bytes]:
    """Returns what is to be published, by file name."""
    content = {path.name: path.read_bytes() for path in bundle_folder.iterdir()}
    return content | {CARD_FILE: CARD.encode()}


@pytest.fixture
def published(bundle_folder, tmp_path, monkeypatch) -> pathlib.Path:
    """Returns a bundle with a card, beside which lie files that nobody wants to publish."""
    # the chunked storage behind the real Hub speaks a protocol of its own
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    folder = tmp_path / "bundle"
    shutil.copytree(bundle_folder, folder)
    (folder / CARD_FILE).write_text(CARD)
    for name in ("train.py", "weights.pt", ".token.json", "notes.txt", "notes.md", "token.json"):
        (folder / name).write_text("private")
    # of another state of the folder; the configuration names no such part
    save_file({"a": np.zeros(1, np.float32)}, folder / "wav2vec2-1-of-1.safetensors")
    save_file({"a": np.zeros(1, np.float32)}, folder / "optimizer.safetensors")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "state.json").write_text("private")
    return folder


def push(server: Hub, folder: pathlib.Path) -> str:
    return hub.push(folder, NAME, token="hf_made", endpoint=server.endpoint)


@pytest.mark.slow
def test_a_push_is_one_commit_of_the_bundle_and_its_card(server, published, files, tmp_path):
    others = {".gitattributes": b"", "a.py": b"", "results.json": b"{}"}
    others |= {"history.md": b"", "data/config.json": b"{}"}
    old = {"score_network-2-of-2.safetensors": b"old", "wav2vec2-1-of-1.safetensors": b"old"}
    server.add(NAME, others | old | {"data.safetensors": EMPTY})
    commit = push(server, published)
    # what is no bundle's is left alone, an old shard would be read and is removed
    assert server.commits[NAME][commit] == files | others | {"data.safetensors": EMPTY}
    assert len(server.commits[NAME]) == 2
    folder, found = hub.fetch(NAME, endpoint=server.endpoint, cache=tmp_path / "cache")
    assert found == commit
    for name, text in files.items():
        assert (folder / name).read_bytes() == text


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


@pytest.mark.parametrize("name", ["emoconv-small", "emoconv-judge"])
def test_a_published_bundle_has_a_whole_card(name):
    check_card(ROOT / "data" / "bundles" / name)


def test_a_card_has_its_sections_and_a_front_matter_of_plain_values():
    config = json.loads(json.dumps("it's: mine"))
    made = card(type(CONFIG)("x", config), data="d", metrics="m")
    assert re.findall("^## (.*)$", made, re.MULTILINE) == list(SECTIONS)
    yaml = pytest.importorskip("yaml")
    front = yaml.safe_load(made.split("---\n")[1])
    assert front["license"] == "it's: mine"
    assert front["library_name"] == "emoconv"


@pytest.mark.slow
def test_a_published_converter_loads_to_equal_outputs(
    converter, speech, server, files, tmp_path, monkeypatch
):
    from emoconv_jax.inference.converter import EmotionConverter

    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
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
