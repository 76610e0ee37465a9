"""The training loop: start, step, report, validate, save.

Reads top to bottom. The batch at a step and every draw in it depend on the seed and the step alone,
so an interrupted run continues exactly where it stopped, on any number of devices and hosts. Of
many processes the first one prints and records; all of them stop and save at the same steps.
"""

import collections
import contextlib
import dataclasses
import hashlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from emoconv_jax.checkpointing.agreement import by_first, gather
from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.config import TrainingConfig, to_dict
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.pipeline.batches import Batch, Batches
from emoconv_jax.pipeline.readers import READERS, prefetch_to_device
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.training import hosts
from emoconv_jax.training.goodput import Goodput, peak_flops
from emoconv_jax.training.parallel import Keys, Metrics, Parallel
from emoconv_jax.training.progress import Progress
from emoconv_jax.training.selection import (
    choose,
    fingerprint,
    statistics_of,
    training_batches,
    validation_batches,
)
from emoconv_jax.training.start import CHECKPOINTS, check, check_data, claim, first_state
from emoconv_jax.training.state import TrainState, make_optimizer, schedule_of
from emoconv_jax.training.trainees import make_trainee, parameter_count

IN_FLIGHT = 2  # steps that may be under way on the devices while the host goes on


@dataclasses.dataclass(frozen=True)
class Care:
    """How a run is looked after; nothing here changes what is learnt.

    Attributes:
        report: steps from one line of progress to the next.
        validate: steps between validations; 0 for none.
        listen: steps between conversions to look at and listen to; 0 for none.
        save_s: seconds between checkpoints.
        keep: how many of the newest checkpoints stay.
        keep_every: the checkpoint of every so many steps is made and stays; 0 for none.
        hang_s: seconds without a step after which the run is ended; 0 for never.
        override: goes on with settings that differ from the run's.
    """

    report: int = 10
    validate: int = 200
    listen: int = 1000
    save_s: float | int = 120.0
    keep: int = 2
    keep_every: int = 0
    hang_s: float | int = 1800.0
    override: bool = False

    def __post_init__(self) -> None:
        """Refuses what no run can mean, by name."""
        for field in dataclasses.fields(self):
            least = 1 if field.name in ("report", "keep") else 0
            if getattr(self, field.name) < least:
                raise UsageError(
                    f"--{field.name}: found {getattr(self, field.name)}, allowed is {least} or more"
                )


def train(
    config: TrainingConfig,
    store: FeatureStore,
    workdir: pathlib.Path,
    *,
    initial: Any | None = None,
    other_run: pathlib.Path | None = None,
    care: Care | None = None,
    devices: list[jax.Device] | None = None,
    vocode: Callable[..., Any] | None = None,
    log: Callable[[str], None] = print,
) -> TrainState:
    """Trains until `config.steps`, or until SIGTERM or SIGINT, which save first.

    Args:
        config: of the run.
        store: prepared features.
        workdir: gets all that the run writes; running again continues.
        initial: parameters to start from where there is no checkpoint.
        other_run: work directory of a run whose newest state to start from instead.
        care: how often to report, validate and save.
        devices: what to run on; None is all there are.
        vocode: turns a log-mel into a waveform to listen to; None is Griffin-Lim.
        log: takes each line of progress.

    Returns:
        The last state.

    Raises:
        EmoconvError: no utterances, a work directory of a different run or that cannot be written,
            or a state that is not the network's.
    """
    care, goodput = care or Care(), Goodput()
    leads = jax.process_index() == 0
    log = log if leads else _silent
    trainee = make_trainee(config, statistics_of(config, store))
    parallel = Parallel(config, trainee, make_optimizer(config), devices)
    selection = choose(store, config, config.splits)
    batches = training_batches(config, store, selection)
    data = fingerprint(store, selection)
    _same_everywhere(config, care, data)
    by_first(lambda: check(workdir, config, care.override))
    keys = parallel.keys(config.seed)
    log(announcement(config, parallel))
    log(_amount(store, selection))
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        stop = enter(hosts.Stop())
        watchdog = enter(hosts.Watchdog(workdir / "hosts", care.hang_s, log))
        checkpoints = enter(
            Checkpoints(workdir / CHECKPOINTS, keep=care.keep, keep_every=care.keep_every)
        )
        state, about = first_state(
            parallel, checkpoints, keys.init, log, goodput, other_run=other_run, initial=initial
        )
        check_data(about, data, care.override)
        by_first(lambda: claim(workdir, config))
        first = int(state.step)
        progress = enter(Progress(
            workdir, config, log, report=care.report, first=first, window=about.get("window"),
            goodput=goodput, quiet=not leads, **_rates(config, parallel, batches),
        ))  # fmt: skip
        read = READERS[config.reader](batches, first, config.steps)
        watched = validation_batches(config, store) if care.validate else None
        listening = None
        if care.listen:
            from emoconv_jax.training.listening import Listening  # which needs audio libraries

            listening = Listening(config, store, trainee.network, vocode, log)
        reader = enter(contextlib.closing(prefetch_to_device(read, put=parallel.put)))
        run = _Run(
            config, care, parallel, checkpoints, progress, watchdog, reader, keys, watched,
            listening, data,
        )  # fmt: skip
        return run.to_the_end(state, first, stop, log)


def announcement(config: TrainingConfig, parallel: Parallel) -> str:
    """Returns the line that says what a run is going to do, and on what.

    Args:
        config: of the run.
        parallel: of the run.

    Returns:
        The line.
    """
    parameters = parameter_count(parallel.abstract_state().params)
    kinds = collections.Counter(device.device_kind for device in parallel.devices)
    where = " and ".join(f"{count} x {kind}" for kind, count in kinds.items())
    at_most = "at most " if config.crop == "whole" else ""
    computes = np.dtype(getattr(parallel.trainee.network, "dtype", None) or np.float32).name
    return (
        f"{config.trainee}: {parameters / 1e6:.2f} M parameters, planned {config.steps} steps of "
        f"{config.batch} = {config.steps * config.batch} examples of {at_most}{config.frames} "
        f"frames, in {computes} by {config.parallel} on {where}"
    )


@dataclasses.dataclass
class _Run:
    """What the loop does at a step, and the metrics that are still under way on the devices."""

    config: TrainingConfig
    care: Care
    parallel: Parallel
    checkpoints: Checkpoints
    progress: Progress
    watchdog: hosts.Watchdog
    reader: Iterator[Batch]
    keys: Keys
    watched: Batches | None
    listening: Any  # a `Listening`, or None
    data: str

    def __post_init__(self) -> None:
        self.goodput = self.progress.goodput
        self.schedule = schedule_of(self.config)
        self.saved_s = time.monotonic()
        self._under_way: collections.deque[tuple[int, Metrics]] = collections.deque()
        self._compiled: set[tuple[int, ...]] = set()
        self._validated = False

    def to_the_end(
        self, state: TrainState, first: int, stop: hosts.Stop, log: Callable[[str], None]
    ) -> TrainState:
        """Does the steps after `first`, to the last or to the one after which it is to stop."""
        for number in range(first + 1, self.config.steps + 1):
            state = self._step(state, number)
            if self._save_if_due(state, number, bool(stop.asked)):
                who = stop.asked or "another host"
                log(f"stopped by {who} after step {number}, saved; run again to go on")
                return state
        log(f"done: {self.config.steps} steps = {self.config.steps * self.config.batch} examples")
        return state

    def _step(self, state: TrainState, number: int) -> TrainState:
        """Does step `number`, with what is due after it, and takes note of those that ended."""
        with self.goodput.of("waiting for data"):
            batch = next(self.reader)
        # before the step: a host without data is behind those that wait for it
        self.watchdog.beat(number)
        new = batch.mel.shape not in self._compiled
        self._compiled.add(batch.mel.shape)
        with self.goodput.of("compiling" if new else "stepping"):
            state, metrics = self.parallel.step(state, batch, self.keys.step)
        self._under_way.append((number, metrics))
        self._settle(IN_FLIGHT)
        if self.watched and number % self.care.validate == 0:
            self._validate(state, number, self.watched)
        if self.listening and number % self.care.listen == 0:
            self._listen(state, number, self.listening)
        return state

    def _validate(self, state: TrainState, number: int, batches: Batches) -> None:
        """Records each term's mean over the first validation batches, with fixed noise."""
        self._settle()
        sums: dict[str, np.ndarray] = {}
        for i, key in enumerate(self.keys.watch):
            with self.goodput.of("validating" if self._validated else "compiling"):
                batch = self.parallel.put(batches.at(i))
                terms = self.parallel.evaluate(state.ema_params, batch, key)
                for name, pair in terms.items():
                    sums[name] = sums.get(name, np.zeros(2)) + np.array(pair, dtype=np.float64)
            self._validated = True
        means = {name: float(total / count) for name, (total, count) in sums.items() if count}
        self.progress.validation(number, means)

    def _listen(self, state: TrainState, number: int, listening: Any) -> None:
        """Converts held-out speech with the averaged parameters, for TensorBoard."""
        self._settle()
        with self.goodput.of("listening"):
            params = self.parallel.whole(state.ema_params)
            if jax.process_index() != 0:
                return
            for example in listening.examples(params, number):
                self.progress.picture(number, example.name, example.picture)
                for name, sound in example.sounds.items():
                    self.progress.sound(
                        number, f"{example.name}/{name}", sound, example.sample_rate_hz
                    )

    def _save_if_due(self, state: TrainState, number: int, asked: bool) -> bool:
        """Saves where it is time to; says whether all hosts are to stop before the end."""
        ending = number == self.config.steps
        due = time.monotonic() - self.saved_s > self.care.save_s
        if jax.process_count() == 1 or number % hosts.AGREE_STEPS == 0 or ending:
            with self.goodput.of("stepping"):  # which is what the others are waited for
                asked, due = hosts.agree((asked, due))
        else:
            asked = due = False
        kept = self.care.keep_every and number % self.care.keep_every == 0
        if ending or asked or due or kept:
            self._settle()
            with self.goodput.of("saving"):
                whole = vars(self.parallel.globally(state))
                self.checkpoints.save(number, whole, self._about(number))
                if ending or asked:
                    self.checkpoints.wait()
            self.saved_s = time.monotonic()
        return asked and not ending

    def _about(self, number: int) -> dict[str, Any]:
        """Returns what is stored with a state: how it came about, and what follows it."""
        return {
            "step": number,
            "seed": self.config.seed,
            "data": self.data,
            "config": to_dict(self.config),
            "window": self.progress.window(),
        }

    def _settle(self, left: int = 0) -> None:
        """Waits until at most `left` steps are under way, and records those that ended."""
        while len(self._under_way) > left:
            number, metrics = self._under_way.popleft()
            with self.goodput.of("stepping"):
                values = {name: float(value) for name, value in metrics.items()}
            if number % self.care.report == 0 or number == self.config.steps:
                values["learning_rate"] = float(np.asarray(self.schedule(number - 1)))
            self.progress.step(number, values)


def _same_everywhere(config: TrainingConfig, care: Care, data: str) -> None:
    """Refuses hosts that were started with other settings or features than the first."""
    told = gather(hashlib.sha256(f"{config} {care} {data}".encode()).hexdigest())
    for host, text in enumerate(told):
        if text != told[0]:
            raise EmoconvError(f"host {host} has other settings or features than host 0")


def _rates(config: TrainingConfig, parallel: Parallel, batches: Batches) -> dict[str, Any]:
    """Returns a step's arithmetic and the devices' peak, where all steps need the same of both."""
    peaks = [peak_flops(device.device_kind) for device in parallel.devices]
    known = [peak for peak in peaks if peak is not None]
    if len(known) < len(peaks) or config.crop == "whole":
        return {}
    flops = parallel.flops_per_step(batches.at(0))
    return {"peak_flops": sum(known), "flops_per_step": flops}


def _amount(store: FeatureStore, selection: np.ndarray) -> str:
    """Returns the line that says how much speech a run reads."""
    seconds = sum(store.utterances[i].frames for i in selection) * (
        store.mel_config.hop_samples / store.mel_config.sample_rate_hz
    )
    return f"{store.folder}: {len(selection)} utterances ({seconds / 3600:.2f} h)"


def _silent(_: str) -> None:
    """Takes a line of progress and drops it: of many hosts, one speaks."""
