"""The GE2E speaker encoder: a power mel at 16 kHz becomes a d-vector.

    (1) partials: windows of 160 frames (1.6 s), 50 % overlap
    (2) three LSTM layers 40 -> 256; gates of PyTorch, with the input gate i, forget gate f, cell
        candidate g and output gate o side by side:
        [i f g o] = x W_ih + b_ih + h W_hh + b_hh
        c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c')
    (3) embedding of a partial = L2(ReLU(Linear(last h of the last layer)))
    (4) d-vector = L2(mean over partials)

Source: Wan et al., GE2E (arXiv 1710.10467); windows and weights: PyPI package Resemblyzer 0.1.4,
with the overlap of one half that DiffVC's encoder uses.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from emoconv_jax.config import SpeakerConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.convolution import on_cpu
from emoconv_jax.models.layers import Linear, add_wide, at_least_float32, lstm_step
from emoconv_jax.shapes import Array, Float

PARTIAL_FRAMES = 160  # 1.6 s at hop 160 / 16 kHz
STEP_FRAMES = PARTIAL_FRAMES // 2
COVERED_FRAMES = 120  # .75 of a partial: with fewer real frames the last one is dropped
NORM_FLOOR = 1e-12  # a partial whose every unit is cut off by the ReLU stays 0 instead of 0 / 0


def partials(mel: Float[np.ndarray, "f m"]) -> Float[np.ndarray, "p 160 m"]:
    """Cuts a speaker mel into half-overlapping windows, eq. 1.

    The last window is kept if at least .75 of it is covered by the signal, or if it is alone; it is
    then filled with zeros, which is digital silence in a power mel. A centred mel of n samples has
    n // hop + 1 frames, so f frames cover f - 1 hops.

    Args:
        mel: power mel (no logarithm) of one utterance, from `audio.vad.speaker_mel`.

    Returns:
        The windows, at least one.

    Raises:
        EmoconvError: no frames.
    """
    frames = len(mel)
    if frames == 0:
        raise EmoconvError("speaker mel: 0 frames, allowed are 1 or more")
    starts = list(range(0, max(1, frames - PARTIAL_FRAMES + STEP_FRAMES + 1), STEP_FRAMES))
    if len(starts) > 1 and frames - 1 - starts[-1] < COVERED_FRAMES:
        starts.pop()
    missing = max(0, starts[-1] + PARTIAL_FRAMES - frames)
    padded = np.pad(mel, ((0, missing), (0, 0)))
    return np.stack([padded[start : start + PARTIAL_FRAMES] for start in starts])


def d_vector(embeddings: Float[Array | np.ndarray, "p d"]) -> Float[Array, " d"]:
    """Returns the utterance's embedding, eq. 4.

    Args:
        embeddings: of its partials, as `SpeakerEncoder` gives them; no padded rows.

    Returns:
        The L2-normalised mean, all entries non-negative.
    """
    return _normalised(jnp.mean(embeddings, 0, keepdims=True))[0]


class Lstm(nn.Module):
    """One LSTM layer over time, eq. 2, with PyTorch's gate order and both of its biases.

    Attributes:
        hidden: width of the state.
    """

    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "b f i"]) -> Float[Array, "b f h"]:
        """Returns the hidden state after every frame, from a zero state."""
        initial = nn.initializers.uniform(2 * self.hidden**-0.5)
        gates = 4 * self.hidden

        def centred(key, shape):  # U(-1, 1) / sqrt(hidden), PyTorch's default
            return initial(key, shape, jnp.float32) - self.hidden**-0.5

        weight_ih = self.param("weight_ih", centred, (x.shape[-1], gates))
        weight_hh = self.param("weight_hh", centred, (self.hidden, gates))
        bias = self.param("bias_ih", centred, (gates,)) + self.param("bias_hh", centred, (gates,))
        driven = add_wide(x @ weight_ih.astype(x.dtype), bias[None, None])
        parts = [weight_hh]
        if on_cpu():  # four small products take a fifth less time than a large one
            parts = lax.optimization_barrier(jnp.split(weight_hh, 4, axis=1))  # before the scan

        def step(state, drive):
            state = lstm_step(state, drive, *parts)
            return state, state[0]

        zeros = jnp.zeros((x.shape[0], self.hidden), x.dtype)
        state = zeros, at_least_float32(zeros)
        _, states = lax.scan(step, state, driven.swapaxes(0, 1))
        return states.swapaxes(0, 1)


class SpeakerEncoder(nn.Module):
    """Embeds partials, eqs. 2 and 3.

    Attributes:
        config: the sizes; the defaults are those of the public weights.
    """

    config: SpeakerConfig

    @nn.compact
    def __call__(self, mel: Float[Array, "p f m"]) -> Float[Array, "p d"]:
        """Returns one embedding of length 1 for each partial."""
        x = mel
        for layer in range(self.config.layers):
            x = Lstm(self.config.hidden, name=f"lstm_{layer}")(x)
        return _normalised(jax.nn.relu(Linear(self.config.embedding, name="linear")(x[:, -1])))


def _normalised(x: Float[Array, "p d"]) -> Float[Array, "p d"]:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), NORM_FLOOR)
