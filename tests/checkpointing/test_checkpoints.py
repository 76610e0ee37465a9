"""Training state on disk: what comes back, which one, and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.checkpointing.checkpoints import KEPT, Checkpoints
from emoconv_jax.errors import EmoconvError


def state(step: int) -> dict:
    return {
        "step": jnp.asarray(step, jnp.int32),
        "params": {"a": {"kernel": jnp.full((2, 3), step + 0.5)}, "b": jnp.arange(4.0)},
        "opt_state": (jnp.zeros((2,)), {"mu": jnp.full((3,), 1e-30)}),
    }


def assert_equal(found: dict, expected: dict) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_the_newest_state_comes_back_bit_for_bit_and_older_ones_go(tmp_path):
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.latest() is None
        for step in (1, 5, 12):
            checkpoints.save(step, state(step))
        assert checkpoints.latest() == 12
    steps = [path.name for path in (tmp_path / "run").iterdir() if path.name.isdigit()]
    assert sorted(steps, key=int) == ["5", "12"]
    assert len(steps) == KEPT
    with Checkpoints(tmp_path / "run") as again:
        assert again.latest() == 12
        assert_equal(again.restore(state(0)), state(12))
        shapes = jax.eval_shape(lambda: state(0))
        assert_equal(again.restore(shapes), state(12))


def test_a_step_is_never_overwritten(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state(3))
        with pytest.raises(EmoconvError, match="step 3 could not be saved"):
            checkpoints.save(3, state(7))
        assert_equal(checkpoints.restore(state(0)), state(3))


def test_an_unfinished_save_is_not_seen(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state(3))
    (tmp_path / "9.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "9.orbax-checkpoint-tmp" / "half").write_bytes(b"x")
    with Checkpoints(tmp_path) as again:
        assert again.latest() == 3


def test_no_checkpoint_is_said(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(EmoconvError, match="no complete"):
        checkpoints.restore(state(0))


@pytest.mark.parametrize(
    "change",
    [
        {"params": {"a": {"kernel": jnp.zeros((3, 3))}, "b": jnp.zeros(4)}},
        {"params": {"a": {"kernel": jnp.zeros((2, 3))}}},
        {"params": {"a": {"kernel": jnp.zeros((2, 3))}, "b": jnp.zeros(4), "c": jnp.zeros(1)}},
    ],
    ids=["shape", "leaf too few", "leaf too many"],
)
def test_a_state_of_another_network_is_refused_in_one_line(tmp_path, change):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state(3))
        with pytest.raises(EmoconvError, match="step 3 does not fit this run: ") as caught:
            checkpoints.restore(state(0) | change)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmoconvError, match="file/run: cannot be created"):
        Checkpoints(tmp_path / "file" / "run")
