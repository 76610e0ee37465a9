"""Convolutions of 3 x 3 taps in four ninths of the products: Winograd's F(2 x 2, 3 x 3).

A tile d of 4 x 4 inputs gives 2 x 2 outputs, and tiles are 2 apart:

    Y = A^T [(G g G^T) * (B^T d B)] A                                                           (1)

with * element by element. With channels, each of its 16 elements is a matrix product over all
tiles. (1) is linear in the kernel g, so its gradient is the transposed map:

    dg = G^T [(B^T d B) * (A dY A^T)] G,   summed over the tiles                                (2)

All factors are 0, 1, 1/2 and their negatives, so that float32 stays within some 2e-6 of the
greatest output from the direct sums; bfloat16 would not do. The 4 x 4 elements are a list of four
columns, each an array with the rows first: that makes few loops, which is what compiling takes time
for.

On two cores where matrices are multiplied with 130 GFLOP/s and XLA's direct convolutions reach 110,
these do the direct one's work at 200.

Source: Lavin and Gray 2016 (arXiv 1509.09308), section 4.1.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from emoconv_jax.shapes import Array, Float

FEWEST_CHANNELS = 32  # below, the sums around the products cost more than they save
STEP, TILE = 2, 4
INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)  # B^T
OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)  # A^T
KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)  # G
TAPS_TO_ELEMENTS = np.einsum("ri,cj->crij", KERNEL, KERNEL).reshape(TILE**2, 9)  # columns first

Pads = Sequence[tuple[int, int]]


def suits(x: Array, kernel: Array, stride: int, pads: Pads, dilation: int) -> bool:
    """Says whether this is a convolution for which (1) holds and pays.

    Args:
        x: channels-last image.
        kernel: taps, input channels, output channels.
        stride: step between outputs.
        pads: zeros (before, after) of each axis.
        dilation: distance between taps.
    """
    return (
        kernel.shape[:-2] == (3, 3)
        and stride == dilation == 1
        and min(kernel.shape[-2:]) >= FEWEST_CHANNELS
        and x.dtype == jnp.float32
        and min(*pads[0], *pads[1]) >= 0
        and min(len(x), *_sizes(x, pads)) > 0
    )


def winograd(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], pads: Pads
) -> Float[Array, "b y x o"]:
    """Returns the cross-correlation by (1).

    Args:
        x: channels-last image.
        kernel: of 3 x 3 taps.
        pads: zeros (before, after) of each axis.
    """
    elements = jnp.matmul(TAPS_TO_ELEMENTS, kernel.reshape(9, -1))
    elements = lax.optimization_barrier(elements.reshape(TILE, TILE, *kernel.shape[2:]))
    tiles, (down, across) = _tiles(x, pads)
    products = [jnp.matmul(tile, elements[column]) for column, tile in enumerate(tiles)]
    halves = [_combined(row, products) for row in OUTPUT]
    corners = [[_combined(row, list(half)) for half in halves] for row in OUTPUT]
    shape = len(x), down, across, -1
    y = jnp.stack([jnp.stack([one.reshape(shape) for one in row], 3) for row in corners], 2)
    y = y.reshape(len(x), STEP * down, STEP * across, -1)
    height, width = _sizes(x, pads)
    return y[:, :height, :width]


def kernel_gradient(
    x: Float[Array, "b h w i"], g: Float[Array, "b y x o"], pads: Pads
) -> Float[Array, "3 3 i o"]:
    """Returns the gradient of the kernel by (2).

    Args:
        x: the convolution's input.
        g: gradient of its output.
        pads: zeros (before, after) of each axis of x.
    """
    tiles, (down, across) = _tiles(x, pads)
    room = (0, STEP * down - g.shape[1]), (0, STEP * across - g.shape[2])
    g = jnp.pad(g, ((0, 0), *room, (0, 0)))
    halves = []
    for j in range(STEP):
        corners = [g[:, i::STEP, j::STEP].reshape(-1, g.shape[-1]) for i in range(STEP)]
        halves.append(jnp.stack([_combined(row, corners) for row in OUTPUT.T]))
    halves = lax.optimization_barrier(halves)
    spread = [lax.optimization_barrier(_combined(row, halves)) for row in OUTPUT.T]
    products = [
        jnp.matmul(tile.swapaxes(1, 2), one) for tile, one in zip(tiles, spread, strict=True)
    ]
    taps = jnp.matmul(TAPS_TO_ELEMENTS.T, jnp.concatenate(products).reshape(TILE**2, -1))
    return taps.reshape(3, 3, x.shape[-1], g.shape[-1])


def _sizes(x: Array, pads: Pads) -> tuple[int, int]:
    """Returns height and width of the output."""
    (top, bottom), (left, right) = pads
    return x.shape[1] + top + bottom - 2, x.shape[2] + left + right - 2


def _tiles(x: Array, pads: Pads) -> tuple[list[Array], tuple[int, int]]:
    """Returns B^T d B, for each column an array `rows tiles channels`, and the tiles' grid."""
    (top, bottom), (left, right) = pads
    batch, height, _, channels = x.shape
    sizes = _sizes(x, pads)
    down, across = (-(-size // STEP) for size in sizes)
    below, beside = bottom + sizes[0] % STEP, (right + sizes[1] % STEP) * channels
    flat = x.reshape(batch, height, -1)  # a pad of two axes is compiled faster than one of three
    flat = jnp.pad(flat, ((0, 0), (top, below), (left * channels, beside)))
    x = lax.optimization_barrier(flat.reshape(*flat.shape[:2], -1, channels))
    lines = [x[:, i : i + STEP * down - 1 : STEP] for i in range(TILE)]
    # else every row is computed again for each of its columns
    rows = lax.optimization_barrier(jnp.stack([_combined(row, lines) for row in INPUT]))
    columns = [rows[:, :, :, j : j + STEP * across - 1 : STEP] for j in range(TILE)]
    tiles = [_combined(row, columns).reshape(TILE, -1, channels) for row in INPUT]
    return [lax.optimization_barrier(tile) for tile in tiles], (down, across)


def _combined(factors: np.ndarray, items: Sequence[Array]) -> Array:
    """Returns the sum of the items times their factors, of 0, 1 and -1."""
    added = [item for factor, item in zip(factors, items, strict=True) if factor > 0]
    taken = [item for factor, item in zip(factors, items, strict=True) if factor < 0]
    found = sum(added[1:], start=added[0]) if added else -taken.pop(0)
    for item in taken:
        found = found - item
    return found
