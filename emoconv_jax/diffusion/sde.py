"""The forward process, which pulls a mel to the average voice while noise drowns it.

    (1)  dX_t   = 1/2 beta_t (Y - X_t) dt + sqrt(beta_t) dw
    (2)  beta_t = beta_0 + t (beta_1 - beta_0),   B(t) = beta_0 t + (beta_1 - beta_0) t^2 / 2
    (3)  X_t | X_0 ~ N( alpha_t X_0 + (1 - alpha_t) Y,  sigma_t^2 I )
    (4)  alpha_t = exp(-B(t) / 2),   sigma_t^2 = 1 - alpha_t^2
    (5)  X0_hat = ( X_t + sigma_t^2 score - (1 - alpha_t) Y ) / alpha_t

Y is the average voice. The residual U = X - Y follows the ordinary variance-preserving process,
so the code works on U and adds Y back.

Source: EmoConv-Diff (arXiv 2309.07828), equations 1-5; the values of beta are DiffVC's
(arXiv 2109.13821). In (5) the paper prints a minus before the score; with the score of (3) only
the plus returns X_0.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from emoconv_jax.shapes import Array, Float

Time = Float[Array, ""] | Float[Array, "b"] | float
"""Diffusion time in [0, 1]: one for the whole batch, or one per utterance."""


def over_mels(value: Float[Array, "*b"] | float) -> Array:
    """Returns a scalar as it is, and one value per utterance shaped to multiply `b f m`.

    Args:
        value: a scalar or one value per utterance.

    Returns:
        The value as a scalar array or as `b 1 1`.
    """
    value = jnp.asarray(value)
    return value[:, None, None] if value.ndim == 1 else value


@dataclasses.dataclass(frozen=True)
class MeanRevertingSDE:
    """The process (1) with the linear schedule (2); t = 0 is data, t = 1 is noise."""

    beta_0: float = 0.05
    beta_1: float = 20.0

    def beta(
        self, t: Float[Array | np.ndarray, "*b"] | float
    ) -> Float[Array | np.ndarray, "*b"] | float:
        """Returns the noise rate beta_t of (2), in the type and precision of `t`.

        Args:
            t: diffusion time in [0, 1].

        Returns:
            The rate, in `[beta_0, beta_1]`.
        """
        return self.beta_0 + t * (self.beta_1 - self.beta_0)

    def beta_integral(
        self, t: Float[Array | np.ndarray, "*b"] | float
    ) -> Float[Array | np.ndarray, "*b"] | float:
        """Returns B(t) of (2), the rate integrated from 0 to t, in the type of `t`.

        Args:
            t: diffusion time in [0, 1].

        Returns:
            The integral, 0 at t = 0.
        """
        return t * (self.beta_0 + 0.5 * t * (self.beta_1 - self.beta_0))

    def weight(self, t: Time) -> Float[Array, "*b"]:
        """Returns alpha_t of (4), the share of the data left at time t.

        Args:
            t: diffusion time in [0, 1].

        Returns:
            The weight, 1 at t = 0.
        """
        return jnp.exp(-0.5 * self.beta_integral(t))

    def std(self, t: Time) -> Float[Array, "*b"]:
        """Returns sigma_t of (4), computed without the cancellation of 1 - alpha^2 near 0.

        Args:
            t: diffusion time in [0, 1].

        Returns:
            The standard deviation of the noise, 0 at t = 0.
        """
        return jnp.sqrt(-jnp.expm1(-jnp.asarray(self.beta_integral(t))))

    def marginal(
        self, x0: Float[Array, "b f m"], average_voice: Float[Array, "b f m"], t: Time
    ) -> tuple[Float[Array, "b f m"], Float[Array, "*b"]]:
        """Returns mean and standard deviation of X_t given X_0, equation (3).

        Args:
            x0: log-mel of the data.
            average_voice: log-mel of the average voice.
            t: diffusion time in [0, 1].

        Returns:
            The mean, and the standard deviation shaped like `t`.
        """
        mean = average_voice + over_mels(self.weight(t)) * (x0 - average_voice)
        return mean, self.std(t)

    def denoise(
        self,
        xt: Float[Array, "b f m"],
        average_voice: Float[Array, "b f m"],
        score: Float[Array, "b f m"],
        t: Time,
    ) -> Float[Array, "b f m"]:
        """Returns Tweedie's estimate of the data, equation (5).

        Args:
            xt: noisy log-mel.
            average_voice: log-mel of the average voice.
            score: gradient of log p_t at `xt`.
            t: diffusion time in [0, 1]; an error of the score grows by sigma^2 / alpha.

        Returns:
            The estimated log-mel X0_hat.
        """
        residual = xt - average_voice + over_mels(self.std(t)) ** 2 * score
        return average_voice + residual / over_mels(self.weight(t))
