"""Times of things that are to be compared, and the memory of a command."""

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

from emoconv_jax.errors import EmoconvError

# The memory of whoever starts a process counts as that process's own until it has begun; this one
# is small.
_WATCH = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
spent = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
peak = peak if sys.platform == "darwin" else peak * 1024
print(json.dumps([done.returncode, spent, peak, done.stdout]))
"""

Name = TypeVar("Name")


@dataclasses.dataclass(frozen=True)
class Times:
    """Repeated measurements of one thing.

    Attributes:
        runs_s: in the order of the rounds.
    """

    runs_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Of the runs."""
        return statistics.median(self.runs_s)

    def over(self, other: "Times") -> tuple[float, float, float]:
        """Returns how many times as long this takes: the ratio of medians, and its spread.

        Args:
            other: of the same rounds.

        Returns:
            The ratio of the medians, the least and the greatest ratio of a round.
        """
        each = [a / b for a, b in zip(self.runs_s, other.runs_s, strict=True)]
        return self.median_s / other.median_s, min(each), max(each)


def in_turn(jobs: Mapping[Name, Callable[[], Any]], rounds: int, label: str) -> dict[Name, Times]:
    """Runs jobs in turn and takes the time of each.

    Args:
        jobs: by name; each runs once more before, to compile and to fill caches.
        rounds: in which every job runs once.
        label: of the progress bar.

    Returns:
        The times by name.
    """
    found: dict[Name, list[float]] = {name: [] for name in jobs}
    with tqdm(total=(rounds + 1) * len(jobs), desc=label) as bar:
        for number in range(rounds + 1):
            for name, job in jobs.items():
                begin_s = time.perf_counter()
                job()
                if number:
                    found[name].append(time.perf_counter() - begin_s)
                bar.update()
    return {name: Times(tuple(runs_s)) for name, runs_s in found.items()}


def watched(command: Sequence[str]) -> tuple[float, int, str]:
    """Runs a command.

    Args:
        command: its words.

    Returns:
        Its seconds, the greatest memory that it held, in bytes, and what it printed.

    Raises:
        EmoconvError: it failed.
    """
    words = [sys.executable, "-c", _WATCH, *command]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    code, spent_s, peak_bytes, printed = json.loads(done.stdout)
    if code:
        raise EmoconvError(f"{' '.join(command)}: ended with exit code {code}")
    return spent_s, peak_bytes, printed
