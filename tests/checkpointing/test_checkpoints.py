"""Training state on disk: what comes back, which one, what stays, and what fails how."""

import functools
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import assert_equal, read_only, state

from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.errors import EmoconvError, UsageError

FOLDER_BYTES = 1 << 20  # a "disk" of a megabyte, for a file each


def steps_of(folder) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


@pytest.fixture
def full_disk():
    """Lets no file of this process grow past a megabyte; SIGXFSZ is ignored by Python itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(full: bool = True) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (FOLDER_BYTES if full else soft, hard))

    yield fill
    fill(False)


def large(step: int) -> dict:
    """Returns a state that does not fit, and that does not compress."""
    return {"w": np.random.default_rng(step).normal(size=FOLDER_BYTES).astype(np.float32)}


def test_the_newest_state_comes_back_bit_for_bit_with_what_was_said_about_it(tmp_path):
    about = {"seed": 7, "config": {"lr": 1e-4, "splits": ["train"], "none": None}, "position": 12}
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.latest() is None
        assert checkpoints.restore(state(0)) is None
        for step in (1, 5, 12):
            checkpoints.save(step, state(step), about | {"step": step})
    with Checkpoints(tmp_path / "run") as again:
        assert again.latest() == 12
        restored, said = again.restore(state(0))
        assert_equal(restored, state(12))
        assert said == about | {"step": 12}
        restored, _ = again.restore(jax.eval_shape(lambda: state(0)))
        assert_equal(restored, state(12))
    assert not (tmp_path / "corrupt").exists()


@pytest.mark.parametrize(
    ("keep", "keep_every", "expected"),
    [(1, 0, [7]), (2, 3, [3, 6, 7])],
)
def test_old_steps_go_but_the_newest_and_the_multiples(tmp_path, keep, keep_every, expected):
    with Checkpoints(tmp_path, keep=keep, keep_every=keep_every) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(step, {"w": jnp.asarray(step)}, {})
    assert steps_of(tmp_path) == expected


@pytest.mark.parametrize(("keep", "keep_every"), [(0, 0), (2, -1)])
def test_keeping_nothing_is_refused(tmp_path, keep, keep_every):
    with pytest.raises(UsageError, match=f"keep {keep}, keep_every {keep_every}: at least 1"):
        Checkpoints(tmp_path, keep=keep, keep_every=keep_every)


def test_a_step_is_never_overwritten(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state(3), {})
        with pytest.raises(EmoconvError, match="step 3 could not be saved: it exists already"):
            checkpoints.save(3, state(7), {})
        assert_equal(checkpoints.restore(state(0))[0], state(3))


def test_state_and_about_may_change_as_soon_as_save_returns(tmp_path):
    @functools.partial(jax.jit, donate_argnums=0)
    def next_state(state: dict) -> dict:
        return jax.tree.map(lambda leaf: leaf + 1, state)

    size = 1 << 20
    running = next_state({str(i): jnp.full((size,), i - 1.0) for i in range(8)})
    host = np.zeros(size, np.float32)
    about = {"position": [1]}
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(3):
            checkpoints.save(step, {"device": running, "host": host}, about)
            for _ in range(5):  # in the donated buffers, while the save is under way
                running = next_state(running)
            host += 1
            about["position"][0] += 1
            restored, said = checkpoints.restore({"device": running, "host": host})
            assert said == {"position": [step + 1]}
            for i in range(8):
                assert (np.asarray(restored["device"][str(i)]) == i + 5 * step).all()
            assert (np.asarray(restored["host"]) == step).all()


def test_what_a_killed_save_left_is_not_seen_and_goes_at_the_next(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state(3), {})
    for place in ("9-new/9.orbax-checkpoint-tmp", "9-new/9/state", "2-old/state"):
        (tmp_path / "unfinished" / place).mkdir(parents=True)
        (tmp_path / "unfinished" / place / "half").write_bytes(b"x")
    with Checkpoints(tmp_path) as reader:
        assert reader.latest() == 3
        assert_equal(reader.restore(state(0))[0], state(3))
    assert (tmp_path / "unfinished" / "9-new").exists()  # it may be of a run that is alive
    with Checkpoints(tmp_path) as writer:
        writer.save(9, state(9), {})
    assert steps_of(tmp_path) == [3, 9]


NETWORKS = {
    "shape": ({"a": {"kernel": jnp.zeros((3, 3))}}, r"kernel is float32\(2, 3\), needed is .*3, 3"),
    "type": ({"a": {"kernel": jnp.zeros((2, 3), jnp.bfloat16)}}, "needed is bfloat16"),
    "leaf too few": ({"b": None}, r"params/b is float32\(4,\), needed is nothing"),
    "leaf too many": ({"c": jnp.zeros(1)}, "params/c is nothing, needed is float32"),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_state_of_another_network_is_refused_in_one_line_and_stays(tmp_path, kind):
    change, message = NETWORKS[kind]
    other = state(0)
    other["params"] |= change
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(3, state(3), {})
        with pytest.raises(EmoconvError, match=f"step 3 does not fit this run: .*{message}") as met:
            checkpoints.restore(other)
        assert "\n" not in str(met.value)
        assert_equal(checkpoints.restore(state(0))[0], state(3))
    assert not (tmp_path / "corrupt").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmoconvError, match="file/run: cannot be created"):
        Checkpoints(tmp_path / "file" / "run")


@pytest.mark.parametrize("when", ["save", "wait", "leaving"])
def test_a_full_disk_is_said_at_the_next_call_and_costs_nothing_saved(tmp_path, full_disk, when):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, large(1), {"step": 1})
    checkpoints.save(2, large(2), {"step": 2})
    checkpoints.wait()
    full_disk()
    expected = "step 3 could not be saved: File too large"
    with pytest.raises(EmoconvError, match=expected) as met, checkpoints:
        checkpoints.save(3, large(3), {})
        if when == "save":
            checkpoints.save(4, large(4), {})
        elif when == "wait":
            checkpoints.wait()
    assert str(met.value).startswith(str(tmp_path)) and "\n" not in str(met.value)
    full_disk(False)
    assert steps_of(tmp_path) == [1, 2]  # and nothing half written
    with Checkpoints(tmp_path) as again:
        restored, about = again.restore(large(0))
        assert_equal(restored, large(2))
        assert about == {"step": 2}
        again.save(3, large(3), {})  # there is room now, for the same step
    assert steps_of(tmp_path) == [2, 3]


def test_an_error_under_way_is_not_hidden_by_one_of_the_save(tmp_path, full_disk):
    full_disk()
    with pytest.raises(KeyError, match="mine") as met, Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, large(3), {})
        raise KeyError("mine")
    assert "step 3 could not be saved: File too large" in met.value.__notes__[0]


def test_a_read_only_folder_is_said_and_still_restored_from(open_folder):
    folder = open_folder / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, state(1), {"step": 1})
    with read_only(folder), Checkpoints(folder) as checkpoints:
        with pytest.raises(
            EmoconvError, match="step 2 could not be saved: Permission denied"
        ) as met:
            checkpoints.save(2, state(2), {})
        assert "\n" not in str(met.value)
        restored, about = checkpoints.restore(state(0))
    assert_equal(restored, state(1))
    assert about == {"step": 1}
    assert steps_of(folder) == [1]


def test_an_old_step_that_cannot_be_removed_is_said(open_folder):
    folder = open_folder / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, state(1), {})
    folder.chmod(0o777)
    with read_only(folder / "1"), Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.save(2, state(2), {})
        with pytest.raises(
            EmoconvError, match="old step 1 could not be removed: Permission"
        ) as met:
            checkpoints.wait()
        assert str(met.value).startswith(f"{folder}: old step 1")
        assert checkpoints.latest() == 2
