"""Runs one call per shard of a corpus: here, in worker processes, or on Apache Beam.

A call writes its shard's files whole or not at all and skips a shard that has them; that is what
makes a preparation resumable, and the same however it was run. The same to the last bit needs one
more thing: threads that share a sum round it in another way, so the local runner always works in
processes of one thread (`WORKER_ENVIRONMENT`). On Beam, give its workers that environment.
"""

import collections
import concurrent.futures
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from tqdm import tqdm

from emoconv_jax.errors import EmoconvError

Job = TypeVar("Job")
Result = TypeVar("Result")

POLL_S = 0.5
# Workers share the cores by being many, each of them on one; a GPU cannot be shared at all.
WORKER_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}

_done: Any = None  # in a worker: the shared count of utterances
_peak: Any = None  # in a worker: the shared peak of memory
_bar: tqdm | None = None  # in this process


def tick(count: int = 1) -> None:
    """Says that utterances are done; a call says it of each, so that progress is smooth.

    Args:
        count: how many.
    """
    if _bar is not None:
        _bar.update(count)
    if _done is not None:
        with _done.get_lock():
            _done.value += count
            _peak.value = max(_peak.value, peak_bytes())


def peak_bytes() -> int:
    """Returns the greatest memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def map_shards(
    call: Callable[[Job], Result], jobs: Sequence[Job], label: str, total: int, workers: int = 1
) -> Iterator[Result]:
    """Calls every job, in this process or in several, with a progress bar.

    Args:
        call: a function of a module.
        jobs: its arguments.
        label: of the bar.
        total: utterances in all the jobs.
        workers: processes; for one, this process will do if it has the workers' environment.

    Yields:
        The results, in the order of the jobs.

    Raises:
        EmoconvError: a worker died.
    """
    global _bar
    with tqdm(total=total, desc=label, unit="utt", smoothing=0.05) as bar:
        if not jobs:
            return
        if min(workers, len(jobs)) == 1 and _has_worker_environment():
            _bar = bar
            try:
                yield from map(call, jobs)
            finally:
                _bar = None
            return
        yield from _in_processes(call, jobs, bar, workers)


def for_each_shard(
    call: Callable[[Job], None],
    jobs: Sequence[Job],
    label: str,
    total: int,
    *,
    workers: int = 1,
    runner: str = "local",
    beam_options: Sequence[str] = (),
) -> None:
    """Calls every job for what it writes, by the runner asked for.

    Args:
        call: a function of a module.
        jobs: its arguments; paths in them must mean the same on every machine of the runner.
        label: of the progress bar.
        total: utterances in all the jobs.
        workers: processes of the local runner.
        runner: "local" or "beam".
        beam_options: of the Beam pipeline, as on its command line.

    Raises:
        EmoconvError: a worker died.
        ModuleNotFoundError: Beam is not installed.
    """
    if runner == "beam":
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        with beam.Pipeline(options=PipelineOptions(list(beam_options))) as pipeline:
            _ = pipeline | beam.Create(list(jobs)) | beam.Reshuffle() | beam.Map(call)
        return
    for _ in map_shards(call, jobs, label, total, workers):
        pass


def _in_processes(
    call: Callable[[Job], Result], jobs: Sequence[Job], bar: tqdm, workers: int
) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")  # forked JAX hangs
    done, peak = context.Value("q", 0), context.Value("q", 0)
    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    os.environ["XLA_FLAGS"] = f"{before['XLA_FLAGS'] or ''} {WORKER_ENVIRONMENT['XLA_FLAGS']}"
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(jobs)), context, initializer=_adopt, initargs=(done, peak)
    )
    try:
        waiting = collections.deque(pool.submit(call, job) for job in jobs)
        while waiting:
            while not concurrent.futures.wait([waiting[0]], timeout=POLL_S).done:
                bar.update(done.value - bar.n)
            bar.update(done.value - bar.n)
            yield waiting.popleft().result()  # and forgotten: results may be large
        bar.set_postfix_str(f"peak of a worker {peak.value / 1e9:.2f} GB")
    except BrokenProcessPool:
        raise EmoconvError(
            "a worker process died (out of memory?); run the same command again to continue, with "
            "fewer --workers if memory was short"
        ) from None
    except BaseException:
        # What runs now would be waited for, and what is queued begun: a shard takes a minute.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _has_worker_environment() -> bool:
    """Tells whether this process computes to the last bit what a worker does."""
    found = {name: os.environ.get(name, "") for name in WORKER_ENVIRONMENT}
    return all(value in found[name].split() for name, value in WORKER_ENVIRONMENT.items())


def _adopt(done: Any, peak: Any) -> None:
    """Makes a fresh worker count into its parent's numbers, and end when its parent does."""
    global _done, _peak
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the parent to decide
    _done, _peak = done, peak
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
