"""One side of one case in a process of its own, which tells the most memory that it held.

    python -m emoconv_jax.bench.comparison.alone '{"side": "ours", "case": {...}, ...}'

Importing either library takes memory, and JAX is imported on PyTorch's side as well, since the
package's types need it. So what a process holds before it makes the case is told apart:

    memory of a side = greatest memory of the process - memory after the imports                 (1)
"""

import json
import pathlib
import sys
from typing import Any

from emoconv_jax.bench.comparison.cases import Case
from emoconv_jax.bench.timing import watched
from emoconv_jax.pipeline.shard_runner import peak_bytes

RUNS = 2


def peak_of(side: str, case: Case, compute: str, folder: str | None = None) -> dict[str, Any]:
    """Runs one side of a case by itself.

    Args:
        side: "ours" or "pytorch".
        case: of a published size.
        compute: "float32" or "bfloat16".
        folder: of DiffVC's original code; None is the twin.

    Returns:
        `peak_bytes`: the greatest memory `of` the "device", or of the "process" by (1);
        `process_bytes` and `import_bytes`: both sides of that difference.

    Raises:
        EmoconvError: it failed, for instance for lack of memory.
    """
    sizes = [case.kind, case.width, case.batch, case.frames]
    asked = {"side": side, "case": sizes, "compute": compute, "folder": folder}
    _, process, printed = watched([sys.executable, "-m", __name__, json.dumps(asked)])
    told = json.loads(printed.splitlines()[-1])
    imported, device = told["import_bytes"], told["device_bytes"]
    return {
        "peak_bytes": process - imported if device is None else device,
        "of": "process" if device is None else "device",
        "process_bytes": process,
        "import_bytes": imported,
    }


def _run(asked: dict[str, Any]) -> dict[str, int | None]:
    run = {"ours": _ours, "pytorch": _pytorch}[asked["side"]]
    return run(Case(*asked["case"]), asked["compute"], asked["folder"])


def _ours(case: Case, compute: str, _folder: str | None) -> dict[str, int | None]:
    import jax

    from emoconv_jax.bench.comparison import ours

    imported = peak_bytes()
    run = ours.run_of(case, None, compute)
    for _ in range(RUNS):
        run()
    told = jax.local_devices()[0].memory_stats() or {}
    return {"import_bytes": imported, "device_bytes": told.get("peak_bytes_in_use")}


def _pytorch(case: Case, compute: str, folder: str | None) -> dict[str, int | None]:
    import torch

    from emoconv_jax.bench.comparison import theirs
    from emoconv_jax.bench.comparison.diffvc import estimator_of
    from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin

    estimator = estimator_of(pathlib.Path(folder)) if folder else ScoreNetworkTwin
    imported, name = peak_bytes(), "cuda" if torch.cuda.is_available() else "cpu"
    run = theirs.run_of(case, "channels_last", compute, name, estimator)
    for _ in range(RUNS):
        run()
    device = torch.cuda.max_memory_allocated() if name == "cuda" else None
    return {"import_bytes": imported, "device_bytes": device}


if __name__ == "__main__":
    print(json.dumps(_run(json.loads(sys.argv[1]))))
