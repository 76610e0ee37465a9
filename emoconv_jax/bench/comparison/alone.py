"""One side of one case in a process of its own, which tells the most memory that it held.

    python -m emoconv_jax.bench.comparison.alone '{"side": "ours", "case": {...}, ...}'

PyTorch is never imported for ours. JAX is imported on both sides, since the package's types need
it, but computes nothing on PyTorch's; what its import holds counts on both.
"""

import json
import subprocess
import sys
from typing import Any

from emoconv_jax.bench.comparison.cases import Case
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.shard_runner import peak_bytes

# A process counts the memory of whoever started it as its own until it has begun; this one is small
_STARTER = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
RUNS = 2


def peak_of(side: str, case: Case, compute: str, folder: str | None = None) -> dict[str, Any]:
    """Runs one side of a case by itself.

    Args:
        side: "ours" or "pytorch".
        case: of a published size.
        compute: "float32" or "bfloat16".
        folder: of DiffVC's original code; None is the twin.

    Returns:
        `peak_bytes` and what they are `of`: the "device" or the "process".

    Raises:
        EmoconvError: it failed, for instance for lack of memory.
    """
    sizes = [case.kind, case.width, case.batch, case.frames]
    asked = {"side": side, "case": sizes, "compute": compute, "folder": folder}
    words = [sys.executable, "-m", __name__, json.dumps(asked)]
    done = subprocess.run(
        [sys.executable, "-c", _STARTER, *words], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise EmoconvError(f"{case.name}, {side} alone: ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    case = Case(*asked["case"])
    device: int | None
    if asked["side"] == "ours":
        import jax

        from emoconv_jax.bench.comparison import ours

        run = ours.run_of(case, None, asked["compute"])
        for _ in range(RUNS):
            run()
        told = jax.local_devices()[0].memory_stats() or {}
        device = told.get("peak_bytes_in_use")
    else:
        import pathlib

        import torch

        from emoconv_jax.bench.comparison import theirs
        from emoconv_jax.bench.comparison.diffvc import estimator_of
        from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin

        name = "cuda" if torch.cuda.is_available() else "cpu"
        folder = asked["folder"]
        estimator = estimator_of(pathlib.Path(folder)) if folder else ScoreNetworkTwin
        run = theirs.run_of(case, "channels_last", asked["compute"], name, estimator)
        for _ in range(RUNS):
            run()
        device = torch.cuda.max_memory_allocated() if name == "cuda" else None
    if device is None:
        return {"peak_bytes": peak_bytes(), "of": "process"}
    return {"peak_bytes": device, "of": "device"}


if __name__ == "__main__":
    print(json.dumps(_run(json.loads(sys.argv[1]))))
