"""The environment of demo.sh and test.sh: whole, or not there, and never one that trips the next.

pip is the real one; without an index it finds no package, as without a network.
"""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
ABSENT = "no-such-package-of-emoconv"


def environment(
    venv: pathlib.Path, *packages: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Calls the shell function as a script would, and says which Python it chose."""
    call = '. launch/environment.sh; environment "$@"; echo "python: $python"'
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", call, "made.sh", venv, *packages],
        cwd=ROOT,
        env=os.environ | OFFLINE | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )


def program(path: pathlib.Path, text: str) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    (line,) = done.stderr.splitlines()
    assert line.startswith("made.sh: ")
    return line


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("printf 3.10", "Python 3.10"),
        ("printf 3.9", "Python 3.9"),
        ("printf 2.7", "Python 2.7"),
        ("exit 1", "no Python"),
    ],
)
def test_an_older_python_makes_nothing(tmp_path, answer, found):
    old = program(tmp_path / "python", answer)
    done = environment(tmp_path / "venv", PYTHON=str(old))
    assert done.returncode == 2 and f"found {found}, expected 3.11 or newer" in one_line(done)
    assert not (tmp_path / "venv").exists()


def test_a_python_that_is_not_there_makes_nothing(tmp_path):
    done = environment(tmp_path / "venv", PYTHON=str(tmp_path / "absent"))
    assert done.returncode == 2 and "absent: found no Python" in one_line(done)
    assert not (tmp_path / "venv").exists()


@pytest.mark.slow
def test_an_environment_without_its_packages_does_not_stay(tmp_path):
    """Nor does what a run that was killed has left, in the place of which it is made."""
    venv = tmp_path / "venv"
    program(venv / "bin" / "python", "exit 0")
    (venv / ".emoconv-unfinished").write_text("99999999\n")  # the number of no process
    done = environment(venv, ABSENT, PYTHON=sys.executable)
    assert done.returncode == 1
    line = one_line(done)
    assert "cannot be installed and no environment is there yet" in line and ABSENT in line
    assert not venv.exists()


@pytest.mark.slow
def test_an_environment_that_is_there_is_used_without_a_network(tmp_path):
    """pip is asked until it has ended well, for these packages."""
    asked = tmp_path / "asked"
    python = f'[ "$2" != pip ] || echo "$@" >> {asked}\nexec {sys.executable} "$@"'
    venv = tmp_path / "venv"
    program(venv / "bin" / "python", python)
    for count in (1, 2):
        done = environment(venv, ABSENT)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"python: {venv}/bin/python")
        assert "cannot be updated, going on with those in" in one_line(done)
        assert len(asked.read_text().splitlines()) == count
    for packages, count in ((["pytest"], 3), (["pytest"], 3)):
        done = environment(venv, *packages)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(asked.read_text().splitlines()) == count


def test_an_environment_of_an_older_python_is_named_with_what_helps(tmp_path):
    program(tmp_path / "bin" / "python", "printf 3.10")
    done = environment(tmp_path, PYTHON=sys.executable)
    line = one_line(done)
    assert done.returncode == 2 and "found Python 3.10" in line and "remove it or set" in line


def test_an_environment_that_another_run_is_making_is_left_to_it(tmp_path):
    (tmp_path / ".emoconv-unfinished").write_text(f"{os.getpid()}\n")
    done = environment(tmp_path)
    assert done.returncode == 1 and "another run is making it" in one_line(done)
    assert (tmp_path / ".emoconv-unfinished").exists()


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    done = environment(tmp_path)
    assert done.returncode == 2
    assert "found no bin/python in it, expected a virtual environment" in one_line(done)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
