"""HiFi-GAN's generator: a log-mel becomes a waveform.

    (1) x = conv_pre(mel), k = 7
    (2) for each rate r: x = ups_i(LeakyReLU_.1(x)), r times longer, half the channels
    (3)                  x = mean over kernels of resblocks_ij(x)
    (4) audio = tanh(conv_post(LeakyReLU_.01(x))), k = 7

Names of the parameters are those of the public weights, dots replaced, so that porting is a table.
The convolutions are the stock ones of `models.layers`: on CPU, channels-last XLA convolutions of
these shapes take 0.1 to 1.1 times PyTorch's time, dilated ones included; as an image of height 1,
channels first, as sums of shifted matrix products or with the dilation folded into the batch they
are no faster overall.

Source: Kong et al., HiFi-GAN (arXiv 2010.05646) and its published configurations V1, V2, V3. The
last slope is .01, not .1: the reference leaves it at PyTorch's default.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from emoconv_jax.config import VocoderConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.layers import Conv1d, ConvTranspose1d
from emoconv_jax.shapes import Array, Float

OUTER_KERNEL = 7  # of conv_pre and conv_post
SLOPE = 0.1
LAST_SLOPE = 0.01


def check_vocoder(config: VocoderConfig) -> None:
    """Refuses a configuration that cannot give one hop of samples per frame.

    Args:
        config: of the vocoder, perhaps read from a foreign file.

    Raises:
        EmoconvError: the field, what was found and what is allowed.
    """
    rates, kernels = config.upsample_rates, config.upsample_kernels
    if config.resblock not in (1, 2):
        raise EmoconvError(f"vocoder.resblock: {config.resblock}, allowed are 1 and 2")
    if min(rates, default=0) < 1 or math.prod(rates) != config.mel.hop_samples:
        raise EmoconvError(
            f"vocoder.upsample_rates: {rates}, their product must be the mel's hop of "
            f"{config.mel.hop_samples} samples"
        )
    pairs = zip(kernels, rates, strict=False)
    if len(kernels) != len(rates) or any(k < r or (k - r) % 2 for k, r in pairs):
        raise EmoconvError(
            f"vocoder.upsample_kernels: {kernels}, allowed is one per rate {rates}, not smaller, "
            "even or odd as the rate"
        )
    halvings = 2 ** len(rates)
    if config.channels < halvings or config.channels % halvings:
        raise EmoconvError(f"vocoder.channels: {config.channels}, must be a multiple of {halvings}")
    blocks = config.resblock_kernels
    if not blocks or any(k < 1 or k % 2 == 0 for k in blocks):
        raise EmoconvError(f"vocoder.resblock_kernels: {blocks}, allowed are odd ones, at least 1")
    dilations = config.resblock_dilations
    if len(dilations) != len(blocks) or any(d < 1 for row in dilations for d in row):
        raise EmoconvError(
            f"vocoder.resblock_dilations: {dilations}, allowed is one row of positive numbers for "
            f"each of the {len(blocks)} kernels"
        )


def reach_frames(config: VocoderConfig) -> int:
    """Returns how many frames to either side of a frame its samples hear, at most.

    Args:
        config: of the vocoder.

    Source: the sum of the half widths of all convolutions, each over the samples per frame at its
    place: 14 frames for V1, of which the first convolution has 3 and the first resblocks 7.5.
    """
    pairs = zip(config.resblock_kernels, config.resblock_dilations, strict=True)
    second = 1 if config.resblock == 1 else 0  # the plain convolution of each pair
    blocks = max(kernel // 2 * (sum(row) + second * len(row)) for kernel, row in pairs)
    found, per_frame = OUTER_KERNEL / 2, 1
    for rate, kernel in zip(config.upsample_rates, config.upsample_kernels, strict=True):
        found += kernel / (2 * rate) / per_frame
        per_frame *= rate
        found += blocks / per_frame
    return math.ceil(found + OUTER_KERNEL / 2 / per_frame)


class ResBlock1(nn.Module):
    """Residual pairs of a dilated and a plain convolution (V1, V2).

    Attributes:
        kernel: taps of all convolutions.
        dilations: of the first convolution of each pair.
    """

    kernel: int
    dilations: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Returns the refined signal."""
        channels = x.shape[-1]
        for i, dilation in enumerate(self.dilations):
            y = jax.nn.leaky_relu(x, SLOPE)
            y = Conv1d(channels, self.kernel, dilation=dilation, name=f"convs1_{i}")(y)
            y = jax.nn.leaky_relu(y, SLOPE)
            x = x + Conv1d(channels, self.kernel, name=f"convs2_{i}")(y)
        return x


class ResBlock2(nn.Module):
    """Residual dilated convolutions, one each (V3).

    Attributes:
        kernel: taps of all convolutions.
        dilations: of each convolution.
    """

    kernel: int
    dilations: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Returns the refined signal."""
        for i, dilation in enumerate(self.dilations):
            y = jax.nn.leaky_relu(x, SLOPE)
            x = x + Conv1d(x.shape[-1], self.kernel, dilation=dilation, name=f"convs_{i}")(y)
        return x


class Vocoder(nn.Module):
    """HiFi-GAN's generator, eqs. 1 to 4.

    Attributes:
        config: the sizes; the defaults are V1.
    """

    config: VocoderConfig

    @nn.compact
    def __call__(self, mel: Float[Array, "b f m"]) -> Float[Array, "b n"]:
        """Returns the waveform in [-1, 1], one hop of samples per frame.

        Args:
            mel: the log-mel of `config.mel`. Frames beyond the signal should hold the mel's floor:
                the last real hops hear about a dozen frames further.

        Returns:
            n = f * config.mel.hop_samples samples at `config.mel.sample_rate_hz`.

        Raises:
            EmoconvError: the configuration is refused by `check_vocoder`.
        """
        config = self.config
        check_vocoder(config)
        block = ResBlock1 if config.resblock == 1 else ResBlock2
        shapes = list(zip(config.resblock_kernels, config.resblock_dilations, strict=True))
        x = Conv1d(config.channels, OUTER_KERNEL, name="conv_pre")(mel)
        stages = zip(config.upsample_rates, config.upsample_kernels, strict=True)
        for i, (rate, kernel) in enumerate(stages):
            channels = config.channels // 2 ** (i + 1)
            x = jax.nn.leaky_relu(x, SLOPE)
            x = ConvTranspose1d(channels, kernel, rate, name=f"ups_{i}")(x)
            blocks = [
                block(*shape, name=f"resblocks_{i * len(shapes) + j}")(x)
                for j, shape in enumerate(shapes)
            ]
            x = sum(blocks[1:], start=blocks[0]) / len(blocks)
        x = Conv1d(1, OUTER_KERNEL, name="conv_post")(jax.nn.leaky_relu(x, LAST_SLOPE))
        return jnp.tanh(x[..., 0])
