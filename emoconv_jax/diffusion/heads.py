"""What the network's output means: the score itself, or the velocity from which it follows.

With U = X - Y, alpha and sigma of the process, and X_t = mean + sigma eps:

    (1)  score head      output ~ s = -eps / sigma
    (2)  velocity head   output ~ v = alpha eps - sigma (X_0 - Y)
    (3)  s      = -u - (alpha / sigma) v
    (4)  X0_hat = Y + alpha u - sigma v
    (5)  sigma s_hat + eps = alpha (v - v_hat)
    (6)  mu_hat = X_t + sigma^2 s = Y + alpha (alpha u - sigma v)

A score head has to produce values up to 1 / sigma (about 1000), and its error reaches X0_hat
multiplied by sigma / alpha; the velocity has the data's own scale at every t. Everything outside
this file sees only scores and X0_hat.

Source: velocity prediction is Salimans and Ho (arXiv 2202.00512), here on the residual U.
"""

from emoconv_jax.diffusion.sde import MeanRevertingSDE, Time, over_mels
from emoconv_jax.errors import EmoconvError
from emoconv_jax.shapes import Array, Float

HEADS = ("score", "velocity")


def score_from_output(
    head: str,
    sde: MeanRevertingSDE,
    output: Float[Array, "b f m"],
    xt: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    t: Time,
) -> Float[Array, "b f m"]:
    """Returns the score that the network's output stands for, equation (3).

    Args:
        head: "score" or "velocity".
        sde: the forward process.
        output: what the network gave.
        xt: noisy log-mel.
        average_voice: log-mel of the average voice.
        t: diffusion time in (0, 1].

    Returns:
        The gradient of log p_t at `xt`.

    Raises:
        EmoconvError: an unknown head.
    """
    if _is_score(head):
        return output
    ratio = over_mels(sde.weight(t)) / over_mels(sde.std(t))
    return average_voice - xt - ratio * output


def denoised_from_output(
    head: str,
    sde: MeanRevertingSDE,
    output: Float[Array, "b f m"],
    xt: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    t: Time,
) -> Float[Array, "b f m"]:
    """Returns X0_hat; from a velocity without any division, equation (4).

    Args:
        head: "score" or "velocity".
        sde: the forward process.
        output: what the network gave.
        xt: noisy log-mel.
        average_voice: log-mel of the average voice.
        t: diffusion time in [0, 1].

    Returns:
        The estimated log-mel of the data.

    Raises:
        EmoconvError: an unknown head.
    """
    if _is_score(head):
        return sde.denoise(xt, average_voice, output, t)
    return average_voice + _residual_from_velocity(sde, output, xt, average_voice, t)


def mean_from_output(
    head: str,
    sde: MeanRevertingSDE,
    output: Float[Array, "b f m"],
    xt: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    t: Time,
) -> Float[Array, "b f m"]:
    """Returns mu_hat = X_t + sigma^2 s, equation (6): Tweedie's estimate of the kernel's mean.

    It is X0_hat before Y is removed and the division by alpha. The paper's ablation L_m(X_t)
    compares it with X_0; the distance to X_t itself would have no gradient.

    Args:
        head: "score" or "velocity".
        sde: the forward process.
        output: what the network gave.
        xt: noisy log-mel.
        average_voice: log-mel of the average voice.
        t: diffusion time in [0, 1].

    Returns:
        The estimate of alpha X_0 + (1 - alpha) Y.

    Raises:
        EmoconvError: an unknown head.
    """
    if _is_score(head):
        return xt + over_mels(sde.std(t)) ** 2 * output
    residual = _residual_from_velocity(sde, output, xt, average_voice, t)
    return average_voice + over_mels(sde.weight(t)) * residual


def target(
    head: str,
    sde: MeanRevertingSDE,
    x0: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    noise: Float[Array, "b f m"],
    t: Time,
) -> Float[Array, "b f m"]:
    """Returns the output of a perfect network on X_t = mean + sigma noise, (1) or (2).

    Args:
        head: "score" or "velocity".
        sde: the forward process.
        x0: log-mel of the data.
        average_voice: log-mel of the average voice.
        noise: the standard normal noise in X_t.
        t: diffusion time in (0, 1].

    Returns:
        The score or velocity given X_0.

    Raises:
        EmoconvError: an unknown head.
    """
    std = over_mels(sde.std(t))
    if _is_score(head):
        return -noise / std
    return over_mels(sde.weight(t)) * noise - std * (x0 - average_voice)


def score_error(
    head: str,
    sde: MeanRevertingSDE,
    output: Float[Array, "b f m"],
    x0: Float[Array, "b f m"],
    average_voice: Float[Array, "b f m"],
    noise: Float[Array, "b f m"],
    t: Time,
) -> Float[Array, "b f m"]:
    """Returns sigma s_hat + eps, whose square is the score loss; from a velocity by (5).

    Neither form divides by sigma or alpha, so both are exact at every t.

    Args:
        head: "score" or "velocity".
        sde: the forward process.
        output: what the network gave.
        x0: log-mel of the data.
        average_voice: log-mel of the average voice.
        noise: the standard normal noise in X_t.
        t: diffusion time in [0, 1].

    Returns:
        The error, zero for a perfect network.

    Raises:
        EmoconvError: an unknown head.
    """
    if _is_score(head):
        return over_mels(sde.std(t)) * output + noise
    velocity = target(head, sde, x0, average_voice, noise, t)
    return over_mels(sde.weight(t)) * (velocity - output)


def _residual_from_velocity(
    sde: MeanRevertingSDE, velocity: Array, xt: Array, average_voice: Array, t: Time
) -> Array:
    """Returns X0_hat - Y, the residual of (4)."""
    return over_mels(sde.weight(t)) * (xt - average_voice) - over_mels(sde.std(t)) * velocity


def _is_score(head: str) -> bool:
    if head not in HEADS:
        raise EmoconvError(f"head: found {head!r}, allowed are: {', '.join(HEADS)}")
    return head == "score"
