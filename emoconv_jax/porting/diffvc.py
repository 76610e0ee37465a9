"""DiffVC's checkpoint as two tables: `decoder.estimator.*` and `encoder.*`, without those prefixes.

Source: names and shapes of the checkpoint published with Popov et al. 2022 (arXiv 2109.13821).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emoconv_jax.config import AverageVoiceConfig, ScoreNetworkConfig
from emoconv_jax.models.average_voice import AverageVoiceEncoder
from emoconv_jax.models.score_network import ScoreNetwork
from emoconv_jax.models.templates import template
from emoconv_jax.porting.tables import Rule, count_of, layer, norm, port, shape_of

SCORE_NETWORK_PREFIX = "decoder.estimator."
AVERAGE_VOICE_PREFIX = "encoder."

_BLOCKS = r"(downs|ups)\.(\d)\.(\d)"

SCORE_NETWORK_RULES = (
    # time and condition
    *layer(r"(mlp|cond_block)\.(\d)", r"\1_\2", "linear"),
    *layer("cond_time", "cond_time", "linear"),  # ours, where conditions enter every block
    # reference block
    *layer(r"ref_block\.(mlp\d)\.1", r"ref_block/\1", "linear"),
    *layer(r"ref_block\.(block\d\d)\.0", r"ref_block/\1/conv", "conv2d"),
    *norm(r"ref_block\.(block\d\d)\.1", r"ref_block/\1/norm"),
    *layer(r"ref_block\.final_conv", "ref_block/final_conv", "conv2d"),
    # residual blocks of the levels
    *layer(_BLOCKS + r"\.mlp\.1", r"\1_\2_\3/mlp", "linear"),
    *layer(_BLOCKS + r"\.(block\d)\.block\.0", r"\1_\2_\3/\4/conv", "conv2d"),
    *norm(_BLOCKS + r"\.(block\d)\.block\.1", r"\1_\2_\3/\4/norm"),
    *layer(_BLOCKS + r"\.res_conv", r"\1_\2_\3/res_conv", "conv2d"),
    # attention and change of resolution
    Rule(_BLOCKS + r"\.fn\.g", r"\1_\2_\3/g"),
    Rule(_BLOCKS + r"\.fn\.fn\.(to_qkv|to_out)\.weight", r"\1_\2_\3/\4", "conv2d"),
    Rule(_BLOCKS + r"\.fn\.fn\.to_out\.bias", r"\1_\2_\3/to_out_bias"),
    *layer(r"downs\.(\d)\.3\.conv", r"downs_\1_3", "conv2d"),
    *layer(r"ups\.(\d)\.3\.conv", r"ups_\1_3", "transposed2d"),
    # the middle
    *layer(r"(mid_block\d)\.mlp\.1", r"\1/mlp", "linear"),
    *layer(r"(mid_block\d)\.(block\d)\.block\.0", r"\1/\2/conv", "conv2d"),
    *norm(r"(mid_block\d)\.(block\d)\.block\.1", r"\1/\2/norm"),
    Rule(r"mid_attn\.fn\.g", "mid_attn/g"),
    Rule(r"mid_attn\.fn\.fn\.(to_qkv|to_out)\.weight", r"mid_attn/\1", "conv2d"),
    Rule(r"mid_attn\.fn\.fn\.to_out\.bias", "mid_attn/to_out_bias"),
    # the end
    *layer(r"final_block\.block\.0", "final_block/conv", "conv2d"),
    *norm(r"final_block\.block\.1", "final_block/norm"),
    *layer("final_conv", "final_conv", "conv2d"),
)

_PRENET, _TRANSFORMER = r"encoder\.prenet", r"encoder\.encoder"

AVERAGE_VOICE_RULES = (
    *layer(r"encoder\.(init_proj|term_proj)", r"\1", "conv1d"),
    *layer(_PRENET + r"\.conv_layers\.(\d)", r"prenet_conv_layers_\1", "conv1d"),
    *norm(_PRENET + r"\.norm_layers\.(\d)", r"prenet_norm_layers_\1", "gamma", "beta"),
    *layer(_PRENET + r"\.proj", "prenet_proj", "conv1d"),
    Rule(_TRANSFORMER + r"\.attn_layers\.(\d)\.(emb_rel_[kv])", r"attn_layers_\1/\2"),
    *layer(_TRANSFORMER + r"\.attn_layers\.(\d)\.(conv_[qkvo])", r"attn_layers_\1/\2", "conv1d"),
    *layer(_TRANSFORMER + r"\.ffn_layers\.(\d)\.(conv_\d)", r"ffn_layers_\1_\2", "conv1d"),
    *norm(_TRANSFORMER + r"\.(norm_layers_\d)\.(\d)", r"\1_\2", "gamma", "beta"),
    *layer(r"postnet\.res_block\.(block\d)\.block\.0", r"postnet_\1/conv", "conv2d"),
    *norm(r"postnet\.res_block\.(block\d)\.block\.1", r"postnet_\1/norm"),
    *layer(r"postnet\.(?:res_block\.)?(\w+)", r"postnet_\1", "conv2d"),
)


def port_score_network(
    tensors: Mapping[str, np.ndarray], config: ScoreNetworkConfig, source: str = "score network"
) -> dict[str, Any]:
    """Returns the parameters of `ScoreNetwork(config)`.

    Args:
        tensors: of the U-Net, named without SCORE_NETWORK_PREFIX.
        config: the sizes they were trained with.
        source: what they come from, for messages.

    Raises:
        EmoconvError: impossible sizes, or names or shapes that do not fit.
    """
    shapes = template(ScoreNetwork(config), f"{source}: score_network")
    return port(tensors, SCORE_NETWORK_RULES, shapes["params"], source)


def port_average_voice(
    tensors: Mapping[str, np.ndarray], config: AverageVoiceConfig, source: str = "average voice"
) -> dict[str, Any]:
    """Returns the parameters of `AverageVoiceEncoder(config)`.

    Args:
        tensors: of the encoder and its PostNet, named without AVERAGE_VOICE_PREFIX.
        config: the sizes they were trained with.
        source: what they come from, for messages.

    Raises:
        EmoconvError: impossible sizes, or names or shapes that do not fit.
    """
    shapes = template(AverageVoiceEncoder(config), f"{source}: average_voice")
    return port(tensors, AVERAGE_VOICE_RULES, shapes["params"], source)


def average_voice_sizes(tensors: Mapping[str, np.ndarray], source: str) -> AverageVoiceConfig:
    """Returns the sizes that the shapes of an average-voice encoder's tensors tell.

    Args:
        tensors: as of `port_average_voice`.
        source: what they come from, for messages.

    Returns:
        The configuration.

    Raises:
        EmoconvError: a tensor that tells a size is missing or misshaped.
    """
    channels, mels, _ = shape_of(tensors, "encoder.init_proj.weight", 3, source)
    first = "encoder.encoder.attn_layers.0.emb_rel_k"
    _, reach, per_head = shape_of(tensors, first, 3, source)
    feed = shape_of(tensors, "encoder.encoder.ffn_layers.0.conv_1.weight", 3, source)
    prenet = shape_of(tensors, "encoder.prenet.conv_layers.0.weight", 3, source)
    post = shape_of(tensors, "postnet.res_block.block1.block.0.weight", 4, source)
    return AverageVoiceConfig(
        mels=mels,
        channels=channels,
        feed_forward=feed[0],
        heads=channels // per_head,
        layers=count_of(tensors, "encoder.encoder.attn_layers"),
        kernel=feed[2],
        window=reach // 2,
        prenet_layers=count_of(tensors, "encoder.prenet.conv_layers"),
        prenet_kernel=prenet[2],
        postnet_width=post[0],
        postnet_kernel=post[2],
    )


def score_network_sizes(tensors: Mapping[str, np.ndarray], source: str) -> ScoreNetworkConfig:
    """Returns the sizes that the shapes of a U-Net's tensors tell.

    Args:
        tensors: as of `port_score_network`.
        source: what they come from, for messages.

    Returns:
        The configuration; what enters beside time and reference is the speaker.

    Raises:
        EmoconvError: a tensor that tells a size is missing or misshaped.
    """
    width = shape_of(tensors, "mlp.0.weight", 2, source)[1]
    condition = shape_of(tensors, "cond_block.2.weight", 2, source)[0]
    reference = any(name.startswith("ref_block.") for name in tensors)
    entering = shape_of(tensors, "cond_block.0.weight", 2, source)[1]
    levels = count_of(tensors, "downs")
    outs = [
        shape_of(tensors, f"downs.{level}.0.block1.block.0.weight", 4, source)[0]
        for level in range(levels)
    ]
    return ScoreNetworkConfig(
        width=width,
        multipliers=tuple(out // width for out in outs),
        condition_width=condition,
        speaker=entering - width - (condition if reference else 0),
        emotion=0,
        reference_block=reference,
        head="score",
    )
