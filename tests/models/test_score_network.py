"""The score network against its PyTorch twin, and its indifference to padding and batch."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin
from emoconv_jax.config import ScoreNetworkConfig
from emoconv_jax.errors import UsageError
from emoconv_jax.models.score_network import ScoreNetwork, sinusoidal_embedding
from emoconv_jax.porting.diffvc import port_score_network

TINY = ScoreNetworkConfig(
    mels=16, width=16, groups=4, condition_width=12, speaker=6, emotion=5, head="score"
)
REFERENCE = dataclasses.replace(TINY, emotion=0, reference_block=True)
BLOCKS = dataclasses.replace(TINY, conditioning="blocks")
FRAMES = 12
QUICK = {"xla_backend_optimization_level": 0}  # compiling is most of these tests' time


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def apply(config, params, *inputs):
    return ScoreNetwork(config).apply({"params": params}, *inputs)


def _inputs(config, frames=FRAMES, batch=3):
    draw = np.random.default_rng(1).standard_normal
    inputs = [
        draw((batch, frames, config.mels)),
        draw((batch, frames, config.mels)),
        np.ones((batch, frames)),
        np.array([1e-3, 0.4, 0.99])[:batch],
        draw((batch, config.speaker)),
        draw((batch, config.emotion)),
    ]
    if config.reference_block:
        inputs += [draw((batch, 10, config.mels)), np.ones((batch, 10))]
    return [np.asarray(array, np.float32) for array in inputs]


def _twin(config):
    """A twin with no parameter at a value that would hide a mistake (g = 0, scale = 1)."""
    torch.manual_seed(0)
    twin = ScoreNetworkTwin(config).eval()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name.endswith(".g") or parameter.ndim == 1:
                parameter.copy_(0.5 + 0.5 * torch.rand_like(parameter))
    return twin


def _ported(twin, config):
    return port_score_network({k: v.numpy() for k, v in twin.state_dict().items()}, config)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(TINY, id="emotion"),
        pytest.param(BLOCKS, id="blocks", marks=pytest.mark.slow),
        pytest.param(REFERENCE, id="reference", marks=pytest.mark.slow),
    ],
)
def test_ported_twin_gives_the_same(config):
    twin = _twin(config)
    inputs = _inputs(config)
    with torch.no_grad():
        expected = twin(*map(torch.from_numpy, inputs)).numpy()
    found = apply(config, _ported(twin, config), *inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_gradient_is_the_twins():
    config = dataclasses.replace(TINY, multipliers=(1, 2))
    twin, inputs = _twin(config), _inputs(config)
    parameters = _ported(twin, config)
    twin(*map(torch.from_numpy, inputs)).square().sum().backward()
    expected = port_score_network(
        {name: parameter.grad.numpy() for name, parameter in twin.named_parameters()}, config
    )

    @functools.partial(jax.jit, compiler_options=QUICK)
    def gradient(params):
        network = ScoreNetwork(config)
        return jax.grad(lambda p: jnp.square(network.apply({"params": p}, *inputs)).sum())(params)

    inputs = [jnp.asarray(array) for array in inputs]
    found = gradient(parameters)
    norm = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for wanted, leaf in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        atol = 1e-3 * np.abs(wanted).max() + 1e-6 * norm
        np.testing.assert_allclose(leaf, wanted, rtol=1e-3, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [10, 9])  # 2 and 1 beyond a multiple of 4
def test_padding_changes_nothing_on_real_frames(frames):
    parameters = _ported(_twin(REFERENCE), REFERENCE)
    inputs = _inputs(REFERENCE, frames)
    short = apply(REFERENCE, parameters, *inputs)
    rng = np.random.default_rng(2)

    def lengthened(array, total):
        tail = rng.standard_normal((array.shape[0], total - array.shape[1], *array.shape[2:]))
        return np.concatenate([array, 3.0 * tail], 1).astype(np.float32)

    def masked(mask, total):
        return np.pad(mask, ((0, 0), (0, total - mask.shape[1])))

    mels = [lengthened(array, 19) for array in inputs[:2]]
    reference = lengthened(inputs[6], 17), masked(inputs[7], 17)
    padded = apply(REFERENCE, parameters, *mels, masked(inputs[2], 19), *inputs[3:6], *reference)
    atol = 2e-5 * np.abs(short).max()
    np.testing.assert_allclose(padded[:, :frames], short, rtol=1e-4, atol=atol)
    assert np.all(padded[:, frames:] == 0.0)


def test_examples_do_not_see_each_other():
    parameters, inputs = _ported(_twin(TINY), TINY), _inputs(TINY)
    inputs[2][1, 7:] = 0.0
    found = apply(TINY, parameters, *inputs)
    turned = apply(TINY, parameters, *(array[::-1].copy() for array in inputs))
    np.testing.assert_allclose(turned[::-1], found, rtol=1e-4, atol=1e-5 * np.abs(found).max())


def test_an_empty_example_gives_finite_zeros():
    parameters, inputs = _ported(_twin(TINY), TINY), _inputs(TINY)
    inputs[2][0] = 0.0
    found = np.asarray(apply(TINY, parameters, *inputs))
    assert np.all(found[0] == 0.0) and np.isfinite(found).all()


def test_every_condition_matters():
    parameters, inputs = _ported(_twin(TINY), TINY), _inputs(TINY)
    before = apply(TINY, parameters, *inputs)
    for index in (0, 1, 3, 4, 5):
        changed = list(inputs)
        changed[index] = inputs[index] * 0.5
        assert np.abs(apply(TINY, parameters, *changed) - before).max() > 1e-4


def test_full_size_has_the_published_number_of_parameters():
    config = ScoreNetworkConfig(emotion=0, reference_block=True, head="score")
    mel, mask, t = jnp.zeros((1, 4, 80)), jnp.ones((1, 4)), jnp.zeros((1,))
    shapes = jax.eval_shape(
        ScoreNetwork(config).init,
        jax.random.key(0),
        *(mel, mel, mask, t, jnp.zeros((1, 256)), jnp.zeros((1, 0))),
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 117_794_599


def test_sinusoidal_embedding_at_known_angles():
    found = np.asarray(sinusoidal_embedding(jnp.array([0.0, 0.5]), 8))
    frequencies = 10_000.0 ** (-np.arange(4) / 3)
    np.testing.assert_allclose(found[0], [0, 0, 0, 0, 1, 1, 1, 1], atol=1e-7)
    np.testing.assert_allclose(found[1, :4], np.sin(500 * frequencies), atol=1e-4)


def test_a_missing_reference_is_named():
    with pytest.raises(UsageError, match="reference"):
        ScoreNetwork(REFERENCE).apply({"params": {}}, *map(jnp.asarray, _inputs(REFERENCE)[:6]))


def test_an_unknown_conditioning_is_named():
    config = dataclasses.replace(TINY, conditioning="film")
    with pytest.raises(UsageError, match="conditioning: found 'film', allowed are input, blocks"):
        ScoreNetwork(config).apply({"params": {}}, *map(jnp.asarray, _inputs(TINY)))
