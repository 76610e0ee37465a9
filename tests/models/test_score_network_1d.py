"""The score network over frames against a PyTorch one; padding and batch change nothing."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import torch
from torch.nn import functional

from emoconv_jax.config import ScoreNetworkConfig
from emoconv_jax.errors import UsageError
from emoconv_jax.models.score_network_1d import ScoreNetwork1d, rotated
from emoconv_jax.models.score_networks import score_network_of

TINY = ScoreNetworkConfig(
    mels=16, width=8, condition_width=12, speaker=6, emotion=5, kind="unet1d", layers=2, heads=2
)
PROSODY = dataclasses.replace(TINY, prosody=True)
IMAGE = ScoreNetworkConfig(
    mels=16, width=8, multipliers=(1, 2), groups=4, condition_width=12, speaker=6, emotion=5,
    prosody=True,
)  # fmt: skip
FRAMES = 12
NAMES = ("xt", "average_voice", "mask", "t", "speaker", "emotion")
QUICK = {"xla_backend_optimization_level": 0}


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def apply(config, params, inputs):
    return score_network_of(config).apply({"params": params}, **inputs)


def drawn_inputs(config, frames=FRAMES, batch=3):
    rng = np.random.default_rng(1)
    draw = rng.standard_normal
    arrays = [
        draw((batch, frames, config.mels)) - 5,
        draw((batch, frames, config.mels)) - 5,
        np.ones((batch, frames)),
        np.array([1e-3, 0.4, 0.99])[:batch],
        draw((batch, config.speaker)),
        draw((batch, config.emotion)),
    ]
    inputs = dict(zip(NAMES, arrays, strict=True))
    if config.prosody:
        tracked = [rng.uniform(6, 9, (batch, frames)), rng.uniform(0, 1, (batch, frames))]
        tracked = np.stack([*tracked, draw((batch, frames)) - 4], -1)
        tracked[1:2, :, 0] = 0.0  # nothing voiced
        present = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 1]])[:batch]
        inputs |= {"prosody": tracked, "present": present}
    return {name: np.asarray(array, np.float32) for name, array in inputs.items()}


def given(config, *sizes):
    return {name: jnp.asarray(array) for name, array in drawn_inputs(config, *sizes).items()}


@functools.cache
def parameters(config):
    """Random ones, none of them at a value that would hide a mistake, such as zero."""
    shapes = jax.eval_shape(score_network_of(config).init, jax.random.key(0), **given(config))[
        "params"
    ]
    rng = np.random.default_rng(0)

    def draw(leaf):
        fan_in = math.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 4
        return (rng.standard_normal(leaf.shape) / math.sqrt(fan_in)).astype(np.float32)

    return jax.tree.map(draw, shapes)


def twin(params, inputs, config):
    """The network in PyTorch and float64, from its description; every frame is real."""
    p = jax.tree.map(lambda leaf: torch.tensor(leaf, dtype=torch.float64), params)
    x = {name: torch.tensor(array, dtype=torch.float64) for name, array in inputs.items()}
    silu = functional.silu

    def linear(p, x):
        return x @ p["kernel"] + p["bias"]

    def conv(p, x):
        y = functional.conv1d(x.transpose(1, 2), p["kernel"].permute(2, 1, 0), p["bias"], padding=1)
        return y.transpose(1, 2)

    def norm(p, x):
        scale, shift = linear(p["modulation"], condition)[:, None].chunk(2, -1)
        return functional.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift

    def block(p, x):
        h = conv(p["conv_0"], silu(norm(p["norm_0"], x)))
        h = conv(p["conv_1"], silu(norm(p["norm_1"], h)))
        return h + (linear(p["entry"], x) if "entry" in p else x)

    def attention(p, x):
        batch, frames, _ = x.shape
        qkv = linear(p["qkv"], norm(p["norm"], x)).view(batch, frames, 3, config.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # b h f d
        half = query.shape[-1] // 2
        angle = torch.arange(frames)[:, None] * 1e4 ** (-torch.arange(half).double() / half)
        turn = torch.polar(torch.ones_like(angle), angle)

        def turned(z):
            z = torch.complex(z[..., :half], z[..., half:]) * turn
            return torch.cat([z.real, z.imag], -1)

        found = functional.scaled_dot_product_attention(turned(query), turned(key), value)
        return x + linear(p["out"], found.transpose(1, 2).reshape(x.shape))

    half = config.width // 2
    angle = 1000 * x["t"][:, None] * 1e4 ** (-torch.arange(half).double() / (half - 1))
    time = silu(linear(p["time_0"], torch.cat([angle.sin(), angle.cos()], -1)))
    parts = [time, x["speaker"] * config.speaker**0.5, x["emotion"]]
    condition = silu(linear(p["condition_0"], torch.cat(parts, -1)))
    condition = silu(linear(p["condition_1"], condition))

    channels = [x["xt"] - x["average_voice"], (x["average_voice"] + 5) / 2.5]
    if config.prosody:
        given = x["present"][:, None].expand(-1, x["xt"].shape[1], -1)
        log_f0, voicing, energy = x["prosody"].unbind(-1)
        voiced = (log_f0 > 0).double()
        edges = torch.tensor(librosa.mel_frequencies(config.mels + 2, fmin=0, fmax=8000))
        f0 = 2 ** log_f0[..., None].clamp(min=5)
        comb = torch.cos(2 * np.pi * edges[1:-1] / f0)
        comb = comb * torch.sinc((edges[2:] - edges[:-2]) / 2 / f0) ** 2
        lines = [(log_f0 - 7.5) * voiced, voicing, (energy + 4) / 2]
        harmonic = voicing * voiced * given[..., 0] * given[..., 1]
        channels += [comb * harmonic[..., None], torch.stack(lines, -1) * given, given]
    h = linear(p["entry"], torch.cat(channels, -1))
    h = skip = block(p["down_1"], block(p["down_0"], h))
    h = linear(p["halve"], h.reshape(len(h), -1, 2 * config.width))
    for i in range(config.layers):
        h = attention(p[f"attention_{i}"], block(p[f"middle_{i}"], h))
    h = linear(p["double"], h).reshape(skip.shape)
    h = block(p["up_1"], block(p["up_0"], torch.cat([h, skip], -1)))
    return linear(p["head"], silu(norm(p["head_norm"], h))).numpy()


@pytest.mark.parametrize("config", [TINY, PROSODY], ids=["mels", "prosody"])
def test_a_network_in_pytorch_gives_the_same(config):
    inputs = drawn_inputs(config)
    expected = twin(parameters(config), inputs, config)
    found = apply(config, parameters(config), inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("config", [PROSODY, IMAGE], ids=["unet1d", "unet2d"])
@pytest.mark.parametrize("frames", [10, 9])
def test_padding_changes_nothing_on_real_frames(config, frames):
    inputs = drawn_inputs(config, frames)
    short = apply(config, parameters(config), inputs)
    rng = np.random.default_rng(2)
    padded = dict(inputs)
    for name in ("xt", "average_voice", "prosody"):
        tail = rng.uniform(0, 9, (3, 19 - frames, inputs[name].shape[-1]))
        padded[name] = np.concatenate([inputs[name], tail], 1).astype(np.float32)
    padded["mask"] = np.pad(inputs["mask"], ((0, 0), (0, 19 - frames)))
    found = apply(config, parameters(config), padded)
    atol = 3e-4 * np.abs(short).max()  # an unvoiced example's variances are small in unet2d
    np.testing.assert_allclose(found[:, :frames], short, rtol=1e-4, atol=atol)
    assert np.all(found[:, frames:] == 0.0)


def test_examples_do_not_see_each_other():
    inputs = drawn_inputs(PROSODY)
    inputs["mask"][1, 7:] = 0.0
    found = apply(PROSODY, parameters(PROSODY), inputs)
    turned = {name: array[::-1].copy() for name, array in inputs.items()}
    turned = apply(PROSODY, parameters(PROSODY), turned)
    np.testing.assert_allclose(turned[::-1], found, rtol=1e-4, atol=1e-5 * np.abs(found).max())


def test_an_empty_example_gives_finite_zeros():
    inputs = drawn_inputs(PROSODY)
    inputs["mask"][0] = 0.0
    found = np.asarray(apply(PROSODY, parameters(PROSODY), inputs))
    assert np.all(found[0] == 0.0) and np.isfinite(found).all()


@pytest.mark.parametrize("config", [PROSODY, IMAGE], ids=["unet1d", "unet2d"])
def test_every_condition_matters(config):
    inputs = drawn_inputs(config)
    before = apply(config, parameters(config), inputs)
    for name in ("xt", "average_voice", "t", "speaker", "emotion", "prosody", "present"):
        changed = apply(config, parameters(config), inputs | {name: inputs[name] * 0.5})
        assert np.abs(changed - before).max() > 1e-4, name


@pytest.mark.parametrize("config", [PROSODY, IMAGE], ids=["unet1d", "unet2d"])
def test_no_prosody_is_prosody_of_which_no_channel_is_present(config):
    inputs = drawn_inputs(config)
    absent = apply(config, parameters(config), inputs | {"present": np.zeros((3, 3), np.float32)})
    without = {name: inputs[name] for name in NAMES}
    np.testing.assert_allclose(apply(config, parameters(config), without), absent, atol=1e-6)


def test_rotations_tell_distances_alone():
    """Products of a turned query and key stay when both move on by as many frames."""
    rng = np.random.default_rng(0)
    query, key = rng.standard_normal((2, 6)).astype(np.float32)
    turned = [np.asarray(rotated(jnp.tile(jnp.asarray(x), (1, 20, 1, 1))))[0, :, 0] for x in
              (query, key)]  # fmt: skip
    products = turned[0] @ turned[1].T
    for distance in (-7, 0, 3):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-4)
    assert products[0, 0] == pytest.approx(query @ key, rel=1e-5)
    assert np.abs(products[0, 3] - products[0, 0]) > 0.1


@pytest.mark.slow
def test_a_new_network_predicts_nothing():
    network, inputs = ScoreNetwork1d(PROSODY), given(PROSODY)
    variables = jax.jit(network.init, compiler_options=QUICK)(jax.random.key(0), **inputs)
    assert np.all(np.asarray(apply(PROSODY, variables["params"], inputs)) == 0.0)


@pytest.mark.slow
def test_recomputing_activations_and_bfloat16_change_only_roundings():
    inputs, params = given(PROSODY), parameters(PROSODY)

    def gradient(dtype, remat):
        def loss(params):
            output = ScoreNetwork1d(PROSODY, dtype, remat).apply({"params": params}, **inputs)
            return jnp.square(output).mean()

        found = jax.jit(jax.grad(loss), compiler_options=QUICK)(params)
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])

    exact = gradient(None, False)
    np.testing.assert_allclose(gradient(None, True), exact, rtol=1e-3, atol=1e-5)
    rounded = gradient(jnp.bfloat16, False)
    cosine = exact @ rounded / np.linalg.norm(exact) / np.linalg.norm(rounded)
    assert cosine > 0.99 and not np.array_equal(exact, rounded)


def test_full_size_has_ten_million_parameters():
    config = ScoreNetworkConfig(kind="unet1d", condition_width=256, prosody=True)
    shapes = jax.eval_shape(score_network_of(config).init, jax.random.key(0), **given(config, 4, 1))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == pytest.approx(10.5e6, rel=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"reference_block": True}, "reference_block"), ({"heads": 3}, "heads: found 3")],
)
def test_sizes_of_which_there_is_no_network_are_named(change, message):
    config = dataclasses.replace(TINY, **change)
    with pytest.raises(UsageError, match=message):
        score_network_of(config).init(jax.random.key(0), **given(config))


def test_an_unknown_kind_is_named():
    with pytest.raises(UsageError, match="kind: found 'unet3d', allowed are unet2d, unet1d"):
        score_network_of(dataclasses.replace(TINY, kind="unet3d"))
