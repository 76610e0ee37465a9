"""DiffVC's checkpoint as two tables: `decoder.estimator.*` and `encoder.*`, without those prefixes.

Source: names and shapes of the checkpoint published with Popov et al. 2022 (arXiv 2109.13821).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.config import AverageVoiceConfig, ScoreNetworkConfig
from emoconv_jax.models.average_voice import AverageVoiceEncoder
from emoconv_jax.models.score_network import ScoreNetwork
from emoconv_jax.porting.tables import Rule, count_of, port, shape_of

SCORE_NETWORK_PREFIX = "decoder.estimator."
AVERAGE_VOICE_PREFIX = "encoder."

_BLOCKS = r"(downs|ups)\.(\d)\.(\d)"

SCORE_NETWORK_RULES = (
    # time and condition
    Rule(r"(mlp|cond_block)\.(\d)\.weight", r"\1_\2/kernel", "linear"),
    Rule(r"(mlp|cond_block)\.(\d)\.bias", r"\1_\2/bias"),
    # ours, where conditions enter every block
    Rule(r"cond_time\.weight", "cond_time/kernel", "linear"),
    Rule(r"cond_time\.bias", "cond_time/bias"),
    # reference block
    Rule(r"ref_block\.(mlp\d)\.1\.weight", r"ref_block/\1/kernel", "linear"),
    Rule(r"ref_block\.(mlp\d)\.1\.bias", r"ref_block/\1/bias"),
    Rule(r"ref_block\.(block\d\d)\.0\.weight", r"ref_block/\1/conv/kernel", "conv2d"),
    Rule(r"ref_block\.(block\d\d)\.0\.bias", r"ref_block/\1/conv/bias"),
    Rule(r"ref_block\.(block\d\d)\.1\.weight", r"ref_block/\1/norm/scale"),
    Rule(r"ref_block\.(block\d\d)\.1\.bias", r"ref_block/\1/norm/bias"),
    Rule(r"ref_block\.final_conv\.weight", r"ref_block/final_conv/kernel", "conv2d"),
    Rule(r"ref_block\.final_conv\.bias", r"ref_block/final_conv/bias"),
    # residual blocks of the levels
    Rule(_BLOCKS + r"\.mlp\.1\.weight", r"\1_\2_\3/mlp/kernel", "linear"),
    Rule(_BLOCKS + r"\.mlp\.1\.bias", r"\1_\2_\3/mlp/bias"),
    Rule(_BLOCKS + r"\.(block\d)\.block\.0\.weight", r"\1_\2_\3/\4/conv/kernel", "conv2d"),
    Rule(_BLOCKS + r"\.(block\d)\.block\.0\.bias", r"\1_\2_\3/\4/conv/bias"),
    Rule(_BLOCKS + r"\.(block\d)\.block\.1\.weight", r"\1_\2_\3/\4/norm/scale"),
    Rule(_BLOCKS + r"\.(block\d)\.block\.1\.bias", r"\1_\2_\3/\4/norm/bias"),
    Rule(_BLOCKS + r"\.res_conv\.weight", r"\1_\2_\3/res_conv/kernel", "conv2d"),
    Rule(_BLOCKS + r"\.res_conv\.bias", r"\1_\2_\3/res_conv/bias"),
    # attention and change of resolution
    Rule(_BLOCKS + r"\.fn\.g", r"\1_\2_\3/g"),
    Rule(_BLOCKS + r"\.fn\.fn\.(to_qkv|to_out)\.weight", r"\1_\2_\3/\4", "conv2d"),
    Rule(_BLOCKS + r"\.fn\.fn\.to_out\.bias", r"\1_\2_\3/to_out_bias"),
    Rule(r"downs\.(\d)\.3\.conv\.weight", r"downs_\1_3/kernel", "conv2d"),
    Rule(r"ups\.(\d)\.3\.conv\.weight", r"ups_\1_3/kernel", "transposed2d"),
    Rule(_BLOCKS + r"\.conv\.bias", r"\1_\2_\3/bias"),
    # the middle
    Rule(r"(mid_block\d)\.mlp\.1\.weight", r"\1/mlp/kernel", "linear"),
    Rule(r"(mid_block\d)\.mlp\.1\.bias", r"\1/mlp/bias"),
    Rule(r"(mid_block\d)\.(block\d)\.block\.0\.weight", r"\1/\2/conv/kernel", "conv2d"),
    Rule(r"(mid_block\d)\.(block\d)\.block\.0\.bias", r"\1/\2/conv/bias"),
    Rule(r"(mid_block\d)\.(block\d)\.block\.1\.weight", r"\1/\2/norm/scale"),
    Rule(r"(mid_block\d)\.(block\d)\.block\.1\.bias", r"\1/\2/norm/bias"),
    Rule(r"mid_attn\.fn\.g", r"mid_attn/g"),
    Rule(r"mid_attn\.fn\.fn\.(to_qkv|to_out)\.weight", r"mid_attn/\1", "conv2d"),
    Rule(r"mid_attn\.fn\.fn\.to_out\.bias", r"mid_attn/to_out_bias"),
    # the end
    Rule(r"final_block\.block\.0\.weight", r"final_block/conv/kernel", "conv2d"),
    Rule(r"final_block\.block\.0\.bias", r"final_block/conv/bias"),
    Rule(r"final_block\.block\.1\.weight", r"final_block/norm/scale"),
    Rule(r"final_block\.block\.1\.bias", r"final_block/norm/bias"),
    Rule(r"final_conv\.weight", r"final_conv/kernel", "conv2d"),
    Rule(r"final_conv\.bias", r"final_conv/bias"),
)

AVERAGE_VOICE_RULES = (
    Rule(r"encoder\.(init_proj|term_proj)\.weight", r"\1/kernel", "conv1d"),
    Rule(r"encoder\.(init_proj|term_proj)\.bias", r"\1/bias"),
    Rule(r"encoder\.prenet\.conv_layers\.(\d)\.weight", r"prenet_conv_layers_\1/kernel", "conv1d"),
    Rule(r"encoder\.prenet\.conv_layers\.(\d)\.bias", r"prenet_conv_layers_\1/bias"),
    Rule(r"encoder\.prenet\.norm_layers\.(\d)\.gamma", r"prenet_norm_layers_\1/scale"),
    Rule(r"encoder\.prenet\.norm_layers\.(\d)\.beta", r"prenet_norm_layers_\1/bias"),
    Rule(r"encoder\.prenet\.proj\.weight", r"prenet_proj/kernel", "conv1d"),
    Rule(r"encoder\.prenet\.proj\.bias", r"prenet_proj/bias"),
    Rule(r"encoder\.encoder\.attn_layers\.(\d)\.(emb_rel_[kv])", r"attn_layers_\1/\2"),
    Rule(
        r"encoder\.encoder\.attn_layers\.(\d)\.(conv_[qkvo])\.weight",
        r"attn_layers_\1/\2/kernel",
        "conv1d",
    ),
    Rule(r"encoder\.encoder\.attn_layers\.(\d)\.(conv_[qkvo])\.bias", r"attn_layers_\1/\2/bias"),
    Rule(
        r"encoder\.encoder\.ffn_layers\.(\d)\.(conv_\d)\.weight",
        r"ffn_layers_\1_\2/kernel",
        "conv1d",
    ),
    Rule(r"encoder\.encoder\.ffn_layers\.(\d)\.(conv_\d)\.bias", r"ffn_layers_\1_\2/bias"),
    Rule(r"encoder\.encoder\.(norm_layers_\d)\.(\d)\.gamma", r"\1_\2/scale"),
    Rule(r"encoder\.encoder\.(norm_layers_\d)\.(\d)\.beta", r"\1_\2/bias"),
    Rule(r"postnet\.res_block\.(block\d)\.block\.0\.weight", r"postnet_\1/conv/kernel", "conv2d"),
    Rule(r"postnet\.res_block\.(block\d)\.block\.0\.bias", r"postnet_\1/conv/bias"),
    Rule(r"postnet\.res_block\.(block\d)\.block\.1\.weight", r"postnet_\1/norm/scale"),
    Rule(r"postnet\.res_block\.(block\d)\.block\.1\.bias", r"postnet_\1/norm/bias"),
    Rule(r"postnet\.(?:res_block\.)?(\w+)\.weight", r"postnet_\1/kernel", "conv2d"),
    Rule(r"postnet\.(?:res_block\.)?(\w+)\.bias", r"postnet_\1/bias"),
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
        EmoconvError: names or shapes do not fit.
    """
    mel, mask, t = jnp.zeros((1, 4, config.mels)), jnp.ones((1, 4)), jnp.zeros((1,))
    conditions = jnp.zeros((1, config.speaker)), jnp.zeros((1, config.emotion))
    network = ScoreNetwork(config)
    template = jax.eval_shape(network.init, jax.random.key(0), mel, mel, mask, t, *conditions)
    return port(tensors, SCORE_NETWORK_RULES, template["params"], source)


def port_average_voice(
    tensors: Mapping[str, np.ndarray], config: AverageVoiceConfig, source: str = "average voice"
) -> dict[str, Any]:
    """Returns the parameters of `AverageVoiceEncoder(config)`.

    Args:
        tensors: of the encoder and its PostNet, named without AVERAGE_VOICE_PREFIX.
        config: the sizes they were trained with.
        source: what they come from, for messages.

    Raises:
        EmoconvError: names or shapes do not fit.
    """
    mel, mask = jnp.zeros((1, 4, config.mels)), jnp.ones((1, 4))
    template = jax.eval_shape(AverageVoiceEncoder(config).init, jax.random.key(0), mel, mask)
    return port(tensors, AVERAGE_VOICE_RULES, template["params"], source)


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
