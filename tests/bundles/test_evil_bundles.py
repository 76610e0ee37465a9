"""Bundles that somebody made to do harm: each is refused by file and field, unread and unrun."""

import functools
import json
import os
import pathlib
import pickle
import shutil
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file
from tiny_bundle import CONFIG

from emoconv_jax.bundles.banks import BANKS_FILE
from emoconv_jax.bundles.contents import check_bundle, check_outside, lacking
from emoconv_jax.bundles.format import CONFIG_FILE, fingerprint, load_part
from emoconv_jax.bundles.parts import template_of
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import parse_json

PART = "recogniser-1-of-1.safetensors"
MOST_MEMORY = 24 << 20  # the tiny bundle's own parts and the largest allowed header's JSON


@pytest.fixture
def bundle(bundle_folder, tmp_path) -> pathlib.Path:
    """Returns a bundle that may be damaged."""
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


@functools.cache
def template():
    """Returns the recogniser's shapes: tracing takes its time where memory is watched."""
    return template_of("recogniser", CONFIG)


def load_recogniser(bundle: pathlib.Path) -> None:
    load_part(bundle, "recogniser", template())


def assert_refused(
    bundle: pathlib.Path, file: str, message: str, load: Callable = check_bundle
) -> None:
    """Refused in one line with the file's path, having asked for next to no memory."""
    template()
    tracemalloc.start()
    try:
        with pytest.raises(EmoconvError, match=message) as caught:
            load(bundle)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(bundle / file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(bundle)) + 600
    assert peak < MOST_MEMORY


def tensors(header: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """Returns a safetensors file around any header."""
    text = header.encode() if isinstance(header, str) else header
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape: list[int], end: int, dtype: str = "F16") -> str:
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": [0, end]})


def edit_part(bundle: pathlib.Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    arrays = load_file(bundle / PART)
    change(arrays)
    save_file(arrays, bundle / PART)


def test_the_bundle_that_is_damaged_below_is_whole(bundle):
    assert check_bundle(bundle).name == "tiny"


BASE = '"name": "x", "licence": "MIT"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{{BASE}, "_target_": "os.system"}}', r"config\.json: _target_: unknown field"),
        (f'{{{BASE}, "auto_map": {{"A": "evil.py"}}}}', r"auto_map: unknown field"),
        (f'{{{BASE}, "mel": {{"__class__": "x"}}}}', r"mel\.__class__: unknown field"),
        (f'{{{BASE}, "mel": {{"mels": "__import__(1)"}}}}', r"mel\.mels: found str"),
        (f'{{{BASE}, "recogniser": "../../other.json"}}', "recogniser: found str, expected an obj"),
        (f'{{{BASE}, "name": "y"}}', r"config\.json: field 'name' occurs twice"),
        (
            f'{{{BASE}, "mel": {{"mels": 80, "hop_samples": 256, "mels": 10000}}}}',
            "field 'mels' occurs twice",
        ),
        (f'{{{BASE}, "\\u006eame": "y"}}', "field 'name' occurs twice"),
        (r'{"name": "\u001b[2Jx", "licence": "MIT"}', r"name is '\\x1b\[2Jx', a line of text"),
        (r'{"name": "x", "licence": "MIT\nevil: 1"}', r"licence is 'MIT\\nevil: 1', a line"),
        (f'{{{BASE}, "mel": {{"floor": NaN}}}}', "floor: found nan, expected a finite number"),
        ('{"a":' * 150_000 + "1" + "}" * 150_000, "not JSON"),
        ("[" * 1_000_000, "not JSON"),
        (f'{{{BASE}, "format": {"[" * 400}{"]" * 400}}}', "format is "),
        ('{"name": ' + "9" * 1_000_000 + "}", "not JSON"),
        ('{"' + "k" * 1_000_000 + '": 1}', "unknown field"),
        ('{"name": "' + "x" * (1 << 20) + '"}', "bytes, at most 1048576 allowed"),
    ],
)
def test_a_configuration_is_plain_known_values(bundle, text, message):
    (bundle / CONFIG_FILE).write_text(text)
    assert_refused(bundle, CONFIG_FILE, message)


FITS = entry([1], 2)


@pytest.mark.parametrize("file", [PART, BANKS_FILE])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged file"),
        (tensors(f'{{"a": {entry([1 << 40], 4)}}}', bytes(4)), "damaged file"),
        (tensors(f'{{"a": {entry([1 << 40], 1 << 41)}}}', bytes(4)), "damaged file"),
        (tensors(f'{{"a": {entry([1 << 32, 1 << 32], 0)}}}'), "damaged file"),
        (tensors(f'{{"a": {entry([-1], 2)}}}', bytes(2)), "damaged file"),
        (tensors("{}", length=1 << 30), "damaged file .its header claims 1073741824 bytes"),
        (tensors("{}", length=(1 << 64) - 1), "damaged file"),
        (tensors("{" + " " * (2 << 20) + "}"), "header of 2097154 bytes, at most 1048576 allowed"),
        (tensors("[" * 1_000_000), "damaged file: header: not JSON"),
        (tensors('{"a":' * 100_000), "damaged file: header: not JSON"),
        (tensors("[1]"), "damaged file"),
        (tensors(b"\xff\xfe"), "damaged file: header: not JSON"),
        (tensors(f'{{"a": {FITS}, "a": {FITS}}}', bytes(2)), "header: field 'a' occurs twice"),
        (tensors(f'{{"a": {FITS}, "\\u0061": {FITS}}}', bytes(2)), "field 'a' occurs twice"),
        (tensors('{"a": {"dtype": "F64", ' + FITS[1:] + "}", bytes(2)), "field 'dtype' occurs tw"),
        (tensors('{"__metadata__": {"n": "1", "n": "2"}}'), "field 'n' occurs twice"),
    ],
)
def test_a_header_is_not_believed(bundle, file, content, message):
    (bundle / file).write_bytes(content)
    assert_refused(bundle, file, message, load_recogniser if file == PART else check_bundle)


class Call:
    """Unpickling it makes a file."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("file", [PART, BANKS_FILE, CONFIG_FILE])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_under_another_name_is_not_unpickled(bundle, tmp_path, file, protocol):
    mark = tmp_path / "executed"
    danger = pickle.dumps(Call(mark), protocol)
    (bundle / file).write_bytes(danger)
    assert_refused(bundle, file, "not JSON" if file == CONFIG_FILE else "damaged file")
    assert not mark.exists()
    pickle.loads(danger)
    assert mark.exists()  # the pickle does what it should not


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update({"params/x\x1b[2J": np.zeros(1)}), r"unexpected tensor 'params/x\\x1b"),
        (lambda a: a.update({"../../x": np.zeros(1)}), r"unexpected tensor '\.\./\.\./x'"),
        (lambda a: a.update({"x" * 9999: np.zeros(1)}), "unexpected tensor 'xxx"),
        (lambda a: a.update({first(a): a[first(a)] * np.nan}), "holds NaN or infinity"),
        (
            lambda a: a.update({first(a): a[first(a)].astype(np.int16)}),
            "is I16, allowed are F16, F",
        ),
        (lambda a: a.update({first(a): a[first(a)].astype(np.float64)}), "is F64, allowed are F16"),
        (lambda a: a.update({first(a): a[first(a)].astype(bool)}), "is BOOL, allowed are F16"),
        (lambda a: a.update({first(a): np.zeros((1,) * 40)}), r"has shape \(1, 1, 1"),
    ],
)
def test_a_tensor_of_a_part_is_one_of_the_network(bundle, change, message):
    edit_part(bundle, change)
    assert_refused(bundle, PART, message, load_recogniser)


def first(arrays: dict[str, np.ndarray]) -> str:
    return min(arrays)


def test_a_large_tensor_that_no_network_has_is_not_read(bundle):
    """64 MB of zeros under a name, a shape or a type that does not fit."""
    name = first(load_file(bundle / PART))
    for key, shape, dtype in (("a", [1 << 25], "F16"), (name, [1 << 25], "F16")):
        with open(bundle / PART, "wb") as file:
            file.write(tensors(json.dumps({key: json.loads(entry(shape, 1 << 26, dtype))})))
            file.truncate(file.tell() + (1 << 26))
        assert_refused(bundle, PART, "unexpected tensor 'a'|has shape", load_recogniser)


@pytest.mark.parametrize("kept", [7, 8, 100, -1])
def test_a_truncated_part_is_refused(bundle, kept):
    (bundle / PART).write_bytes((bundle / PART).read_bytes()[:kept])
    assert_refused(bundle, PART, "damaged file", load_recogniser)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("emotion/", "'emotion/'"),
        ("emotion/null", "'emotion/null'"),
        ("emotion/\x1b[2J", r"'emotion/\\x1b\[2J'"),
        ("emotion/a\nb", r"'emotion/a\\nb'"),
        ("emotion/" + "a" * 41, "'emotion/aaa"),
        ("emotion/../x", r"'emotion/\.\./x'"),
    ],
)
def test_an_emotion_is_a_word(bundle, name, shown):
    arrays = load_file(bundle / BANKS_FILE)
    save_file(arrays | {name: arrays["arousal/1"]}, bundle / BANKS_FILE)
    assert_refused(bundle, BANKS_FILE, f"unexpected tensor {shown}")


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"arousal/1": "[" * 100_000}, "note 'arousal/1': not JSON"),
        ({"arousal/1": '{"speakers": [], "speakers": ["x"]}'}, "field 'speakers' occurs twice"),
        ({"arousal/1": "[]"}, "note 'arousal/1' describes no tensor"),
        ({"other": "{}"}, "note 'other' describes no tensor"),
    ],
)
def test_notes_of_banks_are_plain_and_belong_to_a_tensor(bundle, notes, message):
    (bundle / BANKS_FILE).write_bytes(save(load_file(bundle / BANKS_FILE), metadata=notes))
    assert_refused(bundle, BANKS_FILE, message)


@pytest.mark.parametrize("file", [PART, BANKS_FILE, CONFIG_FILE])
@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()],
    ids=["pipe", "device", "folder"],
)
def test_pipes_devices_and_folders_are_not_read(bundle, file, make):
    (bundle / file).unlink()
    make(bundle / file)
    assert_refused(bundle, file, "not a regular file|not found|cannot be read")
    with pytest.raises(EmoconvError, match="not a regular file"):
        fingerprint(bundle)


@pytest.mark.parametrize("role", ["../recogniser", "*", "", "recogniser\x00"])
@pytest.mark.parametrize("name", ["emotion", "speaker", "vocoder"])
def test_a_role_is_a_known_word(bundle, name, role):
    """The word of the emotion role begins file names: here those of a part in another folder."""
    (bundle / PART).rename(bundle.parent / PART)
    config = json.loads((bundle / CONFIG_FILE).read_text())
    config["roles"][name] = role
    (bundle / CONFIG_FILE).write_text(json.dumps(config))
    assert_refused(bundle, CONFIG_FILE, rf"roles\.{name} is '.*', allowed are \w+(, \w+)+$")


def test_a_part_cannot_be_hidden_behind_another(bundle):
    """A second shard may not replace a tensor of the first."""
    arrays = load_file(bundle / PART)
    (bundle / PART).rename(bundle / "recogniser-1-of-2.safetensors")
    save_file({first(arrays): arrays[first(arrays)]}, bundle / "recogniser-2-of-2.safetensors")
    assert_refused(bundle, "recogniser-2-of-2.safetensors", "is stored twice", load_recogniser)


def test_a_whole_part_beside_another_of_its_name_is_refused_by_the_headers(bundle):
    check_outside(bundle)
    for number in (1, 2):
        shutil.copyfile(bundle / PART, bundle / f"recogniser-{number}-of-2.safetensors")
    assert lacking(bundle) == ""
    assert_refused(bundle, PART, "beside it is of another write", check_outside)


def test_fields_that_occur_once_in_each_object_are_no_twins():
    assert parse_json('[{"a": 1}, {"a": 2}, {"b": {"a": 3}}]', "x")[2] == {"b": {"a": 3}}
