"""The score networks behind one call, chosen by `config.ScoreNetworkConfig.kind`."""

from typing import Any

from emoconv_jax.config import ScoreNetworkConfig
from emoconv_jax.errors import UsageError
from emoconv_jax.models.score_network import ScoreNetwork
from emoconv_jax.models.score_network_1d import ScoreNetwork1d

KINDS: dict[str, Any] = {"unet2d": ScoreNetwork, "unet1d": ScoreNetwork1d}


def score_network_of(config: ScoreNetworkConfig, dtype: Any = None, remat: bool = False) -> Any:
    """Returns the Linen module that a configuration asks for, without parameters.

    Args:
        config: of the network.
        dtype: type that it computes in; None is that of the inputs.
        remat: whether the backward pass computes activations again.

    Raises:
        UsageError: an unknown kind.
    """
    if config.kind not in KINDS:
        raise UsageError(f"kind: found {config.kind!r}, allowed are {', '.join(KINDS)}")
    return KINDS[config.kind](config, dtype, remat)
