"""The training loop: restore, step, report, save.

Reads top to bottom. Restore order: this run's newest complete checkpoint, else the parameters the
caller gives (a bundle's), else fresh ones. The batch at a step depends on the step alone, so an
interrupted run continues exactly where it stopped.
"""

import concurrent.futures
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

from emoconv_jax.bundles.banks import Banks, build
from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.config import TrainingConfig, to_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.recogniser import measure_statistics
from emoconv_jax.pipeline.batches import Batches
from emoconv_jax.pipeline.store import FeatureStore, Utterance
from emoconv_jax.training.state import TrainState, init_state, make_optimizer
from emoconv_jax.training.step import evaluate_step, train_step
from emoconv_jax.training.trainees import make_trainee, parameter_count

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
VALIDATION_BATCHES = 4
VALIDATION_SEED = 1
STATISTICS_UTTERANCES = 400


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
        EmoconvError: no utterances, or a work directory of a different run.
    """
    pace = pace or Pace()
    _claim(workdir, config)
    selection = choose(store, config, config.splits)
    watched = choose(store, config, (config.validation,))
    trainee = make_trainee(config, statistics_of(config, store))
    optimizer = make_optimizer(config)
    root = jax.random.key(config.seed)
    init_key, step_key = jax.random.split(root)
    params = trainee.init(init_key) if initial is None else initial
    state = init_state(params, optimizer)
    step = jax.jit(
        functools.partial(train_step, trainee=trainee, optimizer=optimizer, ema=config.ema),
        donate_argnums=0,
    )
    validate = jax.jit(functools.partial(evaluate_step, trainee=trainee))
    seconds = sum(store.utterances[i].frames for i in selection) * (
        store.mel_config.hop_samples / store.mel_config.sample_rate_hz
    )
    log(
        f"{config.trainee}: {parameter_count(params) / 1e6:.2f} M parameters, {len(selection)} "
        f"utterances ({seconds / 3600:.2f} h), planned {config.steps} steps of {config.batch} = "
        f"{config.steps * config.batch} examples of {config.frames} frames"
    )
    describe = functools.partial(Batches, store, trainee=config.trainee, batch=config.batch)
    stand_in = {"banks": banks_of(config, store), "bank_share": config.bank_share}
    batches = describe(selection, frames=config.frames, seed=config.seed, **stand_in)
    held_out = describe(watched, frames=config.frames, seed=VALIDATION_SEED)
    with Checkpoints(workdir / "checkpoints") as checkpoints, _Stop() as stop:
        if checkpoints.latest() is not None:
            state = TrainState(**checkpoints.restore(vars(state)))
            log(f"continuing at step {int(state.step)}")
        report = _Report(workdir / METRICS_FILE, config, log)
        with concurrent.futures.ThreadPoolExecutor(1) as reader:
            upcoming = reader.submit(batches.at, int(state.step))
            for number in range(int(state.step), config.steps):
                batch = upcoming.result()
                upcoming = reader.submit(batches.at, number + 1)
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
    phones = store.array("phones") if config.trainee == "average_voice" else None

    def usable(utterance: Utterance) -> bool:
        if utterance.split not in splits:
            return False
        if phones is not None:  # an unaligned utterance has no target
            return bool(phones[utterance.start] >= 0)
        return config.trainee != "recogniser" or bool(utterance.emotion)

    chosen = store.select(usable)
    if not len(chosen) and splits == config.splits:
        raise EmoconvError(
            f"{store.folder}: no utterances for {config.trainee} in splits {', '.join(splits)}"
        )
    return chosen


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


def banks_of(config: TrainingConfig, store: FeatureStore) -> Banks | None:
    """Returns the banks that a score network sees in place of some own embeddings; None for others.

    Args:
        config: of the run.
        store: encoded features.

    Returns:
        Banks over the training splits, or None where nothing in them has an emotion.
    """
    if config.trainee != "score_network" or config.bank_share == 0:
        return None
    chosen = store.select(lambda u: u.split in config.splits and bool(u.emotion))
    return build_banks(store, chosen) if len(chosen) else None


def build_banks(store: FeatureStore, chosen: np.ndarray) -> Banks:
    """Builds the banks of some utterances.

    Args:
        store: encoded features.
        chosen: indices of utterances with an emotion.

    Returns:
        The banks.
    """
    utterances = [store.utterances[i] for i in chosen]
    return build(
        np.array(store.array("emotion")[chosen]),
        np.array([u.arousal for u in utterances]),
        np.array(store.array("arousal")[chosen]),
        [u.emotion for u in utterances],
        [u.speaker for u in utterances],
    )


def _claim(workdir: pathlib.Path, config: TrainingConfig) -> None:
    """Writes the run's configuration, or refuses a directory that holds another one."""
    path, data = workdir / CONFIG_FILE, json.loads(json.dumps(to_dict(config)))
    workdir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(json.dumps(data, indent=1), encoding="utf-8")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    for name in data:
        if found.get(name) != data[name]:
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
            self.log(f"compiled in {time.monotonic() - self.begin:.0f} s (once)")
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
