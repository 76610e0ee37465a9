"""DiffVC's RefBlock: a reference utterance, seen at the same noise level, as one vector."""

import flax.linen as nn
import jax

from emoconv_jax.models.layers import (
    Conv2d,
    GroupNorm,
    Linear,
    add_wide,
    at_least_float32,
    masked,
    mish,
)
from emoconv_jax.shapes import Array, Float


class ReferenceBlock(nn.Module):
    """Six gated convolutions and the mean over the reference's real frames.

    Source: DiffVC (arXiv 2109.13821), its RefBlock; here the InstanceNorms see real frames only.

    Attributes:
        features: width of the vector; a multiple of 4.
    """

    features: int

    @nn.compact
    def __call__(
        self,
        reference: Float[Array, "b r m"],
        mask: Float[Array, "b r"],
        time: Float[Array, "b c"],
    ) -> Float[Array, "b d"]:
        """Returns one vector per reference, in at least float32.

        Args:
            reference: log-mel of the reference, diffused to the time in question.
            mask: of its real frames.
            time: embedded diffusion time.
        """
        base = self.features // 4
        time = mish(time)
        y = masked(reference.transpose(0, 2, 1)[..., None], mask)
        for stage, width in enumerate((base, 2 * base, 4 * base), start=1):
            y = _Gated(width, name=f"block{stage}1")(y, mask)
            y = _Gated(width, name=f"block{stage}2")(y, mask)
            if stage < 3:
                shift = Linear(width, name=f"mlp{stage}")(time)
                y = masked(add_wide(y, shift[:, None, None]), mask)
        y = at_least_float32(y)
        real = mask.astype(y.dtype).sum(-1, keepdims=True)
        mean = y.sum((1, 2)) / (real * reference.shape[2])
        # A convolution of one tap and the mean over positions may change places; the mean first
        # leaves one position to convolve.
        return Conv2d(self.features, 1, name="final_conv")(mean[:, None, None])[:, 0, 0]


class _Gated(nn.Module):
    """Convolution to twice the features, masked InstanceNorm, gated linear unit."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b m r i"], mask: Float[Array, "b r"]
    ) -> Float[Array, "b m r o"]:
        y = Conv2d(2 * self.features, 3, name="conv")(x)
        y = GroupNorm(2 * self.features, name="norm")(y, mask)
        value, gate = y[..., : self.features], y[..., self.features :]
        return masked(value * jax.nn.sigmoid(gate), mask)
