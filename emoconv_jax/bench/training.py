"""How fast a configuration trains on these devices: step time, FLOP/s and memory.

The steps are those of `training.loop`: real updates, of which a few are under way while the host
puts the next batch; a step has ended when its loss has been fetched. Only the batches are made up,
once and on the host, since their shapes alone decide the time.

    utilisation = FLOP of a step / (seconds of a step x peak FLOP/s of the devices)             (1)

The FLOP are the model's: computing activations again (remat) does not count. The peak is that of
bfloat16 for float32 too, whose products may run on the same units at a lower precision (TF32).
"""

import collections
import dataclasses
import datetime
import importlib.metadata
import json
import math
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from emoconv_jax.config import (
    AROUSAL_HIGH,
    AROUSAL_LOW,
    MelConfig,
    TrainingConfig,
    to_dict,
)
from emoconv_jax.files import write_text
from emoconv_jax.pipeline.batches import Batch
from emoconv_jax.pipeline.shard_runner import peak_bytes
from emoconv_jax.training.goodput import peak_flops
from emoconv_jax.training.loop import IN_FLIGHT
from emoconv_jax.training.parallel import Parallel
from emoconv_jax.training.state import make_optimizer
from emoconv_jax.training.trainees import blank_statistics, make_trainee, parameter_count

COMPUTES = ("bfloat16", "float32")  # in this order, since a peak of memory never falls
BATCHES = 4  # that take turns
WARM_UP = 2  # steps after the one that compiles, not measured either
PROGRESS_S = 10.0
LIBRARIES = ("jax", "jaxlib", "flax", "optax")
FULL = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY")  # what XLA and CUDA call too little memory


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was measured of one compute type.

    Attributes:
        steps: measured; fewer than asked for where the time was up.
        compile_s: of the first step, less the median of one: compiling and choosing algorithms.
        mean_s: of a step; the rates follow from it.
        median_s: of a step.
        low_s: that 5 % of the steps stay below.
        high_s: that 5 % of the steps exceed.
        examples_per_s: on all devices together.
        flops_per_s: on all devices together; None where a step's are not known.
        utilisation: eq. (1); None where the peak is not known.
        peak_bytes: greatest memory so far.
        peak_of: of the fullest "device", or of this "process" where devices do not say.
        loss: of the last step; None if it was not finite.
    """

    steps: int
    compile_s: float
    mean_s: float
    median_s: float
    low_s: float
    high_s: float
    examples_per_s: float
    flops_per_s: float | None
    utilisation: float | None
    peak_bytes: int
    peak_of: str
    loss: float | None


@dataclasses.dataclass
class Report:
    """A run of the benchmark.

    Attributes:
        config: what was trained; its `compute` is not read.
        parameters: of the network.
        flops_per_step: that the model needs, see `Parallel.flops_per_step`.
        peak_flops: of all devices in bfloat16; None where not known.
        platform: "gpu", "tpu" or "cpu".
        device: their kind.
        devices: how many.
        versions: of the libraries.
        date: when it began, UTC.
        figures: by compute type.
        failures: by compute type, why there are no figures.
    """

    config: TrainingConfig
    parameters: int
    flops_per_step: float | None
    peak_flops: float | None
    platform: str
    device: str
    devices: int
    versions: dict[str, str]
    date: str
    figures: dict[str, Figures] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """Returns all of it, the configuration included."""
        return json.dumps(to_dict(self), indent=1, allow_nan=False) + "\n"

    def table(self) -> str:
        """Returns the figures as lines of text, one column per compute type."""
        config, peak = self.config, self.peak_flops
        known = f" of {peak / 1e12:.4g} TFLOP/s" if peak else ""
        rows: dict[str, Callable[[Figures], str]] = {
            "steps": lambda f: str(f.steps),
            "compile (s)": lambda f: f"{f.compile_s:.1f}",
            "step, mean (ms)": lambda f: f"{f.mean_s * 1e3:.2f}",
            "step, median (ms)": lambda f: f"{f.median_s * 1e3:.2f}",
            "step, 5 to 95 % (ms)": lambda f: f"{f.low_s * 1e3:.2f} .. {f.high_s * 1e3:.2f}",
            "examples/s": lambda f: f"{f.examples_per_s:.4g}",
            "TFLOP/s": lambda f: f"{f.flops_per_s / 1e12:.4g}" if f.flops_per_s else "-",
            f"utilisation{known}": lambda f: (
                "-" if f.utilisation is None else f"{100 * f.utilisation:.1f} %"
            ),
            "peak memory (GB)": lambda f: f"{f.peak_bytes / 1e9:.2f} ({f.peak_of})",
            "last loss": lambda f: "not finite" if f.loss is None else f"{f.loss:.4g}",
        }
        each = "unknown"
        if self.flops_per_step:
            each = f"{self.flops_per_step / config.batch / 1e9:.4g}"
        lines = [
            f"{config.trainee}: {self.parameters / 1e6:.2f} M parameters, batches of "
            f"{config.batch} x {config.frames} frames, {each} GFLOP per example, "
            f"by {config.parallel} on {self.devices} x {self.device}",
            f"{'':<36}" + "".join(f"{compute:>20}" for compute in self.figures),
        ]
        for name, show in rows.items():
            lines.append(f"{name:<36}" + "".join(f"{show(f):>20}" for f in self.figures.values()))
        return "\n".join(lines + [f"{name}: {why}" for name, why in self.failures.items()])


def measure(
    config: TrainingConfig,
    steps: int,
    *,
    computes: Sequence[str] = COMPUTES,
    devices: Sequence[jax.Device] | None = None,
    limit_s: float | int = math.inf,
    out: pathlib.Path | None = None,
    progress_s: float | int = PROGRESS_S,
    log: Callable[[str], None] = print,
) -> Report:
    """Trains a configuration's network on made-up batches and takes the time.

    Args:
        config: of the run; its steps only shape the learning rate.
        steps: to measure, 1 or more.
        computes: "bfloat16", "float32" or both, one after the other.
        devices: what to run on; None is all there are.
        limit_s: seconds after which no further steps of a compute type are begun.
        out: gets the report as JSON after each compute type, whole or not at all.
        progress_s: seconds between lines of progress.
        log: takes each line of progress.

    Returns:
        The report. A compute type for which the memory does not do is in its `failures`.

    Raises:
        UsageError: a batch that the devices cannot divide evenly.
        OSError: `out` cannot be written.
    """
    chosen = list(jax.devices() if devices is None else devices)
    report = _describe(config, chosen)
    for compute in computes:
        try:  # in a function of its own, whose arrays are gone before the next one begins
            report.figures[compute] = _run(
                dataclasses.replace(config, compute=compute),
                chosen,
                report,
                steps,
                limit_s,
                _Progress(compute, steps, progress_s, log),
            )
        except jax.errors.JaxRuntimeError as error:
            if not any(name in str(error) for name in FULL):
                raise
            report.failures[compute] = (
                f"out of memory at batch {config.batch}; --config.remat, a larger "
                "--config.accumulate or a smaller --config.batch needs less"
            )
            log(f"{compute}: {report.failures[compute]}")
        if out is not None:
            write_text(out, report.to_json())
    return report


def made_up_batches(config: TrainingConfig, network: Any, count: int = BATCHES) -> list[Batch]:
    """Returns batches of noise, as a run of the configuration reads them from a store.

    Args:
        config: `trainee`, `batch`, `frames` and `seed` are read.
        network: the trainee's configuration.
        count: how many different ones.

    Returns:
        The batches.
    """
    generator = np.random.default_rng(config.seed)
    floor, examples = math.log(MelConfig().floor), config.batch

    def mel() -> np.ndarray:
        mels = getattr(network, "mels", MelConfig().mels)
        noise = generator.normal(-5.0, 2.0, (examples, config.frames, mels))
        return np.maximum(noise, floor).astype(np.float32)

    def vectors(width: int) -> np.ndarray:
        return generator.normal(size=(examples, width)).astype(np.float32)

    def one() -> Batch:
        batch = Batch(
            mel=mel(),
            mask=np.ones((examples, config.frames), np.float32),
            index=np.arange(examples, dtype=np.int32),
        )
        if config.trainee in ("recogniser", "whisper_emotion"):
            labels = generator.integers(0, len(network.emotions), examples)
            arousal = generator.uniform(AROUSAL_LOW, AROUSAL_HIGH, examples)
            batch = batch._replace(
                emotion_label=labels.astype(np.int32), arousal_label=arousal.astype(np.float32)
            )
            if config.trainee == "recogniser":
                return batch
            return batch._replace(pooled=vectors(network.pooled * 2 * network.hidden))
        batch = batch._replace(average_voice=mel())
        if config.trainee == "average_voice":
            return batch
        if config.trainee == "whisper_average_voice":
            width = len(network.states) * network.hidden
            shape = examples, config.frames
            return batch._replace(
                states=generator.normal(size=(*shape, width)).astype(np.float32),
                phones=generator.integers(-1, network.phones, shape).astype(np.int32),
            )
        return batch._replace(speaker=vectors(network.speaker), emotion=vectors(network.emotion))

    return [one() for _ in range(count)]


class _Progress:
    """Lines that say how far a compute type has come."""

    def __init__(self, compute: str, steps: int, every_s: float | int, log: Callable[[str], None]):
        self.compute, self.steps, self.every_s, self.log = compute, steps, every_s, log
        self._said_s = time.perf_counter()

    def say(self, text: str) -> None:
        self.log(f"{self.compute}: {text}")
        self._said_s = time.perf_counter()

    def step(self, done: int, spent_s: float) -> None:
        if time.perf_counter() - self._said_s >= self.every_s:
            pace_s = spent_s / done
            self.say(
                f"step {done}/{self.steps}, {pace_s * 1e3:.4g} ms a step, "
                f"ETA {(self.steps - done) * pace_s:.0f} s"
            )


def _describe(config: TrainingConfig, devices: list[jax.Device]) -> Report:
    """Returns a report without figures; nothing is compiled yet."""
    trainee = make_trainee(config, blank_statistics(config))
    parallel = Parallel(config, trainee, make_optimizer(config), devices)
    peaks = [peak_flops(device.device_kind) for device in devices]
    known = [peak for peak in peaks if peak is not None]
    return Report(
        config=config,
        parameters=parameter_count(parallel.abstract_state().params),
        flops_per_step=parallel.flops_per_step(
            made_up_batches(config, trainee.network_config, 1)[0]
        ),
        peak_flops=sum(known) if len(known) == len(peaks) else None,
        platform=devices[0].platform,
        device=devices[0].device_kind,
        devices=len(devices),
        versions={name: importlib.metadata.version(name) for name in LIBRARIES},
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _run(
    config: TrainingConfig,
    devices: list[jax.Device],
    report: Report,
    steps: int,
    limit_s: float | int,
    progress: _Progress,
) -> Figures:
    """Trains for some steps and returns their figures."""
    trainee = make_trainee(config, blank_statistics(config))
    parallel = Parallel(config, trainee, make_optimizer(config), devices)
    batches = made_up_batches(config, trainee.network_config)
    init_key, key, _ = parallel.keys(config.seed)
    progress.say("compiling")
    state = jax.block_until_ready(parallel.init(init_key))
    begin_s = time.perf_counter()
    state, metrics = parallel.step(state, parallel.put(batches[0]), key)
    float(metrics["loss"])
    first_s = time.perf_counter() - begin_s
    progress.say(f"first step after {first_s:.1f} s")
    for number in range(WARM_UP):
        state, metrics = parallel.step(state, parallel.put(batches[number % BATCHES]), key)
    loss = float(metrics["loss"])
    ends_s, under_way = [time.perf_counter()], collections.deque()

    def settle(left: int) -> None:
        nonlocal loss
        while len(under_way) > left:
            loss = float(under_way.popleft())
            ends_s.append(time.perf_counter())

    for number in range(steps):
        state, metrics = parallel.step(state, parallel.put(batches[number % BATCHES]), key)
        under_way.append(metrics["loss"])
        settle(IN_FLIGHT)
        if len(ends_s) > 1:
            progress.step(len(ends_s) - 1, ends_s[-1] - ends_s[0])
        if time.perf_counter() - ends_s[0] > limit_s:
            break
    settle(0)
    return _figures(np.diff(ends_s), first_s, loss, config, devices, report)


def _figures(
    steps_s: np.ndarray,
    first_s: float,
    loss: float,
    config: TrainingConfig,
    devices: list[jax.Device],
    report: Report,
) -> Figures:
    """Returns what follows from the seconds of the steps."""
    mean_s, median_s = float(steps_s.mean()), statistics.median(steps_s.tolist())
    low_s, high_s = np.quantile(steps_s, [0.05, 0.95]).tolist()
    flops_per_s = report.flops_per_step / mean_s if report.flops_per_step else None
    told = [stats["peak_bytes_in_use"] for d in devices if (stats := d.memory_stats())]
    return Figures(
        steps=len(steps_s),
        compile_s=max(0.0, first_s - median_s),
        mean_s=mean_s,
        median_s=median_s,
        low_s=low_s,
        high_s=high_s,
        examples_per_s=config.batch / mean_s,
        flops_per_s=flops_per_s,
        utilisation=flops_per_s / report.peak_flops if flops_per_s and report.peak_flops else None,
        peak_bytes=max(told) if told else peak_bytes(),
        peak_of="device" if told else "process",
        loss=loss if math.isfinite(loss) else None,
    )
