"""Real processes: two that meet over loopback, one that hangs, one that gets signals.

All are started at once and then looked at one by one, because each takes seconds to import JAX.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from emoconv_jax.errors import UsageError
from emoconv_jax.training import hosts

CLUSTERS = ("SLURM_", "OMPI_", "KUBERNETES_", "TPU_", "MEGASCALE_", "JAX_COORDINATOR")
PAIR = """
import pathlib, sys, time
from emoconv_jax.training import hosts
folder, host, address = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
hosts.start(address, host, 2)
print([hosts.agree((False, False)), hosts.agree((host == 1, False)), hosts.agree((False, True)),
       hosts.agree((host == 0, host == 1))], flush=True)
with hosts.Watchdog(folder, 0 if host == 0 else 4, print) as watchdog:
    for step in (1, 2, 3):
        watchdog.beat(step)
        hosts.agree((False,))
    if host == 0:  # its data never come
        time.sleep(600)
    watchdog.beat(4)
    hosts.agree((False,))
"""
LONER = """
import ctypes, pathlib, sys
import jax
from emoconv_jax.training import hosts
assert hosts.agree((True, False)) == (True, False)
try:
    jax.devices()
    hosts.start("127.0.0.1:1", 0, 1)
except hosts.EmoconvError as error:
    print(error, flush=True)
with hosts.Watchdog(pathlib.Path(sys.argv[1]), 1, print) as watchdog:
    watchdog.beat(1)
    ctypes.PyDLL(None).sleep(600)  # unlike time.sleep, it lets no other thread of Python run
"""
LOST = """
import sys
from emoconv_jax.training import hosts
try:
    hosts.start(None, None, None)
except hosts.UsageError as error:
    print(error, flush=True)
hosts.start(sys.argv[1], 1, 2, limit_s=1)
"""
EARLY = """
import sys
from emoconv_jax.training import hosts
hosts.start(sys.argv[1], 0, 2, limit_s=1)
"""
STOPPED = """
import time
from emoconv_jax.training import hosts
for _ in range(2):
    with hosts.Stop() as stop:
        print("ready", flush=True)
        while not stop.asked:
            time.sleep(0.01)
        print(stop.asked, flush=True)
        try:
            while stop.asked == "SIGINT":
                time.sleep(0.01)
        finally:
            time.sleep(90 * (stop.asked == "SIGINT"))  # as a save that has to end
"""


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Starts every process; gives each by its name, and the pair's folder of reports."""
    folder = tmp_path_factory.mktemp("hosts") / "reports"
    folder.mkdir()
    # an earlier run had eight hosts and got further
    for host in range(8):
        (folder / f"{host}.json").write_text(
            json.dumps({"step": 99, "time_s": 0, "alive_s": time.time()})
        )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(CLUSTERS)}
    meeting = free_address()
    words = {
        "hung": (PAIR, folder, 0, meeting),
        "waiting": (PAIR, folder, 1, meeting),
        "loner": (LONER, folder.parent / "loner"),
        "lost": (LOST, free_address()),
        "early": (EARLY, free_address()),
        "stopped": (STOPPED,),
    }
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", *map(str, command)],
            env=environment | {"JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, command in words.items()
    }
    yield processes, folder
    for process in processes.values():
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_host_that_hangs_is_named_by_the_one_that_waits_for_it(running):
    processes, folder = running
    out, errors = processes["waiting"].communicate(timeout=60)
    assert processes["waiting"].returncode == 1
    line = errors.strip().splitlines()[-1]
    assert line.startswith("emoconv: host 1: no step for ")
    assert "; host 0 reported last at step 3, " in line
    assert line.endswith("s ago; the others wait at 4")
    assert "in agree" in errors  # the traceback says where it waited
    # both wishes by turns, and the same answer on both hosts
    wishes = "[(False, False), (True, False), (False, True), (True, True)]"
    assert wishes in out
    assert processes["hung"].poll() is None
    processes["hung"].terminate()
    assert wishes in processes["hung"].communicate(timeout=60)[0]
    assert processes["hung"].returncode == -signal.SIGTERM  # JAX's own handler would ignore it
    assert sorted(path.name for path in folder.glob("*.json")) == ["0.json", "1.json"]
    assert json.loads((folder / "0.json").read_text())["step"] == 3


@pytest.mark.slow
def test_a_main_thread_that_lets_no_other_run_is_ended_too(running):
    processes, _ = running
    out, errors = processes["loner"].communicate(timeout=60)
    assert processes["loner"].returncode == 1
    line = LONER[: LONER.index("ctypes.PyDLL")].count("\n") + 1
    assert errors.startswith("Timeout") and f'"<string>", line {line} in <module>' in errors
    assert out.startswith("--distributed: ") and "must be called before" in out


@pytest.mark.slow
def test_hosts_that_do_not_meet_end_with_one_line(running):
    processes, _ = running
    out, errors = processes["lost"].communicate(timeout=60)
    assert processes["lost"].returncode == 1
    assert out.startswith("--distributed: found no SLURM step, Open MPI job, TPU pod or Kubernetes")
    assert errors.startswith("emoconv: --coordinator: 127.0.0.1:")
    assert "not reached within 1 s" in errors and len(errors.splitlines()) == 1
    _, errors = processes["early"].communicate(timeout=60)
    assert processes["early"].returncode == 1
    assert "answers, but not all 2 hosts came within 1 s" in errors.splitlines()[-1]


@pytest.mark.slow
def test_signals_are_remembered_and_a_second_interrupt_ends(running):
    process = running[0]["stopped"]
    said = iter(process.stdout.readline, "")
    assert next(said) == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert [next(said), next(said)] == ["SIGTERM\n", "ready\n"]
    process.send_signal(signal.SIGINT)
    assert next(said) == "SIGINT\n"
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors == ""  # it was not raised, so that nothing could be waited for
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, 0, 2), "--coordinator: missing; --coordinator, --host and --hosts go together"),
        (("a:1", None, 2), "--host: missing"),
        (("a:1", 1, None), "--hosts: missing"),
        (("a:1", 2, 2), "--host: found 2, allowed is 0 to 1 with --hosts 2"),
        (("a:1", -1, 2), "--host: found -1"),
        (("a:1", 0, 0), "--hosts: found 0, allowed is 1 or more"),
        (("a", 0, 1), "--coordinator: found 'a', expected ADDRESS:PORT"),
        ((":1", 0, 1), "--coordinator: found ':1'"),
        (("a:70000", 0, 1), "--coordinator: found 'a:70000'"),
    ],
)
def test_impossible_hosts_are_refused_by_their_flag(given, message):
    with pytest.raises(UsageError) as raised:
        hosts.start(*given)
    assert str(raised.value).startswith(message)


def test_leaving_ends_the_watch_and_leaves_the_last_step(tmp_path):
    before = threading.active_count()
    with hosts.Watchdog(tmp_path / "hosts", 600, print) as watchdog:
        assert threading.active_count() == before + 2
        for step in range(1000):
            watchdog.beat(step)
    assert threading.active_count() == before
    assert hosts.read_reports(tmp_path / "hosts", 1)[0].step == 999


def test_reports_that_cannot_be_written_are_said_once_and_the_run_goes_on(tmp_path):
    (tmp_path / "hosts").write_text("a file where the folder should be")
    lines: list[str] = []
    with hosts.Watchdog(tmp_path / "hosts", 0, lines.append) as watchdog:
        watchdog.beat(1)
    assert lines == [f"{tmp_path / 'hosts'}: File exists; steps are not reported there"]


def test_reports_of_an_earlier_run_and_damaged_ones_do_not_count(tmp_path):
    now = time.time()
    texts = {
        0: {"step": 120, "time_s": now - 1, "alive_s": now},
        1: {"step": 900, "time_s": now, "alive_s": hosts.LOADED_S - 60},
        2: {"step": None, "time_s": now, "alive_s": now},
        4: {"step": "many", "time_s": now, "alive_s": now},
        5: {"step": 1, "alive_s": now},
        6: [1],
    }
    for host, text in texts.items():
        (tmp_path / f"{host}.json").write_text(json.dumps(text))
    (tmp_path / "7.json").write_text('{"step": 1')
    found = hosts.read_reports(tmp_path, 8)
    assert found[0] == hosts.Report(120, now - 1, now)
    assert found[2] == hosts.Report(None, now, now)
    assert [host for host, report in found.items() if report is None] == [1, 3, 4, 5, 6, 7]


def report(step: int | None, ago_s: int = 1800, silent_s: int = 5) -> hosts.Report:
    return hosts.Report(step, 10_000 - ago_s, 10_000 - silent_s)


@pytest.mark.parametrize(
    ("reports", "told"),
    [
        (
            [report(121), report(121), report(121), report(120, 1805)],
            "host 3 reported last at step 120, 1805 s ago; the others wait at 121",
        ),
        (
            [report(123), None, report(121), report(121)],
            "host 1 has not reported; the others wait at 121 to 123",
        ),
        (
            [report(None), report(7)],
            "host 0 reported last before its first step, 1800 s ago; the others wait at 7",
        ),
        (
            [report(20, silent_s=40), report(20)],
            "host 0 reported last at step 20, 1800 s ago, and does not run any more; "
            "the others wait at 20",
        ),
        (
            [report(8, 40, silent_s=40)],
            "host 0 reported last at step 8, 40 s ago, and does not run any more",
        ),
        ([report(None), None], "host 1 has not reported"),
        ([report(9)], "host 0 reported last at step 9, 1800 s ago"),
        (
            [report(9)] * 64,
            "each of the 64 hosts reported last at step 9, 1800 s ago: what they do together hangs",
        ),
        ([None, *[report(9)] * 63], "host 0 has not reported; the others wait at 9"),
        (
            [report(9), *[None] * 6],
            "host 1 has not reported; host 2 has not reported; host 3 has not reported; "
            "host 4 has not reported; and 2 more; the others wait at 9",
        ),
    ],
)
def test_who_is_behind(reports, told):
    assert hosts.who_is_behind(dict(enumerate(reports)), 10_000) == told
