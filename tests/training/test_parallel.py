"""One device, eight, pmap, micro-batches: the same update of the same batch, masks ragged.

In float64 the ways differ by the order of sums alone, so that gradients and one step of plain
gradient descent agree to 1e-9. In float32 loss and gradient norm agree to 1e-5.
"""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from runs import OVER_FRAMES, drawn, settings

from emoconv_jax.errors import UsageError
from emoconv_jax.training.parallel import Parallel
from emoconv_jax.training.selection import choose, statistics_of, training_batches
from emoconv_jax.training.state import init_state
from emoconv_jax.training.trainees import make_trainee

BATCH = 8
CASES = {  # the style's loss is Tweedie's with one more term
    "recogniser": {"trainee": "recogniser"},
    "average_voice": {"trainee": "average_voice"},
    "tweedie": {"trainee": "score_network", "loss": "tweedie"},
    "style": {"trainee": "score_network", "loss": "tweedie", "style_weight": 10.0},
    "prosody": {
        "trainee": "score_network",
        "network": OVER_FRAMES,
        "velocity_weight": 0.5,
        "speaker_noise": 0.5,
    },
}
ONE = "jit on one device"
WAYS = {  # devices, changes of the configuration
    ONE: (1, {}),
    "two micro-batches under pmap on four": (4, {"accumulate": 2, "parallel": "pmap"}),
}
MORE_WAYS = {  # which know nothing of the network: shown with one
    "jit on eight": (8, {}),
    "pmap on eight": (8, {"parallel": "pmap"}),
    "four micro-batches on two": (2, {"accumulate": 4}),
    "the state divided among eight": (8, {"shard_state": True}),
}


def one_step(config, store, devices: int, dtype, params) -> tuple[dict, dict]:
    """Returns the metrics and the gradient of one step of gradient descent with rate 1."""
    trainee = make_trainee(config, statistics_of(config, store))
    optimizer = optax.sgd(1.0)
    parallel = Parallel(config, trainee, optimizer, jax.devices()[:devices])
    wide = jax.tree.map(lambda x: np.asarray(x, dtype), params)
    state = init_state(wide, optimizer)
    state = jax.tree.map(jax.device_put, state, parallel.state_shardings)
    batch = training_batches(config, store, choose(store, config, ("a",))).at(0)
    lengths = batch.mask.sum(1)
    assert len(set(lengths)) > 3 and len(lengths) == BATCH, "the masks are to be ragged"
    batch = jax.tree.map(
        lambda x: x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x, batch
    )
    key = jax.device_put(jax.random.key(7), parallel.keys(0).init.sharding)
    after, metrics = parallel.step(state, parallel.put(batch), key)
    gradient = jax.tree.map(lambda a, b: a - np.asarray(b), wide, after.params)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(after.params))
    return jax.tree.map(np.asarray, metrics), gradient


def every_step(config, store, dtype, ways) -> dict[str, tuple[dict, dict]]:
    params = drawn(make_trainee(config, statistics_of(config, store)))
    return {
        name: one_step(dataclasses.replace(config, **changes), store, devices, dtype, params)
        for name, (devices, changes) in ways.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", ["recogniser", "average_voice", "style", "prosody"])
def test_every_way_gives_the_same_update_in_float64(store, bundle_folder, case):
    judge = {"style_recogniser": str(bundle_folder)} if case == "style" else {}
    config = settings(**CASES[case], **judge, batch=BATCH, frames=32)
    ways = WAYS | (MORE_WAYS if case == "recogniser" else {})
    with jax.enable_x64(True):
        found = every_step(config, store, np.float64, ways)
    metrics, gradient = found.pop(ONE)
    assert np.isfinite(metrics["loss"]) and metrics["gradient_norm"] > 1e-3
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient))
    for name, (others, other_gradient) in found.items():
        assert set(others) == set(metrics)
        for metric, value in metrics.items():
            assert others[metric] == pytest.approx(value, rel=1e-9, nan_ok=True), (name, metric)
        pairs = zip(
            jax.tree.leaves_with_path(gradient), jax.tree.leaves(other_gradient), strict=True
        )
        for (path, a), b in pairs:
            scale = max(np.abs(a).max(), 1e-6 * largest)  # some true gradients are zero
            assert np.abs(a - b).max() <= 1e-9 * scale, (name, jax.tree_util.keystr(path))


@pytest.mark.slow
def test_every_way_gives_the_same_loss_and_gradient_norm_in_float32(store):
    config = settings(**CASES["tweedie"], batch=BATCH, frames=32)
    found = every_step(config, store, np.float32, WAYS)
    metrics, _ = found.pop(ONE)
    for name, (others, _) in found.items():
        for metric in ("loss", "gradient_norm"):
            assert others[metric] == pytest.approx(metrics[metric], rel=1e-5), (name, metric)


def test_a_mean_per_device_would_not_do(store):
    """The masks are ragged enough that the wrong rule is told from the right one."""
    config = settings("average_voice", batch=BATCH, frames=32)
    mask = training_batches(config, store, choose(store, config, ("a",))).at(0).mask
    error = np.arange(BATCH)[:, None] * mask
    parts = zip(np.split(error, 8), np.split(mask, 8), strict=True)
    per_device = [e.sum() / m.sum() for e, m in parts]
    assert abs(np.mean(per_device) / (error.sum() / mask.sum()) - 1) > 1e-2


@pytest.mark.parametrize(
    ("devices", "changes", "message"),
    [
        (
            8,
            {"batch": 12},
            r"^batch: found 12, expected a multiple of 8 \(8 devices x accumulate 1",
        ),
        (4, {"batch": 8, "accumulate": 4}, r"a multiple of 16 \(4 devices x accumulate 4\)"),
    ],
)
def test_a_batch_that_devices_cannot_share_is_refused(devices, changes, message):
    config = settings("average_voice", **changes)
    with pytest.raises(UsageError, match=message):
        Parallel(config, make_trainee(config), optax.sgd(1.0), jax.devices()[:devices])


@pytest.mark.slow
def test_a_divided_state_lies_in_parts(store):
    config = settings("average_voice", batch=8, shard_state=True)
    parallel = Parallel(config, make_trainee(config), optax.adam(1e-3), jax.devices())
    state = parallel.init(jax.random.key(0))
    kernels = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.size >= 1024]
    assert len(kernels) > 5
    for leaf in kernels:
        assert leaf.addressable_shards[0].data.size * 8 == leaf.size
    for leaf in jax.tree.leaves(parallel.whole(state.params)):
        assert isinstance(leaf, np.ndarray)
