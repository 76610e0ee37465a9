"""A second recogniser of another make, to judge what the first one has conditioned.

    (1) level      the mel minus the logarithm of its mean: how loud a clip is says nothing
    (2) input      the bands and deltas of `recogniser.py`, z-normed by the stored statistics
    (3) frames     convolutions over frames of 5 taps, then of 3 with dilation 2, 3 .., each with
                   LayerNorm and LeakyReLU; a linear layer
    (4) utterance  mean and standard deviation over the real frames, side by side; a linear layer
                   makes the embedding of them
    (5) heads      as the first one's

No maps over bands, no recurrence, no attention, no level: it shares front end and labels with the
first and nothing else, so that a conversion can hardly please both for the wrong reason.

Source: (3) and (4) the x-vector network of Snyder et al. (ICASSP 2018); sizes and (1) are ours.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from emoconv_jax.config import RecogniserConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.layers import Conv1d, LayerNorm, Linear, at_least_float32
from emoconv_jax.models.recogniser import LEAK, Recogniser, RecogniserOutput, front_end
from emoconv_jax.shapes import Array, Float, Key

FIRST_TAPS, TAPS = 5, 3
LEAST_VARIANCE = 1e-4  # keeps the slope of the standard deviation finite


class PooledRecogniser(Recogniser):
    """The network of (1) to (5); of its configuration it reads `maps` as the widths of (3).

    `linear` is the width that is pooled, `hidden` has no meaning. Its variables are called and
    checked as those of `Recogniser`, of which it is a kind.
    """

    @nn.compact
    def __call__(
        self,
        mel: Float[Array, "b f m"],
        mask: Float[Array, "b f"],
        keys: Key[Array, " b"] | None = None,
    ) -> RecogniserOutput:
        """Returns the output for one window per example, without maps.

        Args:
            mel: natural-log mel.
            mask: 1.0 on real frames, which come first; at least one.
            keys: one per example, for dropout; None is deterministic.
        """
        config = self.config
        exact = jnp.result_type(jnp.float32, mel)
        mel, mask = mel.astype(exact), mask.astype(exact)
        x = self._normalised(front_end(mel - loudness(mel, mask)[:, None, None], mask))
        x = x.reshape(*x.shape[:2], -1).astype(exact if self.dtype is None else self.dtype)
        real = mask[:, :, None].astype(x.dtype)
        for i, features in enumerate(config.maps):
            taps, dilation = (FIRST_TAPS, 1) if i == 0 else (TAPS, i + 1)
            convolved = Conv1d(features, taps, dilation=dilation, name=f"conv_{i}")(x * real)
            x = _leaky(LayerNorm(name=f"norm_{i}")(convolved))
        x = at_least_float32(_leaky(Linear(config.linear, name="linear")(x)))
        embedding = _leaky(Linear(config.embedding, name="pooled")(_pooled(x, mask)))
        return self._told(embedding, keys)


ARCHITECTURES: dict[str, type[Recogniser]] = {"acrnn": Recogniser, "pooled": PooledRecogniser}


def recogniser_of(config: RecogniserConfig, dtype=None, remat: bool = False) -> Recogniser:
    """Returns the recogniser of a configuration's architecture.

    Args:
        config: the sizes.
        dtype: as of `Recogniser`.
        remat: likewise.

    Raises:
        EmoconvError: an unknown architecture.
    """
    if config.architecture not in ARCHITECTURES:
        raise EmoconvError(
            f"recogniser.architecture: found {config.architecture!r:.40}, allowed are "
            f"{', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[config.architecture](config, dtype, remat)


def loudness(mel: Float[Array, "b f m"], mask: Float[Array, "b f"]) -> Float[Array, " b"]:
    """Returns the logarithm of the mean magnitude over real frames and bins.

    Args:
        mel: natural-log mel.
        mask: 1.0 on real frames.
    """
    weights = mask[:, :, None] / (mel.shape[-1] * mask.sum(1)[:, None, None])
    return jax.nn.logsumexp(mel, axis=(1, 2), b=jnp.broadcast_to(weights, mel.shape))


def _pooled(x: Float[Array, "b f c"], mask: Float[Array, "b f"]) -> Float[Array, "b d"]:
    """Returns mean and standard deviation over the real frames."""
    weights = (mask / mask.sum(1, keepdims=True))[:, :, None]
    mean = (x * weights).sum(1)
    variance = (jnp.square(x - mean[:, None]) * weights).sum(1)
    return jnp.concatenate([mean, jnp.sqrt(variance + LEAST_VARIANCE)], axis=-1)


def _leaky(x: Array) -> Array:
    return jax.nn.leaky_relu(x, LEAK)
