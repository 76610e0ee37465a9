"""Readers: in order, the same whoever reads, errors in their place, nothing left running."""

import os
import pathlib
import subprocess
import sys
import threading

import batch_hashes
import jax
import numpy as np
import pytest

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.batches import Batch, Batches
from emoconv_jax.pipeline.readers import READERS, plain, prefetch_to_device, tensorflow
from emoconv_jax.pipeline.store import array_path

TRAINEES, CROPS = batch_hashes.TRAINEES, batch_hashes.CROPS
ROOT = pathlib.Path(__file__).resolve().parents[2]
BOTH = [plain, pytest.param(tensorflow, marks=pytest.mark.slow)]


def batches(store, trainee="score_network", crop="random", kind=Batches) -> Batches:
    selection = np.arange(len(store.utterances))
    return kind(store, selection, trainee, batch=4, frames=48, seed=0, crop=crop)


class Damaged(Batches):
    """Cannot read beyond step 6."""

    def at(self, step: int) -> Batch:
        if step > 6:
            raise EmoconvError(f"step {step} lies beyond 6")
        return super().at(step)


def assert_same(found: Batch, expected: Batch) -> None:
    for name, a, b in zip(Batch._fields, found, expected, strict=True):
        assert (a is None) == (b is None), name
        if b is not None:
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reader")]


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("trainee", TRAINEES)
def test_a_reader_gives_the_batches_of_its_steps_in_order(numbered, read, trainee, crop):
    made = batches(numbered, trainee, crop)
    found = list(read(made, 3, 23, threads=3, ahead=5))
    assert len(found) == 20
    for step, batch in enumerate(found, start=3):
        assert_same(batch, made.at(step))


@pytest.mark.parametrize("read", READERS.values())
def test_no_steps_are_no_batches(numbered, read):
    assert list(read(batches(numbered), 5, 5)) == []


@pytest.mark.parametrize("read", BOTH)
@pytest.mark.parametrize("wrap", [iter, prefetch_to_device])
def test_an_error_is_raised_at_its_step_as_it_was(numbered, read, wrap):
    reader = wrap(read(batches(numbered, kind=Damaged), 3, 20))
    for step in range(3, 7):
        assert_same(jax.device_get(next(reader)), batches(numbered).at(step))
    with pytest.raises(EmoconvError, match=r"^step 7 lies beyond 6$"):
        next(reader)
    assert not reading_threads()


@pytest.mark.parametrize("read", BOTH)
def test_a_missing_file_is_named(numbered, read):
    array_path(numbered.folder, "average_voice").unlink()
    with pytest.raises(EmoconvError, match=r"average_voice\.f16: not found; run `emoconv prepare`"):
        next(read(batches(numbered), 0, 10))


@pytest.mark.parametrize("wrap", [iter, prefetch_to_device])
def test_leaving_early_ends_the_threads(numbered, wrap):
    reader = wrap(plain(batches(numbered), 0, 10**9, threads=3))
    next(reader)
    next(reader)
    assert reading_threads()
    reader.close()
    assert not reading_threads()


@pytest.mark.slow
def test_leaving_tensorflow_early_ends_its_reading(numbered):
    asked = []

    class Noted(Batches):
        def at(self, step: int) -> Batch:
            asked.append(step)
            return super().at(step)

    reader = tensorflow(batches(numbered, kind=Noted), 0, 10**9, ahead=3)
    next(reader)
    reader.close()
    after = len(asked)
    assert after < 20
    next(tensorflow(batches(numbered), 0, 2))  # another reader has run meanwhile
    assert len(asked) == after


def test_reading_ahead_is_bounded(numbered):
    """Whoever does not ask gets no more than `ahead` batches into memory."""
    asked = []

    class Noted(Batches):
        def at(self, step: int) -> Batch:
            asked.append(step)
            return super().at(step)

    with_two = plain(batches(numbered, kind=Noted), 0, 10**9, ahead=2)
    next(with_two)
    with_two.close()
    assert set(asked) <= {0, 1}


@pytest.mark.slow
def test_tensorflow_sees_no_accelerator(numbered):
    next(tensorflow(batches(numbered), 0, 1))
    import tensorflow as tf

    assert {device.device_type for device in tf.config.get_visible_devices()} == {"CPU"}


@pytest.mark.parametrize("size", [1, 2, 5])
def test_batches_on_the_device_are_the_readers(numbered, size):
    made = batches(numbered)
    found = list(prefetch_to_device(plain(made, 0, 8), size))
    assert len(found) == 8
    for step, batch in enumerate(found):
        assert all(field is None or isinstance(field, jax.Array) for field in batch)
        assert_same(jax.device_get(batch), made.at(step))


def test_batches_on_the_device_may_be_donated(numbered):
    made = batches(numbered)
    step = jax.jit(lambda batch: batch._replace(mel=batch.mel + 1), donate_argnums=0)
    kept = [step(batch) for batch in prefetch_to_device(plain(made, 0, 12), 3)]
    for number, batch in enumerate(kept):
        expected = made.at(number)
        assert_same(jax.device_get(batch), expected._replace(mel=expected.mel + np.float32(1)))


@pytest.mark.slow
def test_a_sharded_batch_lies_in_parts_on_eight_devices(numbered):
    code = """
import functools, pathlib, sys
import jax, numpy as np
from emoconv_jax.pipeline.batches import Batches
from emoconv_jax.pipeline.readers import plain, prefetch_to_device
from emoconv_jax.pipeline.store import FeatureStore
store = FeatureStore(pathlib.Path(sys.argv[1]))
made = Batches(store, np.arange(10), "score_network", batch=16, frames=32, seed=0)
mesh = jax.sharding.Mesh(np.array(jax.devices()), "batch")
sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
put = functools.partial(jax.make_array_from_process_local_data, sharding)
for step, batch in enumerate(prefetch_to_device(plain(made, 0, 3), put=put)):
    for name, value in batch._asdict().items():
        if value is not None:
            expected = getattr(made.at(step), name)
            assert [part.data.shape[0] for part in value.addressable_shards] == [2] * 8
            for part in value.addressable_shards:
                np.testing.assert_array_equal(part.data, expected[part.index])
print("compared", step + 1)
"""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(numbered.folder)],
        cwd=ROOT,
        env=os.environ | flags,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "compared 3\n", done.stderr


@pytest.mark.slow
def test_a_killed_reader_continues_with_the_very_next_batch(numbered):
    """SIGKILL while it writes; the pipe holds fewer lines than it has to write."""
    total = 4000
    arguments = [sys.executable, batch_hashes.__file__, str(numbered.folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before = 1 + int.from_bytes(os.urandom(1))
    with subprocess.Popen(
        [*arguments, "0", str(total)], stdout=subprocess.PIPE, env=environment
    ) as child:
        seen = [child.stdout.readline() for _ in range(before)]
        child.kill()
        seen += child.stdout.read().splitlines(keepends=True)
    assert child.returncode == -9
    whole = [line.decode().strip() for line in seen if line.endswith(b"\n")]
    assert before <= len(whole) < total
    resumed = subprocess.run(
        [*arguments, str(len(whole)), str(len(whole) + 40)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        check=True,
    )
    found = whole + resumed.stdout.split()
    assert found == list(batch_hashes.hashes(numbered, 0, len(whole) + 40))
    assert len(set(found)) == len(found)
