"""What many processes have to know of each other: a word of each, and whether one has failed.

A process that raises alone leaves the others waiting in their next common operation. So what only
one of them does, or what may fail in one of them, is followed by a round in which all take part.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from emoconv_jax.errors import EmoconvError

MESSAGE_BYTES = 1024  # of what processes tell each other
Result = TypeVar("Result")


def gather(message: str) -> list[str]:
    """Returns the message of every process, by its index; all processes must call it.

    Args:
        message: of this one; its first MESSAGE_BYTES go round.

    Returns:
        One per process.
    """
    if jax.process_count() == 1:
        return [message]
    line = message.encode("utf-8")[:MESSAGE_BYTES]
    padded = np.frombuffer(line.ljust(MESSAGE_BYTES, b"\0"), np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row.tobytes().rstrip(b"\0").decode("utf-8", errors="replace") for row in rows]


def raise_together(problem: str, cause: BaseException | None = None) -> None:
    """Raises in every process the first problem that any of them has; all must call it.

    Args:
        problem: of this process, "" for none.
        cause: of this process.

    Raises:
        EmoconvError: some process has a problem.
    """
    for met in gather(problem):
        if met:
            raise EmoconvError(met) from cause


def by_first(work: Callable[[], Result]) -> Result | None:
    """Has process 0 do the work; what it raises is raised in every process; all must call it.

    Args:
        work: takes nothing.

    Returns:
        Its result in process 0, None in the others.

    Raises:
        EmoconvError: raised by the work.
    """
    result, problem = None, ""
    if jax.process_index() == 0:
        try:
            result = work()
        except EmoconvError as error:
            problem = str(error)
    raise_together(problem)
    return result
