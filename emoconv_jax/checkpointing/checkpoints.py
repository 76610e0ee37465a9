"""Saving and restoring training state with Orbax.

A checkpoint is a dict of global arrays (step, params, ema_params, opt_state). A save becomes
visible only when it is complete; `restore` takes the newest complete step.
"""

import pathlib
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from emoconv_jax.errors import EmoconvError

KEPT = 2  # the newest and the one before it


class Checkpoints:
    """The checkpoints of one run. Use as a context manager: leaving it waits for saves."""

    def __init__(self, folder: pathlib.Path):
        """Opens or creates the folder.

        Args:
            folder: of this run's checkpoints.

        Raises:
            EmoconvError: the folder cannot be made.
        """
        self.folder = folder.resolve()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmoconvError(f"{folder}: cannot be created ({error.strerror})") from None
        training: Any = ocp.training  # its annotations refuse its own policies
        self._checkpointer = training.Checkpointer(
            self.folder,
            preservation_policy=training.preservation_policies.LatestN(KEPT),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()

    def latest(self) -> int | None:
        """Returns the newest complete step, or None."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Writes a checkpoint and waits until it is complete.

        Args:
            step: its number.
            state: dict of pytrees of arrays.

        Raises:
            EmoconvError: it could not be written.
        """
        try:
            self._checkpointer.save(step, state, force=True)
        except (OSError, ValueError) as error:
            raise EmoconvError(f"{self.folder}: step {step} could not be saved: {error}") from None

    def restore(self, like: dict[str, Any]) -> dict[str, Any]:
        """Returns the newest complete checkpoint.

        Args:
            like: a state of the same structure; its arrays or `jax.ShapeDtypeStruct` say how the
                restored ones are laid out.

        Returns:
            The state.

        Raises:
            EmoconvError: there is none, or its structure differs.
        """
        step = self.latest()
        if step is None:
            raise EmoconvError(f"{self.folder}: holds no complete checkpoint")
        abstract = jax.tree.map(_abstract, like)
        try:
            return self._checkpointer.load(step, abstract)
        except (ValueError, KeyError, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise EmoconvError(
                f"{self.folder}: step {step} does not fit this run: {reason}"
            ) from None


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    sharding = getattr(leaf, "sharding", None) or here
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
