"""Layers against PyTorch's own, and the CPU gradients against XLA's stock ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from emoconv_jax.models import convolution, layers

GENERATOR = np.random.default_rng(0)
ROUNDING = 2.0**-8  # of one number in bfloat16, at most and relative


def _draw(*shape):
    return jnp.asarray(GENERATOR.standard_normal(shape), jnp.float32)


def _torch(x):
    return torch.from_numpy(np.moveaxis(np.asarray(x), -1, 1).copy())


def _vector(x):
    return torch.from_numpy(np.array(x))


def _ours(x):
    return np.moveaxis(x.numpy(), 1, -1)


def _torch_kernel(kernel, transposed=False):
    rank = kernel.ndim - 2
    axes = (rank, rank + 1) if transposed else (rank + 1, rank)
    return torch.from_numpy(np.asarray(kernel).transpose(*axes, *range(rank)).copy())


@pytest.mark.parametrize("kernel, stride", [(16, 8), (4, 2), (8, 4), (3, 3), (11, 5), (5, 2)])
def test_transposed_convolution_1d_is_pytorchs(kernel, stride):
    x, weight = _draw(2, 9, 3), _draw(kernel, 3, 4)
    expected = torch.nn.functional.conv_transpose1d(
        _torch(x), _torch_kernel(weight, True), stride=stride, padding=(kernel - stride) // 2
    )
    y = convolution.transposed_convolution(jnp.asarray(x), jnp.asarray(weight), stride)
    np.testing.assert_allclose(y, _ours(expected), rtol=1e-5, atol=1e-5)


def test_transposed_convolution_2d_is_pytorchs():
    x, weight = _draw(2, 5, 6, 3), _draw(4, 4, 3, 5)
    expected = torch.nn.functional.conv_transpose2d(
        _torch(x), _torch_kernel(weight, True), stride=2, padding=1
    )
    y = convolution.transposed_convolution(jnp.asarray(x), jnp.asarray(weight), 2)
    np.testing.assert_allclose(y, _ours(expected), rtol=1e-5, atol=1e-5)


CASES = [
    # taps, stride, padding, dilation
    ((1, 1), 1, (0, 0), 1),
    ((3, 3), 1, (1, 1), 1),
    ((3, 3), 2, (1, 1), 1),
    ((3, 3), 2, (0, 0), 1),
    ((7, 7), 1, (3, 3), 1),
    ((5, 3), 1, (2, 1), 1),
    ((3, 3), 1, (2, 2), 2),
    ((3,), 1, (1,), 1),
    ((5,), 1, (2,), 1),
    ((3,), 1, (5,), 5),
    ((4,), 2, (1,), 1),
]


@pytest.mark.parametrize("taps, stride, padding, dilation", CASES)
def test_convolution_and_its_cpu_gradients(taps, stride, padding, dilation):
    assert convolution.on_cpu()
    rank = len(taps)
    x, weight = _draw(2, *(11, 8)[:rank], 3), _draw(*taps, 3, 4)
    letters = "HW"[:rank]

    def stock(x, weight):
        y = lax.conv_general_dilated(
            x,
            weight,
            (stride,) * rank,
            [(pad, pad) for pad in padding],
            rhs_dilation=(dilation,) * rank,
            dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
            precision=lax.Precision.HIGHEST,
        )
        return jnp.sin(y).sum()

    def ours(x, weight):
        return jnp.sin(convolution.convolution(x, weight, stride, padding, dilation)).sum()

    with jax.enable_x64(True):
        arguments = jnp.asarray(x, jnp.float64), jnp.asarray(weight, jnp.float64)
        value, gradients = jax.value_and_grad(ours, (0, 1))(*arguments)
        expected, stock_gradients = jax.value_and_grad(stock, (0, 1))(*arguments)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for found, wanted in zip(gradients, stock_gradients, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


def test_a_long_masked_image_of_one_channel_is_summed_rightly():
    """1280 frames: where jaxlib 0.10.2 goes wrong by half when left to itself, see `_fast`."""
    rng = np.random.default_rng(0)
    image = rng.normal(-5, 1, (1, 80, 1280)).astype(np.float32)
    plane = np.ones((1, 80, 1280, 1), np.float32)
    kernel = rng.normal(size=(3, 3, 1, 64)).astype(np.float32)
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(image[:, None].astype(np.float64)),
        torch.from_numpy(kernel.transpose(3, 2, 0, 1).astype(np.float64)),
        padding=1,
    ).sum((2, 3))

    @jax.jit
    def found(image, plane, kernel):
        return convolution.convolution(image[..., None] * plane, kernel, padding=1).sum((1, 2))

    np.testing.assert_allclose(found(image, plane, kernel), expected, rtol=1e-5, atol=1)


def test_mish_is_pytorchs_and_does_not_overflow():
    x = np.concatenate([np.linspace(-30, 30, 601), [-1e4, -88, 89, 1e4]]).astype(np.float32)
    expected = torch.nn.functional.mish(torch.from_numpy(x.astype(np.float64))).numpy()
    np.testing.assert_allclose(layers.mish(jnp.asarray(x)), expected, rtol=2e-6, atol=1e-7)
    assert np.isfinite(jax.vmap(jax.grad(layers.mish))(jnp.asarray(x))).all()


@pytest.mark.parametrize("groups", [2, 6])
def test_group_norm_is_pytorchs_on_the_real_frames(groups):
    x = 3.0 + 2.0 * _draw(2, 4, 7, 6)
    mask = np.ones((2, 7), np.float32)
    mask[1, 5:] = 0.0
    mask = jnp.asarray(mask)
    scale, bias = _draw(6), _draw(6)
    y = layers.GroupNorm(groups).apply({"params": {"scale": scale, "bias": bias}}, x, mask)
    for example, frames in enumerate((7, 5)):
        real = _torch(x[example : example + 1, :, :frames])
        expected = torch.nn.functional.group_norm(real, groups, _vector(scale), _vector(bias))
        np.testing.assert_allclose(
            y[example : example + 1, :, :frames], _ours(expected), rtol=1e-4, atol=1e-5
        )


def test_layer_norm_is_pytorchs():
    x, scale, bias = _draw(2, 5, 6), _draw(6), _draw(6)
    expected = torch.nn.functional.layer_norm(_vector(x), (6,), _vector(scale), _vector(bias), 1e-4)
    y = layers.LayerNorm().apply({"params": {"scale": scale, "bias": bias}}, x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("taps", [1, 3])
def test_entry_convolution_is_one_over_all_channels(taps):
    x, constant = _draw(2, 5, 6, 2), _draw(2, 4)
    mask = np.ones((2, 6), np.float32)
    mask[0, 4:] = 0.0
    mask = jnp.asarray(mask)
    real = mask[:, None, :, None]
    variables = {"params": {"kernel": _draw(taps, taps, 6, 3), "bias": _draw(3)}}
    plane = jnp.broadcast_to(constant[:, None, None], (2, 5, 6, 4))
    spread = jnp.concatenate([x, plane], -1) * real
    expected = layers.Conv2d(3, taps).apply(variables, spread)
    y = layers.EntryConv2d(3, taps).apply(variables, x * real, constant, mask)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "conv1d", "conv2d", "transposed"])
def test_initial_spread_is_pytorchs(kind):
    # PyTorch: U(-1, 1) / sqrt(fan_in), for transposed convolutions with the outputs as fan
    bound, module, x = {
        "linear": (64**-0.5, layers.Linear(256), np.zeros((1, 64))),
        "conv1d": ((3 * 64) ** -0.5, layers.Conv1d(64, 3), np.zeros((1, 5, 64))),
        "conv2d": ((9 * 32) ** -0.5, layers.Conv2d(32, 3), np.zeros((1, 5, 5, 32))),
        "transposed": ((4 * 64) ** -0.5, layers.ConvTranspose1d(64, 4, 2), np.zeros((1, 5, 32))),
    }[kind]
    for leaf in jax.tree.leaves(module.init(jax.random.key(0), jnp.asarray(x, jnp.float32))):
        assert np.abs(leaf).max() <= bound
        assert np.std(leaf) == pytest.approx(bound / np.sqrt(3), rel=0.25)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.Linear(3), (2, 400, 3)),
        (layers.Conv1d(3, 3), (2, 400, 3)),
        (layers.Conv2d(3, 1), (2, 20, 20, 3)),
        (layers.Conv2d(3, 3), (2, 20, 20, 3)),
        (layers.ConvTranspose1d(3, 4, 2), (2, 200, 3)),
        (layers.ConvTranspose2d(3), (2, 10, 10, 3)),
        (layers.EntryConv2d(3, 1), (2, 20, 20, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_bfloat16_gradients_count_every_position(layer, shape):
    # a sum of ones taken in bfloat16 stands still at 256
    x, more = jnp.ones(shape, jnp.bfloat16), ()
    if isinstance(layer, layers.EntryConv2d):
        more = jnp.ones((2, 4)), jnp.ones((2, 20))
    params = layer.init(jax.random.key(0), x, *more)["params"]

    def total(params):
        y = layer.apply({"params": params}, x, *more)
        assert y.dtype == jnp.bfloat16
        return y.astype(jnp.float32).sum()

    gradients = jax.jit(jax.grad(total))(params)
    np.testing.assert_array_equal(gradients["bias"], np.full(3, 800.0, np.float32))
    if isinstance(layer, layers.EntryConv2d):
        np.testing.assert_array_equal(gradients["kernel"], np.full((1, 1, 7, 3), 800.0))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, gradients))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("taps, stride, padding, dilation", [CASES[1], CASES[2], CASES[9]])
def test_bfloat16_gradients_are_near_those_of_float32(taps, stride, padding, dilation):
    x, weight = _draw(2, *(11, 8)[: len(taps)], 3), _draw(*taps, 3, 4)
    x, weight = x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)

    def total(x, weight):
        y = convolution.convolution(x, weight, stride, padding, dilation)
        return jnp.sin(y.astype(jnp.float32)).sum()

    gradient = jax.jit(jax.grad(total, (0, 1)))
    wide = [array.astype(jnp.float32) for array in (x, weight)]
    for found, expected in zip(gradient(x, weight), gradient(*wide), strict=True):
        assert found.dtype == jnp.bfloat16
        difference = np.asarray(found, np.float32) - expected
        # y is rounded, the gradient of y is, and so is what is found
        assert np.linalg.norm(difference) < 2 * ROUNDING * np.linalg.norm(expected)


def test_bfloat16_statistics_are_as_good_as_the_input():
    # numbers about 64 have a spacing of .5 in bfloat16; a sum of 64 taken in it stops at 2^14
    x = (64.0 + 2.0 * _draw(2, 8, 320, 4)).astype(jnp.bfloat16)
    mask = jnp.asarray(np.arange(320) < np.array([[320], [301]]), jnp.bfloat16)
    scale, bias = 1.0 + 0.1 * _draw(4), 0.1 * _draw(4)
    y = layers.GroupNorm(2).apply({"params": {"scale": scale, "bias": bias}}, x, mask)
    assert y.dtype == jnp.bfloat16
    for example, frames in enumerate((320, 301)):
        real = np.asarray(x[example, :, :frames], np.float64).reshape(-1, 2, 2)
        normal = (real - real.mean((0, 2))[:, None]) / np.sqrt(real.var((0, 2)) + 1e-5)[:, None]
        expected = (normal.reshape(8, frames, 4) * np.asarray(scale)) + np.asarray(bias)
        np.testing.assert_allclose(
            np.asarray(y[example, :, :frames], np.float64),
            expected,
            rtol=1.01 * ROUNDING,
            atol=1e-5,
        )
    y = layers.LayerNorm().apply({"params": {"scale": scale, "bias": bias}}, x)
    real = np.asarray(x, np.float64)
    normal = real - real.mean(-1, keepdims=True)
    normal = normal / np.sqrt(real.var(-1, keepdims=True) + layers.LAYER_NORM_EPS)
    expected = normal * np.asarray(scale) + np.asarray(bias)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=1.01 * ROUNDING, atol=1e-5)


def test_bfloat16_mish_and_its_slope_are_rounded_once():
    x = jnp.asarray(np.linspace(-12, 30, 2001), jnp.bfloat16)
    exact = torch.from_numpy(np.asarray(x, np.float64)).requires_grad_()
    expected = torch.nn.functional.mish(exact)
    expected.sum().backward()
    slope = jax.vmap(jax.grad(layers.mish))(x)
    assert layers.mish(x).dtype == slope.dtype == jnp.bfloat16
    for found, wanted in ((layers.mish(x), expected.detach()), (slope, exact.grad)):
        np.testing.assert_allclose(
            np.asarray(found, np.float64), wanted.numpy(), rtol=1.01 * ROUNDING, atol=1e-6
        )
