"""Readers: the batches of consecutive steps, read ahead of their use and given in order.

Both call `Batches.at`, so they give the same batches; they differ in who does the reading:

    plain        threads of this process; needs NumPy alone
    tensorflow   tf.data: range(start, stop) -> stretches and slice reads, several steps at a time
                 -> prefetch

A reader is a generator: leaving it, by `close()` or an error, ends its threads. What goes wrong
while reading ahead is raised at the step that it belongs to.
"""

import collections
import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Generator
from typing import Any

import jax
import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.batches import Batch, Batches

THREADS = 2  # steps read at the same time: one waits for the disk while the other converts
AHEAD = 4  # batches that are read, or being read, before they are asked for
ON_DEVICE = 2  # batches on the device: the one in use and the next
Reader = Generator[Batch, None, None]


def plain(
    batches: Batches, start: int, stop: int, *, threads: int = THREADS, ahead: int = AHEAD
) -> Reader:
    """Reads with a few threads.

    Args:
        batches: what to read.
        start: the first step.
        stop: the step after the last.
        threads: how many steps are read at the same time.
        ahead: how many batches at most wait in memory, those being read included.

    Yields:
        The batch of each step.

    Raises:
        EmoconvError: as `Batches.at` raises it.
    """
    upcoming: collections.deque[concurrent.futures.Future[Batch]] = collections.deque()
    steps = iter(range(start, stop))
    with concurrent.futures.ThreadPoolExecutor(threads, "reader") as pool:
        try:
            while True:
                while len(upcoming) < ahead and (step := next(steps, None)) is not None:
                    upcoming.append(pool.submit(batches.at, step))
                if not upcoming:
                    return
                yield upcoming.popleft().result()
        finally:
            for future in upcoming:
                future.cancel()


def tensorflow(
    batches: Batches, start: int, stop: int, *, threads: int = THREADS, ahead: int = AHEAD
) -> Reader:
    """Reads with tf.data, which is kept away from accelerators.

    Args:
        batches: what to read.
        start: the first step.
        stop: the step after the last.
        threads: how many steps are read at the same time.
        ahead: how many batches at most wait in memory.

    Yields:
        The batch of each step.

    Raises:
        EmoconvError: as `Batches.at` raises it, or TensorFlow is not installed.
    """
    if start >= stop:
        return
    tf = _tensorflow()
    first = batches.at(start)  # says which fields there are; tf.data has no None
    names = [name for name, value in first._asdict().items() if value is not None]
    types = [getattr(first, name).dtype for name in names]
    failures: dict[int, Exception] = {}

    def read(step: np.integer) -> list[np.ndarray]:
        try:
            batch = batches.at(int(step))
        except Exception as error:  # TensorFlow would log it at length and raise its own
            failures[int(step)] = error
            return [np.empty(0, kind) for kind in types]
        return [getattr(batch, name) for name in names]

    options = tf.data.Options()
    options.threading.private_threadpool_size = threads  # ends with the iterator
    data = (
        tf.data.Dataset.range(start, stop)
        .map(
            lambda step: tf.numpy_function(read, [step], types, stateful=False),
            num_parallel_calls=threads,
            deterministic=True,
        )
        .prefetch(ahead)
        .with_options(options)
    )
    for step, arrays in enumerate(data.as_numpy_iterator(), start=start):
        if step in failures:
            raise failures[step]
        yield Batch(**dict(zip(names, arrays, strict=True)))


READERS = {"plain": plain, "tensorflow": tensorflow}


def prefetch_to_device(
    reader: Reader, size: int = ON_DEVICE, put: Callable[[Batch], Any] = jax.device_put
) -> Reader:
    """Puts batches on the device before they are asked for; copying overlaps with computing.

    A batch belongs to its receiver alone: its arrays are fresh, so a step may donate them.

    Args:
        reader: gives a host's batches; is closed with this one.
        size: how many batches may lie on the device, 1 or more.
        put: brings a batch to where it is used; by default, to the default device.

    Yields:
        The same batches with `jax.Array` fields.

    Raises:
        EmoconvError: as the reader raises it.
    """

    waiting: collections.deque[Batch] = collections.deque()
    with contextlib.closing(reader):
        try:
            for batch in reader:
                waiting.append(put(batch))
                if len(waiting) == size:
                    yield waiting.popleft()
        except EmoconvError:
            yield from waiting  # the steps before the one that failed
            raise
        yield from waiting


def _tensorflow() -> Any:
    """Returns the module, told to leave accelerators to JAX before it looks at them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf
    except ModuleNotFoundError:
        raise EmoconvError(
            "reader: tensorflow is not installed; `pip install -e .[tensorflow]` has it, or take "
            "the reader plain, which gives the same batches"
        ) from None
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf
