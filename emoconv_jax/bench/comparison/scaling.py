"""How the cost of the score network grows: with frames, with the batch, with conditions.

    time = c n^p,   p = slope of log(time) over log(n), by least squares                       (1)

Conditions of a plan are rows of one network call, so they are measured through the sampler that
users run. On simulated devices of one CPU there is nothing to gain; what they show is whether
dividing a batch costs.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import jax
import numpy as np

from emoconv_jax.bench.comparison import ours
from emoconv_jax.bench.comparison.cases import Case, inputs
from emoconv_jax.bench.comparison.measuring import Settings, compare
from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.config import ScoreNetworkConfig, from_dict, to_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.sampling import Sampler

FRAMES = (128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16)
CONDITIONS = (1, 2, 4, 8)
DEVICES = (1, 2, 4, 8)
DEVICE_BATCH, DEVICE_STEPS = 8, 2


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Returns p of (1).

    Args:
        sizes: n, at least two different ones.
        seconds: times.
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def growth(width: int, settings: Settings) -> dict[str, Any]:
    """Measures (1) for both sides over frames and batch, for ours over conditions.

    Args:
        width: of the score network.
        settings: how to compare.

    Returns:
        "frames", "batch" and "conditions", each with its rows and exponents.
    """
    frames = compare([Case("forward", width, 1, n) for n in FRAMES], settings)
    batch = compare([Case("forward", width, n, 128) for n in BATCHES], settings)
    conditions = [_conditions(width, n, settings.rounds) for n in CONDITIONS]
    found: dict[str, Any] = {}
    for name, rows in {"frames": frames, "batch": batch}.items():
        kept = [row for row in rows if "ours_s" in row]
        found[name] = {"rows": kept} | {
            f"{side}_exponent": exponent(
                [row[name] for row in kept],
                [statistics.median(row[f"{side}_s"]) for row in kept],
            )
            for side in ("ours", "pytorch")
            if len(kept) > 1
        }
    seconds = [statistics.median(row["ours_s"]) for row in conditions]
    found["conditions"] = {
        "rows": conditions,
        "ours_exponent": exponent([row["conditions"] for row in conditions], seconds),
    }
    return found


def _conditions(width: int, count: int, rounds: int) -> dict[str, Any]:
    """Returns the times of one solver step of a plan of so many conditions."""
    run = _sampling(Case("forward", width, 1, 128), conditions=count, steps=1)
    run()
    return {"conditions": count, "ours_s": [_timed(run) for _ in range(rounds)]}


def _sampling(case: Case, conditions: int, steps: int, devices: int = 1) -> Any:
    """Returns a run of the package's sampler on a case's input, by its public face."""
    sizes, given = case.sizes, inputs(case)
    config = BundleConfig(name="bench", licence="none", score_network=sizes)  # pyright: ignore
    network = ours.random_variables(case)
    sampler = Sampler(config, network, devices=jax.local_devices()[:devices])
    weights = np.full((steps, conditions), 1.0 / conditions, np.float32)
    emotions = np.zeros((conditions, 0), np.float32)
    keys = jax.random.split(jax.random.key(0), case.batch)

    def run() -> Any:
        return sampler(
            given["x0"],
            given["average_voice"],
            given["mask"],
            given["speaker"],
            emotions,
            given["emotion"],
            weights,
            keys,
            solver=ours.SOLVER,
            segments=((0, steps, tuple(range(conditions))),),
        ).block_until_ready()

    return run


def simulated(
    width: int, rounds: int, config: ScoreNetworkConfig | None = None
) -> list[dict[str, Any]]:
    """Measures the sampler on simulated devices of one CPU, each number in a process of its own.

    Args:
        width: of the score network.
        rounds: of measurement.
        config: of the score network; None is the published one of that width.

    Returns:
        One row per number of devices.

    Raises:
        EmoconvError: a process failed.
    """
    rows = []
    for count in DEVICES:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
        sizes = None if config is None else to_dict(config)
        told = {"width": width, "devices": count, "rounds": rounds, "config": sizes}
        done = subprocess.run(
            [sys.executable, "-m", __name__, json.dumps(told)],
            env=os.environ | {"XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EmoconvError(f"{count} simulated devices: exit code {done.returncode}")
        rows.append({"devices": count, "ours_s": json.loads(done.stdout.splitlines()[-1])})
    return rows


def _timed(run: Any) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    sizes = asked["config"] and from_dict(ScoreNetworkConfig, asked["config"])
    case = Case("forward", asked["width"], DEVICE_BATCH, 128, config=sizes)
    job = _sampling(case, 1, DEVICE_STEPS, asked["devices"])
    job()
    print(json.dumps([_timed(job) for _ in range(asked["rounds"])]))
