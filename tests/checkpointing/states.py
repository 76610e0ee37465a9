"""A small training state with what is easily lost: signs of zeros, NaN's payload, odd types."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NOBODY = 65534


class Moments(NamedTuple):
    """As an optimizer keeps them."""

    count: Any
    mu: Any


def state(step: int) -> dict:
    """Returns a state that differs in every leaf from that of another step."""
    bits = np.array([0x7FC01234, 0x80000000, 0x00000001, step], np.uint32)
    return {
        "step": jnp.asarray(step, jnp.int32),
        "params": {"a": {"kernel": jnp.full((2, 3), step + 0.5)}, "b": -0.0 * jnp.arange(4.0)},
        "odd": {
            "bits": jnp.asarray(bits.view(np.float32)),
            "half": jnp.full((5,), step, jnp.bfloat16),
            "flags": jnp.asarray([True, step % 2 == 0]),
        },
        "opt_state": (
            Moments(jnp.asarray(step, jnp.int32), {"w": jnp.full((7,), 1e-30 * step)}),
            None,
        ),
    }


def bytes_of(tree: Any) -> list[tuple[str, bytes]]:
    """Returns every leaf's type and bytes, so that comparing them tells -0.0 from 0.0."""
    return [(str(leaf.dtype), np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def assert_equal(found: Any, expected: Any) -> None:
    """Checks structure, types and bits."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert bytes_of(found) == bytes_of(expected)


@contextlib.contextmanager
def read_only(*folders: pathlib.Path) -> Iterator[None]:
    """Makes folders read-only, also for root, who becomes nobody meanwhile."""
    before = [folder.stat().st_mode for folder in folders]
    user = os.geteuid()
    for folder in folders:
        folder.chmod(0o555)
    try:
        if user == 0:
            os.seteuid(NOBODY)
        yield
    finally:
        os.seteuid(user)
        for folder, mode in zip(folders, before, strict=True):
            folder.chmod(mode)
