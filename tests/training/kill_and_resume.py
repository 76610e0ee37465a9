"""Kills a training run again and again, and shows that nothing of it is lost or changed.

usage: python tests/training/kill_and_resume.py [KILLS] [STEPS] [SEED]

A tiny network is trained undisturbed, and a second time while `kill -9` ends the run KILLS times
(50) at random moments: it starts, restores, compiles, steps, saves or removes old checkpoints.
After each kill every checkpoint that bears a step's name must be whole. In the end both runs must
have written the same records and hold the same state, bit for bit. About ten seconds per kill.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import jax
import numpy as np
from runs import make_store, settings

from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.checkpointing.checksums import find_damage
from emoconv_jax.config import TrainingConfig, to_dict
from emoconv_jax.training.parallel import Parallel
from emoconv_jax.training.state import make_optimizer
from emoconv_jax.training.trainees import make_trainee

SIGNS = ("", "first step")  # lines from which a kill is counted: any, and the end of compiling
LONGEST_S = 3.0  # from that line to the kill
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TIMES = ("examples_per_s", "goodput/")  # what a kill may change in the records
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
CONFIG = "from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({})\n"


def train(folder: pathlib.Path, workdir: pathlib.Path, sign: str = "", kill_after_s=None) -> int:
    """Runs `emoconv train` to its end, or to its kill some time after a line; returns the code."""
    words = [sys.executable, "-m", "emoconv_jax.cli.main", "train", "--devices", "1"]
    words += ["--config", str(folder / "config.py"), "--features", str(folder / "features")]
    words += ["--workdir", str(workdir), "--report", "5", "--validate", "20", "--listen", "0"]
    words += ["--save_s", "0.2" if kill_after_s else "60"]
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    run = subprocess.Popen(words, cwd=ROOT, env=os.environ | ENVIRONMENT, bufsize=0, **out)
    assert run.stdout
    said = [run.stdout.readline()]
    while said[-1] and not said[-1].decode().startswith(sign):
        said.append(run.stdout.readline())
    try:
        said.append(run.communicate(timeout=kill_after_s)[0])
    except subprocess.TimeoutExpired:
        run.kill()
        said.append(run.communicate()[0])
    if run.returncode not in (0, -9):
        raise SystemExit(b"".join(said).decode())
    return run.returncode


def records(workdir: pathlib.Path) -> list[dict]:
    """Returns what a run recorded, without times."""
    found = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    kept = [{k: v for k, v in one.items() if not k.startswith(TIMES)} for one in found]
    return [one for one in kept if len(one) > 1]


def final_state(workdir: pathlib.Path, config: TrainingConfig) -> list[np.ndarray]:
    parallel = Parallel(config, make_trainee(config), make_optimizer(config), jax.devices()[:1])
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        found = checkpoints.restore(vars(parallel.abstract_state()))
    assert found and found[1]["step"] == config.steps
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found[0])]


def partial_steps(workdir: pathlib.Path) -> list[str]:
    """Returns what is wrong with the checkpoints that a run would consider, if anything."""
    folders = sorted((workdir / "checkpoints").glob("[0-9]*"))
    return [f"{folder.name}: {damage}" for folder in folders if (damage := find_damage(folder))]


def kill_and_resume(folder: pathlib.Path, kills: int, steps: int, seed: int = 0) -> str:
    """Does what this module says in an empty folder; returns a sentence, or raises."""
    config = settings("average_voice", steps=steps)
    make_store(folder / "features")
    (folder / "config.py").write_text(CONFIG.replace("{}", repr(to_dict(config))))
    assert train(folder, folder / "undisturbed") == 0
    moments, landed, resumed = random.Random(seed), 0, set()
    while landed < kills:
        wait_s = moments.uniform(0.01, LONGEST_S)
        code = train(folder, folder / "killed", moments.choice(SIGNS), wait_s)
        assert code == -9, f"done after {landed} kills: ask for more steps"
        landed += 1
        assert not partial_steps(folder / "killed")
        resumed.add(newest(folder / "killed"))
        print(f"kill {landed} of {kills}, newest step {newest(folder / 'killed')}", flush=True)
    assert train(folder, folder / "killed") == 0
    curves = [records(folder / name) for name in ("undisturbed", "killed")]
    assert curves[0] == curves[1] and len(curves[0]) == steps // 5 + steps // 20
    states = [final_state(folder / name, config) for name in ("undisturbed", "killed")]
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))
    return (
        f"{landed} kills, {len(resumed)} different states to continue from, {len(curves[0])} "
        f"records and {len(states[0])} arrays equal bit for bit, no partial checkpoint"
    )


def newest(workdir: pathlib.Path) -> int:
    """Returns the newest complete step, 0 where there is none."""
    return max((int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*")), default=0)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as place:
        print(kill_and_resume(pathlib.Path(place), *(numbers + [50, 1500, 0][len(numbers) :])))
