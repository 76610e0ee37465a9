"""Curves: a target that changes within the utterance, drawn as a table over time.

A CSV file has a row per point in time, of which there may be one. Its header is

    seconds,arousal            arousal 1 (calm) to 7 (excited), any number
    seconds,neutral,happy,..   weights of conditions; each row is normalised to sum to one

Between rows a target runs in a straight line, before the first and after the last row it stays.
A condition takes one evaluation of the network per step, so an arousal that takes few values is
mixed from these, and any other from the whole levels below and above it.
"""

import csv
import dataclasses
import io
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from emoconv_jax.bundles.banks import AROUSAL, WORD, arousal_name, condition_name
from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW
from emoconv_jax.diffusion import plan as plans
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.shapes import Float

MOST_ROWS = 10_000
MOST_BYTES = 2**20
UNHEARD = 1e-9  # normalised weights of the same shares differ by less
MOST_VALUES = 7  # distinct arousals; the whole levels are as many
SAMPLED_ROWS = 256  # that stand for a curve where the utterance is not known yet
SECONDS, AROUSAL_COLUMN = "seconds", AROUSAL.strip()
HEADERS = f"{SECONDS},{AROUSAL_COLUMN} or {SECONDS} and the names of conditions"


@dataclasses.dataclass(frozen=True)
class Curve:
    """A target over time; plain numbers, so that it can be compared and written as JSON.

    Attributes:
        times_s: of the rows, from 0 on and rising.
        names: of the columns; "arousal" alone, or conditions.
        values: a row of one value per column for each time; arousal, or weights of any sum.
        label: what messages call it.
    """

    times_s: Sequence[float | int]
    names: Sequence[str]
    values: Sequence[Sequence[float | int]]
    label: str = dataclasses.field(default="curve", compare=False)

    def __post_init__(self) -> None:
        """Checks every row.

        Raises:
            UsageError: what `read_curve` refuses in a file, by row.
        """
        times = tuple(float(time) for time in self.times_s)
        rows = tuple(tuple(float(value) for value in row) for row in self.values)
        names = tuple(str(name) for name in self.names)
        if fault := _names_fault(names):
            raise UsageError(f"{self.label}: {fault}")
        if not 1 <= len(times) <= MOST_ROWS or len(times) != len(rows):
            raise UsageError(
                f"{self.label}: found {len(times)} times and {len(rows)} rows of values, allowed "
                f"are as many of each, 1..{MOST_ROWS}"
            )
        for i, row in enumerate(rows):
            if fault := _row_fault(names, times[i - 1] if i else None, times[i], row):
                raise UsageError(f"{self.label}: row {i + 1}: {fault}")
        if names != (AROUSAL_COLUMN,):
            names = tuple(condition_name(name, self.label) for name in names)
        for field, value in (("times_s", times), ("names", names), ("values", rows)):
            object.__setattr__(self, field, value)

    @property
    def of_arousal(self) -> bool:
        """Whether it is a curve of arousal, and not of weights."""
        return tuple(self.names) == (AROUSAL_COLUMN,)

    @property
    def constant(self) -> bool:
        """Whether the target never changes."""
        table = self._shares()
        return bool(np.allclose(table, table[0], rtol=0, atol=UNHEARD))

    def check_within(self, duration_s: float) -> None:
        """Refuses a curve that goes on after the utterance has ended.

        Args:
            duration_s: of the utterance.

        Raises:
            EmoconvError: a time beyond it.
        """
        if self.times_s[-1] > duration_s:
            raise EmoconvError(
                f"{self.label}: found {self.times_s[-1]:g} seconds, the source ends at "
                f"{duration_s:.3f}"
            )

    def plan(self, steps: int, times_s: Float[np.ndarray, " f"] | None = None) -> plans.EmotionPlan:
        """Returns the emotion plan of the curve; its conditions do not depend on the times.

        Args:
            steps: of the solver, at least 1.
            times_s: middle of each frame; None is a sample of the curve's own rows, to look at
                before the utterance is known.

        Returns:
            The plan over frames; that of a single target throughout where the curve is constant.

        Raises:
            UsageError: no steps, or too many conditions.
        """
        if self.constant:
            if self.of_arousal:
                return plans.single(arousal_name(self.values[0][0]), steps)
            return plans.mix(dict(zip(self.names, self.values[0], strict=True)), steps)
        if times_s is None:
            last = len(self.times_s) - 1
            rows = np.linspace(0, last, min(last + 1, SAMPLED_ROWS)).round().astype(int)
            times_s = np.asarray(self.times_s)[rows]
        if not self.of_arousal:
            table = self._shares()
            used = [i for i in range(len(self.names)) if table[:, i].any()]
            names = tuple(self.names[i] for i in used)
            return plans.over_frames(names, self._between(table[:, used], times_s), steps)
        arousal = self._shares()[:, 0]
        levels = np.unique(arousal)
        if len(levels) <= MOST_VALUES:
            weights = self._between((arousal[:, None] == levels).astype(np.float64), times_s)
        else:
            levels = np.arange(math.floor(levels[0]), math.ceil(levels[-1]) + 1)
            distance = np.abs(levels[:, None] - self._between(arousal[:, None], times_s))
            weights = np.maximum(1 - distance, 0)
        return plans.over_frames(tuple(arousal_name(x) for x in levels.tolist()), weights, steps)

    def every(self, steps: int) -> plans.EmotionPlan:
        """Returns a plan with a frame for each condition of the curve, which it has to itself.

        What is used at a step in any stretch of any utterance is used at that step here.

        Args:
            steps: of the solver, at least 1.
        """
        if self.constant:
            return self.plan(steps)
        names = self.plan(steps).names
        return plans.over_frames(names, np.eye(len(names)), steps)

    def _shares(self) -> Float[np.ndarray, "rows columns"]:
        """Returns the values, weights normalised."""
        table = np.array(self.values, np.float64)
        return table if self.of_arousal else table / table.sum(axis=1, keepdims=True)

    def _between(
        self, table: Float[np.ndarray, "rows k"], times_s: Float[np.ndarray, " f"]
    ) -> Float[np.ndarray, "k f"]:
        """Returns the columns of a table with a row per time of the curve, at other times."""
        known = np.asarray(self.times_s, np.float64)
        return np.stack([np.interp(times_s, known, column) for column in table.T])


def read_curve(path: str | os.PathLike[str]) -> Curve:
    """Reads a curve from a CSV file.

    Args:
        path: of the file: UTF-8, commas, a header, at most 10 000 rows and 1 MiB.

    Returns:
        The curve.

    Raises:
        EmoconvError: no such file, another header, or a row with a time that does not rise or a
            value out of range, by line.
    """
    path = pathlib.Path(path)
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    names, times, rows = None, [], []
    try:
        for cells in reader:
            fields, fault = [cell.strip() for cell in cells], ""
            if not fields:
                continue
            if names is None:
                names = tuple(fields[1:])
                fault = _names_fault(names) if fields[0] == SECONDS else _header_fault(fields)
            elif len(fields) != 1 + len(names):
                fault = f"found {len(fields)} fields, expected {1 + len(names)}"
            elif len(rows) == MOST_ROWS:
                fault = f"a row too many, allowed are {MOST_ROWS}"
            else:
                time_s, *values = [_number(field) for field in fields]
                fault = _row_fault(names, times[-1] if times else None, time_s, values)
                times.append(time_s)
                rows.append(values)
            if fault:
                raise EmoconvError(f"{path}: line {reader.line_num}: {fault}")
    except (csv.Error, ValueError) as error:
        raise EmoconvError(f"{path}: line {reader.line_num}: {error}") from None
    if names is None or not rows:
        what = "empty" if names is None else "has a header and no rows"
        raise EmoconvError(f"{path}: {what}; expected is a header, {HEADERS}, and rows")
    return Curve(times, names, rows, path.name)


def _text(path: pathlib.Path) -> str:
    """Returns the file's text, or refuses what is too large or no text."""
    try:
        if path.exists() and not path.is_file():
            raise EmoconvError(f"{path}: not a regular file")  # a pipe would be waited for
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise EmoconvError(f"{path}: {path.stat().st_size} bytes, allowed are {MOST_BYTES}")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise EmoconvError(f"{path}: not found; expected is a curve, a CSV file") from None
    except UnicodeDecodeError:
        raise EmoconvError(f"{path}: cannot be read (not UTF-8 text)") from None
    except (OSError, ValueError) as error:  # the latter of a path that holds a NUL
        raise EmoconvError(f"{path}: cannot be read ({error})") from None


def _number(field: str) -> float:
    try:
        if "_" in field:  # Python would read 1_5 as 15
            raise ValueError
        return float(field)
    except ValueError:
        raise ValueError(f"found {field!r:.80}, expected a number") from None


def _header_fault(fields: Sequence[str]) -> str:
    return f"found the header {','.join(fields)!r:.80}, expected {HEADERS}"


def _names_fault(names: Sequence[str]) -> str:
    """Returns what is wrong with a header's columns after the first, or nothing."""
    if not names or (len(names) > 1 and AROUSAL_COLUMN in names):
        return _header_fault([SECONDS, *names])
    if len(names) > plans.MOST_CONDITIONS:
        return f"found {len(names)} conditions, allowed are at most {plans.MOST_CONDITIONS}"
    found = []
    for name in names:
        try:
            found.append(condition_name(name, "column"))
        except UsageError as error:
            return str(error)
        if not name.startswith(AROUSAL) and not WORD.fullmatch(name):
            return f"found the column {name!r:.80}, expected the name of a condition"
    twice = next((name for i, name in enumerate(found) if name in found[:i]), None)
    return f"found the column {twice!r:.80} twice" if twice else ""


def _row_fault(
    names: Sequence[str], before_s: float | None, time_s: float, values: Sequence[float]
) -> str:
    """Returns what is wrong with a row, or nothing; `before_s` is the time of the row above it."""
    if not 0 <= time_s < math.inf:  # also refuses NaN
        return f"{SECONDS}: found {time_s}, allowed is 0 or more"
    if before_s is not None and time_s <= before_s:
        return f"{SECONDS}: found {time_s:g} after {before_s:g}, times must rise"
    if len(values) != len(names):
        return f"found {len(values)} values, expected {len(names)}"
    of_arousal = tuple(names) == (AROUSAL_COLUMN,)
    low, high = (AROUSAL_LOW, AROUSAL_HIGH) if of_arousal else (0.0, plans.MOST_WEIGHT)
    for name, value in zip(names, values, strict=True):
        if not low <= value <= high:
            return f"{name}: found {value}, allowed is {low:g} to {high:g}"
    return "" if any(values) else "found only weights of 0, at least one must be above 0"
