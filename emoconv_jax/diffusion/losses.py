"""The training losses, each as (sum, count) so that devices and batches can be added up.

    (1)  X_t = alpha X_0 + (1 - alpha) Y + sigma eps,   eps ~ N(0, I)
    (2)  L_s = || sigma s_theta(X_t) + eps ||^2
    (3)  L_m = || X_0 - X0_hat ||_1                     on the log-mel
    (4)  L   = L_s + lambda_t L_m,   lambda_t = 1 - t^2
    (5)  L_v = || v - v_hat ||^2 = L_s / alpha^2
    (6)  L_style = mean_j || G_j(X0_hat) - G_j(X_0) ||_F^2,   G = F^T F / (positions * channels)

Padding has no part in the sums or the counts. A mean is the added sums over the added counts; a
mean of means would weigh short batches more.

L_s is weighted by sigma^2, as in DiffVC's code: without it, it diverges as t goes to 0. The
paper's ablation L_m(X_t) is `reconstruction_loss` of `heads.mean_from_output`.

(4) hardly asks for anything at late times, where the outlines of speech are decided and with them
most of its emotion: at t = .8 it has alpha^2 = .0016 of the velocity's error. (5) asks alike.

F of (6) holds the activations of one of the recogniser's convolutions, positions by channels.
EmoMix does not say how X0_hat comes about in training; here it is Tweedie's, and only examples of
t <= STYLE_TIME count, since its error grows with (sigma / alpha)^4 in a product of activations.

Source: EmoConv-Diff (arXiv 2309.07828), section 2; (5) Salimans and Ho (arXiv 2202.00512), on
the residual; (6) EmoMix (arXiv 2306.00648), with Grams
divided by their size and averaged, so that its weight does not depend on clip length or width.
"""

from collections.abc import Sequence

import jax.numpy as jnp

from emoconv_jax.diffusion import heads
from emoconv_jax.diffusion.sde import MeanRevertingSDE, Time, over_mels
from emoconv_jax.shapes import Array, Float

STYLE_TIME = 0.5  # the latest diffusion time whose X0_hat is good enough to be judged


def perturb(
    sde: MeanRevertingSDE,
    x0: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    noise: Float[Array, "b f m"],
    t: Time,
) -> Float[Array, "b f m"]:
    """Returns the noisy mel X_t of (1).

    Args:
        sde: the forward process.
        x0: log-mel of the data.
        average_voice: log-mel of the average voice.
        noise: standard normal noise.
        t: diffusion time in [0, 1].

    Returns:
        The noisy log-mel.
    """
    mean, std = sde.marginal(x0, average_voice, t)
    return mean + over_mels(std) * noise


def score_loss(
    head: str,
    sde: MeanRevertingSDE,
    output: Float[Array, "b f m"],
    x0: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    noise: Float[Array, "b f m"],
    t: Time,
    mask: Float[Array, "b f"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the score loss (2) summed over real elements, and their number.

    Args:
        head: "score" or "velocity".
        sde: the forward process.
        output: what the network gave for X_t.
        x0: log-mel of the data.
        average_voice: log-mel of the average voice.
        noise: the noise in X_t.
        t: diffusion time in [0, 1].
        mask: 1.0 on real frames.

    Returns:
        The sum of squared errors and the count of real elements (frames x mels).

    Raises:
        EmoconvError: an unknown head.
    """
    error = heads.score_error(head, sde, output, x0, average_voice, noise, t)
    return jnp.sum(jnp.square(error) * mask[:, :, None]), _elements(mask, error.shape[-1])


def velocity_loss(
    sde: MeanRevertingSDE,
    output: Float[Array, "b f m"],
    x0: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    noise: Float[Array, "b f m"],
    t: Time,
    mask: Float[Array, "b f"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the loss (5) of a velocity head summed over real elements, and their number.

    Args:
        sde: the forward process.
        output: what the network gave for X_t.
        x0: log-mel of the data.
        average_voice: log-mel of the average voice.
        noise: the noise in X_t.
        t: diffusion time in [0, 1].
        mask: 1.0 on real frames.

    Returns:
        The sum of squared errors and the count of real elements (frames x mels).
    """
    error = heads.target("velocity", sde, x0, average_voice, noise, t) - output
    return jnp.sum(jnp.square(error) * mask[:, :, None]), _elements(mask, error.shape[-1])


def reconstruction_loss(
    denoised: Float[Array, "b f m"],
    x0: Float[Array, "b f m"],
    mask: Float[Array, "b f"],
    weight: Float[Array, "b"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the L1 distance (3) summed over real elements, and their number.

    Args:
        denoised: estimated log-mel.
        x0: log-mel of the data.
        mask: 1.0 on real frames.
        weight: factor of each utterance's sum, such as `reconstruction_weight(t)`; the count
            stays unweighted.

    Returns:
        The (weighted) sum of absolute errors and the count of real elements (frames x mels).
    """
    error = jnp.abs(denoised - x0) * mask[:, :, None]
    if weight is not None:
        error = error * weight[:, None, None]
    return jnp.sum(error), _elements(mask, x0.shape[-1])


def reconstruction_weight(t: Float[Array, "b"]) -> Float[Array, "b"]:
    """Returns lambda_t of (4), which tames the division by alpha in X0_hat as t goes to 1.

    Args:
        t: diffusion time in [0, 1].

    Returns:
        The weight, from 1 down to 0.
    """
    return 1.0 - jnp.square(t)


def style_loss(
    denoised_maps: Sequence[Float[Array, "b ..."]],
    maps: Sequence[Float[Array, "b ..."]],
    masks: Sequence[Float[Array, "b _"]],
    t: Float[Array, "b"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the style loss (6) summed over the examples of early enough time, and their number.

    Args:
        denoised_maps: the recogniser's activations for X0_hat, `b f n c` per layer.
        maps: the same for X_0.
        masks: 1.0 on the real frames of each layer's maps.
        t: diffusion time in [0, 1].

    Returns:
        The sum of (6) over examples with t <= STYLE_TIME and the count of these.
    """
    judged = (t <= STYLE_TIME).astype(t.dtype)
    distances = [
        jnp.sum(jnp.square(_gram(found, mask) - _gram(wanted, mask)), (1, 2))
        for found, wanted, mask in zip(denoised_maps, maps, masks, strict=True)
    ]
    # beyond STYLE_TIME an X0_hat may be huge: chosen away, as 0 * infinity is not 0
    mean = jnp.where(judged > 0, sum(distances[1:], distances[0]) / len(distances), 0.0)
    return jnp.sum(mean), jnp.sum(judged)


def _gram(features: Float[Array, "b f n c"], mask: Float[Array, "b f"]) -> Float[Array, "b c c"]:
    """Returns F^T F over the real positions, divided by their number and by the channels."""
    real = features * mask[:, :, None, None]
    count = jnp.maximum(mask.sum(1), 1.0) * features.shape[2] * features.shape[3]
    return jnp.einsum("bfnc,bfnd->bcd", real, real) / count[:, None, None]


def _elements(mask: Array, mels: int) -> Array:
    return jnp.sum(mask) * mels
