"""The score network: DiffVC's U-Net on the log-mel image, conditioned on speaker and emotion.

The image is `b m f c`, mel bins by frames. Its channels are the average voice, the noisy mel, if
configured the prosody (the harmonics of F0, and F0, voicing and energy as planes), and a vector
(from time, speaker, emotion and, if configured, a reference utterance and which prosody is given)
that is the same at every position. With `conditioning="blocks"` (ours) that vector also joins the
time embedding of every residual block, and the d-vector, whose norm is 1, is scaled to a root mean
square of 1: beside emotion embeddings of norm 8 the network would otherwise hear it last. Three
levels of residual blocks with linear attention go down to a quarter of the resolution and up again.

Every block takes a masked image and returns a masked one, and every statistic is taken over real
frames, so that a mel padded further has the same result on its real frames. DiffVC's own network
does neither; the two are equal for full masks at frame counts divisible by 2^(levels - 1).

Source: Popov et al. 2022 (arXiv 2109.13821) for the network; Prabhu et al. 2024 (arXiv 2309.07828)
for the emotion among the conditions.
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from emoconv_jax.config import ScoreNetworkConfig
from emoconv_jax.errors import UsageError
from emoconv_jax.models.layers import (
    Block,
    Conv2d,
    ConvTranspose2d,
    EntryConv2d,
    Linear,
    add_wide,
    at_least_float32,
    masked,
    mish,
)
from emoconv_jax.models.prosody_inputs import prosody_inputs
from emoconv_jax.models.reference_block import ReferenceBlock
from emoconv_jax.shapes import Array, Float

TIME_SCALE = 1000.0  # diffusion time 0..1 is embedded as positions 0..1000
LONGEST_PERIOD = 1e4
CONDITIONING = ("input", "blocks")
HEADS, HEAD_WIDTH = 4, 32
EXCLUDED = -1e9  # added to the logits of padded positions; finite, so that an empty mask stays so


class ScoreNetwork(nn.Module):
    """The U-Net; its output is the score or the velocity, whichever `config.head` names.

    Attributes:
        config: sizes and the set of conditions.
        dtype: type that the image is computed in; None is that of the inputs. Times and conditions
            are few numbers and stay in at least float32.
        remat: whether the backward pass computes the blocks' activations again instead of keeping
            them.
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
            reference: diffused log-mel of the reference, if the network has a reference block.
            reference_mask: its real frames.
            prosody: as stored, if the network takes it.
            present: 1.0 where a channel of it is given.

        Raises:
            UsageError: the network has a reference block and no reference is given, or an unknown
                `config.conditioning`.
        """
        config = self.config
        if config.conditioning not in CONDITIONING:
            raise UsageError(
                f"conditioning: found {config.conditioning!r}, allowed are "
                f"{', '.join(CONDITIONING)}"
            )
        in_blocks = config.conditioning == "blocks"
        if config.reference_block and (reference is None or reference_mask is None):
            if not self.is_initializing():
                raise UsageError("reference: found none, this score network needs one")
            reference, reference_mask = xt, mask  # any image has the shapes to initialise with
        exact = jnp.result_type(jnp.float32, xt, average_voice)
        compute = exact if self.dtype is None else self.dtype
        frames, factor = xt.shape[1], 2 ** (len(config.multipliers) - 1)
        extra = -frames % factor
        planes, told = [average_voice, xt], []
        if config.prosody:
            found = prosody_inputs(prosody, present, mask, config.mels)
            lines = (found.pitch, found.voicing, found.energy)
            planes += [found.comb, *(jnp.broadcast_to(x[:, :, None], xt.shape) for x in lines)]
            told = [found.present.astype(exact)]
        mask = jnp.pad(mask, ((0, 0), (0, extra)))
        image = jnp.stack([plane.astype(exact) for plane in planes], -1)
        image = jnp.pad(image, ((0, 0), (0, extra), (0, 0), (0, 0)))
        image = masked(image.transpose(0, 2, 1, 3).astype(compute), mask)

        sinusoid = sinusoidal_embedding(t.astype(exact), config.width)
        time = Linear(4 * config.width, name="mlp_0")(sinusoid)
        time = Linear(config.width, name="mlp_2")(mish(time))
        parts = [sinusoid]
        if reference is not None and reference_mask is not None:
            block = ReferenceBlock(config.condition_width, name="ref_block")
            parts.append(block(reference.astype(compute), reference_mask, time))
        gain = math.sqrt(speaker.shape[-1]) if in_blocks else 1.0
        parts += [gain * speaker.astype(exact), emotion.astype(exact), *told]
        condition = jnp.concatenate(parts, axis=-1)
        condition = Linear(4 * config.condition_width, name="cond_block_0")(condition)
        condition = Linear(config.condition_width, name="cond_block_2")(mish(condition))
        if in_blocks:
            time = time + Linear(config.width, name="cond_time")(mish(condition))

        y = masked(self._unet(image, condition, mask, mish(time)), mask)
        return y[:, :, :frames, 0].transpose(0, 2, 1).astype(exact)

    def _unet(
        self,
        x: Float[Array, "b m f i"],
        condition: Float[Array, "b k"] | None,
        mask: Float[Array, "b f"],
        time: Float[Array, "b c"],
    ) -> Float[Array, "b m f 1"]:
        """Returns the head's output for the masked image of few channels."""
        config = self.config
        resnet, attention, block = ResnetBlock, LinearAttention, Block
        if self.remat:
            resnet, attention, block = nn.remat(resnet), nn.remat(attention), nn.remat(block)
        widths = [config.width * multiplier for multiplier in config.multipliers]
        last, groups = len(widths) - 1, config.groups
        hiddens, masks = [], [mask]
        for level, width in enumerate(widths):
            real = masks[-1]
            x = resnet(width, groups, name=f"downs_{level}_0")(x, real, time, condition)
            condition = None  # only the first block sees it
            x = resnet(width, groups, name=f"downs_{level}_1")(x, real, time)
            x = attention(name=f"downs_{level}_2")(x, real)
            hiddens.append(x)
            if level < last:
                masks.append(real[:, ::2])
                x = masked(Conv2d(width, 3, 2, name=f"downs_{level}_3")(x), masks[-1])
        x = resnet(widths[-1], groups, name="mid_block1")(x, masks[-1], time)
        x = attention(name="mid_attn")(x, masks[-1])
        x = resnet(widths[-1], groups, name="mid_block2")(x, masks[-1], time)
        for step, level in enumerate(range(last, 0, -1)):
            width, real = widths[level - 1], masks[level]
            x = jnp.concatenate([x, hiddens[level]], axis=-1)
            x = resnet(width, groups, name=f"ups_{step}_0")(x, real, time)
            x = resnet(width, groups, name=f"ups_{step}_1")(x, real, time)
            x = attention(name=f"ups_{step}_2")(x, real)
            x = masked(ConvTranspose2d(width, name=f"ups_{step}_3")(x), masks[level - 1])
        x = block(widths[0], groups, name="final_block")(x, mask)
        return Conv2d(1, 1, name="final_conv")(x)


def sinusoidal_embedding(t: Float[Array, " b"], width: int) -> Float[Array, "b c"]:
    """Returns cat(sin, cos) of 1000 t at width / 2 frequencies from 1 down to 1e-4.

    Args:
        t: diffusion times, 0 to 1.
        width: of the embedding, even and at least 4.
    """
    half = width // 2
    frequencies = jnp.exp(
        jnp.arange(half, dtype=t.dtype) * (-math.log(LONGEST_PERIOD) / (half - 1))
    )
    angles = TIME_SCALE * t[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class ResnetBlock(nn.Module):
    """Two Blocks with the time added between them, and a residual connection.

    Attributes:
        features: output channels.
        groups: of the GroupNorms.
    """

    features: int
    groups: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b m f i"],
        mask: Float[Array, "b f"],
        time: Float[Array, "b c"],
        constant: Float[Array, "b k"] | None = None,
    ) -> Float[Array, "b m f o"]:
        """Returns the masked output.

        Args:
            x: masked image.
            mask: of real frames.
            time: embedded diffusion time, after its Mish.
            constant: further channels of x, the same at every position.
        """
        h = Block(self.features, self.groups, name="block1")(x, mask, constant)
        shift = Linear(self.features, name="mlp")(time)
        h = masked(add_wide(h, shift[:, None, None]), mask)
        h = Block(self.features, self.groups, name="block2")(h, mask)
        if constant is not None:
            entry = EntryConv2d(self.features, 1, name="res_conv")(x, constant, mask)
            return h + masked(entry, mask)
        if x.shape[-1] == self.features:
            return h + x
        return h + masked(Conv2d(self.features, 1, name="res_conv")(x), mask)


class LinearAttention(nn.Module):
    """x + g attention(x): softmax over real positions of k, queries not normalised, g starts at 0.

    With one matrix per head, context = softmax(k)^T v and out = q context. As q = x W_q and
    v = x W_v are linear in x and never pass a nonlinearity, the products are taken in the order
    that leaves the fewest position-sized arrays: W_v is applied to softmax(k)^T x, and W_out
    (and W_q, where the image has no more channels than the heads together) to the context.
    Softmax and what there is once per example are in at least float32.

    Source: Shen et al. 2021 (arXiv 1812.01243) in DiffVC's form; the masking of k is ours.
    """

    @nn.compact
    def __call__(
        self, x: Float[Array, "b m f c"], mask: Float[Array, "b f"]
    ) -> Float[Array, "b m f c"]:
        """Returns the masked image with what it attended to added."""
        batch, mels, frames, channels = x.shape
        inner = HEADS * HEAD_WIDTH
        initial = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        zeros, single = nn.initializers.zeros, jnp.float32
        to_qkv = self.param("to_qkv", initial, (1, 1, channels, 3 * inner), single)
        to_out = self.param("to_out", initial, (1, 1, inner, channels), single)
        bias = self.param("to_out_bias", zeros, (channels,), single)
        gain = self.param("g", zeros, (1,), single)
        query, key, value = jnp.split(to_qkv[0, 0], 3, axis=-1)

        positions = x.reshape(batch, mels * frames, channels)
        logits = at_least_float32(positions @ key.astype(x.dtype))  # b p hd
        padded = jnp.broadcast_to(((1.0 - mask) * EXCLUDED)[:, None], (batch, mels, frames))
        logits = logits + padded.reshape(batch, -1, 1).astype(logits.dtype)
        weights = jnp.exp(logits - lax.stop_gradient(logits.max(1, keepdims=True)))
        pooled = at_least_float32(jnp.einsum("bpd,bpc->bdc", weights.astype(x.dtype), positions))
        pooled = pooled / weights.sum(1)[:, :, None]
        pooled = pooled.reshape(batch, HEADS, HEAD_WIDTH, channels)
        context = jnp.einsum("bhdc,che->bhde", pooled, value.reshape(channels, HEADS, HEAD_WIDTH))
        out = jnp.einsum("bhde,hec->bhdc", context, to_out.reshape(HEADS, HEAD_WIDTH, channels))
        out = out.reshape(batch, inner, channels) * gain[None, None]
        if channels <= inner:
            attended = positions @ jnp.einsum("cd,bdo->bco", query, out).astype(x.dtype)
        else:
            attended = (positions @ query.astype(x.dtype)) @ out.astype(x.dtype)
        attended = add_wide(attended.reshape(x.shape), (bias * gain)[None, None, None])
        return x + masked(attended, mask)
