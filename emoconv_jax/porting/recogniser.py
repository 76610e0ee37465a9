"""The table that moves a PyTorch ACRNN into `models.recogniser.Recogniser`.

EmoMix published no weights; the names are those of the PyTorch comparison in `bench`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emoconv_jax.config import RecogniserConfig
from emoconv_jax.models.recogniser import Recogniser
from emoconv_jax.models.templates import template
from emoconv_jax.porting.tables import Rule, layer, norm, port

RULES = (
    *layer(r"convs\.(\d+)", r"params/conv_\1", "conv2d"),
    *norm("norm", "params/norm"),
    Rule(r"lstm\.weight_(ih|hh)_l0", r"params/lstm/forward_weight_\1", "linear"),
    Rule(r"lstm\.weight_(ih|hh)_l0_reverse", r"params/lstm/backward_weight_\1", "linear"),
    Rule(r"lstm\.bias_(ih|hh)_l0", r"params/lstm/forward_bias_\1"),
    Rule(r"lstm\.bias_(ih|hh)_l0_reverse", r"params/lstm/backward_bias_\1"),
    *layer("(attention|linear|feed_forward|emotion|arousal)", r"params/\1", "linear"),
    Rule("(mean|std)", r"statistics/\1"),
)


def port_recogniser(
    tensors: Mapping[str, np.ndarray], config: RecogniserConfig, source: str = "recogniser"
) -> dict[str, Any]:
    """Returns the variables of `Recogniser(config)`.

    Args:
        tensors: a state dict with the names of `bench.twins.recogniser.RecogniserTwin`.
        config: the sizes.
        source: what the tensors come from, for messages.

    Returns:
        The collections `params` and `statistics`, float32.

    Raises:
        EmoconvError: impossible sizes, or names or shapes that do not match.
    """
    return port(tensors, RULES, template(Recogniser(config), f"{source}: recogniser"), source)
