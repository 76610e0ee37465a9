"""The heads on Whisper's frozen encoder: the average voice, and what is felt.

Average voice, from the hidden states of every frame of the log-mel, side by side:

    (1) x = W norm(states)
    (2) x = x + W_2 relu(conv(norm(x))), of `kernel` taps, once per dilation
    (3) average voice = A norm(x);  phones = P norm(x)

Emotion, from the mean and deviation over time of each hidden state:

    (4) z = (pooled - mean) / std of the training clips, of the chosen states
    (5) embedding = tanh(E dropout(z)), between -1 and 1
    (6) logits = C dropout(embedding);  arousal = 4 + a . dropout(embedding)

Real frames come first; padded ones are zeros to every convolution, and to who reads the output.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.config import WhisperAverageVoiceConfig, WhisperEmotionConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.average_voice import Dropout
from emoconv_jax.models.layers import Conv1d, LayerNorm, Linear
from emoconv_jax.models.recogniser import AROUSAL_MIDDLE, RecogniserOutput
from emoconv_jax.shapes import Array, Float, Key

NORM_EPS = 1e-5
STD_FLOOR = 1e-3  # a number that never changes is left unscaled rather than blown up
EMBEDDING_DROPOUT = 0.3  # of the embedding, on its way to the heads


class AverageVoiceOutput(NamedTuple):
    """What is said of every frame.

    Attributes:
        mel: the average voice Y, zero in padded frames.
        phones: a logit per phone; what stands in padded frames is not defined.
    """

    mel: Float[Array, "b f m"]
    phones: Float[Array, "b f p"]


class WhisperAverageVoiceHead(nn.Module):
    """Hidden states to the average voice and the phones, eqs. 1 to 3.

    Attributes:
        config: the sizes.
        dtype: type that the frames are computed in; None is that of the states.
        remat: taken as every network takes it; nothing here is worth computing twice.
    """

    config: WhisperAverageVoiceConfig
    dtype: Any = None
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        states: Float[Array, "b f s"],
        mask: Float[Array, "b f"],
        keys: Key[Array, " b"] | None = None,
    ) -> AverageVoiceOutput:
        """Returns the average voice and the phones, in at least float32.

        Args:
            states: those of the configuration, side by side, at the log-mel's frames.
            mask: 1.0 on real frames.
            keys: one per example for the dropout; None is deterministic.
        """
        config, exact = self.config, jnp.result_type(jnp.float32, states)
        x = states.astype(exact if self.dtype is None else self.dtype)
        real = mask[..., None].astype(x.dtype)
        x = LayerNorm(NORM_EPS, name="norm_states")(x)
        x = Linear(config.channels, name="linear")(Dropout(keys, 0, config.dropout)(x))
        for i, dilation in enumerate(config.dilations):
            y = LayerNorm(NORM_EPS, name=f"norm_{i}")(x) * real
            y = Conv1d(config.channels, config.kernel, dilation=dilation, name=f"conv_{i}")(y)
            y = Dropout(keys, 1 + i, config.dropout)(jax.nn.relu(y))
            x = x + Linear(config.channels, name=f"linear_{i}")(y)
        x = LayerNorm(NORM_EPS, name="norm")(x)
        return AverageVoiceOutput(
            mel=Linear(config.mels, name="mel")(x).astype(exact) * mask[..., None],
            phones=Linear(config.phones, name="phones")(x).astype(exact),
        )


class WhisperEmotionHead(nn.Module):
    """Pooled hidden states to embedding, emotion and arousal, eqs. 4 to 6.

    Its variables are the trained `params` and the `statistics` (`mean`, `std`: [s], of the chosen
    states), which `measure_statistics` gives.

    Attributes:
        config: the sizes.
        dtype: taken as every network takes it; one number per utterance and channel is computed in
            at least float32.
        remat: likewise without effect.
    """

    config: WhisperEmotionConfig
    dtype: Any = None
    remat: bool = False

    @nn.compact
    def __call__(
        self, pooled: Float[Array, "b p"], keys: Key[Array, " b"] | None = None
    ) -> RecogniserOutput:
        """Returns embedding, logits and arousal, in at least float32; no maps.

        Args:
            pooled: mean and deviation of all states of the encoder.
            keys: one per example for the dropout; None is deterministic.

        Raises:
            EmoconvError: a state that is not among the pooled ones.
        """
        config = self.config
        x = chosen(pooled.astype(jnp.result_type(jnp.float32, pooled)), config)
        shape = (x.shape[-1],)
        mean = self.variable("statistics", "mean", jnp.zeros, shape, jnp.float32).value
        std = self.variable("statistics", "std", jnp.ones, shape, jnp.float32).value
        x = Dropout(keys, 0, config.dropout)((x - mean[None]) / std[None])
        embedding = jnp.tanh(Linear(config.embedding, name="embedding")(x))
        x = Dropout(keys, 1, EMBEDDING_DROPOUT)(embedding)
        return RecogniserOutput(
            embedding=embedding,
            logits=Linear(len(config.emotions), name="emotion")(x),
            arousal=AROUSAL_MIDDLE + Linear(1, name="arousal")(x)[:, 0],
        )


def chosen(pooled: Float[Array, "b p"], config: WhisperEmotionConfig) -> Float[Array, "b s"]:
    """Returns the means and deviations of the states that a head reads.

    Args:
        pooled: of all states, in the order [state, (mean, deviation), channel].
        config: of the head.

    Raises:
        EmoconvError: a state that is not among the pooled ones.
    """
    if not config.states or not all(0 <= state < config.pooled for state in config.states):
        raise EmoconvError(
            f"whisper_emotion.states: found {config.states!r:.60}, allowed are one or more of 0 to "
            f"{config.pooled - 1}"
        )
    apart = pooled.reshape(len(pooled), config.pooled, 2 * config.hidden)
    return apart[:, np.array(config.states)].reshape(len(pooled), -1)


def measure_statistics(
    pooled: Float[np.ndarray, "n p"], config: WhisperEmotionConfig
) -> dict[str, np.ndarray]:
    """Measures the normalisation of eq. 4.

    Args:
        pooled: of the training clips, one at least.
        config: of the head.

    Returns:
        The Linen collection `statistics`: `mean` and `std`, each [s].
    """
    read = np.asarray(chosen(jnp.asarray(pooled, jnp.float32), config), np.float64)
    mean, std = read.mean(axis=0), np.maximum(read.std(axis=0), STD_FLOOR)
    return {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}
