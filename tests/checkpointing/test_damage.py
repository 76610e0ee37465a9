"""Damage on the disk: every flipped byte is seen, the step set aside, the one before it used."""

import os
import pathlib
import shutil
import subprocess

import pytest
from states import assert_equal, read_only, state

from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.checkpointing.checksums import SUMS, find_damage
from emoconv_jax.errors import EmoconvError

METADATA = "state/_METADATA"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    """Returns a folder with steps 1, 2 and 3; nothing may change it."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), {"step": step})
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> pathlib.Path:
    """Returns a copy that may be damaged."""
    return shutil.copytree(saved, tmp_path / "checkpoints")


def files(step: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in step.rglob("*") if path.is_file())


def flip(path: pathlib.Path, position: int) -> None:
    """Flips one bit, another one at each position."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1 << position % 8]))


def arrays_of(step: pathlib.Path) -> pathlib.Path:
    """Returns the file with the arrays' numbers, the largest of Orbax's data files."""
    return max(step.glob("state/**/d/*"), key=lambda path: path.stat().st_size)


def restore(folder: pathlib.Path) -> tuple[dict, dict, list[str]]:
    lines: list[str] = []
    with Checkpoints(folder) as checkpoints:
        found, about = checkpoints.restore(state(0), lines.append)
    return found, about, lines


def test_the_list_of_checksums_is_one_that_sha256sum_takes(folder):
    """Source: GNU coreutils, `sha256sum --check --strict`."""
    command = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
    for step in (folder / "1", folder / "2"):
        assert subprocess.run(command, cwd=step, check=False).returncode == 0
        listed = {line.split("  ")[1] for line in (step / SUMS).read_text().splitlines()}
        assert listed | {SUMS} == {path.relative_to(step).as_posix() for path in files(step)}
        assert find_damage(step) == ""


def test_a_flipped_byte_of_any_file_is_seen(folder):
    step = folder / "3"
    names = {path.relative_to(step).as_posix() for path in files(step)}
    assert {SUMS, METADATA, "_CHECKPOINT_METADATA", "state/manifest.ocdbt"} <= names
    seen = 0
    for path in files(step):
        for position in range(0, path.stat().st_size, 16):
            flip(path, position)
            assert find_damage(step), (path, position)
            flip(path, position)
            seen += 1
        assert find_damage(step) == ""
    assert seen > 300


def test_a_flipped_byte_anywhere_leads_to_the_step_before(folder):
    step = folder / "3"
    for number, name in enumerate(path.relative_to(step) for path in files(step)):
        size = (step / name).stat().st_size
        if not size:
            continue
        flip(step / name, size * (number + 1) // 20)
        found, about, lines = restore(folder)
        assert_equal(found, state(2))
        assert about == {"step": 2}
        assert len(lines) == 1 and "step 3 is damaged (" in lines[0]
        shutil.move(folder.parent / "corrupt" / "3", step)
        flip(step / name, size * (number + 1) // 20)
    assert_equal(restore(folder)[0], state(3))


def test_who_reads_another_run_changes_nothing_in_it(folder, tmp_path):
    flip(files(folder / "3")[0], 5)
    lines: list[str] = []
    with Checkpoints(folder, reading=True) as checkpoints:
        found, _ = checkpoints.restore(state(0), lines.append)
    assert_equal(found, state(2))
    assert "step 3 is damaged (" in lines[0] and len(lines) == 1
    assert (folder / "3").is_dir() and not (folder.parent / "corrupt").exists()
    with Checkpoints(tmp_path / "nowhere", reading=True) as checkpoints:
        assert checkpoints.restore(state(0)) is None
    assert not (tmp_path / "nowhere").exists()


def emptied(step: pathlib.Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


def reshaped(step: pathlib.Path) -> None:
    """Makes the metadata tell of a state of another network."""
    path = step / METADATA
    text = path.read_text()
    assert "kernel" in text
    path.write_text(text.replace("kernel", "kornel"))


def unreadable(step: pathlib.Path) -> None:
    """Puts a file there whose reading fails with EIO, as a broken disk's does (Linux)."""
    arrays_of(step).unlink()
    arrays_of(step).parent.joinpath("0").symlink_to("/proc/self/mem")


DAMAGES = {
    "arrays truncated": (lambda step: os.truncate(arrays_of(step), 100), "has changed"),
    "arrays emptied": (lambda step: os.truncate(arrays_of(step), 0), "has changed"),
    "arrays missing": (lambda step: arrays_of(step).unlink(), "is missing"),
    "metadata missing": (lambda step: (step / METADATA).unlink(), f"{METADATA} is missing"),
    "about missing": (
        lambda step: (step / "_CHECKPOINT_METADATA").unlink(),
        "_CHECKPOINT_METADATA is missing",
    ),
    "metadata of another network": (reshaped, f"{METADATA} has changed"),
    "checksums missing": (lambda step: (step / SUMS).unlink(), f"{SUMS} is missing"),
    "checksums emptied": (lambda step: os.truncate(step / SUMS, 0), "is not listed"),
    "checksums without the last newline": (
        lambda step: os.truncate(step / SUMS, (step / SUMS).stat().st_size - 1),
        f"{SUMS} has changed",
    ),
    "a file too many": (lambda step: (step / "new").write_text(""), "new is not listed"),
    "everything missing": (emptied, f"{SUMS} is missing"),
    "disk error": (unreadable, "state/"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_step_is_set_aside_whole_and_the_one_before_it_used(folder, kind):
    harm, reason = DAMAGES[kind]
    harm(folder / "3")
    left = {path.relative_to(folder / "3") for path in (folder / "3").rglob("*")}
    found, about, lines = restore(folder)
    assert_equal(found, state(2))
    assert about == {"step": 2}
    target = folder.parent / "corrupt" / "3"
    assert len(lines) == 1 and "\n" not in lines[0]
    assert lines[0].startswith("step 3 is damaged (") and reason in lines[0]
    assert lines[0].endswith(f"): set aside as {target}")
    assert {path.relative_to(target) for path in target.rglob("*")} == left
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest() == 2
        checkpoints.save(3, state(3), {"step": 3})  # the run comes by the same step again
    assert restore(folder)[1] == {"step": 3}


def test_what_was_set_aside_before_stays(folder):
    for number in range(3):
        flip(arrays_of(folder / "3"), number)
        kept = arrays_of(folder / "3").read_bytes()
        restore(folder)
        target = folder.parent / "corrupt" / ("3" if not number else f"3.{number}")
        assert arrays_of(target).read_bytes() == kept
        with Checkpoints(folder, keep=3) as checkpoints:
            checkpoints.save(3, state(3), {})
    assert len(list((folder.parent / "corrupt").iterdir())) == 3


def test_several_damaged_steps_are_passed_over(folder):
    flip(arrays_of(folder / "3"), 5)
    (folder / "2" / SUMS).unlink()
    found, about, lines = restore(folder)
    assert_equal(found, state(1))
    assert about == {"step": 1}
    assert [line[:17] for line in lines] == ["step 3 is damaged", "step 2 is damaged"]
    assert sorted(path.name for path in folder.iterdir()) == ["1"]


def test_an_older_damaged_step_is_left_alone(folder):
    flip(arrays_of(folder / "2"), 5)
    found, _, lines = restore(folder)
    assert_equal(found, state(3))
    assert not lines


def test_where_no_step_is_readable_the_run_does_not_begin_anew(folder):
    for step in "123":
        flip(arrays_of(folder / step), 5)
    for _ in range(2):  # a scheduler starts it again and again
        with Checkpoints(folder) as checkpoints, pytest.raises(EmoconvError) as met:
            checkpoints.restore(state(0))
        assert str(met.value).startswith(
            f"{folder}: none of the 3 saved steps is readable, the newest is 3: state/"
        )
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]


def test_a_damaged_step_that_cannot_be_moved_is_said_and_passed_over(saved, open_folder):
    folder = shutil.copytree(saved, open_folder / "checkpoints")
    flip(arrays_of(folder / "3"), 5)
    with read_only(open_folder, folder, folder / "3"):
        found, _, lines = restore(folder)
    assert_equal(found, state(2))
    assert len(lines) == 1 and lines[0].startswith("step 3 is damaged (state/")
    assert lines[0].endswith("corrupt/3 (Permission denied)")


def test_a_step_that_may_not_be_read_is_no_damage(saved, open_folder):
    folder = shutil.copytree(saved, open_folder / "checkpoints")
    path = arrays_of(folder / "3")
    path.chmod(0)
    expected = pytest.raises(EmoconvError, match=r"3: cannot be read \(Permission denied\)")
    with read_only(), Checkpoints(folder) as checkpoints, expected:
        checkpoints.restore(state(0))
    assert path.exists()
