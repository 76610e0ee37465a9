"""The table that moves public wav2vec2 weights into `models.wav2vec2.DimensionalRecogniser`.

The names are those of Hugging Face transformers; the head's are `classifier.dense` and
`classifier.out_proj`, as in wav2vec2-large-robust-12-ft-emotion-msp-dim (Wagner et al. 2023,
arXiv 2203.07378). Sizes come from the `config.json` beside the weights.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.config import Wav2Vec2Config
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.templates import template
from emoconv_jax.models.wav2vec2 import (
    DIMENSIONS,
    DimensionalRecogniser,
    check_wav2vec2,
    least_samples,
)
from emoconv_jax.porting.hugging_face import Limits, check_only, fields_of
from emoconv_jax.porting.tables import fold_weight_norm, layer, norm, port

_CONV = r"(wav2vec2)\.(feature_extractor)\.conv_layers\.(\d+)"
_CONV_OURS = r"\1/\2/conv_layers_\3"
_LAYER, _LAYER_OURS = r"(wav2vec2)\.(encoder)\.layers\.(\d+)", r"\1/\2/layers_\3"
_LINEAR = r"(attention|feed_forward)\.([qkv]_proj|out_proj|intermediate_dense|output_dense)"
_NORM = r"(layer_norm|final_layer_norm)"
_OUTER_NORM = r"(wav2vec2)\.(feature_projection|encoder)\.layer_norm"

RULES = (
    *layer(rf"{_CONV}\.conv", rf"{_CONV_OURS}/conv", "conv1d"),
    *norm(rf"{_CONV}\.layer_norm", rf"{_CONV_OURS}/layer_norm"),
    *norm(_OUTER_NORM, r"\1/\2/layer_norm"),
    *layer(r"(wav2vec2)\.(feature_projection)\.projection", r"\1/\2/projection", "linear"),
    *layer(r"(wav2vec2)\.(encoder)\.pos_conv_embed\.conv", r"\1/\2/pos_conv_embed", "conv1d"),
    *layer(rf"{_LAYER}\.{_LINEAR}", rf"{_LAYER_OURS}/\4/\5", "linear"),
    *norm(rf"{_LAYER}\.{_NORM}", rf"{_LAYER_OURS}/\4"),
    *layer(r"classifier\.(dense|out_proj)", r"classifier/\1", "linear"),
)
TRAINING_ONLY = ("wav2vec2.masked_spec_embed",)  # stands for frames hidden during training

# Hugging Face's name -> ours, and the value that a config.json means by leaving the name out
SIZES: dict[str, tuple[str, Any]] = {
    "hidden_size": ("hidden", 768),
    "num_hidden_layers": ("layers", 12),
    "num_attention_heads": ("heads", 12),
    "intermediate_size": ("feed_forward", 3072),
    "conv_dim": ("conv_channels", (512,) * 7),
    "conv_kernel": ("conv_kernels", (10, 3, 3, 3, 3, 2, 2)),
    "conv_stride": ("conv_strides", (5, 2, 2, 2, 2, 2, 2)),
    "conv_bias": ("conv_bias", False),
    "feat_extract_norm": ("feature_norm", "group"),
    "do_stable_layer_norm": ("stable", False),
    "num_conv_pos_embeddings": ("position_kernel", 128),
    "num_conv_pos_embedding_groups": ("position_groups", 16),
    "layer_norm_eps": ("eps", 1e-5),
}
LIMITS: dict[str, Limits] = {
    "hidden_size": (1, 4096),
    "num_hidden_layers": (1, 64),
    "num_attention_heads": (1, 64),
    "intermediate_size": (1, 16384),
    "conv_dim": (1, 2048),
    "conv_kernel": (1, 64),
    "conv_stride": (1, 64),
    "num_conv_pos_embeddings": (1, 512),
    "num_conv_pos_embedding_groups": (1, 512),
    "layer_norm_eps": (1e-12, 0.1),
}
ONLY = {  # what else a config.json may ask for, and the one answer that there is here
    "model_type": "wav2vec2",
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "add_adapter": False,
    "adapter_attn_dim": None,
}

PUBLIC_SILENCE = (0.5460754, 0.6062266, 0.40431657)  # what the public weights hear in 1 s of zeros
PUBLIC_TOLERANCE = 1e-3


def port_wav2vec2(
    tensors: Mapping[str, np.ndarray],
    config: Wav2Vec2Config | None = None,
    source: str = "wav2vec2",
) -> dict[str, Any]:
    """Returns the parameters of `DimensionalRecogniser(config)`.

    Args:
        tensors: `wav2vec2.*` and `classifier.*`, with or without weight normalisation of the
            positional convolution.
        config: the sizes, perhaps from `config_of`; None is the public recogniser.
        source: what the tensors come from, for messages.

    Returns:
        The parameter tree, float32.

    Raises:
        EmoconvError: sizes that do not fit one another, names or shapes that do not match.
    """
    config = config or Wav2Vec2Config()
    shapes = template(DimensionalRecogniser(config), f"{source}: wav2vec2")
    used = {name: array for name, array in tensors.items() if name not in TRAINING_ONLY}
    return port(fold_weight_norm(used, source), RULES, shapes["params"], source)


def config_of(hf_config: Any, source: str = "config.json") -> Wav2Vec2Config:
    """Returns the sizes that a Hugging Face `config.json` tells.

    Args:
        hf_config: what `json.load` gave; it is a foreign file.
        source: its name, for messages.

    Returns:
        The configuration; what the file leaves out has Hugging Face's default.

    Raises:
        EmoconvError: a value of the wrong type, out of range, or that asks for what is not built
            here (another activation, adapters, other labels); by the file's own name for it.
    """
    check_only(hf_config, ONLY, source)
    _check_labels(hf_config, source)
    config = Wav2Vec2Config(**fields_of(hf_config, SIZES, LIMITS, source))
    try:
        check_wav2vec2(config)
    except EmoconvError as error:
        raise EmoconvError(f"{source}: {error}") from error
    samples = least_samples(config)
    if samples > config.sample_rate_hz:
        raise EmoconvError(
            f"{source}: conv_kernel and conv_stride: a frame of {samples} samples, allowed are 1 "
            f"to {config.sample_rate_hz}"
        )
    return config


def _check_labels(hf_config: dict, source: str) -> None:
    """Refuses a head whose outputs are not the three dimensions in their order."""
    labels = hf_config.get("id2label")
    count = hf_config.get("num_labels", 2 if labels is None else len(DIMENSIONS))
    if type(count) is not int or count != len(DIMENSIONS):
        raise EmoconvError(f"{source}: num_labels: found {count!r:.40}, allowed is 3")
    named = {str(number): label for number, label in enumerate(DIMENSIONS)}
    unnamed = {number: f"LABEL_{number}" for number in named}
    if labels not in (None, named, unnamed):
        raise EmoconvError(f"{source}: id2label: found {labels!r:.80}, allowed is {named}")


def check_public(params: Mapping[str, Any], config: Wav2Vec2Config) -> None:
    """Refuses parameters that do not hear in silence what the public weights hear.

    Args:
        params: of `DimensionalRecogniser(config)`.
        config: the sizes.

    Raises:
        EmoconvError: other arousal, dominance or valence for one second of zeros.

    Source: the example of the model card of wav2vec2-large-robust-12-ft-emotion-msp-dim.
    """
    silence = jnp.zeros((1, config.sample_rate_hz))
    apply = jax.jit(DimensionalRecogniser(config).apply)
    _, dimensions = apply({"params": params}, silence, jnp.ones_like(silence))
    found = np.asarray(dimensions)[0]
    if found.shape != (3,) or not np.allclose(found, PUBLIC_SILENCE, 0, PUBLIC_TOLERANCE):
        raise EmoconvError(
            f"wav2vec2: one second of zeros gives {found.tolist()}, the public weights give "
            f"{list(PUBLIC_SILENCE)}"
        )
