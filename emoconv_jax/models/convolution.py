"""Convolutions as functions, and the one place where the platform decides how they run.

On CPU, XLA computes plain convolutions at some two thirds of PyTorch's rate, and two kinds at a
fraction of it: transposed ones and the weight gradients. Here

- a plain one of 3 x 3 taps is Winograd's, on CPU, as are its gradients (`winograd.py`);
- a transposed convolution of stride s is polyphase: one plain convolution that gives the s phases
  of the output as channels, interleaved afterwards (exactly the same sums);
- any other weight gradient, on CPU, is one matrix product of shifted copies;
- the input gradient of a strided convolution, on CPU, is polyphase as well.

Arrays are channels last; kernels are [taps..., in, out], transposed ones too.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from emoconv_jax.models import winograd
from emoconv_jax.shapes import Array, Float

Spatial = tuple[int, ...]  # one entry per spatial axis


def on_cpu() -> bool:
    """Says whether the CPU forms are to be used, decided while tracing."""
    return jax.default_backend() == "cpu"


def convolution(
    x: Float[Array, "..."],
    kernel: Float[Array, "..."],
    stride: int = 1,
    padding: int | Spatial = 0,
    dilation: int = 1,
) -> Float[Array, "..."]:
    """Returns the cross-correlation of channels-last `x` with `kernel`, as PyTorch's conv1d/2d.

    Args:
        x: batch, one or two spatial axes, channels.
        kernel: taps of each spatial axis, input channels, output channels.
        stride: step between outputs, the same on every axis.
        padding: zeros added on both sides of each axis.
        dilation: distance between taps.

    Returns:
        batch, spatial axes, output channels.
    """
    rank = x.ndim - 2
    pads = (padding,) * rank if isinstance(padding, int) else padding
    if set(kernel.shape[:rank]) == {1} and stride == 1 and not any(pads):
        return jnp.matmul(x, kernel.reshape(kernel.shape[rank:]))
    if on_cpu():
        return _cpu_convolution(x, kernel, stride, pads, dilation)
    return _plain(x, kernel, stride, tuple((pad, pad) for pad in pads), dilation)


def grouped_convolution(
    x: Float[Array, "b n i"],
    kernel: Float[Array, "k w o"],
    groups: int,
    padding: tuple[int, int],
) -> Float[Array, "b l o"]:
    """Returns PyTorch's conv1d with groups; on CPU its gradients are XLA's own, which are slow.

    The forward pass of XLA takes PyTorch's time on CPU with the 128 taps and 16 groups of wav2vec2;
    as batched matrix products over shifted copies, or by Fourier transforms, two to five times.

    Args:
        x: batch, samples, channels.
        kernel: taps, input channels of a group, output channels.
        groups: that the channels are divided into.
        padding: zeros (before, after).

    Returns:
        batch, samples, output channels.
    """
    return lax.conv_general_dilated(
        x,
        kernel,
        (1,),
        [padding],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups,
    )


def transposed_convolution(
    x: Float[Array, "..."], kernel: Float[Array, "..."], stride: int
) -> Float[Array, "..."]:
    """Returns PyTorch's conv_transpose of channels-last `x`, padding (taps - stride) // 2.

    Args:
        x: batch, one or two spatial axes of lengths n, channels.
        kernel: taps (at least `stride`) of each spatial axis, input channels, output channels.
        stride: samples of output per sample of input.

    Returns:
        batch, spatial axes of (n - 1) stride + taps - 2 padding, output channels.
    """
    rank = x.ndim - 2
    taps = kernel.shape[:rank]
    pads = tuple((tap - stride) // 2 for tap in taps)
    lengths = tuple(
        (n - 1) * stride + tap - 2 * pad
        for n, tap, pad in zip(x.shape[1:-1], taps, pads, strict=True)
    )
    return _polyphase(x, kernel, stride, pads, lengths)


def _plain(
    x: Array, kernel: Array, stride: int, pads: Sequence[tuple[int, int]], dilation: int
) -> Array:
    """Returns XLA's own convolution; `pads` are (before, after) of each axis."""
    rank = x.ndim - 2
    letters = "HW"[-rank:]
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * rank,
        pads,
        rhs_dilation=(dilation,) * rank,
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )


def _polyphase(x: Array, kernel: Array, stride: int, offset: Spatial, lengths: Spatial) -> Array:
    """Returns y[t] = sum_i x[i] kernel[t + offset - i stride] for t = 0 .. lengths - 1.

    With t + offset = stride q + r, the sum is over x[q - j] kernel[stride j + r]: for every phase r
    a plain convolution with ceil(taps / stride) taps. All phases are computed as channels of one.
    """
    rank = x.ndim - 2
    channels_in, channels_out = kernel.shape[rank:]
    spans = [-(-tap // stride) for tap in kernel.shape[:rank]]
    kernel = jnp.pad(
        kernel,
        [(0, span * stride - tap) for span, tap in zip(spans, kernel.shape, strict=False)]
        + [(0, 0), (0, 0)],
    )
    kernel = kernel.reshape([n for span in spans for n in (span, stride)] + [*kernel.shape[rank:]])
    taps, phases = range(0, 2 * rank, 2), range(1, 2 * rank, 2)
    kernel = jnp.flip(kernel, tuple(taps)).transpose(*taps, 2 * rank, *phases, 2 * rank + 1)
    kernel = kernel.reshape(*spans, channels_in, stride**rank * channels_out)
    y = convolution(x, kernel, padding=tuple(span - 1 for span in spans))
    sizes = y.shape[1:-1]
    y = y.reshape(y.shape[0], *sizes, *(stride,) * rank, channels_out)
    order = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
    y = y.transpose(0, *order, 2 * rank + 1)
    y = y.reshape(y.shape[0], *(size * stride for size in sizes), channels_out)
    for axis, (first, length) in enumerate(zip(offset, lengths, strict=True), start=1):
        y = lax.slice_in_dim(y, first, min(first + length, y.shape[axis]), axis=axis)
    short = [length - size for length, size in zip(lengths, y.shape[1:-1], strict=True)]
    # inputs that a strided convolution never reached
    return jnp.pad(y, [(0, 0), *((0, n) for n in short), (0, 0)]) if any(short) else y


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _cpu_convolution(x: Array, kernel: Array, stride: int, pads: Spatial, dilation: int) -> Array:
    """Returns the convolution whose gradients avoid XLA's slow paths on CPU."""
    return _fast(x, kernel, stride, tuple((pad, pad) for pad in pads), dilation)


def _fast(
    x: Array, kernel: Array, stride: int, pads: Sequence[tuple[int, int]], dilation: int
) -> Array:
    """Returns the convolution by the faster of the two ways that a CPU has."""
    if winograd.suits(x, kernel, stride, pads, dilation):
        return winograd.winograd(x, kernel, pads)
    if x.ndim == 4 and x.shape[-1] == 1:
        # Of mask, convolution of one channel and sum over more than 1024 frames jaxlib 0.10.2 makes
        # one program (YNN) that sums wrongly; of two channels, the second empty, it does not.
        x = jnp.concatenate([x, jnp.zeros_like(x)], axis=-1)
        kernel = jnp.concatenate([kernel, jnp.zeros_like(kernel)], axis=-2)
    return _plain(x, kernel, stride, pads, dilation)


def _cpu_forward(
    x: Array, kernel: Array, stride: int, pads: Spatial, dilation: int
) -> tuple[Array, tuple[Array, Array]]:
    return _cpu_convolution(x, kernel, stride, pads, dilation), (x, kernel)


def _cpu_backward(
    stride: int, pads: Spatial, dilation: int, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    (x, kernel), g = _apart(saved, g)
    around = tuple((pad, pad) for pad in pads)
    if winograd.suits(x, kernel, stride, around, dilation):
        gradient = winograd.kernel_gradient(x, g, around)
    else:
        gradient = _kernel_gradient(x, g, kernel.shape, stride, pads, dilation)
    return _input_gradient(g, kernel, x.shape[1:-1], stride, pads, dilation), gradient


def _apart(saved: tuple[Array, Array], g: Array) -> tuple[tuple[Array, Array], Array]:
    """Returns what it is given; what is computed of it is not found to be the forward pass's.

    Else the padded input is, and it is kept until here beside the input.
    """
    return lax.optimization_barrier((saved, g))


_cpu_convolution.defvjp(_cpu_forward, _cpu_backward)


def _input_gradient(
    g: Array, kernel: Array, lengths: Spatial, stride: int, pads: Spatial, dilation: int
) -> Array:
    """Returns the input gradient: the output gradient convolved with the mirrored kernel."""
    rank = g.ndim - 2
    swapped = jnp.swapaxes(kernel, -1, -2)
    if stride == 1:
        reach = [dilation * (tap - 1) for tap in kernel.shape[:rank]]
        edges = [(r - pad, r - pad) for r, pad in zip(reach, pads, strict=True)]
        return _fast(g, jnp.flip(swapped, tuple(range(rank))), 1, edges, dilation)
    if dilation == 1:
        return _polyphase(g, swapped, stride, pads, lengths)
    raise ValueError("a convolution has a stride or a dilation, not both")


def _kernel_gradient(
    x: Array, g: Array, shape: Spatial, stride: int, pads: Spatial, dilation: int
) -> Array:
    """Returns the gradient of the kernel, as one matrix product over all positions.

    A tap's gradient is the shifted input times the output gradient. At stride 1 the shifts of the
    first of two axes are moved to the output gradient, so that each operand is copied k and not
    k^2 times. The barrier keeps XLA from fusing the shifts with a transposition, which is slow.
    """
    rank = x.ndim - 2
    taps, sizes = shape[:rank], g.shape[1:-1]
    swap = rank == 2 and stride == 1
    left = []
    for tap in itertools.product(
        *([0] if swap and i == 0 else range(n) for i, n in enumerate(taps))
    ):
        window = x
        for axis in range(1 if swap else 0, rank):
            first = tap[axis] * dilation - pads[axis]
            window = _window(window, axis + 1, first, sizes[axis], stride)
        left.append(window)
    right = [g]
    if swap:
        offsets = [pads[0] - i * dilation for i in range(taps[0])]
        right = [_window(g, 1, offset, x.shape[1], 1) for offset in offsets]
    wide, tall = lax.optimization_barrier(
        (jnp.concatenate(left, axis=-1), jnp.concatenate(right, axis=-1))
    )
    product = jnp.matmul(wide.reshape(-1, wide.shape[-1]).T, tall.reshape(-1, tall.shape[-1]))
    if not swap:
        return product.reshape(shape)
    return product.reshape(taps[1], shape[2], taps[0], shape[3]).transpose(2, 0, 1, 3)


def _window(x: Array, axis: int, first: int, size: int, stride: int) -> Array:
    """Returns x[first : first + (size - 1) stride + 1 : stride] on `axis`, zero outside."""
    last = first + (size - 1) * stride + 1
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (-first, last - x.shape[axis], 0)
    window = lax.pad(x, jnp.zeros((), x.dtype), edges)
    return window if stride == 1 else lax.slice_in_dim(window, 0, None, stride, axis)
