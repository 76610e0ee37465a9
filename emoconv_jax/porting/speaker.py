"""The table that moves public GE2E weights into `models.speaker.SpeakerEncoder`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emoconv_jax.config import SpeakerConfig
from emoconv_jax.models.speaker import SpeakerEncoder
from emoconv_jax.models.templates import template
from emoconv_jax.porting.tables import Rule, layer, port, shape_of

RULES = (
    Rule(r"lstm\.weight_(ih|hh)_l(\d+)", r"lstm_\2/weight_\1", "linear"),
    Rule(r"lstm\.bias_(ih|hh)_l(\d+)", r"lstm_\2/bias_\1"),
    *layer("linear", "linear", "linear"),
)
LOSS_ONLY = ("similarity_weight", "similarity_bias")  # scale and offset of the GE2E loss


def port_speaker(
    tensors: Mapping[str, np.ndarray],
    config: SpeakerConfig | None = None,
    source: str = "speaker encoder",
) -> dict[str, Any]:
    """Returns the parameters of `SpeakerEncoder(config)`.

    Args:
        tensors: the `model_state` of a Resemblyzer checkpoint; the two scalars of its training loss
            are left out.
        config: the sizes; None is the public encoder.
        source: what the tensors come from, for messages.

    Returns:
        The parameter tree, float32.

    Raises:
        EmoconvError: impossible sizes, or names or shapes that do not match.
    """
    config = config or SpeakerConfig()
    shapes = template(SpeakerEncoder(config), f"{source}: speaker")
    used = {name: array for name, array in tensors.items() if name not in LOSS_ONLY}
    return port(used, RULES, shapes["params"], source)


def speaker_sizes(tensors: Mapping[str, np.ndarray], source: str) -> SpeakerConfig:
    """Returns the sizes that the shapes of an encoder's tensors tell.

    Args:
        tensors: as of `port_speaker`.
        source: what they come from, for messages.

    Returns:
        The configuration.

    Raises:
        EmoconvError: a tensor that tells a size is missing or misshaped.
    """
    _, mels = shape_of(tensors, "lstm.weight_ih_l0", 2, source)
    embedding, hidden = shape_of(tensors, "linear.weight", 2, source)
    layers = sum(name.startswith("lstm.weight_ih_l") for name in tensors)
    return SpeakerConfig(mels=mels, hidden=hidden, layers=layers, embedding=embedding)
