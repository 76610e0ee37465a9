"""Files: whole or not at all, and JSON that someone else wrote."""

import pytest

from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, replacing, write_text


def contents(folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_files_appear_together_and_only_when_all_is_written(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    write_text(first, "old")
    with replacing(first, second) as (one, two):
        one.write_text("new")
        two.write_text("żółw")
        assert first.read_text() == "old"
        assert not second.exists()
    assert contents(tmp_path) == {"a": "new", "b": "żółw"}


def test_a_failure_leaves_everything_as_it_was(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    write_text(first, "old")
    with pytest.raises(RuntimeError), replacing(first, second) as (one, _):
        one.write_text("new")
        raise RuntimeError
    with pytest.raises(FileNotFoundError), replacing(second) as _:
        pass  # nothing was written
    assert contents(tmp_path) == {"a": "old"}


@pytest.mark.parametrize("name", ["folder", "x" * 256])
def test_a_target_that_cannot_be_is_refused_before_the_first_is_replaced(tmp_path, name):
    (tmp_path / "folder").mkdir()
    write_text(tmp_path / "a", "old")
    with pytest.raises(OSError), replacing(tmp_path / "a", tmp_path / name) as partial:
        for path in partial:
            path.write_text("new")
    assert contents(tmp_path) == {"a": "old"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b" " * 200_001, "200001 bytes, at most 200000 allowed"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "f.json"
    path.write_bytes(content)
    with pytest.raises(EmoconvError, match=message) as caught:
        read_json(path, "something", most_bytes=200_000)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_absent_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(EmoconvError, match=r"f\.json: not found; expected a list"):
        read_json(tmp_path / "f.json", "expected a list")
    with pytest.raises(EmoconvError, match="cannot be read"):
        read_json(tmp_path, "expected a list")
