"""EmoMix's emotion recogniser (ACRNN): a log-mel becomes an embedding, a class and an arousal.

    (1) bands     c = ln(e^m_2i + e^m_2i+1): pairs of our 80 mel bins summed to 40 bands
    (2) deltas    d_t = sum_n n (c_t+n - c_t-n) / (2 sum_n n^2), n = 1, 2; the same again on d;
                  beyond either end stands the outermost real frame
    (3) input     z-norm of [c, d, dd] by the stored statistics of the training mels
    (4) maps      six 5x3 convolutions, LeakyReLU .01, a 2x4 max-pool after the first
    (5) states    linear, LayerNorm, LeakyReLU, bidirectional LSTM
    (6) embedding sum_t a_t h_t with a = softmax(w h), over real frames
    (7) heads     FC, LeakyReLU; emotion logits; arousal = 4 + linear, on the scale 1..7

All of it is differentiable in the mel, so that a denoised mel can be judged during training, and
nothing of it reads padding. The original's batch norm would tie an utterance's embedding to its
batch: in its place the convolutions start with He's variance (PyTorch's default would shrink the
signal by sqrt(6) per layer) and a LayerNorm follows the linear layer.

Source: Chen et al., 3-D ACRNN (IEEE SPL 25(10), 2018), as EmoMix uses it (arXiv 2306.00648).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from emoconv_jax.config import RecogniserConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.convolution import convolution
from emoconv_jax.models.layers import LayerNorm, Linear, add_wide, at_least_float32, lstm_step
from emoconv_jax.shapes import Array, Float, Key

DELTA_REACH = 2  # frames on each side of the regression, N of eq. 2
LEAK = 0.01
POOL_FRAMES, POOL_BANDS = 2, 4
TAPS = (5, 3)  # frames, bands
DROPOUT = 0.3  # [ours] of the embedding, on its way to the heads
AROUSAL_MIDDLE = 4.0  # of the scale 1..7
STD_FLOOR = 1e-3  # a band that never changes is left unscaled rather than blown up
BUCKET_FRAMES = 256  # lengths that statistics are measured with, so that few shapes are compiled


class RecogniserOutput(NamedTuple):
    """What the recogniser says of a batch.

    Attributes:
        embedding: of the utterance, eq. 6.
        logits: one per emotion of the configuration.
        arousal: 1 (calm) .. 7 (excited); a regression, so values may lie outside.
        maps: the convolutions' activations, eq. 4, zero on padding: the first at the mel's frame
            rate, the others at half of it (`pooled_mask`); empty from `recognise`.
    """

    embedding: Float[Array, "b d"]
    logits: Float[Array, "b e"]
    arousal: Float[Array, " b"]
    maps: tuple[Array, ...] = ()


def front_end(mel: Float[Array, "b f m"], mask: Float[Array, "b f"]) -> Float[Array, "b f n 3"]:
    """Returns the bands and their two deltas, eqs. 1 and 2, before any normalisation.

    Args:
        mel: natural-log mel; its bins are summed in pairs.
        mask: 1.0 on real frames, which come first.

    Returns:
        Half as many bands as bins; what stands in padded frames is not defined.
    """
    bands = jnp.logaddexp(mel[..., 0::2], mel[..., 1::2])
    first = _delta(bands, mask)
    return jnp.stack([bands, first, _delta(first, mask)], axis=-1)


def pooled_mask(mask: Float[Array, "b f"]) -> Float[Array, "b p"]:
    """Returns the mask of the maps behind the pool: a pooled frame is real if either half is.

    Args:
        mask: 1.0 on real frames.

    Returns:
        ceil(f / 2) frames.
    """
    return _frame_pairs(mask, 0.0).max(2)


def measure_statistics(mels: Iterable[Float[np.ndarray, "_ m"]]) -> dict[str, np.ndarray]:
    """Measures the normalisation of eq. 3 over whole utterances.

    Args:
        mels: natural-log mels of the training split.

    Returns:
        The Linen collection `statistics`: `mean` and `std`, each [3, bands].

    Raises:
        EmoconvError: no mels.
    """
    measure, frames = jax.jit(front_end), 0
    sums, squares = np.zeros(()), np.zeros(())
    for mel in mels:
        length = len(mel)
        padded = np.pad(mel, ((0, -length % BUCKET_FRAMES), (0, 0)))[None].astype(np.float32)
        mask = (np.arange(padded.shape[1]) < length).astype(np.float32)[None]
        found = np.asarray(measure(padded, mask), dtype=np.float64)[0, :length]
        sums, squares = sums + found.sum(0), squares + np.square(found).sum(0)
        frames += length
    if not frames:
        raise EmoconvError("recogniser statistics: found no mels, at least one is needed")
    mean = sums / frames
    std = np.sqrt(np.maximum(squares / frames - np.square(mean), STD_FLOOR**2))
    return {"mean": mean.T.astype(np.float32), "std": std.T.astype(np.float32)}


class Recogniser(nn.Module):
    """The network of eqs. 1 to 7.

    Its variables are the trained `params` and the `statistics` (`mean`, `std`: [3, bands]), which
    `measure_statistics` gives.

    Attributes:
        config: the sizes; `embedding` must be twice `hidden`.
        dtype: type that eqs. 4 and 5 are computed in; None is that of the mel. Eqs. 1 to 3 and what
            there is once per utterance (6 and 7) are in at least float32.
        remat: whether the backward pass computes the maps' activations again instead of keeping
            them.
    """

    config: RecogniserConfig
    dtype: Any = None
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        mel: Float[Array, "b f m"],
        mask: Float[Array, "b f"],
        keys: Key[Array, " b"] | None = None,
    ) -> RecogniserOutput:
        """Returns the output for one window per example.

        Args:
            mel: natural-log mel.
            mask: 1.0 on real frames, which come first; at least one.
            keys: one per example, for dropout; None is deterministic.

        Returns:
            Embedding, logits, arousal and maps, in at least float32.
        """
        config = self.config
        if config.embedding != 2 * config.hidden:
            raise EmoconvError(
                f"recogniser.embedding: found {config.embedding}, allowed is twice "
                f"recogniser.hidden: {2 * config.hidden}"
            )
        exact = jnp.result_type(jnp.float32, mel)
        x = self._normalised(front_end(mel.astype(exact), mask.astype(exact)))
        x = _masked(x.astype(exact if self.dtype is None else self.dtype), mask)
        map_conv, max_pool = MapConv, _max_pool
        if self.remat:
            map_conv, max_pool = nn.remat(MapConv), jax.checkpoint(_max_pool)
        maps = []
        for i, features in enumerate(config.maps):
            x = map_conv(features, name=f"conv_{i}")(x, mask)
            maps.append(x.astype(exact))
            if i == 0:
                x, mask = max_pool(x, mask), pooled_mask(mask)
        x = x.reshape(*x.shape[:2], -1)
        x = _leaky(LayerNorm(name="norm")(Linear(config.linear, name="linear")(x)))
        states = BidirectionalLstm(config.hidden, name="lstm")(x, mask)
        states = states.astype(exact)
        scores = nn.Dense(1, use_bias=False, name="attention")(states)[..., 0]
        attention = jax.nn.softmax(jnp.where(mask > 0, scores, -jnp.inf), axis=1)
        embedding = (attention[:, :, None] * states).sum(1)
        return self._told(embedding, keys, tuple(maps))

    def _told(
        self,
        embedding: Float[Array, "b d"],
        keys: Key[Array, " b"] | None,
        maps: tuple[Array, ...] = (),
    ) -> RecogniserOutput:
        """Returns what the heads say of an embedding, eq. 7."""
        x = embedding if keys is None else _dropped(embedding, keys)
        x = _leaky(Linear(self.config.feed_forward, name="feed_forward")(x))
        return RecogniserOutput(
            embedding=embedding,
            logits=Linear(len(self.config.emotions), name="emotion")(x),
            arousal=AROUSAL_MIDDLE + Linear(1, name="arousal")(x)[:, 0],
            maps=maps,
        )

    def _normalised(self, features: Float[Array, "b f n 3"]) -> Float[Array, "b f n 3"]:
        """Returns the features with zero mean and unit variance over the training mels, eq. 3."""
        shape = (3, self.config.bands)
        mean = self.variable("statistics", "mean", jnp.zeros, shape, jnp.float32).value
        std = self.variable("statistics", "std", jnp.ones, shape, jnp.float32).value
        return (features - mean.T[None, None]) / std.T[None, None]


class MapConv(nn.Module):
    """A 5x3 convolution over frames and bands that keeps their number, and a LeakyReLU.

    Attributes:
        features: output channels.
    """

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b f n i"], mask: Float[Array, "b f"]
    ) -> Float[Array, "b f n o"]:
        """Returns the masked map."""
        initial, shape = nn.initializers.he_normal(), (*TAPS, x.shape[-1], self.features)
        kernel = self.param("kernel", initial, shape, jnp.float32).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        y = convolution(x, kernel, padding=(TAPS[0] // 2, TAPS[1] // 2))
        return _masked(_leaky(add_wide(y, bias[None, None, None])), mask)


class BidirectionalLstm(nn.Module):
    """An LSTM layer in both directions, with PyTorch's gates (i, f, g, o) and both of its biases.

    On padding the state stands still, so the backward direction starts at the last real frame.

    Attributes:
        hidden: width of each direction's state.
    """

    hidden: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b f i"], mask: Float[Array, "b f"]
    ) -> Float[Array, "b f o"]:
        """Returns both directions' states side by side, forward first."""
        (ahead, weight_ahead), (back, weight_back) = (
            self._driven(x, direction) for direction in ("forward", "backward")
        )
        zeros = jnp.zeros((x.shape[0], self.hidden), x.dtype)
        state = zeros, at_least_float32(zeros)

        def step(states, inputs):
            drive_ahead, drive_back, real_ahead, real_back = inputs
            ahead = _standing_step(states[0], drive_ahead, weight_ahead, real_ahead)
            back = _standing_step(states[1], drive_back, weight_back, real_back)
            return (ahead, back), (ahead[0], back[0])

        real = mask.T[:, :, None]
        inputs = (ahead, back[::-1], real, real[::-1])
        _, (forward, backward) = lax.scan(step, (state, state), inputs)
        return jnp.concatenate([forward, backward[::-1]], axis=-1).swapaxes(0, 1)

    def _driven(self, x: Float[Array, "b f i"], direction: str) -> tuple[Array, Array]:
        """Returns what the input adds to the gates, frames first, and the recurrent weights."""
        bound, gates = self.hidden**-0.5, 4 * self.hidden

        def initial(key, shape):  # PyTorch's default
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        weight_ih = self.param(f"{direction}_weight_ih", initial, (x.shape[-1], gates))
        weight_hh = self.param(f"{direction}_weight_hh", initial, (self.hidden, gates))
        bias = self.param(f"{direction}_bias_ih", initial, (gates,))
        bias = bias + self.param(f"{direction}_bias_hh", initial, (gates,))
        driven = add_wide(x @ weight_ih.astype(x.dtype), bias[None, None])
        return driven.swapaxes(0, 1), weight_hh


def recognise(
    network: Recogniser,
    variables: Any,
    mel: Float[Array, "b f m"],
    mask: Float[Array, "b f"],
) -> RecogniserOutput:
    """Returns the recogniser's output for utterances of any length.

    Windows of `config.frames` frames overlap by half; a window counts by its real frames, and only
    if the one before it does not already reach the end.

    Args:
        network: the module.
        variables: `params` and `statistics`.
        mel: natural-log mel.
        mask: 1.0 on real frames, which come first; at least one.

    Returns:
        The weighted averages over the windows, without maps.
    """
    size = network.config.frames
    half, (batch, frames, bins) = size // 2, mel.shape
    starts = range(0, max(frames - size + half, 1), half)
    span = min(size, frames)
    missing = starts[-1] + span - frames
    mel = jnp.pad(mel, ((0, 0), (0, missing), (0, 0)))
    mask = jnp.pad(mask, ((0, 0), (0, missing)))
    windows = jnp.stack([mel[:, start : start + span] for start in starts], axis=1)
    masks = jnp.stack([mask[:, start : start + span] for start in starts], axis=1)
    beyond = jnp.array(starts)[None] - half + size  # where the window before ends
    needed = (mask.sum(1)[:, None] > beyond) | (jnp.array(starts)[None] == 0)
    weights = jnp.where(needed, masks.sum(2), 0.0).astype(jnp.result_type(jnp.float32, mel))
    weights = weights / weights.sum(1, keepdims=True)
    # a window of padding alone has weight 0; its first frame is opened so that it stays finite
    opened = jnp.maximum(masks, (jnp.arange(span) == 0)[None, None].astype(masks.dtype))
    output = network.apply(variables, windows.reshape(-1, span, bins), opened.reshape(-1, span))
    assert isinstance(output, RecogniserOutput)

    def averaged(values: Array) -> Array:
        return (weights[:, :, None] * values.reshape(batch, len(starts), -1)).sum(1)

    return RecogniserOutput(
        averaged(output.embedding), averaged(output.logits), averaged(output.arousal)[:, 0]
    )


def _dropped(x: Float[Array, "b d"], keys: Key[Array, " b"]) -> Float[Array, "b d"]:
    """Returns `x` under dropout, each row drawn from its own key, in float32 whatever x is."""
    keep = np.float32(1.0 - DROPOUT)
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1.0 - DROPOUT), 0.0)


def _delta(x: Float[Array, "b f n"], mask: Float[Array, "b f"]) -> Float[Array, "b f n"]:
    """Returns the regression slope per frame, eq. 2."""
    last = mask * (1.0 - jnp.pad(mask[:, 1:], ((0, 0), (0, 1))))  # 1 on the last real frame
    filler = (last[:, :, None] * x).sum(1)
    x = jnp.where(mask[:, :, None] > 0, x, filler[:, None])
    edges = ((0, 0), (DELTA_REACH, DELTA_REACH), (0, 0))
    padded, frames = jnp.pad(x, edges, mode="edge"), x.shape[1]

    def shifted(n: int) -> Array:
        return lax.slice_in_dim(padded, DELTA_REACH + n, DELTA_REACH + n + frames, axis=1)

    reach = range(1, DELTA_REACH + 1)
    slopes = [n * (shifted(n) - shifted(-n)) for n in reach]
    return sum(slopes[1:], slopes[0]) / (2 * sum(n * n for n in reach))


def _max_pool(x: Float[Array, "b f n c"], mask: Float[Array, "b f"]) -> Float[Array, "b p q c"]:
    """Returns the maxima over 2 frames and 4 bands; padded frames take no part."""
    pairs = _frame_pairs(jnp.where(mask[:, :, None, None] > 0, x, -jnp.inf), -jnp.inf)
    batch, frames, _, bands, channels = pairs.shape
    bands = bands // POOL_BANDS
    pairs = pairs[:, :, :, : bands * POOL_BANDS]
    pooled = pairs.reshape(batch, frames, POOL_FRAMES, bands, POOL_BANDS, channels).max((2, 4))
    return jnp.where(pooled_mask(mask)[:, :, None, None] > 0, pooled, 0.0)


def _frame_pairs(x: Float[Array, "b f ..."], filler: float) -> Float[Array, "b p 2 ..."]:
    """Returns neighbouring frames side by side; an odd last frame is paired with `filler`."""
    pads = [(0, 0), (0, -x.shape[1] % POOL_FRAMES)] + [(0, 0)] * (x.ndim - 2)
    padded = jnp.pad(x, pads, constant_values=filler)
    return padded.reshape(x.shape[0], -1, POOL_FRAMES, *x.shape[2:])


def _standing_step(
    state: tuple[Array, Array], drive: Array, weight_hh: Array, real: Array
) -> tuple[Array, Array]:
    """Returns (h, c) after one frame; unchanged where `real` is 0."""
    h, c = lstm_step(state, drive, weight_hh)
    return jnp.where(real > 0, h, state[0]), jnp.where(real > 0, c, state[1])


def _masked(x: Float[Array, "b f n c"], mask: Float[Array, "b f"]) -> Float[Array, "b f n c"]:
    return x * mask[:, :, None, None].astype(x.dtype)


def _leaky(x: Array) -> Array:
    return jax.nn.leaky_relu(x, LEAK)
