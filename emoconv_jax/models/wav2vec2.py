"""wav2vec2, and the recogniser of arousal, dominance and valence that stands on it.

    (1) x = (waveform - mean) / sqrt(variance + 1e-7), over the real samples
    (2) x = GELU(norm(conv(x))), seven times: one frame per 20 ms
    (3) x = W LayerNorm(x), zero in padded frames;   x = x + GELU(positional convolution of x)
    (4) transformer layers, stable:  x = x + attention(norm(x));  x = x + feed_forward(norm(x))
                            else:    x = norm(x + attention(x));  x = norm(x + feed_forward(x))
    (5) embedding = mean over real frames;   dimensions = W_o tanh(W_d embedding)

A frame is real if its whole receptive field is; padding changes nothing on real frames. Where the
first convolution is normalised by groups, the statistics are those of the real frames, which the
reference leaves out: the two agree on unpadded utterances.

Names of the parameters are those of the public weights, dots replaced, so that porting is a table.

Source: Baevski et al. 2020 (arXiv 2006.11477); the head and (1): Wagner et al. 2023
(arXiv 2203.07378); the two orders of (4) and the padding: Hugging Face transformers.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from emoconv_jax.config import Wav2Vec2Config
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.convolution import grouped_convolution
from emoconv_jax.models.layers import (
    Conv1d,
    GroupNorm,
    LayerNorm,
    Linear,
    add_wide,
    at_least_float32,
    uniform,
)
from emoconv_jax.shapes import Array, Float

DIMENSIONS = ("arousal", "dominance", "valence")  # in the order of the public head, about 0 .. 1
WAVEFORM_FLOOR = 1e-7  # added to the waveform's variance
CONV_EPS = 1e-5  # of the convolutions' norms, which have PyTorch's default whatever the config says
EXCLUDED = -1e9  # logit of a padded frame: its weight is exactly 0 in float32
FEATURE_NORMS = ("layer", "group")


def check_wav2vec2(config: Wav2Vec2Config) -> None:
    """Refuses a configuration whose sizes do not fit one another.

    Args:
        config: perhaps read from a foreign file.

    Raises:
        EmoconvError: the field, what was found and what is allowed.
    """
    lengths = [len(config.conv_channels), len(config.conv_kernels), len(config.conv_strides)]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise EmoconvError(
            f"wav2vec2.conv_channels: {lengths[0]} with {lengths[1]} conv_kernels and {lengths[2]} "
            "conv_strides, allowed are as many of each, 1 or more"
        )
    if config.feature_norm not in FEATURE_NORMS:
        raise EmoconvError(
            f"wav2vec2.feature_norm: {config.feature_norm!r:.40}, allowed is "
            f"{' or '.join(FEATURE_NORMS)}"
        )
    for name in ("heads", "position_groups"):
        divisor = getattr(config, name)
        if divisor < 1 or config.hidden % divisor:
            raise EmoconvError(
                f"wav2vec2.{name}: {divisor}, allowed is a divisor of hidden {config.hidden}"
            )


def least_samples(config: Wav2Vec2Config) -> int:
    """Returns the length of the shortest waveform that gives a frame: 400 for the public sizes."""
    samples = 1
    for kernel, stride in zip(config.conv_kernels[::-1], config.conv_strides[::-1], strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def normalised(waveform: Float[Array, "b n"], mask: Float[Array, "b n"]) -> Float[Array, "b n"]:
    """Returns each utterance at zero mean and unit variance, eq. 1, and 0 in the padding.

    Args:
        waveform: at 16 kHz, of any level; the padding may hold anything finite.
        mask: 1.0 on real samples.

    Returns:
        At least float32.
    """
    wide = at_least_float32(waveform)
    real = mask.astype(wide.dtype)
    count = jnp.maximum(real.sum(-1, keepdims=True), 1.0)
    centred = (wide - (wide * real).sum(-1, keepdims=True) / count) * real
    variance = jnp.square(centred).sum(-1, keepdims=True) / count
    return centred * lax.rsqrt(variance + WAVEFORM_FLOOR)


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x Phi(x), exact. By erf as PyTorch does: `jax.nn.gelu` takes the slower erfc."""
    wide = at_least_float32(x)
    return (wide * (0.5 + 0.5 * lax.erf(wide * math.sqrt(0.5)))).astype(x.dtype)


class FeatureEncoder(nn.Module):
    """The convolutions from samples to frames, eq. 2.

    Attributes:
        config: the sizes.
    """

    config: Wav2Vec2Config

    @nn.compact
    def __call__(
        self, waveform: Float[Array, "b n"], mask: Float[Array, "b n"]
    ) -> tuple[Float[Array, "b l c"], Float[Array, "b l"]]:
        """Returns the features and which frames are real."""
        config, x, real = self.config, waveform[..., None], mask
        lengths = jnp.sum(mask > 0, -1)
        sizes = zip(config.conv_channels, config.conv_kernels, config.conv_strides, strict=True)
        for layer, (channels, kernel, stride) in enumerate(sizes):
            lengths = (lengths - kernel) // stride + 1  # below 1: no frame is real
            norm = config.feature_norm if config.feature_norm == "layer" or layer == 0 else ""
            block = FeatureConv(
                channels, kernel, stride, config.conv_bias, norm, name=f"conv_layers_{layer}"
            )
            frames = (x.shape[1] - kernel) // stride + 1
            real = (jnp.arange(frames)[None] < lengths[:, None]).astype(mask.dtype)
            x = block(x, real)
        return x, real


class FeatureConv(nn.Module):
    """Convolution, norm, GELU: one step of eq. 2.

    Attributes:
        features: output channels.
        kernel: taps.
        stride: step between outputs.
        use_bias: whether the convolution adds a bias.
        norm: "layer" over the channels, "group" of each channel over time, "" for none.
    """

    features: int
    kernel: int
    stride: int
    use_bias: bool
    norm: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n i"], real: Float[Array, "b l"]
    ) -> Float[Array, "b l o"]:
        """Returns the frames; `real` is 1.0 on those that count in a group's statistics."""
        sizes = (self.features, self.kernel, self.stride)
        x = Conv1d(*sizes, padding=0, use_bias=self.use_bias, name="conv")(x)
        if self.norm == "layer":
            x = LayerNorm(CONV_EPS, name="layer_norm")(x)
        elif self.norm == "group":
            x = GroupNorm(self.features, name="layer_norm")(x[:, None], real)[:, 0]
        return gelu(x)


class FeatureProjection(nn.Module):
    """From the channels of the convolutions to those of the transformer, eq. 3.

    Attributes:
        config: the sizes.
    """

    config: Wav2Vec2Config

    @nn.compact
    def __call__(self, x: Float[Array, "b l i"]) -> Float[Array, "b l c"]:
        """Returns the projected frames."""
        x = LayerNorm(self.config.eps, name="layer_norm")(x)
        return Linear(self.config.hidden, name="projection")(x)


class PositionalConv(nn.Module):
    """The grouped convolution that tells frames where they stand, with its GELU, eq. 3.

    Attributes:
        kernel: taps; an even number looks one frame farther back than ahead.
        groups: that the channels are divided into.
    """

    kernel: int
    groups: int

    @nn.compact
    def __call__(self, x: Float[Array, "b l c"]) -> Float[Array, "b l c"]:
        """Returns what is added to the frames; those of the padding must be 0."""
        channels, width = x.shape[-1], x.shape[-1] // self.groups
        initial = uniform(self.kernel * width)
        kernel = self.param("kernel", initial, (self.kernel, width, channels), jnp.float32)
        bias = self.param("bias", initial, (channels,), jnp.float32)
        before = self.kernel // 2
        pads = (before, self.kernel - 1 - before)
        y = grouped_convolution(x, kernel.astype(x.dtype), self.groups, pads)
        return gelu(add_wide(y, bias[None, None]))


class Attention(nn.Module):
    """Self-attention over the real frames.

    Attributes:
        heads: divides the channels.
        key_bias: whether keys have one; softmax does not see it, and Whisper has none.
    """

    heads: int
    key_bias: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l c"], real: Float[Array, "b l"]
    ) -> Float[Array, "b l c"]:
        """Returns the attended frames; what stands in padded ones is not defined."""
        batch, frames, channels = x.shape
        width = channels // self.heads

        def divided(y: Float[Array, "b l c"]) -> Float[Array, "b h l w"]:
            return y.reshape(batch, frames, self.heads, width).transpose(0, 2, 1, 3)

        if self.key_bias:
            keys = Linear(channels, name="k_proj")(x)
        else:
            keys = nn.Dense(channels, use_bias=False, dtype=x.dtype, name="k_proj")(x)
        query, key = divided(Linear(channels, name="q_proj")(x)), divided(keys)
        value = divided(Linear(channels, name="v_proj")(x))
        logits = jnp.einsum("bhqw,bhkw->bhqk", query * width**-0.5, key)
        logits = jnp.where(real[:, None, None] > 0, at_least_float32(logits), EXCLUDED)
        weights = jax.nn.softmax(logits, axis=-1).astype(x.dtype)
        y = jnp.einsum("bhqk,bhkw->bhqw", weights, value)
        y = y.transpose(0, 2, 1, 3).reshape(batch, frames, channels)
        return Linear(channels, name="out_proj")(y)


class FeedForward(nn.Module):
    """Two layers with a GELU between them, for every frame alone.

    Attributes:
        features: of the layer between.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b l c"]) -> Float[Array, "b l c"]:
        """Returns as many channels as it is given."""
        y = gelu(Linear(self.features, name="intermediate_dense")(x))
        return Linear(x.shape[-1], name="output_dense")(y)


class EncoderLayer(nn.Module):
    """One transformer layer, eq. 4.

    Attributes:
        config: the sizes, and whether norms stand before (stable) or after.
    """

    config: Wav2Vec2Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l c"], real: Float[Array, "b l"]
    ) -> Float[Array, "b l c"]:
        """Returns the frames after attention and feed-forward."""
        config = self.config
        attention = Attention(config.heads, name="attention")
        first = LayerNorm(config.eps, name="layer_norm")
        feed_forward = FeedForward(config.feed_forward, name="feed_forward")
        last = LayerNorm(config.eps, name="final_layer_norm")
        if config.stable:
            x = x + attention(first(x), real)
            return x + feed_forward(last(x))
        x = first(x + attention(x, real))
        return last(x + feed_forward(x))


class Encoder(nn.Module):
    """Positions and the transformer, eqs. 3 and 4.

    Attributes:
        config: the sizes.
    """

    config: Wav2Vec2Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l c"], real: Float[Array, "b l"]
    ) -> Float[Array, "b l c"]:
        """Returns the hidden states; what stands in padded frames is not defined."""
        config = self.config
        positions = PositionalConv(
            config.position_kernel, config.position_groups, name="pos_conv_embed"
        )
        norm = LayerNorm(config.eps, name="layer_norm")
        x = x * real[..., None].astype(x.dtype)
        x = x + positions(x)
        x = x if config.stable else norm(x)
        for layer in range(config.layers):
            x = EncoderLayer(config, name=f"layers_{layer}")(x, real)
        return norm(x) if config.stable else x


class Wav2Vec2(nn.Module):
    """Waveform to hidden states, eqs. 2 to 4.

    Attributes:
        config: the sizes.
    """

    config: Wav2Vec2Config

    @nn.compact
    def __call__(
        self, waveform: Float[Array, "b n"], mask: Float[Array, "b n"]
    ) -> tuple[Float[Array, "b l c"], Float[Array, "b l"]]:
        """Returns the hidden states and which frames are real.

        Args:
            waveform: at 16 kHz, `normalised`, at least `least_samples` long.
            mask: 1.0 on real samples, which come first.

        Raises:
            EmoconvError: sizes that do not fit one another, or a waveform without a frame.
        """
        config = self.config
        check_wav2vec2(config)
        if waveform.shape[1] < least_samples(config):
            raise EmoconvError(
                f"wav2vec2: {waveform.shape[1]} samples, allowed are "
                f"{least_samples(config)} or more"
            )
        x, real = FeatureEncoder(config, name="feature_extractor")(waveform, mask)
        x = FeatureProjection(config, name="feature_projection")(x)
        return Encoder(config, name="encoder")(x, real), real


class Classifier(nn.Module):
    """The head, eq. 5.

    Attributes:
        dimensions: numbers that are told.
    """

    dimensions: int

    @nn.compact
    def __call__(self, embedding: Float[Array, "b d"]) -> Float[Array, "b o"]:
        """Returns the dimensions of each embedding."""
        y = jnp.tanh(Linear(embedding.shape[-1], name="dense")(embedding))
        return Linear(self.dimensions, name="out_proj")(y)


class DimensionalRecogniser(nn.Module):
    """Tells an utterance's `DIMENSIONS` from its waveform.

    Attributes:
        config: the sizes; the defaults are those of the public weights.
    """

    config: Wav2Vec2Config

    @nn.compact
    def __call__(
        self, waveform: Float[Array, "b n"], mask: Float[Array, "b n"]
    ) -> tuple[Float[Array, "b d"], Float[Array, "b o"]]:
        """Returns each utterance's embedding and its dimensions.

        Args:
            waveform: at 16 kHz, of any level: it is normalised here.
            mask: 1.0 on real samples, which come first; an utterance with fewer than
                `least_samples` of them has an embedding of zeros.

        Raises:
            EmoconvError: as `Wav2Vec2`.
        """
        states, real = Wav2Vec2(self.config, name="wav2vec2")(normalised(waveform, mask), mask)
        states, real = at_least_float32(states), at_least_float32(real)
        count = jnp.maximum(real.sum(-1, keepdims=True), 1.0)
        embedding = jnp.einsum("blc,bl->bc", states, real) / count
        return embedding, Classifier(self.config.dimensions, name="classifier")(embedding)
