"""Matrix products in a narrow type with float32 sums, and convolutions over frames made of them.

A CPU with bfloat16 instructions multiplies two to three times faster in bfloat16 than in float32.
Only the operands are rounded: what a product returns, and so everything between the products, is
float32. The gradients are such products as well, of operands rounded in the same way; derived by
JAX they would be products of float32 with bfloat16, which no CPU has an instruction for.

    product        y = x w
    convolution    y_j = sum_i x_(j + i - 1) w_i, three taps, zeros beyond the ends

On other CPUs float32 is the faster, since XLA emulates bfloat16 there: `compute_type` decides.
"""

import functools
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from emoconv_jax.models.layers import at_least_float32
from emoconv_jax.shapes import Array, Float

CPU_FLAGS = pathlib.Path("/proc/cpuinfo")
BFLOAT16_FLAGS = re.compile(r"\b(avx512_bf16|amx_bf16)\b")
TAPS = 3


def compute_type(compute: str, kind: str = "") -> Any:
    """Returns the type that a network computes in, None for that of its inputs.

    Args:
        compute: "float32", "bfloat16", or "auto" for the faster one: bfloat16 on accelerators and,
            for "unet1d", on CPUs that multiply it; the other networks' convolutions gain nothing
            there.
        kind: of a score network, as `config.ScoreNetworkConfig` names it.
    """
    if compute == "auto":
        on_cpu = jax.default_backend() == "cpu"
        narrow = (kind == "unet1d" and multiplies_bfloat16()) if on_cpu else True
        return jnp.bfloat16 if narrow else None
    return jnp.bfloat16 if compute == "bfloat16" else None


@functools.cache
def multiplies_bfloat16() -> bool:
    """Says whether this machine's CPU has instructions for products of bfloat16."""
    try:
        return bool(BFLOAT16_FLAGS.search(CPU_FLAGS.read_text(encoding="utf-8")))
    except OSError:  # not Linux
        return False


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(
    x: Float[Array, "*n i"], kernel: Float[Array, "i o"], dtype: Any
) -> Float[Array, "*n o"]:
    """Returns x kernel, of operands rounded to `dtype`, summed and returned in at least float32.

    Args:
        x: rows.
        kernel: matrix.
        dtype: of the operands.
    """
    return _matmul(x.astype(dtype), kernel.astype(dtype))


def _product_forward(x: Array, kernel: Array, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    x, narrow = x.astype(dtype), kernel.astype(dtype)
    return _matmul(x, narrow), (x, narrow)


def _product_backward(dtype: Any, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    wide, g = g.dtype, g.astype(dtype)
    rows, g_rows = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    return _matmul(g, kernel.T).astype(wide), _summed(rows.T, g_rows).astype(wide)


product.defvjp(_product_forward, _product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution_of_three(
    x: Float[Array, "b f i"], kernel: Float[Array, "3 i o"], dtype: Any
) -> Float[Array, "b f o"]:
    """Returns PyTorch's conv1d of three taps and padding 1, rounded and summed as `product`.

    Args:
        x: frames.
        kernel: taps, input channels, output channels.
        dtype: of the operands.
    """
    return _convolved(x.astype(dtype), kernel.astype(dtype))


def _convolution_forward(x: Array, kernel: Array, dtype: Any) -> tuple[Array, tuple[Array, Array]]:
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    return _convolved(x, kernel), (x, kernel)


def _convolution_backward(dtype: Any, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    wide, g = g.dtype, g.astype(dtype)
    mirrored = jnp.flip(kernel, 0).swapaxes(1, 2)
    batch, frames, channels = x.shape
    # a row per channel: the sum runs along memory, which is what the instructions want
    turned = lax.optimization_barrier(x.reshape(-1, channels).T).reshape(channels, batch, frames)
    padded = jnp.pad(turned, ((0, 0), (0, 0), (1, 1)))
    copies = jnp.concatenate([padded[:, :, i : i + frames] for i in range(TAPS)])
    gradient = _summed(copies.reshape(TAPS * channels, -1), g.reshape(-1, g.shape[-1]))
    return _convolved(g, mirrored).astype(wide), gradient.reshape(kernel.shape).astype(wide)


convolution_of_three.defvjp(_convolution_forward, _convolution_backward)


def _convolved(x: Array, kernel: Array) -> Array:
    """Returns the sum over taps of the products of shifted inputs."""
    frames = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    parts = [_matmul(padded[:, i : i + frames], kernel[i]) for i in range(TAPS)]
    return parts[0] + parts[1] + parts[2]


def _matmul(x: Array, kernel: Array) -> Array:
    """Returns the product of rows with a matrix, in at least float32."""
    rows = x.reshape(-1, x.shape[-1])
    y = jnp.matmul(rows, kernel, preferred_element_type=_sums(x))
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _summed(columns: Array, rows: Array) -> Array:
    """Returns the product whose sum is over all frames; fused with a transposition it is slow."""
    columns, rows = lax.optimization_barrier((columns, rows))
    return jnp.matmul(columns, rows, preferred_element_type=_sums(rows))


def _sums(x: Array) -> Any:
    return at_least_float32(jnp.zeros((), x.dtype)).dtype
