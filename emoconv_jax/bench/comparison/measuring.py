"""Both sides of a case beside each other: the same weights, alternating runs, medians.

    (1)  achieved rate = FLOP of the case / median time
    (2)  share of the ceiling = achieved rate / the fastest matrix product seen on the device

FLOP are those that PyTorch counts in the twin, for both sides: what one of them saves by a better
order of products is its gain, not less work. Outputs are compared before anything is timed, and
where they differ there is no time:

    (3)  greatest difference <= TOLERANCE x greatest output, of either
"""

import dataclasses
import gc
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import jax
import numpy as np
import torch
from tqdm import tqdm

from emoconv_jax.bench.comparison import ours, theirs
from emoconv_jax.bench.comparison.cases import Case
from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin
from emoconv_jax.errors import EmoconvError

IMAGES = ("forward", "training", "sampling", "average_voice", "recogniser")  # have channels last
CEILING_SIZES = {"cpu": 2048, "gpu": 8192}  # rows of the square matrices
CEILING_RUNS = 8
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}  # 8 bits of mantissa, through some forty layers


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to compare.

    Attributes:
        rounds: of measurement; each runs both sides once.
        compute: "float32" or "bfloat16".
        compile: whether `torch.compile` takes part.
        estimator: makes PyTorch's score network.
        most_tflop: of one run; larger cases are left out.
        apart: whether each case has a process of its own.
    """

    rounds: int = 5
    compute: str = "float32"
    compile: bool = True
    estimator: Callable[[Any], torch.nn.Module] = ScoreNetworkTwin
    most_tflop: float | int = 1e9
    apart: bool = True


def torch_device() -> str:
    """Returns PyTorch's name of the kind of device that JAX runs on; threads are set to all cores.

    Where JAX has a GPU and PyTorch does not see it, the comparison would be none: it is the CPU
    then, and the report's `pytorch_device` says so.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    return "cuda" if on_gpu else "cpu"


def measured_ceiling(compute: str) -> float:
    """Returns FLOP/s of the fastest square matrix product, by whichever side it is.

    Args:
        compute: type of the matrices.
    """
    size = CEILING_SIZES["cpu" if jax.default_backend() == "cpu" else "gpu"]
    least_s = float("inf")
    for run in (ours.ceiling(compute, size), theirs.ceiling(compute, size, torch_device())):
        run()
        for _ in range(CEILING_RUNS):
            least_s = min(least_s, _timed(run)[0])
    return 2.0 * size**3 / least_s


def compare(
    cases: list[Case], settings: Settings, on_row: Callable[[dict[str, Any]], Any] | None = None
) -> list[dict[str, Any]]:
    """Runs cases on both sides.

    Args:
        cases: to run.
        settings: how.
        on_row: called with each case's figures as they come.

    Returns:
        One row per case, as `_compared` describes it; of one that is left out only name and FLOP.

    Raises:
        EmoconvError: the outputs of a case are not the same on both sides.
    """
    rows = []
    with tqdm(total=len(cases), desc="cases") as bar:
        for case in cases:
            bar.set_postfix_str(case.name)
            flop = theirs.flop_of(case, settings.estimator)
            row: dict[str, Any] = {"name": case.name, "kind": case.kind, "width": case.width}
            row |= {"batch": case.batch, "frames": case.frames, "flop": flop}
            if flop is None or flop <= settings.most_tflop * 1e12:
                alone = settings.apart
                row |= apart(_compared, case, settings) if alone else _compared(case, settings)
            rows.append(row)
            if on_row is not None:
                on_row(row)
            bar.update()
            gc.collect()
    return rows


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what a function of a module returns in a process of its own.

    After some cases in one process most of its memory is freed pieces between which no large array
    fits (23 GB after 18 cases), and everything takes up to twice as long.

    Args:
        function: to call.
        *arguments: which can be pickled.

    Raises:
        EmoconvError: what it raised, or the process ended, for instance for lack of memory.
    """
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    except BrokenProcessPool:
        named = ", ".join(str(one.name) for one in arguments if isinstance(one, Case))
        raise EmoconvError(f"{named or function.__name__}: its process has ended") from None


def _compared(case: Case, settings: Settings) -> dict[str, Any]:
    """Returns the figures of a case.

    Args:
        case: to run.
        settings: how.

    Returns:
        ours_s, pytorch_s and compiled_s (None without): seconds of each round; ratio and
        compiled_ratio: our median over theirs; layout: of PyTorch's faster eager way; difference
        and scale: greatest, over all outputs of the first run, and greatest output; first_s: of
        the first run of ours and of torch.compile, compiling included.

    Raises:
        EmoconvError: the outputs are not the same on both sides.
    """
    network, device = theirs.network_of(case, settings.estimator), torch_device()
    tensors = None
    if network is not None:
        tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}

    def theirs_as(variant: str) -> Callable[[], list[np.ndarray]]:
        return theirs.run_of(case, variant, settings.compute, device, settings.estimator)

    sides = {"ours": ours.run_of(case, tensors, settings.compute), "eager": theirs_as("eager")}
    if network is not None and case.kind in IMAGES:
        sides["channels_last"] = theirs_as("channels_last")
    first_s, found = {}, {}
    for name, run in sides.items():
        first_s[name], found[name] = _timed(run)
    difference, scale = _difference(case, found["ours"], found["eager"], settings.compute)
    second_s = {name: _timed(run)[0] for name, run in sides.items()}
    if "channels_last" in sides:
        slower = max("eager", "channels_last", key=lambda name: second_s[name])
        del sides[slower]
    if settings.compile and network is not None:
        run = theirs_as("compiled")
        try:
            first_s["compiled"], found["compiled"] = _timed(run)
            sides["compiled"] = run
        except Exception as error:  # torch.compile fails in many ways, none of which is ours
            first_s["compiled"] = None
            print(f"{case.name}: torch.compile: {type(error).__name__}", flush=True)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(settings.rounds):
        for name, run in sides.items():
            times[name].append(_timed(run)[0])
    layout = "channels_last" if "channels_last" in times else "eager"
    ratio = statistics.median(times["ours"]) / statistics.median(times[layout])
    compiled = times.get("compiled")
    return {
        "ours_s": times["ours"],
        "pytorch_s": times[layout],
        "layout": "channels last" if layout == "channels_last" else "channels first",
        "compiled_s": compiled,
        "ratio": ratio,
        "compiled_ratio": (
            statistics.median(times["ours"]) / statistics.median(compiled) if compiled else None
        ),
        "difference": difference,
        "scale": scale,
        "first_s": {"ours": first_s["ours"], "compiled": first_s.get("compiled")},
    }


def _difference(
    case: Case, found: list[np.ndarray], expected: list[np.ndarray], compute: str
) -> tuple[float, float]:
    """Returns both numbers of (3), and checks it.

    Raises:
        EmoconvError: (3) does not hold.
    """
    pairs = list(zip(found, expected, strict=True))
    difference = max(float(np.abs(a - b).max()) for a, b in pairs)
    scale = max(float(np.abs(b).max()) for _, b in pairs)
    if not difference <= TOLERANCE[compute] * scale:
        raise EmoconvError(
            f"{case.name}: the outputs differ by {difference:.2g}, the greatest is {scale:.2g}; "
            f"allowed in {compute} is {TOLERANCE[compute]:g} of it"
        )
    return difference, scale


def _timed(run: Callable[[], list[np.ndarray]]) -> tuple[float, list[np.ndarray]]:
    begin = time.perf_counter()
    found = run()
    return time.perf_counter() - begin, found
