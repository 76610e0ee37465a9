"""What a process of a run does with its checkpoints; started by `test_interrupted.py`.

`killed FOLDER` ends itself in the middle of a save; `several FOLDER INDEX PORT` is one of two
processes; `devices FOLDER` restores on fewer devices than saved. Prints a line of JSON.
"""

import json
import os
import pathlib
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from emoconv_jax.checkpointing.checkpoints import LEAST_SLICE_BYTES, Checkpoints
from emoconv_jax.errors import EmoconvError

ROWS = 16
CUT = 8 * LEAST_SLICE_BYTES // 4  # so many numbers that each of eight devices writes a slice


def expected(step: int) -> dict:
    """Returns the state as every process and the test can work it out."""
    return {
        "step": np.asarray(step, np.int32),
        "params": {"w": np.arange(ROWS * 3.0, dtype=np.float32).reshape(ROWS, 3) * step},
        "moments": np.arange(ROWS, dtype=np.float32) / (step + 1),
        "cut": np.arange(CUT, dtype=np.float32) + step,
    }


def placed(step: int, devices: list) -> dict:
    """Returns it on a mesh: `w` by rows over all devices, the others whole on each."""
    mesh = Mesh(np.array(devices), ("data",))

    def place(leaf: np.ndarray) -> jax.Array:
        spec = PartitionSpec("data") if leaf.ndim == 2 else PartitionSpec()
        sharding = NamedSharding(mesh, spec)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(place, expected(step))


def matches(state: dict, step: int, like: dict) -> bool:
    """Says whether this process's shards are the step's, laid out as asked."""
    for found, leaf, wanted in zip(
        *map(jax.tree.leaves, (state, expected(step), like)), strict=True
    ):
        if not found.sharding.is_equivalent_to(wanted.sharding, found.ndim):
            return False
        if any(
            np.asarray(s.data).tobytes() != leaf[s.index].tobytes()
            for s in found.addressable_shards
        ):
            return False
    return True


def killed(folder: pathlib.Path) -> None:
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"w": jnp.full((4,), step)}, {"step": step})
        checkpoints.wait()
        noise = np.random.default_rng(0).normal(size=16 << 20).astype(np.float32)
        checkpoints.save(3, {"w": noise}, {})
        os.kill(os.getpid(), signal.SIGKILL)


def several(folder: pathlib.Path, index: int, port: str) -> dict:
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=index)
    lines: list[str] = []
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, placed(step, jax.devices()), {"step": step})
        checkpoints.wait()
        latest = checkpoints.latest()
        multihost_utils.sync_global_devices("all have seen it")
        if index == 0:
            path = folder / "3" / "state" / "manifest.ocdbt"
            path.write_bytes(path.read_bytes()[:-1])
        multihost_utils.sync_global_devices("damaged")
        like = placed(0, jax.devices())
        state, about = checkpoints.restore(like, lines.append)
        (folder / "9").touch()  # in the way of the new name, which process 0 alone gives
        refused = []
        for step in (1, 9):
            try:
                checkpoints.save(step, like, {})
                checkpoints.wait()
            except EmoconvError as error:
                refused.append(str(error))
        multihost_utils.sync_global_devices("refused")
        (folder / "9").unlink(missing_ok=True)
    return {
        "devices": len(jax.devices()),
        "latest": latest,
        "about": about,
        "equal": matches(state, 2, like),
        "lines": lines,
        "refused": refused,
    }


def devices(folder: pathlib.Path) -> dict:
    found = {}
    for count in (1, 2, 4):
        like = placed(0, jax.devices()[:count])
        with Checkpoints(folder) as checkpoints:
            state, about = checkpoints.restore(like)
        found[count] = matches(state, about["step"], like)
    return found


if __name__ == "__main__":
    kind, place, *rest = sys.argv[1:]
    if kind == "killed":
        killed(pathlib.Path(place))
    elif kind == "several":
        print(json.dumps(several(pathlib.Path(place), int(rest[0]), rest[1])))
    else:
        print(json.dumps(devices(pathlib.Path(place))))
