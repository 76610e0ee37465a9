"""What a training run shows: the progress line, `metrics.jsonl` and TensorBoard.

Every `report` steps both files get the mean of each metric over these steps, and the line its main
ones. A mean is over the steps in which the metric was there and finite: a band of diffusion time
that no example fell in has no loss in that step. Steps whose loss or gradient was not finite are
counted, so that they do not vanish in a mean.

The sums of an unfinished window belong into the checkpoint (`window`): a run that continues from it
writes the records that it would have written undisturbed. What an earlier attempt recorded beyond
the checkpoint is dropped first.
"""

import contextlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from emoconv_jax.config import TrainingConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import replacing
from emoconv_jax.shapes import Float, Shaped
from emoconv_jax.training.goodput import Goodput

# Where PyTorch is installed, tensorboardX imports it, for nothing that is used here: two seconds.
# So it finds none, unless it is imported already.
_absent = "torch" not in sys.modules
if _absent:
    sys.modules["torch"] = None  # type: ignore (which an import takes for absent)
try:
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore (made at import)
finally:
    if _absent:
        del sys.modules["torch"]

METRICS_FILE, TENSORBOARD = "metrics.jsonl", "tensorboard"
NOT_FINITE = "steps_not_finite"
EXPECTED_FINITE = ("loss", "gradient_norm")  # else the step counts as NOT_FINITE
UNPRINTED = ("parameter_norm", "update_norm", "learning_rate")  # and names with a "/"


class Progress:
    """The records of one run; a context that ends with the account of its time."""

    def __init__(
        self,
        workdir: pathlib.Path,
        config: TrainingConfig,
        log: Callable[[str], None],
        *,
        report: int,
        first: int = 0,
        window: Mapping[str, Any] | None = None,
        goodput: Goodput | None = None,
        flops_per_step: float | None = None,
        peak_flops: float | None = None,
        quiet: bool = False,
    ):
        """Opens the files, without what they hold beyond the step to continue from.

        Args:
            workdir: of the run; must exist.
            config: of the run.
            log: takes each line.
            report: steps from record to record, 1 or more.
            first: steps done before this process.
            window: what `window()` gave when the checkpoint at `first` was saved.
            goodput: the account of this process's time; None starts one now.
            flops_per_step: that the model needs for one step, all devices together.
            peak_flops: of all devices together, see `goodput.peak_flops`.
            quiet: neither prints nor writes; for all processes but one.

        Raises:
            EmoconvError: a file that cannot be read or written.
        """
        self.config, self.report, self.number, self.quiet = config, report, first, quiet
        self.goodput = goodput or Goodput()
        self.flops_per_step, self.peak_flops = flops_per_step, peak_flops
        kept = window or {}
        self._sums: dict[str, float] = dict(kept.get("sums", {}))
        self._counts: dict[str, int] = dict(kept.get("counts", {}))
        self._not_finite: int = kept.get("not_finite", 0)
        self._start: tuple[int, float] | None = None  # step and seconds from which the ETA counts
        self._mark: tuple[int, float] | None = None  # step and seconds at the last report
        self.log = (lambda _: None) if quiet else log
        self._path, self._events = workdir / METRICS_FILE, None
        if not quiet:
            dropped = _drop_beyond(self._path, first)
            if dropped:
                self.log(f"{self._path}: {dropped} lines beyond step {first} dropped")
            self._events = _Events(workdir / TENSORBOARD, first)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Says where the time went and closes; what ended the run is not covered by a full disk."""
        with contextlib.suppress(EmoconvError) if kind else contextlib.nullcontext():
            try:
                self._write_account()
            finally:
                if self._events:
                    self._events.close()

    def step(self, number: int, metrics: Mapping[str, float | int]) -> None:
        """Adds a finished step; at the end of a window prints and records its means.

        Args:
            number: steps done, 1 for the first.
            metrics: of this step, any may be absent; "loss/x" is recorded and not printed.

        Raises:
            EmoconvError: a file that cannot be written.
        """
        self.number = number
        for name, value in metrics.items():
            if math.isfinite(value):
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0) + 1
        expected = [metrics[name] for name in EXPECTED_FINITE if name in metrics]
        self._not_finite += not all(map(math.isfinite, expected))
        begins, ends = self._start is None, number % self.report == 0 or number == self.config.steps
        if begins:
            self.log(f"first step after {duration(self.goodput.total_s())}")
        if ends:
            self._end_window()
        if begins:  # the first step may have compiled: the clocks start after it
            self._start = number, self.goodput.total_s()
        if begins or ends:
            self._mark = number, self.goodput.working_s()

    def window(self) -> dict[str, Any]:
        """Returns the sums since the last record, JSON-ready, to be saved with the checkpoint."""
        return {
            "sums": dict(self._sums),
            "counts": dict(self._counts),
            "not_finite": self._not_finite,
        }

    def validation(self, number: int, means: Mapping[str, float | int]) -> None:
        """Prints and records the validation's means.

        Args:
            number: steps done.
            means: by name; those that are not finite are left out of the files.
        """
        shown = "  ".join(f"{_readable(name)} {value:.4g}" for name, value in means.items())
        self.log(f"validation at {number}: {shown}")
        self._record(number, {f"validation/{name}": value for name, value in means.items()})

    def picture(self, number: int, name: str, image: Shaped[np.ndarray, "h w 3"]) -> None:
        """Shows a picture in TensorBoard.

        Args:
            number: steps done.
            name: letters, digits and . _ - /; what precedes the first "/" is the group.
            image: uint8.
        """
        if self._events:
            self._events.add(number, summary.image(name, image, dataformats="HWC"))
            self._events.flush()

    def sound(
        self, number: int, name: str, waveform: Float[np.ndarray, " n"], sample_rate_hz: int
    ) -> None:
        """Plays a sound in TensorBoard.

        Args:
            number: steps done.
            name: as in `picture`.
            waveform: at most 1 in size.
            sample_rate_hz: of it.
        """
        if self._events:
            self._events.add(number, summary.audio(name, waveform, sample_rate_hz))
            self._events.flush()

    def _end_window(self) -> None:
        """Prints and records the means of the window, and begins the next one."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        missed, rates = self._not_finite, self._rates()
        self._sums, self._counts, self._not_finite = {}, {}, 0
        shown = [f"step {self.number}/{self.config.steps}"]
        printed = [name for name in means if "/" not in name and name not in UNPRINTED]
        for name in sorted(printed, key=lambda n: (n != "loss", n == "gradient_norm")):
            shown.append(f"{_readable(name)} {means[name]:.4g}")
        if missed:
            shown.append(f"NOT FINITE in {missed} steps")
        if "examples_per_s" in rates:
            shown.append(f"{rates['examples_per_s']:.4g} examples/s")
        if "flops_utilisation" in rates:
            shown.append(f"MFU {100 * rates['flops_utilisation']:.1f} %")
        if rates and self.number < self.config.steps:
            shown.append(f"ETA {duration(self._left_s())}")
        self.log("  ".join(shown))
        self._record(self.number, means | ({NOT_FINITE: missed} if missed else {}) | rates)

    def _rates(self) -> dict[str, float]:
        """Returns the speed since the last report, pauses left out; nothing where none is known."""
        if self._mark is None:
            return {}
        steps, seconds = self.number - self._mark[0], self.goodput.working_s() - self._mark[1]
        if steps < 1 or seconds <= 0:
            return {}
        rates = {"examples_per_s": steps * self.config.batch / seconds}
        if self.flops_per_step and self.peak_flops:
            rates["flops_utilisation"] = steps * self.flops_per_step / seconds / self.peak_flops
        return rates

    def _left_s(self) -> float:
        """Returns the seconds to the run's end at the mean pace so far, pauses and all."""
        assert self._start is not None
        steps, seconds = self.number - self._start[0], self.goodput.total_s() - self._start[1]
        return (self.config.steps - self.number) * seconds / steps

    def _write_account(self) -> None:
        """Prints and records where the time of this process went."""
        self.log(self.goodput.line())
        spent = self.goodput.spent_s().items()
        self._record(
            self.number, {f"goodput/{name.replace(' ', '_')}_s": s for name, s in spent}, plot=False
        )
        if self._events:
            self._events.add(self.number, summary.text("goodput", self.goodput.table()))
            self._events.flush()

    def _record(self, number: int, values: Mapping[str, float | int], plot: bool = True) -> None:
        """Writes what is finite of some values to both files, or to the first alone."""
        if self._events is None:
            return
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        line = json.dumps({"step": number, **finite}, allow_nan=False)
        with _written(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if plot:
            for name, value in finite.items():
                self._events.add(number, summary.scalar(name, value))
            self._events.flush()


class _Events:
    """TensorBoard's file of this process, written where it is asked for.

    tensorboardX's own SummaryWriter writes from a thread. A full disk ends that thread, and the
    training then waits for ever for room in its queue.
    """

    def __init__(self, folder: pathlib.Path, first: int):
        """Opens a file and tells TensorBoard that what earlier ones say beyond `first` is void."""
        self._folder = folder
        with _written(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # tensorboardX names files by the second; TensorBoard reads them in order of their names
            self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        start = SessionLog(status=SessionLog.START)
        self._add(Event(step=first + 1, session_log=start))
        self.flush()

    def add(self, number: int, values: Any) -> None:
        """Writes a `Summary`."""
        self._add(Event(step=number, summary=values))

    def flush(self) -> None:
        """Brings all that was added to the disk."""
        with _written(self._folder):
            self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with _written(self._folder):
            self._writer.close()

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        with _written(self._folder):
            self._writer.write_event(event)


@contextlib.contextmanager
def _written(path: pathlib.Path):
    """Turns the system's refusal to write into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise EmoconvError(f"{path}: cannot be written ({error.strerror})") from None


def _drop_beyond(path: pathlib.Path, last: int) -> int:
    """Drops the records of steps beyond `last`, and torn lines; returns how many lines."""
    if not path.exists():
        return 0
    with _written(path):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if _belongs(line, last)]
        if len(kept) < len(lines):
            with replacing(path) as (partial,):
                partial.write_bytes(b"".join(kept))
    return len(lines) - len(kept)


def _belongs(line: bytes, last: int) -> bool:
    """Says whether a line is a whole record of a step up to `last`."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
    return line.endswith(b"\n") and isinstance(step, int) and step <= last


def _readable(name: str) -> str:
    return name.replace("_", " ")


def duration(seconds: float) -> str:
    """Returns a time in its two largest units.

    Args:
        seconds: 0 or more.
    """
    whole = round(seconds)
    for large, small, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60)):
        if whole >= size:
            return f"{whole // size} {large} {whole % size // part} {small}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
