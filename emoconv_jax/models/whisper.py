"""The encoder of Whisper: log-mel to hidden states, 50 frames per second.

    (1) x = GELU(conv(log-mel));  x = GELU(conv of stride 2 (x)), centred on mel frame 2 k
    (2) x = x + P_k, the sinusoids of position k
    (3) transformer layers:  x = x + attention(norm(x));  x = x + feed_forward(norm(x))
    (4) the last state is norm(x)

State 0 is what enters the first layer, state i < layers what leaves the i-th; state `layers` is
eq. 4. These are the hidden states of the reference.

The reference always hears 30 s, of which it pads the rest with silence, and attends to all of it.
Here any number of frames up to that is encoded, and a mask says which are real: convolutions see
zeros in padded frames, as they do beyond the ends, and attention leaves them out, so padding
changes nothing on real frames. Where all of 30 s count as real, silence at their end included, the
states are the reference's; of fewer frames they are computed faster and differ a little.

Names of the parameters are those of the public weights, dots replaced, so that porting is a table.

Source: Radford et al. 2022 (arXiv 2212.04356); the names: Hugging Face transformers.
"""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp

from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.layers import Conv1d, LayerNorm, Linear, add_wide
from emoconv_jax.models.wav2vec2 import Attention, gelu
from emoconv_jax.shapes import Array, Float

NORM_EPS = 1e-5  # PyTorch's default, which no configuration changes
MEL_FRAMES = 2  # mel frames per frame: the stride of the second convolution, eq. 1
FRAMES_PER_SECOND = 50
SLOWEST = 10_000.0  # the longest wavelength of eq. 2 is this times 2 pi frames


@dataclasses.dataclass(frozen=True)
class WhisperConfig:
    """The sizes of the encoder; the defaults are those of Whisper base."""

    mels: int = 80
    hidden: int = 512
    layers: int = 6
    heads: int = 8
    feed_forward: int = 2048
    positions: int = 1500  # 30 s


def check_whisper(config: WhisperConfig) -> None:
    """Refuses a configuration whose sizes are none or do not fit one another.

    Args:
        config: perhaps read from a foreign file.

    Raises:
        EmoconvError: the field, what was found and what is allowed.
    """
    for field in dataclasses.fields(config):
        if getattr(config, field.name) < 1:
            raise EmoconvError(
                f"whisper.{field.name}: {getattr(config, field.name)}, allowed is 1 or more"
            )
    if config.hidden % 2 or config.hidden < 4:
        raise EmoconvError(f"whisper.hidden: {config.hidden}, allowed is an even number from 4 on")
    if config.hidden % config.heads:
        raise EmoconvError(
            f"whisper.heads: {config.heads}, allowed is a divisor of hidden {config.hidden}"
        )


def sinusoids(positions: int, channels: int) -> Float[Array, "l c"]:
    """Returns P, eq. 2: sines in the first half of the channels, cosines in the second.

    Args:
        positions: rows.
        channels: even, at least 4.
    """
    half = channels // 2
    rates = jnp.exp(jnp.arange(half) * (-math.log(SLOWEST) / (half - 1)))
    angles = jnp.arange(positions)[:, None] * rates[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)


class EncoderLayer(nn.Module):
    """One transformer layer, eq. 3.

    Attributes:
        config: the sizes.
    """

    config: WhisperConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l c"], real: Float[Array, "b l"]
    ) -> Float[Array, "b l c"]:
        """Returns the frames after attention and feed-forward."""
        y = LayerNorm(NORM_EPS, name="self_attn_layer_norm")(x)
        x = x + Attention(self.config.heads, key_bias=False, name="self_attn")(y, real)
        y = LayerNorm(NORM_EPS, name="final_layer_norm")(x)
        y = gelu(Linear(self.config.feed_forward, name="fc1")(y))
        return x + Linear(x.shape[-1], name="fc2")(y)


class WhisperEncoder(nn.Module):
    """Log-mel to hidden states, eqs. 1 to 4.

    Attributes:
        config: the sizes.
        states: which hidden states are returned, each 0 to `config.layers`; layers above the
            greatest are not computed. None is all.
    """

    config: WhisperConfig
    states: tuple[int, ...] | None = None

    @nn.compact
    def __call__(
        self, mel: Float[Array, "b f m"], mask: Float[Array, "b f"]
    ) -> tuple[Float[Array, "b l s c"], Float[Array, "b l"]]:
        """Returns the hidden states, `s` of them side by side, and which frames are real.

        Args:
            mel: of `audio.whisper_mel`, at most 2 `positions` frames; padding may hold anything
                finite.
            mask: 1.0 on real mel frames, which come first; of an odd number of them the last frame
                is centred on the last.

        Raises:
            EmoconvError: sizes that do not fit one another, states that there are not, or too many
                frames.
        """
        config = self.config
        check_whisper(config)
        states = tuple(range(config.layers + 1)) if self.states is None else self.states
        if not states or min(states) < 0 or max(states) > config.layers:
            raise EmoconvError(
                f"whisper: states {states!r:.60}, allowed are one or more of 0 to {config.layers}"
            )
        if mel.shape[1] > MEL_FRAMES * config.positions:
            raise EmoconvError(
                f"whisper: {mel.shape[1]} mel frames, allowed are at most "
                f"{MEL_FRAMES * config.positions}"
            )
        heard = mask[..., None].astype(mel.dtype)
        x = gelu(Conv1d(config.hidden, 3, name="conv1")(mel * heard)) * heard
        x = gelu(Conv1d(config.hidden, 3, MEL_FRAMES, padding=1, name="conv2")(x))
        real = mask[:, ::MEL_FRAMES]
        places = self.param("embed_positions", lambda _: sinusoids(config.positions, config.hidden))
        x = add_wide(x, places[None, : x.shape[1]])
        found = {0: x}
        for layer in range(max(states)):
            x = EncoderLayer(config, name=f"layers_{layer}")(x, real)
            found[layer + 1] = x
        if config.layers in states:
            found[config.layers] = LayerNorm(NORM_EPS, name="layer_norm")(x)
        return jnp.stack([found[state] for state in states], axis=2), real
