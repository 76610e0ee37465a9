"""Checkpoints of real processes: killed, two of one run, and other numbers of devices."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from one_process import CUT, ROWS, expected
from states import assert_equal

from emoconv_jax.checkpointing.checkpoints import Checkpoints

SCRIPT = pathlib.Path(__file__).with_name("one_process.py")
ROOT = SCRIPT.parent.parent.parent


def start(devices: int, *arguments: object) -> subprocess.Popen:
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def written(step: pathlib.Path) -> dict[str, list[int]]:
    """Returns the shapes of what one device wrote of each array that is not a number."""
    found: dict[str, list[int]] = {}
    for path in (step / "state" / "array_metadatas").iterdir():
        for one in json.loads(path.read_text())["array_metadatas"]:
            about = one["array_metadata"]
            if about["write_shape"]:
                found[about["param_name"]] = about["write_shape"]
    return found


@pytest.mark.slow
def test_killed_in_a_save_the_step_before_it_is_there_and_the_rest_goes(tmp_path):
    folder = tmp_path / "checkpoints"
    process = start(1, "killed", folder)
    _, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, err
    assert (folder / "unfinished").is_dir()
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest() == 2
        state, about = checkpoints.restore({"w": jnp.zeros((4,), jnp.int32)})
        assert_equal(state, {"w": np.full((4,), 2, np.int32)})
        assert about == {"step": 2}
        checkpoints.save(3, state, {})
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]


@pytest.mark.slow
def test_two_processes_agree_and_other_numbers_of_devices_restore_what_they_saved(tmp_path):
    folder = tmp_path / "checkpoints"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [start(4, "several", folder, index, port) for index in (0, 1)]
    answers = [answer(process) for process in both]
    for found in answers:
        assert found["devices"] == 8
        assert found["latest"] == 3
        assert found["about"] == {"step": 2}
        assert found["equal"]
        assert found["refused"] == [
            f"{folder}: step 1 could not be saved: it exists already",
            f"{folder}: step 9 could not be saved: Not a directory",
        ]
    first, second = (found["lines"] for found in answers)
    assert len(first) == 1 and "step 3 is damaged (state/manifest.ocdbt has changed)" in first[0]
    assert second == []
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
    assert [path.name for path in (tmp_path / "corrupt").iterdir()] == ["3"]

    assert written(folder / "2") == {
        "cut": [CUT // 8],
        "moments": [ROWS],
        "params.w": [ROWS // 8, 3],
    }
    with Checkpoints(folder) as checkpoints:  # in this process, whole on its first device
        state, about = checkpoints.restore(expected(0))
    assert_equal(state, expected(2))
    assert about == {"step": 2}
    assert answer(start(4, "devices", folder)) == {"1": True, "2": True, "4": True}
