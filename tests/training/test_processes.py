"""Real processes: two hosts of one run, and a run that is killed."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from kill_and_resume import kill_and_resume, records
from one_host import GO_ON
from runs import FEATURES, eight_devices, make_store, train

from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.training.loop import Care

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
WAYS = ("jit", "jit", "pmap")  # the first is stopped, the second continues it
# what Gloo says, in pieces: its threads break each other's lines
GLOO = re.compile(
    r"\[Gloo\] Rank |is connected to |peer ranks\. |Expected number of connected peer ranks is : "
    r"|\d|\s"
)


def two_hosts(folder: pathlib.Path) -> list[subprocess.Popen]:
    """Starts two processes of four devices each, which meet over loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
    return [
        subprocess.Popen(
            [sys.executable, HERE / "one_host.py", folder, str(host), "2", str(port), *WAYS],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for host in range(2)
    ]


@pytest.mark.slow
def test_two_processes_of_four_devices_equal_one_of_eight(tmp_path):
    """By jit, stopped and continued, and by pmap; the losses and the state, in float32."""
    store = make_store(tmp_path / FEATURES)
    processes = two_hosts(tmp_path)
    care = Care(report=2, validate=4, listen=0)
    whole = train(eight_devices(), store, tmp_path / "one", care=care, devices=jax.devices())
    for line in iter(processes[0].stdout.readline, ""):
        if line.startswith("step 2/6"):
            processes[1].send_signal(signal.SIGTERM)
            (tmp_path / GO_ON).touch()
            break
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    assert "stopped by another" in said[0]
    assert "continuing at step 4" in said[0] and said[0].count("step 6/6") == 2
    assert GLOO.sub("", said[1]) == "done"  # of two, the first one speaks
    expected = records(tmp_path / "one")
    assert len(expected) == 4
    for way in set(WAYS):
        found = records(tmp_path / way)
        for a, b in zip(found, expected, strict=True):
            assert a == pytest.approx(b, rel=1e-4), way  # after Adam; the first step to 1e-5
        assert found[0]["loss"] == pytest.approx(expected[0]["loss"], rel=1e-5)
        heartbeats = sorted((tmp_path / way / "hosts").glob("*.json"))
        assert [json.loads(path.read_text())["step"] for path in heartbeats] == [6, 6]
        with Checkpoints(tmp_path / way / "checkpoints") as checkpoints:
            restored = checkpoints.restore(vars(whole))
        assert restored and restored[1]["step"] == 6
        for a, b in zip(
            jax.tree.leaves(restored[0]["ema_params"]),
            jax.tree.leaves(whole.ema_params),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_a_run_that_is_killed_twice_equals_the_undisturbed_run(tmp_path):
    """The short form of `python tests/training/kill_and_resume.py`."""
    said = kill_and_resume(tmp_path, kills=2, steps=60, seed=3)
    assert said.startswith("2 kills")
