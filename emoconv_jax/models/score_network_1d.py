"""The score network over frames: a U-Net of two resolutions whose channels hold the whole mel.

Four to six times cheaper per frame than the network on the mel image (`score_network.py`), with the
same call and the same conditions. Per frame it sees the noisy mel, the average voice and, if
configured, the prosody; time, speaker and emotion become one vector that sets scale and shift of
every normalisation.

    entry          Linear of [X_t - Y, Y, prosody]
    full rate      two residual blocks
    half rate      two frames become one; `layers` times a residual block and self-attention
    full rate      one frame becomes two, added to what was there before; two residual blocks on
                   both, side by side
    head           normalisation, Linear, which starts at zero

A residual block is twice [LayerNorm with scale and shift from the condition, SiLU, convolution of
three frames]. Attention is over all frames, with rotary positions, which tell distances alone.
Padded frames are zero before each convolution and are attended to by none, so that a mel padded
further has the same result on its real frames.

Products are as `products.py` has them; everything between them is float32.

Source: Mehta et al. 2024 (arXiv 2309.03199, Matcha-TTS) for a U-Net over frames with attention;
Peebles & Xie 2023 (arXiv 2212.09748) for conditions as scale and shift of normalisations; Su et al.
2021 (arXiv 2104.09864) for rotary positions.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from emoconv_jax.config import ScoreNetworkConfig
from emoconv_jax.errors import UsageError
from emoconv_jax.models.layers import uniform
from emoconv_jax.models.products import TAPS, convolution_of_three, product
from emoconv_jax.models.prosody_inputs import prosody_inputs
from emoconv_jax.models.score_network import EXCLUDED, sinusoidal_embedding
from emoconv_jax.shapes import Array, Float

NORM_EPS = 1e-5
SLOWEST = 1e4  # frames per radian of the slowest rotation
VOICE_CENTRE, VOICE_SCALE = -5.0, 2.5  # of the log-mel of speech, so that channels are about 1


class ScoreNetwork1d(nn.Module):
    """The U-Net over frames; its output is the score or the velocity, as `config.head` says.

    Attributes:
        config: `width`, `condition_width`, `layers`, `heads` and the conditions are read; the
            widths are the same at both resolutions.
        dtype: type that products take their operands in; None is that of the inputs.
        remat: whether the backward pass computes the blocks' activations again.
    """

    config: ScoreNetworkConfig
    dtype: Any = None
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        xt: Float[Array, "b f m"],
        average_voice: Float[Array, "b f m"],
        mask: Float[Array, "b f"],
        t: Float[Array, " b"],
        speaker: Float[Array, "b d"],
        emotion: Float[Array, "b e"],
        reference: Float[Array, "b r m"] | None = None,
        reference_mask: Float[Array, "b r"] | None = None,
        prosody: Float[Array, "b f 3"] | None = None,
        present: Float[Array, "b 3"] | None = None,
    ) -> Float[Array, "b f m"]:
        """Returns the masked output of the head, in at least float32.

        Args:
            xt: noisy log-mel at time t.
            average_voice: log-mel Y towards which the process drifts.
            mask: 1.0 on real frames.
            t: diffusion times, 0 (data) to 1 (noise).
            speaker: speaker embeddings.
            emotion: emotion embeddings, of width 0 for a network without.
            reference: not read; this network has no reference block.
            reference_mask: not read.
            prosody: as stored, if the network takes it.
            present: 1.0 where a channel of it is given.

        Raises:
            UsageError: a reference block is asked for, or heads of an odd width.
        """
        config = self.config
        if config.reference_block:
            raise UsageError("reference_block: found true, allowed is false for unet1d")
        if config.width < 4 or config.width % (2 * config.heads):
            raise UsageError(
                f"heads: found {config.heads}, allowed are those that divide width "
                f"{config.width} into even parts"
            )
        exact = jnp.result_type(jnp.float32, xt, average_voice)
        dtype = exact if self.dtype is None else self.dtype
        frames = xt.shape[1]
        mask = jnp.pad(mask, ((0, 0), (0, frames % 2))).astype(exact)
        channels = [xt - average_voice, (average_voice - VOICE_CENTRE) / VOICE_SCALE]
        if config.prosody:
            found = prosody_inputs(prosody, present, mask[:, :frames], config.mels)
            given = jnp.broadcast_to(found.present[:, None], (*xt.shape[:2], 3))
            lines = jnp.stack([found.pitch, found.voicing, found.energy], -1)
            channels += [found.comb, lines, given]
        image = jnp.concatenate([channel.astype(exact) for channel in channels], axis=-1)
        image = jnp.pad(image, ((0, 0), (0, frames % 2), (0, 0)))

        condition = self._condition(t.astype(exact), speaker.astype(exact), emotion.astype(exact))
        y = self._unet(image * mask[:, :, None], condition, mask, dtype)
        return (y * mask[:, :, None])[:, :frames].astype(exact)

    def _condition(
        self, t: Float[Array, " b"], speaker: Float[Array, "b d"], emotion: Float[Array, "b e"]
    ) -> Float[Array, "b c"]:
        """Returns what all scales and shifts are computed from."""
        config = self.config
        wide = t.dtype
        time = Product(config.condition_width, wide, name="time_0")(
            sinusoidal_embedding(t, config.width)
        )
        voice = math.sqrt(speaker.shape[-1]) * speaker  # of norm 1; so its numbers are about 1
        parts = jnp.concatenate([jax.nn.silu(time), voice, emotion], axis=-1)
        hidden = jax.nn.silu(Product(2 * config.condition_width, wide, name="condition_0")(parts))
        return jax.nn.silu(Product(config.condition_width, wide, name="condition_1")(hidden))

    def _unet(
        self,
        x: Float[Array, "b f i"],
        condition: Float[Array, "b c"],
        mask: Float[Array, "b f"],
        dtype: Any,
    ) -> Float[Array, "b f m"]:
        """Returns the head's output for masked channels of an even number of frames."""
        config, width = self.config, self.config.width
        resnet, attention = ResidualBlock, RotaryAttention
        if self.remat:
            resnet, attention = nn.remat(resnet), nn.remat(attention)
        x = Product(width, dtype, name="entry")(x) * mask[:, :, None]
        for i in range(2):
            x = resnet(width, dtype, name=f"down_{i}")(x, mask, condition)
        skip, half = x, mask[:, ::2]
        batch, frames = mask.shape
        x = x.reshape(batch, frames // 2, 2 * width)
        x = Product(width, dtype, name="halve")(x) * half[:, :, None]
        for i in range(config.layers):
            x = resnet(width, dtype, name=f"middle_{i}")(x, half, condition)
            x = attention(config.heads, dtype, name=f"attention_{i}")(x, half, condition)
        x = Product(2 * width, dtype, name="double")(x).reshape(batch, frames, width)
        x = jnp.concatenate([x * mask[:, :, None], skip], axis=-1)
        for i in range(2):
            x = resnet(width, dtype, name=f"up_{i}")(x, mask, condition)
        x = jax.nn.silu(Modulated(name="head_norm")(x, condition))
        return Product(config.mels, dtype, zero_init=True, name="head")(x)


class Product(nn.Module):
    """y = x kernel + bias on the last axis, as `products.product`.

    Attributes:
        features: output channels.
        dtype: of the product's operands.
        zero_init: whether kernel and bias start at zero.
    """

    features: int
    dtype: Any
    zero_init: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*n i"]) -> Float[Array, "*n o"]:
        """Returns the mapped last axis."""
        initial = nn.initializers.zeros if self.zero_init else uniform(x.shape[-1])
        kernel = self.param("kernel", initial, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", initial, (self.features,), jnp.float32)
        y: Array = product(x, kernel, self.dtype)
        return y + bias.reshape((1,) * (x.ndim - 1) + (-1,))


class Convolution(nn.Module):
    """PyTorch's Conv1d of three taps and padding 1, as `products.convolution_of_three`.

    Attributes:
        features: output channels.
        dtype: of the products' operands.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b f i"]) -> Float[Array, "b f o"]:
        """Returns the convolved frames."""
        initial = uniform(TAPS * x.shape[-1])
        shape = (TAPS, x.shape[-1], self.features)
        kernel = self.param("kernel", initial, shape, jnp.float32)
        bias = self.param("bias", initial, (self.features,), jnp.float32)
        y: Array = convolution_of_three(x, kernel, self.dtype)
        return y + bias[None, None]


class Modulated(nn.Module):
    """LayerNorm whose scale and shift are computed from the condition; they start at 1 and 0."""

    @nn.compact
    def __call__(self, x: Float[Array, "b f c"], condition: Float[Array, "b k"]) -> Array:
        """Returns the normalised channels of every frame."""
        both = Product(2 * x.shape[-1], condition.dtype, zero_init=True, name="modulation")(
            condition
        )
        scale, shift = jnp.split(both[:, None], 2, axis=-1)
        centred = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        return centred * lax.rsqrt(variance + NORM_EPS) * (1.0 + scale) + shift


class ResidualBlock(nn.Module):
    """x + two convolutions, each behind its normalisation, SiLU and the mask.

    Attributes:
        features: output channels; where the input has others, a Linear maps it.
        dtype: of the products' operands.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b f i"], mask: Float[Array, "b f"], condition: Float[Array, "b k"]
    ) -> Float[Array, "b f o"]:
        """Returns the masked output."""
        real, h = mask[:, :, None], x
        for i in range(2):
            h = jax.nn.silu(Modulated(name=f"norm_{i}")(h, condition)) * real
            h = Convolution(self.features, self.dtype, name=f"conv_{i}")(h)
        if x.shape[-1] != self.features:
            x = Product(self.features, self.dtype, name="entry")(x)
        return (x + h) * real


class RotaryAttention(nn.Module):
    """x + self-attention over the real frames, queries and keys turned by their positions.

    Attributes:
        heads: that the channels are divided into, each of even width.
        dtype: of the products' operands.
    """

    heads: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "b f c"], mask: Float[Array, "b f"], condition: Float[Array, "b k"]
    ) -> Float[Array, "b f c"]:
        """Returns the masked output."""
        batch, frames, channels = x.shape
        width = channels // self.heads
        h = Modulated(name="norm")(x, condition)
        qkv = Product(3 * channels, self.dtype, name="qkv")(h)
        query, key, value = jnp.split(qkv.reshape(batch, frames, 3 * self.heads, width), 3, axis=2)
        query, key = rotated(query) / math.sqrt(width), rotated(key)
        narrow, wide = self.dtype, x.dtype
        logits = jnp.einsum(
            "bqhd,bkhd->bhqk", query.astype(narrow), key.astype(narrow),
            preferred_element_type=wide,
        )  # fmt: skip
        weights = jax.nn.softmax(logits + ((1.0 - mask) * EXCLUDED)[:, None, None], axis=-1)
        found = jnp.einsum(
            "bhqk,bkhd->bqhd", weights.astype(narrow), value.astype(narrow),
            preferred_element_type=wide,
        )  # fmt: skip
        found = Product(channels, self.dtype, name="out")(found.reshape(x.shape))
        return (x + found) * mask[:, :, None]


def rotated(x: Float[Array, "b f h d"]) -> Float[Array, "b f h d"]:
    """Returns x with channels i and i + d/2 of frame j turned by j / 1e4^(2 i / d).

    Args:
        x: queries or keys of each head.
    """
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[1])[:, None] / SLOWEST ** (np.arange(half) / half)
    cosine, sine = (jnp.asarray(f(angles), x.dtype)[None, :, None] for f in (np.cos, np.sin))
    first, second = jnp.split(x, 2, axis=-1)
    turned = [first * cosine - second * sine, first * sine + second * cosine]
    return jnp.concatenate(turned, axis=-1)
