"""Saving and restoring training state with Orbax, in the background and checked on the way back.

A step is a folder named by its number. Orbax writes it under `unfinished/`; then the SHA-256 of
every file is added, and last of all the folder is renamed to its number. So a step is there whole
or not at all: its state, what is said about it, and the checksums of both. Restoring reads the
checksums first, so what is damaged is told from what is merely of another network.

Of several processes all write, and process 0 alone lists, checks, renames and removes folders.
"""

import concurrent.futures
import json
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from emoconv_jax.checkpointing.agreement import by_first, gather, raise_together
from emoconv_jax.checkpointing.checksums import find_damage, write_checksums
from emoconv_jax.errors import EmoconvError, UsageError

UNFINISHED = "unfinished"  # below the steps' folder: what is being written or removed
SET_ASIDE = "corrupt"  # beside the steps' folder
STEP = re.compile(r"0|[1-9][0-9]*")
# Of an array that all devices hold, each can write a slice. Cutting small ones costs more than it
# saves: 704 arrays of 39 MB on 8 simulated devices of one CPU stopped training for 9 s once and
# then 1.0 s at each save, now .4 and .25 s; 482 MB for 10 and 1.0 s, now 1.2 and .45 s.
LEAST_SLICE_BYTES = 2**20
ORBAX: Any = ocp  # its annotations refuse a pathlib.Path


class Checkpoints:
    """The checkpoints of one run. Use as a context manager: leaving it waits for the save."""

    def __init__(
        self, folder: pathlib.Path, *, keep: int = 2, keep_every: int = 0, reading: bool = False
    ):
        """Opens the folder, or creates it.

        Args:
            folder: of this run's checkpoints.
            keep: the newest so many steps stay, from 1.
            keep_every: steps that are multiples of it stay too; 0 for none.
            reading: of another run, which may be alive: nothing is created, moved or removed.

        Raises:
            EmoconvError: the folder cannot be made.
            UsageError: a number out of range.
        """
        if keep < 1 or keep_every < 0:
            raise UsageError(
                f"keep {keep}, keep_every {keep_every}: at least 1 and at least 0 are allowed"
            )
        self.folder = pathlib.Path(os.path.abspath(folder))
        self._reading = reading
        try:
            if not reading:
                self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmoconvError(f"{folder}: cannot be created ({error.strerror})") from None
        self._keep, self._keep_every = keep, keep_every
        # its own lines are pages of tracebacks of what is raised here in one
        logging.getLogger("absl").addFilter(_not_of_orbax)
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._saving: tuple[int, concurrent.futures.Future] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self.wait()
            elif self._saving:  # the other processes may be elsewhere: no agreement with them
                late = self._saving[1].exception()
                if late:
                    error.add_note(self._failure(self._saving[0], late))
        finally:
            self._pool.shutdown()

    def latest(self) -> int | None:
        """Returns the newest complete step, or None."""
        return max(self._steps(), default=None)

    def save(self, step: int, state: dict[str, Any], about: dict[str, Any]) -> None:
        """Copies the state to host memory and writes it in the background.

        Waits for the save before it. When it returns, the state's buffers may be donated.

        Args:
            step: its number, not saved yet.
            state: dict of pytrees of arrays.
            about: what belongs to the state, as JSON can hold it (a tuple comes back as a list).

        Raises:
            EmoconvError: this save could not begin, or the one before it failed.
        """
        about = json.loads(json.dumps(about))  # the caller may change its own later
        self.wait()
        by_first(lambda: self._make_room(step))
        try:
            with _context():
                writing = ORBAX.save_async(
                    self._place(step), state, custom_metadata={"about": about}
                )
        except Exception as error:  # Orbax documents none of them
            raise EmoconvError(self._failure(step, error)) from error
        self._saving = step, self._pool.submit(self._finish, step, writing)

    def wait(self) -> None:
        """Waits until the save under way is complete.

        Raises:
            EmoconvError: it failed, in this process or in another.
        """
        if self._saving is None:
            return
        step, saving = self._saving
        error = saving.exception()
        self._saving = None
        raise_together(self._failure(step, error) if error else "", cause=error)

    def restore(
        self, like: dict[str, Any], log: Callable[[str], None] = print
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Returns the newest readable step; damaged ones after it are set aside in `corrupt/`.

        Who is only reading another run sets nothing aside.

        Args:
            like: a state of the same structure; its arrays or `jax.ShapeDtypeStruct` say how the
                restored ones are laid out, by default whole on the first device.
            log: takes a line for each step set aside.

        Returns:
            The state and what was said about it; None where nothing has been saved.

        Raises:
            EmoconvError: there are steps but none is readable (then none is moved), or the state
                is of another network.
        """
        self.wait()
        chosen = by_first(lambda: self._newest_readable(log))
        answer = gather("" if chosen is None else str(chosen))[0]
        if not answer:
            return None
        step = int(answer)
        path = self.folder / str(step)
        abstract = jax.tree.map(_abstract, like)
        try:
            stored = ORBAX.metadata(path)
        except Exception as error:
            raise EmoconvError(f"{path}: cannot be read: {_reason(error)}") from error
        misfit = _misfit(stored.metadata, abstract)
        if misfit:
            raise EmoconvError(f"{self.folder}: step {step} does not fit this run: {misfit}")
        try:
            return ORBAX.load(path, abstract), stored.custom_metadata["about"]
        except Exception as error:
            raise EmoconvError(f"{path}: cannot be read: {_reason(error)}") from error

    def _steps(self) -> list[int]:
        """Returns the complete steps, oldest first."""
        try:
            found = [path.name for path in self.folder.iterdir() if path.is_dir()]
        except FileNotFoundError:  # of another run, which has none yet
            return []
        except OSError as error:
            raise EmoconvError(f"{self.folder}: cannot be read ({error.strerror})") from None
        return sorted(int(name) for name in found if STEP.fullmatch(name))

    def _place(self, step: int) -> pathlib.Path:
        """Returns where a step is written."""
        return self.folder / UNFINISHED / f"{step}-new" / str(step)

    def _failure(self, step: int, error: BaseException) -> str:
        if isinstance(error, EmoconvError):
            return str(error)
        return f"{self.folder}: step {step} could not be saved: {_reason(error)}"

    def _make_room(self, step: int) -> None:
        """Clears what a killed or failed save left, and sees that something can be written."""
        if step in self._steps():
            raise EmoconvError(f"{self.folder}: step {step} could not be saved: it exists already")
        try:
            shutil.rmtree(self.folder / UNFINISHED, ignore_errors=True)
            self._place(step).parent.mkdir(parents=True)
        except OSError as error:
            raise EmoconvError(self._failure(step, error)) from error

    def _finish(self, step: int, writing: Any) -> None:
        """Waits for the writing, then makes the step visible and removes old ones."""
        first = jax.process_index() == 0
        try:
            writing.result()  # on all processes alike: it ends with a barrier
            if first:
                write_checksums(self._place(step))
                os.rename(self._place(step), self.folder / str(step))
                self._remove_old()
        finally:
            if first:  # where it failed: others may need the room on a full disk
                shutil.rmtree(self.folder / UNFINISHED, ignore_errors=True)

    def _remove_old(self) -> None:
        for step in self._steps()[: -self._keep]:
            if self._keep_every and step % self._keep_every == 0:
                continue
            # out of sight first: a step half removed would look like a damaged one
            try:
                os.rename(self.folder / str(step), self.folder / UNFINISHED / f"{step}-old")
            except OSError as error:
                raise EmoconvError(
                    f"{self.folder}: old step {step} could not be removed: {_reason(error)}"
                ) from error

    def _newest_readable(self, log: Callable[[str], None]) -> int | None:
        damaged: dict[int, str] = {}
        for step in reversed(self._steps()):
            path = self.folder / str(step)
            try:
                damage = find_damage(path)
            except OSError as error:
                damage = error.strerror or str(error)
                if path.exists():
                    raise EmoconvError(f"{path}: cannot be read ({damage})") from None
            if not damage:
                for bad, reason in damaged.items():
                    self._set_aside(bad, reason, log)
                return step
            if path.exists():  # else a run that is writing has just removed it
                damaged[step] = damage
        if damaged:
            newest = max(damaged)
            raise EmoconvError(
                f"{self.folder}: none of the {len(damaged)} saved steps is readable, the newest is "
                f"{newest}: {damaged[newest]}; to begin anew, move the folder away"
            )
        return None

    def _set_aside(self, step: int, damage: str, log: Callable[[str], None]) -> None:
        if self._reading:
            log(f"{self.folder}: step {step} is damaged ({damage})")
            return
        folder = self.folder.parent / SET_ASIDE
        target, number = folder / str(step), 1
        while target.exists():
            target, number = folder / f"{step}.{number}", number + 1
        try:
            folder.mkdir(exist_ok=True)
            shutil.move(self.folder / str(step), target)
            log(f"step {step} is damaged ({damage}): set aside as {target}")
        except OSError as error:
            reason = error.strerror or error
            log(f"step {step} is damaged ({damage}) and cannot be moved to {target} ({reason})")


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """Returns whether a line of the log is from elsewhere."""
    return "orbax" not in pathlib.Path(record.pathname).parts


def _context() -> Any:
    """Returns Orbax's settings."""
    context = ORBAX.Context()
    # in the background, one that cannot be made would keep other threads waiting for minutes
    context.asynchronous.create_directories_asynchronously = False
    context.array.saving.min_slice_bytes_for_replica_parallel = LEAST_SLICE_BYTES
    return context


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    sharding = getattr(leaf, "sharding", None) or here
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _misfit(stored: Any, wanted: Any) -> str:
    """Returns the first leaf that differs in name, type or shape, or ''."""
    sides = [
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{leaf.shape}"
            for path, leaf in jax.tree.leaves_with_path(tree)
        }
        for tree in (stored, wanted)
    ]
    for name in sorted(sides[0].keys() | sides[1].keys()):
        found, expected = (side.get(name, "nothing") for side in sides)
        if found != expected:
            return f"{name} is {found}, needed is {expected}"
    return ""


def _reason(error: BaseException) -> str:
    """Returns the root of an error of Orbax in one line; the system's words where it has any."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()) or type(error).__name__
    told = re.search(r"os_error_code='(\d+)'", text)  # as TensorStore words it
    return os.strerror(int(told.group(1))) if told else text[:300]
