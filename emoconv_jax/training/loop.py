"""The training loop: restore, step, report, save.

Reads top to bottom. Restore order: this run's newest complete checkpoint, else the parameters the
caller gives (a bundle's), else fresh ones. The batch at a step depends on the step alone, so an
interrupted run continues exactly where it stopped.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import signal
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.config import TrainingConfig, to_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, write_text
from emoconv_jax.models.recogniser import measure_statistics
from emoconv_jax.pipeline.batches import Batches
from emoconv_jax.pipeline.readers import READERS, prefetch_to_device
from emoconv_jax.pipeline.store import FeatureStore, Utterance
from emoconv_jax.training.state import TrainState, init_state, make_optimizer
from emoconv_jax.training.step import evaluate_step, train_step
from emoconv_jax.training.target_banks import banks_of
from emoconv_jax.training.trainees import Trainee, make_trainee, parameter_count

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
VALIDATION_BATCHES = 4
VALIDATION_SEED = 1
STATISTICS_UTTERANCES = 400
SAME_RUN = ("reader",)  # what may change when a run continues


@dataclasses.dataclass(frozen=True)
class Pace:
    """How often the loop does what, in steps (report, validate) and seconds (save)."""

    report: int = 10
    validate: int = 200
    save_s: float = 120.0


def train(
    config: TrainingConfig,
    store: FeatureStore,
    workdir: pathlib.Path,
    *,
    initial: Any | None = None,
    pace: Pace | None = None,
    log: Callable[[str], None] = print,
) -> TrainState:
    """Trains until `config.steps`, or until SIGTERM or SIGINT, which save first.

    Args:
        config: of the run.
        store: prepared features.
        workdir: gets `config.json`, `metrics.jsonl` and `checkpoints/`; running again continues.
        initial: parameters to start from where there is no checkpoint.
        pace: how often to report, validate and save.
        log: takes each line of progress.

    Returns:
        The last state.

    Raises:
        EmoconvError: no utterances, a work directory of a different run, or initial parameters
            that are not the network's.
    """
    pace = pace or Pace()
    _claim(workdir, config)
    selection = choose(store, config, config.splits)
    watched = choose(store, config, (config.validation,))
    trainee = make_trainee(config, statistics_of(config, store))
    optimizer = make_optimizer(config)
    root = jax.random.key(config.seed)
    init_key, step_key = jax.random.split(root)
    params = trainee.init(init_key) if initial is None else _fitting(initial, trainee)
    state = init_state(params, optimizer)
    step = jax.jit(
        functools.partial(train_step, trainee=trainee, optimizer=optimizer, ema=config.ema),
        donate_argnums=0,
    )
    validate = jax.jit(functools.partial(evaluate_step, trainee=trainee))
    log(_announcement(config, store, selection, parameter_count(params)))
    batches = training_batches(config, store, selection)
    held_out = Batches(
        store,
        watched,
        config.trainee,
        batch=config.batch,
        frames=config.frames,
        seed=VALIDATION_SEED,
    )
    with Checkpoints(workdir / "checkpoints") as checkpoints, _Stop() as stop:
        if checkpoints.latest() is not None:
            state = TrainState(**checkpoints.restore(vars(state)))
            log(f"continuing at step {int(state.step)}")
        report = _Report(workdir / METRICS_FILE, config, log)
        first = int(state.step)
        reader = prefetch_to_device(READERS[config.reader](batches, first, config.steps))
        with contextlib.closing(reader):
            for number, batch in enumerate(reader, start=first):
                state, metrics = step(state, batch, step_key)
                report.step(number + 1, metrics, every=pace.report)
                if (number + 1) % pace.validate == 0 and len(watched):
                    report.validation(number + 1, _validation(validate, state, held_out, root))
                if stop.asked or report.since_save() > pace.save_s:
                    checkpoints.save(number + 1, vars(state))
                    report.saved()
                if stop.asked:
                    log(
                        f"stopped by {stop.asked} after step {number + 1}, saved; "
                        "run again to continue"
                    )
                    return state
        if checkpoints.latest() != config.steps:
            checkpoints.save(config.steps, vars(state))
        report.finish(config.steps)
    return state


def choose(store: FeatureStore, config: TrainingConfig, splits: tuple[str, ...]) -> np.ndarray:
    """Returns the utterances of some splits that a trainee can learn from.

    Args:
        store: prepared features.
        config: names the trainee.
        splits: the splits' names.

    Returns:
        Indices into the store.

    Raises:
        EmoconvError: there is none among several splits.
    """

    def usable(utterance: Utterance) -> bool:
        if utterance.split not in splits:
            return False
        if config.trainee == "average_voice":  # an unaligned utterance has no target
            return bool(utterance.alignment)
        return config.trainee != "recogniser" or bool(utterance.emotion)

    chosen = store.select(usable)
    if not len(chosen) and splits == config.splits:
        raise EmoconvError(
            f"{store.folder}: no utterances for {config.trainee} in splits {', '.join(splits)}"
        )
    return chosen


def training_batches(config: TrainingConfig, store: FeatureStore, selection: np.ndarray) -> Batches:
    """Returns the batches of a run; a score network's see banks as often as `bank_share` says.

    Args:
        config: of the run.
        store: prepared features.
        selection: what to draw from.

    Returns:
        The batches.

    Raises:
        EmoconvError: banks are asked for and the store has no utterance to make them of.
    """
    share = config.bank_share if config.trainee == "score_network" else 0.0
    return Batches(
        store,
        selection,
        config.trainee,
        batch=config.batch,
        frames=config.frames,
        seed=config.seed,
        crop=config.crop,
        banks=banks_of(store) if share else None,
        bank_share=share,
    )


def statistics_of(config: TrainingConfig, store: FeatureStore) -> Any | None:
    """Returns the recogniser's normalisation over its training split; None for other trainees.

    Args:
        config: of the run.
        store: prepared features.

    Returns:
        The Linen collection `statistics`.
    """
    if config.trainee != "recogniser":
        return None
    selection = choose(store, config, config.splits)
    some = np.random.default_rng(config.seed).permutation(selection)[:STATISTICS_UTTERANCES]
    mels = [np.array(store.frames_of("mel", int(i)), dtype=np.float32) for i in sorted(some)]
    return measure_statistics(mels)


def _announcement(
    config: TrainingConfig, store: FeatureStore, selection: np.ndarray, parameters: int
) -> str:
    """Returns the line that says what the run is going to do."""
    seconds = sum(store.utterances[i].frames for i in selection) * (
        store.mel_config.hop_samples / store.mel_config.sample_rate_hz
    )
    at_most = "at most " if config.crop == "whole" else ""
    return (
        f"{config.trainee}: {parameters / 1e6:.2f} M parameters, {len(selection)} utterances "
        f"({seconds / 3600:.2f} h), planned {config.steps} steps of {config.batch} = "
        f"{config.steps * config.batch} examples of {at_most}{config.frames} frames"
    )


def _fitting(initial: Any, trainee: Trainee) -> Any:
    """Returns the initial parameters, or names the first that the run's network has otherwise."""
    wanted = jax.eval_shape(trainee.init, jax.random.key(0))
    shapes = [
        {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in flat}
        for flat in map(jax.tree.leaves_with_path, (initial, wanted))
    ]
    for name in sorted(set(shapes[0]) | set(shapes[1])):
        found, expected = (side.get(name, "nothing") for side in shapes)
        if found != expected:
            raise EmoconvError(
                f"--bundle: its tensor {name} is {found}, the run's network needs {expected}; "
                "--config.network must be the bundle's own"
            )
    return initial


def _claim(workdir: pathlib.Path, config: TrainingConfig) -> None:
    """Writes the run's configuration, or refuses a directory that holds another one."""
    path, data = workdir / CONFIG_FILE, json.loads(json.dumps(to_dict(config)))
    workdir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_text(path, json.dumps(data, indent=1) + "\n")
        return
    found = read_json(path, "expected a run's configuration")
    if not isinstance(found, dict):
        raise EmoconvError(f"{path}: found {type(found).__name__}, expected an object")
    for name in data:
        if name not in SAME_RUN and found.get(name) != data[name]:
            raise EmoconvError(
                f"{path}: {name} is {found.get(name)!r}, this run asks for {data[name]!r}; use a "
                "fresh --workdir"
            )


def _validation(validate: Callable, state: TrainState, batches: Batches, key: Any) -> dict:
    """Returns each term's mean over the first validation batches, with fixed noise."""
    sums: dict[str, np.ndarray] = {}
    for number in range(VALIDATION_BATCHES):
        terms = validate(state.ema_params, batches.at(number), jax.random.fold_in(key, number))
        for name, pair in terms.items():
            sums[name] = sums.get(name, np.zeros(2)) + np.array(pair, dtype=np.float64)
    return {name: float(total / max(count, 1.0)) for name, (total, count) in sums.items()}


class _Stop:
    """Remembers SIGTERM or SIGINT while it is entered; a second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.asked = ""

    def __enter__(self) -> "_Stop":
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name


class _Report:
    """The progress line and the JSONL record."""

    def __init__(self, path: pathlib.Path, config: TrainingConfig, log: Callable[[str], None]):
        self.path, self.config, self.log = path, config, log
        self.begin = self.save_time = time.monotonic()
        self.first: int | None = None
        self.sums: dict[str, float] = {}
        self.count = 0

    def step(self, number: int, metrics: dict[str, Any], every: int) -> None:
        """Adds a step; prints and records the mean of each metric over `every` of them."""
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.count += 1
        if self.first is None:  # the first step compiles: the clock starts after it
            often = "once" if self.config.crop == "random" else "once per length"
            self.log(f"compiled in {time.monotonic() - self.begin:.0f} s ({often})")
            self.first, self.begin = number, time.monotonic()
            return
        if number % every and number != self.config.steps:
            return
        rate = (number - self.first) / (time.monotonic() - self.begin)
        left_s = (self.config.steps - number) / rate
        means = {name: value / self.count for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        examples = rate * self.config.batch
        self.log(
            f"step {number}/{self.config.steps}  {shown}  {examples:.2f} examples/s  "
            f"ETA {left_s // 60:.0f} min {left_s % 60:.0f} s"
        )
        self._write({"step": number, "examples_per_s": examples, **means})

    def validation(self, number: int, means: dict[str, float]) -> None:
        """Prints and records the validation terms."""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        self.log(f"validation at {number}: {shown}")
        self._write({"step": number, **{f"validation/{k}": v for k, v in means.items()}})

    def since_save(self) -> float:
        """Returns the seconds since the last save."""
        return time.monotonic() - self.save_time

    def saved(self) -> None:
        """Restarts the clock of saves."""
        self.save_time = time.monotonic()

    def finish(self, number: int) -> None:
        """Says that the run is complete."""
        self.log(f"done: {number} steps = {number * self.config.batch} examples")

    def _write(self, record: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
