"""Layers against PyTorch's own, and the CPU gradients against XLA's stock ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from emoconv_jax.models import convolution, layers

GENERATOR = np.random.default_rng(0)


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
