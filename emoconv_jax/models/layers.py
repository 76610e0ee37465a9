"""The building blocks of every network, and the one place where the platform decides how they run.

On CPU, XLA computes three things slowly that PyTorch does not: transposed convolutions, the weight
gradient of a convolution, and Mish written as x tanh(softplus(x)). Here

- a transposed convolution of stride s is polyphase: one plain convolution that gives the s phases
  of the output as channels, interleaved afterwards (exactly the same sums);
- the weight gradient of a convolution, on CPU, is one matrix product of shifted copies;
- the input gradient of a strided convolution, on CPU, is polyphase as well;
- Mish is x n / (n + 2), n = e^x (e^x + 2).

Parameters keep PyTorch's initialisation and are named `kernel` and `bias` (convolutions, linear) or
`scale` and `bias` (normalisations); kernels are [taps..., in, out], transposed ones too.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from emoconv_jax.shapes import Array, Float

GROUP_NORM_EPS = 1e-5  # PyTorch's default (Flax's is 1e-6)
LAYER_NORM_EPS = 1e-4  # DiffVC's channel layer norm
MISH_CLIP = 20.0  # from here on mish(x) = x in float32, and e^(2x) would overflow later

Spatial = tuple[int, ...]  # one entry per spatial axis


def on_cpu() -> bool:
    """Says whether the CPU forms of the gradients are to be used, decided while tracing."""
    return jax.default_backend() == "cpu"


def mish(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x tanh(softplus(x)), written without the two slow functions.

    Source: Misra 2019 (arXiv 1908.08681); tanh(ln(1 + e^x)) = n / (n + 2), n = e^x (e^x + 2).
    """
    exponential = jnp.exp(jnp.minimum(x, MISH_CLIP))
    n = exponential * (exponential + 2.0)
    return x * (n / (n + 2.0))


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


def conv_transpose_1d(
    x: Float[Array, "b n i"], kernel: Float[Array, "k i o"], stride: int
) -> Float[Array, "b l o"]:
    """Returns the one-dimensional `transposed_convolution`."""
    return transposed_convolution(x, kernel, stride)


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
    return _plain(x, kernel, stride, tuple((pad, pad) for pad in pads), dilation)


def _cpu_forward(
    x: Array, kernel: Array, stride: int, pads: Spatial, dilation: int
) -> tuple[Array, tuple[Array, Array]]:
    return _cpu_convolution(x, kernel, stride, pads, dilation), (x, kernel)


def _cpu_backward(
    stride: int, pads: Spatial, dilation: int, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    return _input_gradient(g, kernel, x.shape[1:-1], stride, pads, dilation), _kernel_gradient(
        x, g, kernel.shape, stride, pads, dilation
    )


_cpu_convolution.defvjp(_cpu_forward, _cpu_backward)


def _input_gradient(
    g: Array, kernel: Array, lengths: Spatial, stride: int, pads: Spatial, dilation: int
) -> Array:
    """Returns the gradient of the input: the output gradient, convolved with the mirrored kernel."""
    rank = g.ndim - 2
    swapped = jnp.swapaxes(kernel, -1, -2)
    if stride == 1:
        reach = [dilation * (tap - 1) for tap in kernel.shape[:rank]]
        edges = [(r - pad, r - pad) for r, pad in zip(reach, pads, strict=True)]
        return _plain(g, jnp.flip(swapped, tuple(range(rank))), 1, edges, dilation)
    if dilation == 1:
        return _polyphase(g, swapped, stride, pads, lengths)
    raise NotImplementedError("a convolution has a stride or a dilation, not both")


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
    for tap in itertools.product(*([0] if swap and i == 0 else range(n) for i, n in enumerate(taps))):
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


def _uniform(fan_in: int) -> nn.initializers.Initializer:
    """Returns PyTorch's default initialiser of weights and biases, U(-1, 1) / sqrt(fan_in)."""
    bound = 1.0 / math.sqrt(fan_in)

    def initialise(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


class Linear(nn.Module):
    """y = x kernel + bias on the last axis.

    Attributes:
        features: output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "*batch i"]) -> Float[Array, "*batch o"]:
        """Returns the mapped last axis."""
        initial = _uniform(x.shape[-1])
        kernel = self.param("kernel", initial, (x.shape[-1], self.features))
        bias = self.param("bias", initial, (self.features,))
        return x @ kernel + _aligned(bias, x.ndim)


class Conv1d(nn.Module):
    """PyTorch's Conv1d on `b n c`.

    Attributes:
        features: output channels.
        kernel: taps.
        stride: step between outputs.
        padding: zeros on both sides; None keeps the length (odd kernels, stride 1).
        dilation: distance between taps.
        use_bias: whether a bias is added.
        zero_init: whether kernel and bias start at zero.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int | None = None
    dilation: int = 1
    use_bias: bool = True
    zero_init: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b n i"]) -> Float[Array, "b l o"]:
        """Returns the convolved signal."""
        initial = nn.initializers.zeros if self.zero_init else _uniform(self.kernel * x.shape[-1])
        kernel = self.param("kernel", initial, (self.kernel, x.shape[-1], self.features))
        padding = self.dilation * (self.kernel - 1) // 2 if self.padding is None else self.padding
        y = convolution(x, kernel, self.stride, padding, self.dilation)
        if not self.use_bias:
            return y
        return y + _aligned(self.param("bias", initial, (self.features,)), y.ndim)


class Conv2d(nn.Module):
    """PyTorch's Conv2d on `b h w c`.

    Attributes:
        features: output channels.
        kernel: taps of both axes, or of each.
        stride: step between outputs on both axes.
        padding: zeros on both sides; None is (taps - 1) // 2, which keeps the size at stride 1.
        use_bias: whether a bias is added.
    """

    features: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padding: int | tuple[int, int] | None = None
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b y x o"]:
        """Returns the convolved image."""
        taps = (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel
        initial = _uniform(math.prod(taps) * x.shape[-1])
        kernel = self.param("kernel", initial, (*taps, x.shape[-1], self.features))
        same = ((taps[0] - 1) // 2, (taps[1] - 1) // 2)
        y = convolution(x, kernel, self.stride, same if self.padding is None else self.padding)
        if not self.use_bias:
            return y
        return y + _aligned(self.param("bias", initial, (self.features,)), y.ndim)


class ConvTranspose1d(nn.Module):
    """PyTorch's ConvTranspose1d on `b n c` with padding (kernel - stride) // 2.

    Attributes:
        features: output channels.
        kernel: taps, at least `stride`.
        stride: samples of output per sample of input.
    """

    features: int
    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n i"]) -> Float[Array, "b l o"]:
        """Returns the upsampled signal, n * stride samples if kernel - stride is even."""
        initial = _uniform(self.kernel * self.features)  # PyTorch counts the outputs here
        kernel = self.param("kernel", initial, (self.kernel, x.shape[-1], self.features))
        bias = self.param("bias", initial, (self.features,))
        y = conv_transpose_1d(x, kernel, self.stride)
        return y + _aligned(bias, y.ndim)


class ConvTranspose2d(nn.Module):
    """PyTorch's ConvTranspose2d on `b h w c` with padding (kernel - stride) // 2 on both axes.

    Attributes:
        features: output channels.
        kernel: taps of both axes, at least `stride`.
        stride: pixels of output per pixel of input.
    """

    features: int
    kernel: int = 4
    stride: int = 2

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b y x o"]:
        """Returns the upsampled image."""
        initial = _uniform(self.kernel**2 * self.features)
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", initial, shape)
        bias = self.param("bias", initial, (self.features,))
        y = transposed_convolution(x, kernel, self.stride)
        return y + _aligned(bias, y.ndim)


class GroupNorm(nn.Module):
    """GroupNorm of an image `b m f c` whose statistics are those of the real frames only.

    With a full mask it is PyTorch's GroupNorm; with `groups` equal to the channels it is the affine
    InstanceNorm.

    Attributes:
        groups: number of groups the channels are divided into.
    """

    groups: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b m f c"], mask: Float[Array, "b f"]
    ) -> Float[Array, "b m f c"]:
        """Returns the normalised image; what stands in padded frames is not defined."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        weights = mask / (x.shape[1] * jnp.maximum(mask.sum(-1, keepdims=True), 1.0))
        weights = weights[:, None, :, None]
        mean = self._grouped(jnp.sum(x * weights, (1, 2)))
        centred = x - mean[:, None, None]
        variance = self._grouped(jnp.sum(jnp.square(centred) * weights, (1, 2)))
        gain = scale[None] * lax.rsqrt(variance + GROUP_NORM_EPS)
        return centred * gain[:, None, None] + _aligned(bias, 4)

    def _grouped(self, statistic: Float[Array, "b c"]) -> Float[Array, "b c"]:
        """Returns each channel's group average."""
        grouped = statistic.reshape(statistic.shape[0], self.groups, -1).mean(-1)
        return jnp.repeat(grouped, statistic.shape[1] // self.groups, axis=1)


class Block(nn.Module):
    """Convolution, masked GroupNorm, Mish: the unit of the score network and of the PostNet.

    Attributes:
        features: output channels.
        groups: of the GroupNorm.
        kernel: taps of both axes.
    """

    features: int
    groups: int
    kernel: int = 3

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b m f i"],
        mask: Float[Array, "b f"],
        constant: Float[Array, "b k"] | None = None,
    ) -> Float[Array, "b m f o"]:
        """Returns the masked output for a masked input; `constant` as in `EntryConv2d`."""
        if constant is None:
            y = Conv2d(self.features, self.kernel, name="conv")(x)
        else:
            y = EntryConv2d(self.features, self.kernel, name="conv")(x, constant, mask)
        return mish(GroupNorm(self.groups, name="norm")(y, mask)) * mask[:, None, :, None]


class EntryConv2d(nn.Module):
    """A Conv2d of few varying channels followed by many that are the same at every real position.

    Spread out as an image, the constant channels would cost most of the first convolution. They
    enter as what they are, one more channel: the mask, with taps that depend on the example. The
    parameters are those of a Conv2d of all channels.

    Attributes:
        features: output channels.
        kernel: taps of both axes (odd); the size is kept.
    """

    features: int
    kernel: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b m f i"],
        constant: Float[Array, "b k"],
        mask: Float[Array, "b f"],
    ) -> Float[Array, "b m f o"]:
        """Returns the convolution of [x, constant * mask]; `x` is masked already."""
        batch, mels, frames, varying = x.shape
        taps, reach = self.kernel, self.kernel // 2
        channels = varying + constant.shape[1]
        initial = _uniform(taps**2 * channels)
        kernel = self.param("kernel", initial, (taps, taps, channels, self.features))
        bias = self.param("bias", initial, (self.features,))
        plane = jnp.broadcast_to(mask[:, None, :, None], (batch, mels, frames, 1))
        image = jnp.concatenate([x, plane], axis=-1)
        image = jnp.pad(image, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        patches = jnp.concatenate(
            [image[:, i : i + mels, j : j + frames] for i in range(taps) for j in range(taps)],
            axis=-1,
        )
        common = kernel[None, :, :, :varying]
        common = jnp.broadcast_to(common, (batch, *common.shape[1:]))
        own = jnp.einsum("bk,yxko->byxo", constant, kernel[:, :, varying:])[:, :, :, None]
        kernels = jnp.concatenate([common, own], axis=3).reshape(batch, -1, self.features)
        y = jnp.matmul(patches.reshape(batch, mels * frames, -1), kernels)
        return y.reshape(batch, mels, frames, self.features) + _aligned(bias, 4)


class LayerNorm(nn.Module):
    """Normalises the channels of every frame (DiffVC's channel layer norm, eps 1e-4)."""

    @nn.compact
    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        """Returns the normalised and scaled channels."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        centred = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        normal = centred * lax.rsqrt(variance + LAYER_NORM_EPS)
        return normal * _aligned(scale, x.ndim) + _aligned(bias, x.ndim)


def _aligned(vector: Array, rank: int) -> Array:
    """Returns a channel vector with leading axes, since rank promotion is an error here."""
    return vector.reshape((1,) * (rank - 1) + (-1,))
