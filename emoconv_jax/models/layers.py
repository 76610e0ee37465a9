"""The building blocks of every network, with PyTorch's initialisation and arithmetic.

Parameters are named `kernel` and `bias` (convolutions, linear) or `scale` and `bias`
(normalisations). Statistics of images are those of the real frames. How a convolution is computed
is `convolution.py`'s affair.

A layer computes in the type of its input and returns that type. Parameters are float32 and are cast
where they are used. In bfloat16, whose eight bits stop counting at 256, everything that is a sum
over positions or frames is taken in at least float32: statistics (`at_least_float32`) and, by
`add_wide`, the gradients of what is added to every position.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from emoconv_jax.models.convolution import convolution, transposed_convolution
from emoconv_jax.shapes import Array, Float

GROUP_NORM_EPS = 1e-5  # PyTorch's default (Flax's is 1e-6)
LAYER_NORM_EPS = 1e-4  # DiffVC's channel layer norm
MISH_CLIP = 20.0  # from here on mish(x) = x even in float64, and e^(2x) would overflow later


def at_least_float32(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x in the type of statistics: float32, or its own if that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def add_wide(x: Float[Array, "..."], term: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x + term in the type of x, added in the wider of the two types.

    The gradient of a term that is broadcast (a bias) is summed over positions in its own type.

    Args:
        x: in the type that is computed in.
        term: of the same rank, in the type of the parameters.

    Returns:
        The sum, rounded once.
    """
    return (x + term).astype(x.dtype)


def masked(image: Float[Array, "b m f c"], mask: Float[Array, "b f"]) -> Float[Array, "b m f c"]:
    """Returns the image, in its type, with zeros in the padded frames.

    Args:
        image: mel bins by frames.
        mask: 1.0 on real frames, of any type.
    """
    return image * mask[:, None, :, None].astype(image.dtype)


@jax.custom_jvp
def mish(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x tanh(softplus(x)), written without the two slow functions.

    It is computed in at least float32 and rounded once, and so is its derivative, which is all that
    the backward pass keeps: derived step by step, it is a difference of two numbers near 1 that
    bfloat16 cannot tell apart.

    Source: Misra 2019 (arXiv 1908.08681); tanh(ln(1 + e^x)) = n / (n + 2), n = e^x (e^x + 2).
    """
    return _mish_and_slope(x)[0]


@mish.defjvp
def _mish_tangent(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    value, slope = _mish_and_slope(primals[0])
    return value, slope * tangents[0]


def _mish_and_slope(x: Array) -> tuple[Array, Array]:
    """Returns mish(x) and its derivative, n / (n + 2) + x 4 e^x (e^x + 1) / (n + 2)^2."""
    wide = at_least_float32(x)
    exponential = jnp.exp(jnp.minimum(wide, MISH_CLIP))
    n = exponential * (exponential + 2.0)
    gate = n / (n + 2.0)
    rise = 4.0 * exponential * (exponential + 1.0) / jnp.square(n + 2.0)
    return (wide * gate).astype(x.dtype), (gate + wide * rise).astype(x.dtype)


def uniform(fan_in: int) -> nn.initializers.Initializer:
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
        initial = uniform(x.shape[-1])
        kernel = self.param("kernel", initial, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", initial, (self.features,), jnp.float32)
        return add_wide(x @ kernel.astype(x.dtype), _aligned(bias, x.ndim))


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
        initial = nn.initializers.zeros if self.zero_init else uniform(self.kernel * x.shape[-1])
        shape = (self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", initial, shape, jnp.float32).astype(x.dtype)
        padding = self.dilation * (self.kernel - 1) // 2 if self.padding is None else self.padding
        y = convolution(x, kernel, self.stride, padding, self.dilation)
        if not self.use_bias:
            return y
        bias = self.param("bias", initial, (self.features,), jnp.float32)
        return add_wide(y, _aligned(bias, y.ndim))


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
        initial = uniform(math.prod(taps) * x.shape[-1])
        shape = (*taps, x.shape[-1], self.features)
        kernel = self.param("kernel", initial, shape, jnp.float32).astype(x.dtype)
        same = ((taps[0] - 1) // 2, (taps[1] - 1) // 2)
        y = convolution(x, kernel, self.stride, same if self.padding is None else self.padding)
        if not self.use_bias:
            return y
        bias = self.param("bias", initial, (self.features,), jnp.float32)
        return add_wide(y, _aligned(bias, y.ndim))


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
        initial = uniform(self.kernel * self.features)  # PyTorch counts the outputs here
        shape = (self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", initial, shape, jnp.float32)
        bias = self.param("bias", initial, (self.features,), jnp.float32)
        y = transposed_convolution(x, kernel.astype(x.dtype), self.stride)
        return add_wide(y, _aligned(bias, y.ndim))


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
        initial = uniform(self.kernel**2 * self.features)
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", initial, shape, jnp.float32)
        bias = self.param("bias", initial, (self.features,), jnp.float32)
        y = transposed_convolution(x, kernel.astype(x.dtype), self.stride)
        return add_wide(y, _aligned(bias, y.ndim))


class GroupNorm(nn.Module):
    """GroupNorm of an image `b m f c` whose statistics are those of the real frames only.

    With a full mask it is PyTorch's GroupNorm; with `groups` equal to the channels it is the affine
    InstanceNorm. The backward pass keeps its input alone and computes the rest again.

    Attributes:
        groups: number of groups the channels are divided into.
        activated: whether Mish and the mask follow.
    """

    groups: int
    activated: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b m f c"], mask: Float[Array, "b f"]
    ) -> Float[Array, "b m f c"]:
        """Returns the normalised image; what stands in padded frames is not defined."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        return _normalised(x, mask, scale, bias, self.groups, self.activated)


@functools.partial(jax.checkpoint, static_argnums=(4, 5))
def _normalised(
    x: Array, mask: Array, scale: Array, bias: Array, groups: int, activated: bool
) -> Array:
    """Returns the normalised image, if `activated` after Mish and the mask."""

    def grouped(statistic: Float[Array, "b c"]) -> Float[Array, "b c"]:  # each group's average
        average = statistic.reshape(len(x), groups, -1).mean(-1)
        return jnp.repeat(average, x.shape[-1] // groups, axis=1)

    wide = at_least_float32(x)
    real = mask.astype(wide.dtype)
    share = real / (x.shape[1] * jnp.maximum(real.sum(-1, keepdims=True), 1.0))
    weights = share[:, None, :, None]
    mean = grouped(jnp.sum(wide * weights, (1, 2)))
    centred = wide - mean[:, None, None]
    variance = grouped(jnp.sum(jnp.square(centred) * weights, (1, 2)))
    gain = scale[None] * lax.rsqrt(variance + GROUP_NORM_EPS)
    y = (centred * gain[:, None, None] + _aligned(bias, 4)).astype(x.dtype)
    return masked(mish(y), mask) if activated else y


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
        return GroupNorm(self.groups, activated=True, name="norm")(y, mask)


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
        initial = uniform(taps**2 * channels)
        shape = (taps, taps, channels, self.features)
        kernel = self.param("kernel", initial, shape, jnp.float32)
        bias = self.param("bias", initial, (self.features,), jnp.float32)
        plane = jnp.broadcast_to(mask[:, None, :, None], (batch, mels, frames, 1))
        image = jnp.concatenate([x, plane.astype(x.dtype)], axis=-1)
        image = jnp.pad(image, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        patches = jnp.concatenate(
            [image[:, i : i + mels, j : j + frames] for i in range(taps) for j in range(taps)],
            axis=-1,
        )
        common = kernel[None, :, :, :varying]
        common = jnp.broadcast_to(common, (batch, *common.shape[1:]))
        own = jnp.einsum("bk,yxko->byxo", constant, kernel[:, :, varying:])[:, :, :, None]
        kernels = jnp.concatenate([common, own], axis=3).reshape(batch, -1, self.features)
        # cast last, so that the common taps' gradient is summed over the batch in their own type
        y = jnp.matmul(patches.reshape(batch, mels * frames, -1), kernels.astype(x.dtype))
        return add_wide(y.reshape(batch, mels, frames, self.features), _aligned(bias, 4))


class LayerNorm(nn.Module):
    """Normalises the channels of every frame.

    Attributes:
        eps: added to the variance; the default is that of DiffVC's channel layer norm.
    """

    eps: float = LAYER_NORM_EPS

    @nn.compact
    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        """Returns the normalised and scaled channels."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        wide = at_least_float32(x)
        centred = wide - wide.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        normal = centred * lax.rsqrt(variance + self.eps)
        return (normal * _aligned(scale, x.ndim) + _aligned(bias, x.ndim)).astype(x.dtype)


def lstm_step(
    state: tuple[Float[Array, "b h"], Float[Array, "b h"]],
    drive: Float[Array, "b g"],
    *weights_hh: Float[Array, "h _"],
) -> tuple[Float[Array, "b h"], Float[Array, "b h"]]:
    """Returns the LSTM state after one frame, with PyTorch's order of gates: i, f, g, o.

    Args:
        state: (h, c); the cell state in at least float32.
        drive: what the input and the biases add to the gates.
        *weights_hh: recurrent weights, whole or in parts side by side; cast here and not before the
            scan over frames, in which their gradient would then be summed in the type of h.

    Returns:
        (h, c), in the types they came in.
    """
    h, c = state
    recurrent = jnp.concatenate([h @ weights.astype(h.dtype) for weights in weights_hh], axis=-1)
    gates = at_least_float32(drive) + recurrent
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return (jax.nn.sigmoid(o) * jnp.tanh(c)).astype(h.dtype), c


def _aligned(vector: Array, rank: int) -> Array:
    """Returns a channel vector with leading axes, since rank promotion is an error here."""
    return vector.reshape((1,) * (rank - 1) + (-1,))
