"""Products in a narrow type with wide sums, against sums written out in float64 and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from emoconv_jax.models import products
from emoconv_jax.models.products import compute_type, convolution_of_three, product

FLOAT32 = jnp.dtype("float32")
BFLOAT16 = jnp.dtype("bfloat16")
UNIT = 2.0**-9  # the most that rounding to bfloat16's eight bits changes, as a share


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), FLOAT32)


def rounded(x):
    return np.asarray(jnp.asarray(x).astype(BFLOAT16).astype(FLOAT32), np.float64)


X, KERNEL, G = drawn(2, 7, 6), drawn(3, 6, 5, seed=1), drawn(2, 7, 5, seed=2)


def torch_convolution(x, kernel, g):
    """Returns PyTorch's output and gradients in float64."""
    x, kernel, g = (torch.tensor(np.asarray(a, np.float64)) for a in (x, kernel, g))
    x.requires_grad_(), kernel.requires_grad_()
    y = torch.nn.functional.conv1d(x.transpose(1, 2), kernel.permute(2, 1, 0), padding=1)
    y = y.transpose(1, 2)
    y.backward(g)
    return [a.detach().numpy() for a in (y, x.grad, kernel.grad)]


def ours(function, dtype, x, kernel, g):
    y, back = jax.vjp(lambda x, kernel: function(x, kernel, dtype), x, kernel)
    return [y, *back(g)]


def test_the_convolution_and_its_gradients_are_pytorchs():
    found = ours(convolution_of_three, FLOAT32, X, KERNEL, G)
    for array, wanted in zip(found, torch_convolution(X, KERNEL, G), strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_only_the_operands_are_rounded():
    """Sums of 21 products of eight bits each are exact to float32's own roundings."""
    found = ours(convolution_of_three, BFLOAT16, X, KERNEL, G)
    wanted = torch_convolution(rounded(X), rounded(KERNEL), rounded(G))
    for array, exact in zip(found, wanted, strict=True):
        assert array.dtype == FLOAT32
        np.testing.assert_allclose(array, exact, rtol=1e-5, atol=1e-5)


def test_bfloat16_is_off_by_no_more_than_two_roundings_of_every_term():
    found = np.asarray(convolution_of_three(X, KERNEL, BFLOAT16), np.float64)
    exact, _, _ = torch_convolution(X, KERNEL, G)
    terms, _, _ = torch_convolution(np.abs(X), np.abs(KERNEL), G)
    assert np.all(np.abs(found - exact) <= (2 * UNIT + UNIT**2) * terms + 1e-5)
    assert np.abs(found - exact).max() > 1e-4  # it is rounded at all


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16])
def test_a_product_and_its_gradients_are_the_matrix_products(dtype):
    narrow = rounded if dtype == BFLOAT16 else lambda a: np.asarray(a, np.float64)
    found = ours(product, dtype, X, KERNEL[0], G)
    x, kernel, g = narrow(X), narrow(KERNEL[0]), narrow(G)
    wanted = [x @ kernel, g @ kernel.T, np.einsum("bfi,bfo->io", x, g)]
    for array, exact in zip(found, wanted, strict=True):
        assert array.dtype == FLOAT32
        np.testing.assert_allclose(array, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "narrow"),
    [
        ("flags\t: fpu avx2 avx512f avx512_bf16 vnni\n", True),
        ("flags\t: fpu amx_bf16\n", True),
        ("flags\t: fpu avx2 avx512f\nmodel name\t: avx512_bf16x\n", False),
        (None, False),
    ],
)
def test_a_cpu_is_known_by_its_flags(tmp_path, monkeypatch, flags, narrow):
    file = tmp_path / "cpuinfo"
    if flags:
        file.write_text(flags)
    monkeypatch.setattr(products, "CPU_FLAGS", file)
    products.multiplies_bfloat16.cache_clear()
    try:
        assert products.multiplies_bfloat16() is narrow
        if jax.default_backend() == "cpu":
            assert compute_type("auto", "unet1d") == (jnp.bfloat16 if narrow else None)
            assert compute_type("auto", "unet2d") is None
    finally:
        products.multiplies_bfloat16.cache_clear()
    assert compute_type("bfloat16") == jnp.bfloat16
    assert compute_type("float32", "unet1d") is None
