"""Where the wall time of a run goes, and what its devices could do at best.

Only the time in steps trains; the rest (compiling, waiting for data, saving) is what a slow run
should lose first. Every second counts once, for the innermost activity that was on, and a second
outside of all is "other", so that the parts sum to the whole.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Literal

Activity = Literal[
    "compiling",
    "waiting for data",
    "stepping",
    "validating",
    "listening",
    "saving",
    "restoring",
    "other",
]
# what stops the steps for a while and says nothing about their speed
PAUSES: tuple[Activity, ...] = ("compiling", "validating", "listening", "saving", "restoring")

# Dense bfloat16 FLOP/s of one JAX device, by `device_kind`. A chip of v2 (45e12) or of v3 (123e12)
# is two devices. Source: cloud.google.com/tpu/docs, v2 to v6e; the names are JAX's.
TPUS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}
# The same by words of `device_kind`; the first line all of whose words are there counts. V100 and
# T4 have float16 in place of bfloat16. Source: NVIDIA's data sheets, half of what they give "with
# sparsity".
GPUS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("V100", "PCIE"), 112e12),
    (("V100",), 125e12),
    (("T4",), 65e12),
    (("A100",), 312e12),
    (("L4",), 121e12),
    (("L40S",), 362e12),
    (("H100", "PCIE"), 756e12),
    (("H100", "NVL"), 835e12),
    (("H100",), 989e12),
    (("H200", "NVL"), 835e12),
    (("H200",), 989e12),
    (("B200",), 2250e12),
)


def peak_flops(device_kind: str) -> float | None:
    """Returns the most that a device can do in a second, as its vendor states.

    Args:
        device_kind: `jax.Device.device_kind`, as "NVIDIA H100 80GB HBM3" or "TPU v5 lite".

    Returns:
        Dense bfloat16 operations per second; None for a device of no table (a CPU) and for a slice
        of one (MIG).
    """
    if device_kind in TPUS:
        return TPUS[device_kind]
    words = set(re.split(r"[^A-Z0-9]+", device_kind.upper()))
    if "MIG" in words:
        return None
    return next((flops for wanted, flops in GPUS if words.issuperset(wanted)), None)


class Goodput:
    """An account of seconds by activity, from its making on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """Args: clock: gives seconds that never fall."""
        self._clock = clock
        self._last_s = clock()
        self._spent_s: dict[str, float] = {}
        self._running: list[str] = ["other"]

    @contextlib.contextmanager
    def of(self, activity: Activity) -> Iterator[None]:
        """Counts the time of the block for an activity, less what blocks inside it count.

        Args:
            activity: what the block does.
        """
        self._charge()
        self._running.append(activity)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def spent_s(self) -> dict[str, float]:
        """Returns the seconds of each activity so far, longest first; they sum to the whole."""
        self._charge()
        return dict(sorted(self._spent_s.items(), key=lambda item: -item[1]))

    def total_s(self) -> float:
        """Returns the seconds since the making."""
        return sum(self.spent_s().values())

    def working_s(self) -> float:
        """Returns the seconds since the making without PAUSES: what the speed is measured by."""
        return sum(seconds for name, seconds in self.spent_s().items() if name not in PAUSES)

    def line(self) -> str:
        """Returns the account in one line."""
        spent_s = self.spent_s()
        whole_s = sum(spent_s.values())
        parts = [f"{name} {s:.1f} s ({_share(s, whole_s)})" for name, s in spent_s.items()]
        return f"time: {whole_s:.1f} s = {', '.join(parts)}"

    def table(self) -> str:
        """Returns the account as a table in Markdown."""
        spent_s = self.spent_s()
        whole_s = sum(spent_s.values())
        head = ["| activity | seconds | share |", "|---|---:|---:|"]
        rows = [f"| {name} | {s:.1f} | {_share(s, whole_s)} |" for name, s in spent_s.items()]
        return "\n".join([*head, *rows, f"| all | {whole_s:.1f} | {_share(whole_s, whole_s)} |"])

    def _charge(self) -> None:
        """Counts the time since the last call for what is running."""
        now_s = self._clock()
        name = self._running[-1]
        self._spent_s[name] = self._spent_s.get(name, 0.0) + now_s - self._last_s
        self._last_s = now_s


def _share(part_s: float, whole_s: float) -> str:
    return f"{100 * part_s / whole_s:.1f} %" if whole_s > 0 else "-"
