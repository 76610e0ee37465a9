"""Winograd's convolutions against PyTorch's direct ones in float64, and where they are used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from emoconv_jax.models import winograd
from emoconv_jax.models.convolution import convolution
from emoconv_jax.training.parallel import CPU_OPTIONS

GENERATOR = np.random.default_rng(0)
TOLERANCE = 3e-6  # of the greatest value: sums of 3 x 3 x 40 products in float32


def _draw(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def _channels_first(array):
    return torch.from_numpy(np.moveaxis(array, -1, 1).astype(np.float64))


def _near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("padding", [(1, 1), (0, 0), (2, 0)])
@pytest.mark.parametrize("size", [(8, 6), (7, 5), (3, 4)])
def test_the_convolution_and_both_gradients_are_pytorchs(size, padding):
    x, kernel = _draw(2, *size, 40), _draw(3, 3, 40, 32)
    direct = _channels_first(x).requires_grad_()
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).astype(np.float64)).requires_grad_()
    expected = torch.nn.functional.conv2d(direct, weight, padding=padding)
    wanted = torch.autograd.grad(torch.sin(expected).sum(), (direct, weight))

    def ours(x, kernel):
        y = convolution(x, kernel, padding=padding)
        return jnp.sin(y).sum(), y

    both = jax.jit(jax.value_and_grad(ours, (0, 1), has_aux=True))
    (_, found), gradients = both(jnp.asarray(x), jnp.asarray(kernel))
    _near(found, np.moveaxis(expected.detach().numpy(), 1, -1))
    # the sine's slope at outputs of some 20 has their rounding
    wanted_x, wanted_kernel = np.moveaxis(wanted[0].numpy(), 1, -1), wanted[1].numpy()
    for one, other in (
        (gradients[0], wanted_x),
        (gradients[1].transpose(3, 2, 0, 1), wanted_kernel),
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * np.abs(other).max())


@pytest.mark.parametrize(
    ("shape", "padding"), [((2, 5, 6, 32), 3), ((1, 2, 6, 32), 0), ((0, 4, 6, 32), 1)]
)
def test_odd_paddings_and_empty_outputs_are_pytorchs(shape, padding):
    x, kernel = _draw(*shape), _draw(3, 3, 32, 32)
    weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).astype(np.float64))
    direct = _channels_first(x).requires_grad_()
    if shape[1] + 2 * padding < 3:  # of which PyTorch refuses what has no output
        assert convolution(jnp.asarray(x), jnp.asarray(kernel), padding=padding).shape[1] == 0
        return
    torch.nn.functional.conv2d(direct, weight, padding=padding).sum().backward()

    def ours(x):
        return convolution(x, jnp.asarray(kernel), padding=padding).sum()

    assert direct.grad is not None
    wanted = np.moveaxis(direct.grad.numpy(), 1, -1)
    found = jax.jit(jax.grad(ours))(jnp.asarray(x))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_it_saves_products():
    """16 products stand for 4 x 9; the sums around them are some 20 for each of 2 x 64 a position,
    the kernel's 16 x 9 x 2 for each of 64 x 64."""
    x, kernel = jnp.zeros((1, 64, 64, 64)), jnp.zeros((3, 3, 64, 64))

    def flop(function):
        told = jax.jit(function).lower(x, kernel).compile().cost_analysis()
        assert told is not None
        return told["flops"]

    direct = 2 * 9 * 64 * 64 * 64 * 64
    assert 4 / 9 < flop(lambda x, kernel: convolution(x, kernel, padding=1)) / direct < 0.55


@pytest.mark.parametrize(
    ("kernel", "dtype", "stride", "dilation"),
    [
        ((3, 3, 31, 64), jnp.float32, 1, 1),
        ((3, 3, 64, 31), jnp.float32, 1, 1),
        ((3, 3, 64, 64), jnp.bfloat16, 1, 1),
        ((3, 3, 64, 64), jnp.float32, 2, 1),
        ((3, 3, 64, 64), jnp.float32, 1, 2),
        ((5, 3, 64, 64), jnp.float32, 1, 1),
        ((3, 64, 64), jnp.float32, 1, 1),
    ],
)
def test_other_convolutions_are_direct(kernel, dtype, stride, dilation):
    rank = len(kernel) - 2
    x, weight = jnp.zeros((1, *(16,) * rank, kernel[-2]), dtype), jnp.zeros(kernel, dtype)
    assert not winograd.suits(x, weight, stride, ((1, 1),) * rank, dilation)
    said = str(jax.make_jaxpr(lambda x, w: convolution(x, w, stride, 1, dilation))(x, weight))
    assert "conv_general_dilated" in said
    usual = jnp.zeros((1, 16, 16, 64)), jnp.zeros((3, 3, 64, 64))
    assert "conv_general_dilated" not in str(jax.make_jaxpr(convolution)(*usual))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "taps"), [((1, 32, 32, 32), (3, 3)), ((1, 1024, 32), (5,))], ids=["winograd", "other"]
)
def test_the_backward_pass_pads_again_instead_of_keeping_what_was_padded(image, taps):
    """For it a layer keeps its input and the slope of its sine, two images, and not a third with
    zeros around it; of the last layer's arrays, fewer than 20 images are there at a time."""
    layers = 20

    def loss(kernels, x):
        for kernel in kernels:
            x = jnp.sin(convolution(x, kernel, padding=taps[0] // 2))
        return x.sum()

    kernels = [jax.ShapeDtypeStruct((*taps, 32, 32), jnp.float32)] * layers
    compiled = (
        jax.jit(jax.grad(loss), compiler_options=CPU_OPTIONS)
        .lower(kernels, jax.ShapeDtypeStruct(image, jnp.float32))
        .compile()
    )
    images = compiled.memory_analysis().temp_size_in_bytes / (4 * 32**3)
    assert images < 2 * layers + 20
