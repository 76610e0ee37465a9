"""The average-voice encoder: a log-mel in, the same words in nobody's voice out.

A transformer with learned relative positions maps every frame to the average mel of its phone; a
small convolutional PostNet, whose output is the result (not a residual), smooths the image.

Statistics and attention see real frames only. Dropout draws from one key per example, so that an
utterance's draws do not depend on its place in the batch or on the number of devices.

Source: Popov et al. 2022 (arXiv 2109.13821), after Glow-TTS (arXiv 2005.11129); relative positions
as in Shaw et al. 2018 (arXiv 1803.02155).
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.config import AverageVoiceConfig
from emoconv_jax.models.layers import Block, Conv1d, Conv2d, LayerNorm, at_least_float32, masked
from emoconv_jax.shapes import Array, Float, Key

EXCLUDED = -1e4  # logit of a padded frame, as in the reference


class AverageVoiceEncoder(nn.Module):
    """Log-mel to average-voice log-mel Y of the same length.

    Attributes:
        config: sizes and dropout rates.
        dtype: type that the frames are computed in; None is that of the mel.
        remat: whether the backward pass computes the activations of the transformer's and the
            PostNet's blocks again instead of keeping them.
    """

    config: AverageVoiceConfig
    dtype: Any = None
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        mel: Float[Array, "b f m"],
        mask: Float[Array, "b f"],
        keys: Key[Array, " b"] | None = None,
    ) -> Float[Array, "b f m"]:
        """Returns the masked average voice, in at least float32.

        Args:
            mel: log-mel.
            mask: 1.0 on real frames.
            keys: one per example for the dropout; None is deterministic.
        """
        config, exact = self.config, jnp.result_type(jnp.float32, mel)
        x = mel.astype(exact if self.dtype is None else self.dtype)
        real = mask[..., None].astype(x.dtype)
        x = Conv1d(config.channels, 1, name="init_proj")(x * real)
        x = self._prenet(x, real, keys)
        block = AverageVoiceEncoder._transformer_block
        if self.remat:
            block = nn.remat(block, static_argnums=(1,))
        for layer in range(config.layers):
            x = block(self, layer, x, mask, keys)
        x = Conv1d(config.mels, 1, name="term_proj")(x) * real
        return self._postnet(x, mask).astype(exact)

    def _prenet(
        self, x: Float[Array, "b f c"], real: Float[Array, "b f 1"], keys: Key[Array, " b"] | None
    ) -> Float[Array, "b f c"]:
        """Returns x plus what convolutions and a projection that starts at zero make of it."""
        config, y = self.config, x
        for layer in range(config.prenet_layers):
            name = f"prenet_conv_layers_{layer}"
            y = Conv1d(config.channels, config.prenet_kernel, name=name)(y * real)
            y = jax.nn.relu(LayerNorm(name=f"prenet_norm_layers_{layer}")(y))
            y = Dropout(keys, layer, config.prenet_dropout)(y)
        return (x + Conv1d(config.channels, 1, zero_init=True, name="prenet_proj")(y)) * real

    def _transformer_block(
        self,
        layer: int,
        x: Float[Array, "b f c"],
        mask: Float[Array, "b f"],
        keys: Key[Array, " b"] | None,
    ) -> Float[Array, "b f c"]:
        """Returns the masked frames after attention and feed-forward number `layer`."""
        config, real = self.config, mask[..., None].astype(x.dtype)
        draws = [
            Dropout(keys, config.prenet_layers + 4 * layer + i, config.dropout) for i in range(4)
        ]
        y = RelativeAttention(config.heads, config.window, name=f"attn_layers_{layer}")(
            x, mask, draws[0]
        )
        x = LayerNorm(name=f"norm_layers_1_{layer}")(x + draws[1](y))
        name = f"ffn_layers_{layer}_conv"
        y = jax.nn.relu(Conv1d(config.feed_forward, config.kernel, name=f"{name}_1")(x * real))
        y = Conv1d(config.channels, config.kernel, name=f"{name}_2")(draws[2](y) * real) * real
        return LayerNorm(name=f"norm_layers_2_{layer}")(x + draws[3](y)) * real

    def _postnet(
        self, x: Float[Array, "b f m"], mask: Float[Array, "b f"]
    ) -> Float[Array, "b f m"]:
        """Returns the mel image after one residual block of two large convolutions."""
        config, block = self.config, nn.remat(Block) if self.remat else Block
        sizes = (config.postnet_width, config.postnet_groups, config.postnet_kernel)
        image = x.transpose(0, 2, 1)[..., None]
        image = masked(Conv2d(config.postnet_width, 1, name="postnet_init_conv")(image), mask)
        y = block(*sizes, name="postnet_block1")(image, mask)
        y = block(*sizes, name="postnet_block2")(y, mask)
        y = y + masked(Conv2d(config.postnet_width, 1, name="postnet_res")(image), mask)
        y = masked(Conv2d(1, 1, name="postnet_final_conv")(y), mask)
        return y[..., 0].transpose(0, 2, 1)


class RelativeAttention(nn.Module):
    """Self-attention over real frames with learned relative positions in a window.

    Positions farther apart than the window have no relative term. The two tables are shared by the
    heads.

    Attributes:
        heads: number of heads; divides the channels.
        window: largest distance in frames that has a relative embedding.
    """

    heads: int
    window: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b f c"], mask: Float[Array, "b f"], dropout: "Dropout"
    ) -> Float[Array, "b f c"]:
        """Returns the attended frames; `dropout` acts on the attention weights."""
        batch, frames, channels = x.shape
        width = channels // self.heads
        spread, shape = nn.initializers.normal(width**-0.5), (1, 2 * self.window + 1, width)
        relative_key, relative_value = (
            self.param(name, spread, shape, jnp.float32)[0].astype(x.dtype)
            for name in ("emb_rel_k", "emb_rel_v")
        )

        def heads_of(name: str) -> Float[Array, "b h f w"]:
            y = Conv1d(channels, 1, name=name)(x)
            return y.reshape(batch, frames, self.heads, width).transpose(0, 2, 1, 3)

        query = heads_of("conv_q") / math.sqrt(width)
        key, value = heads_of("conv_k"), heads_of("conv_v")
        logits = jnp.einsum("bhqw,bhkw->bhqk", query, key)
        logits = at_least_float32(logits + _to_absolute(query @ relative_key.T, frames))
        seen = (mask[:, None, :, None] * mask[:, None, None, :]) > 0
        weights = jax.nn.softmax(jnp.where(seen, logits, EXCLUDED), axis=-1)
        weights = dropout(weights.astype(x.dtype))
        y = jnp.einsum("bhqk,bhkw->bhqw", weights, value)
        y = y + _to_relative(weights, self.window) @ relative_value
        y = y.transpose(0, 2, 1, 3).reshape(batch, frames, channels)
        return Conv1d(channels, 1, name="conv_o")(y)


def _to_absolute(relative: Float[Array, "b h f r"], frames: int) -> Float[Array, "b h f g"]:
    """Returns a[q, k] = relative[q, k - q + window] inside the window, 0 outside.

    A row of f + 1 numbers read with a stride of f moves one place per row: rows padded to width
    f + 2 window + 1 and cut at f + 2 window stand on their diagonals.
    """
    batch, heads, _, taps = relative.shape
    padded = jnp.pad(relative, ((0, 0), (0, 0), (0, 0), (0, frames)))
    skewed = padded.reshape(batch, heads, -1)[..., : frames * (frames + taps - 1)]
    skewed = skewed.reshape(batch, heads, frames, frames + taps - 1)
    return skewed[..., taps // 2 : taps // 2 + frames]


def _to_relative(absolute: Float[Array, "b h f f"], window: int) -> Float[Array, "b h f r"]:
    """Returns r[q, j] = absolute[q, q + j - window], 0 outside: the inverse of `_to_absolute`."""
    batch, heads, frames, _ = absolute.shape
    taps = 2 * window + 1
    padded = jnp.pad(absolute, ((0, 0), (0, 0), (0, 0), (window, window)))
    flat = jnp.pad(padded.reshape(batch, heads, -1), ((0, 0), (0, 0), (0, frames)))
    return flat.reshape(batch, heads, frames, frames + taps)[..., :taps]


class Dropout:
    """The dropout of one layer: each example draws from its own key, folded with the layer."""

    def __init__(self, keys: Key[Array, " b"] | None, layer: int, rate: float):
        """Keeps what a draw needs.

        Args:
            keys: one per example; None drops nothing.
            layer: number of the draw within the network.
            rate: probability of dropping an element.
        """
        self.keys, self.layer, self.rate = keys, layer, rate

    def __call__(self, x: Float[Array, "b *rest"]) -> Float[Array, "b *rest"]:
        """Returns x with each element dropped at the rate, the others scaled up to compensate.

        The draws are float32, so that every type of x drops the same elements.
        """
        if self.keys is None or self.rate == 0.0:
            return x
        keep = np.float32(1.0 - self.rate)
        kept = jax.vmap(
            lambda key: jax.random.bernoulli(jax.random.fold_in(key, self.layer), keep, x.shape[1:])
        )(self.keys)
        return jnp.where(kept, x / (1.0 - self.rate), 0.0)
