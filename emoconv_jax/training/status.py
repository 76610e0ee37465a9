"""How far a training run is, from the files of its work directory alone.

Nothing of the run is loaded, so the answer takes no time and disturbs nobody: the run may be going
on, on this machine or on another that writes to the same folder.
"""

import dataclasses
import datetime
import json
import pathlib
import statistics
from typing import Any

from emoconv_jax.errors import EmoconvError
from emoconv_jax.training.progress import METRICS_FILE, duration
from emoconv_jax.training.start import read_config

RECENT = 20  # records that the present speed is the median of
VALIDATION = "validation/"


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        trainee: what is trained.
        step: the last one recorded.
        steps: planned.
        batch: examples of a step.
        hours: spent in steps, by the speed recorded; pauses and validation are left out.
        validation: the newest means by name, empty before the first.
        validated: the step of it.
        crops_per_s: the median of the newest records; None where there is none.
        recorded: when the newest record was written, seconds since 1970.
    """

    trainee: str
    step: int
    steps: int
    batch: int
    hours: float
    validation: dict[str, float]
    validated: int
    crops_per_s: float | None
    recorded: float

    @property
    def crops(self) -> int:
        """Examples seen."""
        return self.step * self.batch

    @property
    def left_s(self) -> float | None:
        """Seconds of steps to the end at the present speed; None where that is not known."""
        if not self.crops_per_s:
            return None
        return (self.steps - self.step) * self.batch / self.crops_per_s

    def line(self, now: float) -> str:
        """Returns the status in one line.

        Args:
            now: seconds since 1970.
        """
        said = [
            f"{self.trainee}: step {self.step} of {self.steps}",
            f"{self.crops} crops in {self.hours:.2f} h",
        ]
        if self.validation:
            # what a "/" groups are parts of what is named without
            means = {k: v for k, v in self.validation.items() if "/" not in k}
            shown = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
            said.append(f"validation at {self.validated}: {shown}")
        if self.step >= self.steps:
            said.append("done")
        elif self.left_s is not None:
            end = datetime.datetime.fromtimestamp(now + self.left_s).strftime("%Y-%m-%d %H:%M")
            said.append(f"{self.crops_per_s:.1f} crops/s, ends {end} if it goes on")
        said.append(f"last record {duration(max(now - self.recorded, 0.0))} ago")
        return "; ".join(said)


def status_of(workdir: pathlib.Path) -> Status:
    """Reads how far a run is.

    Args:
        workdir: of the run.

    Returns:
        Its status.

    Raises:
        EmoconvError: not a run, or one that has recorded nothing yet.
    """
    config = read_config(workdir)
    path = workdir / METRICS_FILE
    try:
        records = [_record(line) for line in path.read_text(encoding="utf-8").splitlines()]
        recorded = path.stat().st_mtime
    except OSError as error:
        raise EmoconvError(f"{path}: {error.strerror}; the run has recorded nothing yet") from None
    seconds, last, speeds, validation, validated = 0.0, 0, [], {}, 0
    for record in records:
        step = record.get("step", 0)
        speed = record.get("examples_per_s")
        if speed:
            seconds += (step - last) * config.batch / speed
            speeds.append(speed)
        means = {k[len(VALIDATION) :]: v for k, v in record.items() if k.startswith(VALIDATION)}
        if means:
            validation, validated = means, step
        last = max(last, step)
    return Status(
        trainee=config.trainee,
        step=last,
        steps=config.steps,
        batch=config.batch,
        hours=seconds / 3600,
        validation=validation,
        validated=validated,
        crops_per_s=statistics.median(speeds[-RECENT:]) if speeds else None,
        recorded=recorded,
    )


def _record(line: str) -> dict[str, Any]:
    """Returns a line's record; a torn one, as of a run that is writing it, is empty."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
