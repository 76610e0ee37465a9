"""The table that moves a PyTorch ACRNN into `models.recogniser.Recogniser`.

EmoMix published no weights; the names are those of the PyTorch comparison in `bench`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.config import RecogniserConfig
from emoconv_jax.models.recogniser import Recogniser
from emoconv_jax.porting.tables import Rule, port

RULES = (
    Rule(r"convs\.(\d+)\.weight", r"params/conv_\1/kernel", "conv2d"),
    Rule(r"convs\.(\d+)\.bias", r"params/conv_\1/bias"),
    Rule(r"norm\.weight", "params/norm/scale"),
    Rule(r"norm\.bias", "params/norm/bias"),
    Rule(r"lstm\.weight_(ih|hh)_l0", r"params/lstm/forward_weight_\1", "linear"),
    Rule(r"lstm\.weight_(ih|hh)_l0_reverse", r"params/lstm/backward_weight_\1", "linear"),
    Rule(r"lstm\.bias_(ih|hh)_l0", r"params/lstm/forward_bias_\1"),
    Rule(r"lstm\.bias_(ih|hh)_l0_reverse", r"params/lstm/backward_bias_\1"),
    Rule(r"(attention|linear|feed_forward|emotion|arousal)\.weight", r"params/\1/kernel", "linear"),
    Rule(r"(linear|feed_forward|emotion|arousal)\.bias", r"params/\1/bias"),
    Rule(r"(mean|std)", r"statistics/\1"),
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
        EmoconvError: names or shapes that do not match.
    """
    mel, mask = jnp.zeros((1, config.frames, config.mels)), jnp.ones((1, config.frames))
    template = jax.eval_shape(Recogniser(config).init, jax.random.key(0), mel, mask)
    return port(tensors, RULES, template, source)
