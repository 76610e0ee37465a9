"""Many hosts as one run: how they meet, stop together, and notice the one that hangs.

    start       joins this process to the others; before any other use of JAX
    agree       what one of them wishes, all of them get to know at the same step
    Stop        remembers SIGTERM and SIGINT, so that a run saves before it stops
    Watchdog    ends a run in which nothing moves any more, and says which host is behind

A process that is alive but stuck makes all others wait for ever in their next common operation, and
JAX cannot tell: its own heartbeats come from a thread that does not hang. So each process writes
down its last step, and ends itself when it has made none for too long. "Host" is one process here:
on SLURM there may be several on a machine, one for each accelerator.
"""

import contextlib
import dataclasses
import faulthandler
import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import write_text

LOADED_S = time.time()  # all hosts meet after this: a report from before is of an earlier run
MEETING_S = 300.0  # how long a host waits for the others at the start
PARTING_S = 60  # and at the end, so that one that failed alone soon ends the others as well
LAST_WORDS_S = 10.0  # for what a hung file system may keep the watchdog from finding out
AGREE_STEPS = 10  # between the steps at which hosts ask each other whether to save or to stop
BEAT_S, ALIVE_S = 1.0, 10.0  # a new step is written after the one, the same again after the other
SILENT_S = 30.0  # without a report, a process no longer runs
STDERR = 2  # the descriptor: sys.stderr may be locked by whoever hangs
NAMED = 4  # hosts that a line names one by one


def start(
    coordinator: str | None,
    host: int | None,
    hosts: int | None,
    *,
    limit_s: float | int = MEETING_S,
) -> None:
    """Joins this process to the others of the run; call it before any other use of JAX.

    Where all three are None, JAX finds them out: in a SLURM step (`srun`; one task per GPU, each of
    which takes the GPU of its number on the node, or those in JAX_LOCAL_DEVICE_IDS), under Open
    MPI's mpirun, on a TPU pod slice, and in an indexed Kubernetes Job or a JobSet (which needs the
    package `kubernetes` and the right to read pods). Where they are given, this process takes all
    accelerators that it sees.

    Args:
        coordinator: address:port of host 0, which all hosts can reach.
        host: number of this one, 0..hosts-1.
        hosts: how many there are, 1 or more.
        limit_s: how long to wait for the others, above 0. The process then ends with exit code 1
            and one line, since JAX would end it with a C++ trace.

    Raises:
        UsageError: some but not all of the three, or impossible ones; or nothing was found.
        EmoconvError: JAX has been used before, or cannot read what the cluster tells.

    Source: `jax._src.clusters` of JAX 0.10 and `jax.distributed.initialize`.
    """
    given = {"coordinator": coordinator, "host": host, "hosts": hosts}
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise UsageError(f"--{missing[0]}: missing; --coordinator, --host and --hosts go together")
    late = threading.Timer(limit_s, lambda: _give_up(coordinator, hosts, limit_s))
    late.daemon = True
    try:
        if coordinator is None or host is None or hosts is None:
            found = {}
        else:
            _check(coordinator, host, hosts)
            found = {"coordinator_address": coordinator, "process_id": host, "num_processes": hosts}
            found["cluster_detection_method"] = "deactivate"
        late.start()
        jax.distributed.initialize(
            **found,
            initialization_timeout=int(limit_s) + 60,  # the timer comes first
            shutdown_timeout_seconds=PARTING_S,
        )
    except ValueError as error:
        raise UsageError(
            f"--distributed: found no SLURM step, Open MPI job, TPU pod or Kubernetes job here "
            f"({_first_line(error)}); else give --coordinator ADDRESS:PORT --host I --hosts N"
        ) from None
    except (RuntimeError, OSError, KeyError) as error:
        raise EmoconvError(f"--distributed: {_first_line(error)}") from None
    finally:
        late.cancel()
    # JAX has put a handler of its own in place, which would make the process deaf to SIGTERM
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)


def _check(coordinator: str, host: int, hosts: int) -> None:
    """Refuses what cannot be an address or a number of a host."""
    name, _, port = coordinator.rpartition(":")
    if not (name and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise UsageError(f"--coordinator: found {coordinator!r}, expected ADDRESS:PORT")
    if hosts < 1:
        raise UsageError(f"--hosts: found {hosts}, allowed is 1 or more")
    if not 0 <= host < hosts:
        raise UsageError(f"--host: found {host}, allowed is 0 to {hosts - 1} with --hosts {hosts}")


def _give_up(coordinator: str | None, hosts: int | None, limit_s: float | int) -> NoReturn:
    """Ends the process; the main thread waits within JAX and cannot be told."""
    if coordinator is None:
        _end(f"--distributed: the hosts have not all met within {limit_s:g} s")
    name, _, port = coordinator.rpartition(":")
    try:
        socket.create_connection((name.strip("[]"), int(port)), timeout=3).close()
    except OSError as error:
        _end(f"--coordinator: {coordinator} not reached within {limit_s:g} s ({error})")
    _end(f"--hosts: {coordinator} answers, but not all {hosts} hosts came within {limit_s:g} s")


def agree(wishes: tuple[bool, ...]) -> tuple[bool, ...]:
    """Returns what any host wishes, the same on all; all hosts must call it at the same step.

    Args:
        wishes: of this host, for instance to stop and to save.

    Returns:
        Each wish that at least one host has.
    """
    if jax.process_count() == 1:
        return wishes
    everyone = multihost_utils.process_allgather(np.array(wishes, dtype=bool))
    return tuple(bool(wish) for wish in np.any(everyone, axis=0))


class Stop:
    """Remembers SIGTERM or SIGINT while it is entered; SIGINT after that kills the process.

    Nothing saved is lost by that, see `checkpointing.checkpoints`.

    Attributes:
        asked: the first signal's name, "" before it comes.
    """

    def __init__(self) -> None:
        self.asked = ""

    def __enter__(self) -> "Stop":
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not Python's

    def _note(self, number: int, _: object) -> None:
        self.asked = self.asked or signal.Signals(number).name
        # the system's own: an exception would have to wait for a save, or for a device that hangs
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclasses.dataclass(frozen=True)
class Report:
    """What a host told last.

    Attributes:
        step: it came to, None before the first.
        time_s: when that was, in seconds since the epoch.
        alive_s: when it told so; later than `time_s` where it runs and makes no step.
    """

    step: int | None
    time_s: float | int
    alive_s: float | int


class Watchdog:
    """Ends the process when it has made no step for too long, and says which host is behind.

    A context. Two threads: one writes this host's last step to `folder/I.json`, the other watches
    the time; a file system that hangs stops the former alone. Where a main thread hangs without
    letting other threads run, faulthandler's own timer ends the process.
    """

    def __init__(self, folder: pathlib.Path, limit_s: float | int, log: Callable[[str], None]):
        """Prepares it; entering starts it.

        Args:
            folder: for the reports of all hosts; made if absent.
            limit_s: seconds without a step, compiling and saving included; 0 for ever.
            log: takes one line where reports cannot be written; the run goes on.
        """
        self.folder, self.limit_s, self.log = folder, limit_s, log
        self._done = threading.Event()

    def __enter__(self) -> "Watchdog":
        self.host, self.hosts = jax.process_index(), jax.process_count()
        self.beat(None)
        if self.limit_s:
            self._rearm()
        targets = [self._write, self._watch] if self.limit_s else [self._write]
        self._threads = [
            threading.Thread(target=target, name="watchdog", daemon=True) for target in targets
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(LAST_WORDS_S)
        if self.limit_s:
            faulthandler.cancel_dump_traceback_later()

    def beat(self, step: int | None) -> None:
        """Notes that this host has come to a step; costs nothing.

        Best called as soon as a step has its batch: then a host that waits for its data is a step
        behind those that wait for it.

        Args:
            step: its number.
        """
        self._step, self._moved_s = (step, time.time()), time.monotonic()

    def _write(self) -> None:
        """Writes a report about once a second, less often where nothing moves, and at the end."""
        written, told, ending = None, False, False
        while not ending:
            ending, now = self._done.is_set(), Report(*self._step, time.time())
            try:
                if written is None:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    if self.host == 0:
                        self._remove_surplus()
                if (
                    written is None
                    or written.step != now.step
                    or now.alive_s - written.alive_s > ALIVE_S
                ):
                    text = json.dumps({"host": self.host, **dataclasses.asdict(now)}) + "\n"
                    write_text(self.folder / f"{self.host}.json", text)
                    written = now
            except OSError as error:
                if not told:
                    self.log(f"{self.folder}: {error.strerror}; steps are not reported there")
                told = True
            self._done.wait(BEAT_S)

    def _remove_surplus(self) -> None:
        """Removes the reports of an earlier run with more hosts."""
        for path in self.folder.glob("*.json"):
            if path.stem.isdecimal() and int(path.stem) >= self.hosts:
                path.unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self._done.wait(min(BEAT_S, self.limit_s / 4)):
            self._rearm()
            still_s = time.monotonic() - self._moved_s
            if still_s > self.limit_s:
                self._bite(still_s)

    def _rearm(self) -> None:
        """Sets the timer that ends the process where not even the watch gets to run."""
        faulthandler.dump_traceback_later(self.limit_s + BEAT_S, exit=True, file=STDERR)

    def _bite(self, still_s: float) -> NoReturn:
        faulthandler.dump_traceback_later(3 * LAST_WORDS_S, exit=True, file=STDERR)
        words = ["the other hosts' reports cannot be read"]

        def find_words() -> None:
            own, now_s = self._step, time.time()
            reports = read_reports(self.folder, self.hosts) | {self.host: Report(*own, now_s)}
            words.append(who_is_behind(reports, now_s))
            sys.stdout.flush()

        finder = threading.Thread(target=find_words, daemon=True)
        finder.start()
        finder.join(LAST_WORDS_S)
        faulthandler.dump_traceback(file=STDERR, all_threads=True)
        _end(f"host {self.host}: no step for {still_s:.0f} s; {words[-1]}")


def read_reports(folder: pathlib.Path, hosts: int) -> dict[int, Report | None]:
    """Reads the hosts' last reports of this run; their clocks may differ by a few seconds.

    Args:
        folder: of the watchdog.
        hosts: how many there are.

    Returns:
        Per host its report; None where it is absent, damaged or of an earlier run.
    """
    reports: dict[int, Report | None] = {}
    for host in range(hosts):
        reports[host] = None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads((folder / f"{host}.json").read_text(encoding="utf-8"))
            step = None if found["step"] is None else int(found["step"])
            report = Report(step, float(found["time_s"]), float(found["alive_s"]))
            if report.alive_s >= LOADED_S:
                reports[host] = report
    return reports


def who_is_behind(reports: Mapping[int, Report | None], now_s: float | int) -> str:
    """Returns which hosts the others wait for, as part of a line.

    Args:
        reports: per host, None where it has not reported.
        now_s: seconds since the epoch.

    Returns:
        The hosts that do not run, else those of the lowest step, else that all are at the same one.
    """
    steps = {host: _order(report) for host, report in reports.items()}
    gone = [host for host, report in reports.items() if report is None or _silent(report, now_s)]
    behind = gone or [host for host, step in steps.items() if step == min(steps.values())]
    if len(behind) == len(steps) > 1 and not gone:
        told = _describe(reports[behind[0]], now_s)
        return f"each of the {len(steps)} hosts {told}: what they do together hangs"
    texts = [f"host {host} {_describe(reports[host], now_s)}" for host in behind[:NAMED]]
    if len(behind) > NAMED:
        texts.append(f"and {len(behind) - NAMED} more")
    begun = sorted({steps[host] for host in set(steps) - set(behind) if steps[host] >= 0})
    if begun:
        texts.append("the others wait at " + " to ".join(map(str, sorted({begun[0], begun[-1]}))))
    return "; ".join(texts)


def _order(report: Report | None) -> int:
    """Returns the step, or -1 before the first and -2 where nothing was reported."""
    if report is None:
        return -2
    return -1 if report.step is None else report.step


def _silent(report: Report, now_s: float | int) -> bool:
    return now_s - report.alive_s > SILENT_S


def _describe(report: Report | None, now_s: float | int) -> str:
    if report is None:
        return "has not reported"
    step = "before its first step" if report.step is None else f"at step {report.step}"
    told = f"reported last {step}, {max(now_s - report.time_s, 0):.0f} s ago"
    return told + (", and does not run any more" if _silent(report, now_s) else "")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _end(line: str) -> NoReturn:
    """Ends the process from any thread, whatever the main thread is in."""
    os.write(STDERR, f"emoconv: {line}\n".encode(errors="backslashreplace"))
    os._exit(1)
