"""The tables that move public Whisper weights into `models.whisper.WhisperEncoder`.

Two kinds of names: those of Hugging Face transformers, `model.encoder.*`, whose sizes stand in the
`config.json` beside the weights; and those of CTranslate2, `encoder/*`, whose sizes are read off
the shapes, and whose query, key and value are stacked in one layer. Decoders are left out by name.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.templates import template
from emoconv_jax.models.whisper import WhisperConfig, WhisperEncoder, check_whisper
from emoconv_jax.porting.ctranslate2 import dequantised, read_ctranslate2
from emoconv_jax.porting.hugging_face import Limits, check_only, fields_of
from emoconv_jax.porting.tables import Rule, layer, norm, port, shape_of, shown

_HF, _HF_LAYER = r"(?:model\.)?encoder", r"(?:model\.)?encoder\.layers\.(\d+)"
RULES = (
    *layer(rf"{_HF}\.(conv[12])", r"\1", "conv1d"),
    Rule(rf"{_HF}\.embed_positions\.weight", "embed_positions"),
    *norm(rf"{_HF}\.layer_norm", "layer_norm"),
    *norm(rf"{_HF_LAYER}\.(self_attn_layer_norm|final_layer_norm)", r"layers_\1/\2"),
    *layer(rf"{_HF_LAYER}\.(self_attn)\.([qkv]_proj|out_proj)", r"layers_\1/\2/\3", "linear"),
    *layer(rf"{_HF_LAYER}\.(fc[12])", r"layers_\1/\2", "linear"),
)
DECODER = re.compile(r"(model\.)?decoder\..*|proj_out\.weight")

KIND, REVISION, PREFIX = "WhisperSpec", 3, "encoder/"
HEADS = "encoder/num_heads"
STACKED = "self_attention/linear_0"  # query, key and value
_LAYER = r"encoder/layer_(\d+)"


def _slashed(pattern: str, target: str, layout: str) -> tuple[Rule, Rule]:
    """Returns the rows of a layer's weight and bias under CTranslate2's names."""
    return (
        Rule(pattern + "/weight", target + "/kernel", layout),
        Rule(pattern + "/bias", target + "/bias"),
    )


def _slashed_norm(pattern: str, target: str) -> tuple[Rule, Rule]:
    """Returns the rows of a normalisation's scale and offset under CTranslate2's names."""
    return Rule(pattern + "/gamma", target + "/scale"), Rule(pattern + "/beta", target + "/bias")


CTRANSLATE2_RULES = (
    *_slashed("encoder/(conv[12])", r"\1", "conv1d"),
    Rule("encoder/position_encodings/encodings", "embed_positions"),
    *_slashed_norm("encoder/layer_norm", "layer_norm"),
    *_slashed_norm(rf"{_LAYER}/self_attention/layer_norm", r"layers_\1/self_attn_layer_norm"),
    *_slashed(rf"{_LAYER}/{STACKED}/([qkv]_proj)", r"layers_\1/self_attn/\2", "linear"),
    *_slashed(rf"{_LAYER}/self_attention/linear_1", r"layers_\1/self_attn/out_proj", "linear"),
    *_slashed_norm(rf"{_LAYER}/ffn/layer_norm", r"layers_\1/final_layer_norm"),
    *_slashed(rf"{_LAYER}/ffn/linear_0", r"layers_\1/fc1", "linear"),
    *_slashed(rf"{_LAYER}/ffn/linear_1", r"layers_\1/fc2", "linear"),
)

# Hugging Face's name -> ours, and the value that a config.json means by leaving the name out
SIZES: dict[str, tuple[str, Any]] = {
    "num_mel_bins": ("mels", 80),
    "d_model": ("hidden", 384),
    "encoder_layers": ("layers", 4),
    "encoder_attention_heads": ("heads", 6),
    "encoder_ffn_dim": ("feed_forward", 1536),
    "max_source_positions": ("positions", 1500),
}
LIMITS: dict[str, Limits] = {
    "num_mel_bins": (1, 256),
    "d_model": (4, 4096),
    "encoder_layers": (1, 64),
    "encoder_attention_heads": (1, 64),
    "encoder_ffn_dim": (1, 16384),
    "max_source_positions": (1, 8192),
}
ONLY = {  # what else a config.json may ask for, and the one answer that there is here
    "model_type": "whisper",
    "activation_function": "gelu",
    "scale_embedding": False,
}


def port_whisper(
    tensors: Mapping[str, np.ndarray], config: WhisperConfig, source: str = "whisper"
) -> dict[str, Any]:
    """Returns the parameters of `WhisperEncoder(config)` from weights with transformers' names.

    Args:
        tensors: `model.encoder.*` or `encoder.*`; a decoder's are left out.
        config: the sizes, perhaps from `config_of`.
        source: what the tensors come from, for messages.

    Returns:
        The parameter tree, float32.

    Raises:
        EmoconvError: sizes that do not fit one another, names or shapes that do not match.
    """
    used = {name: array for name, array in tensors.items() if not DECODER.fullmatch(name)}
    return port(used, RULES, _shapes(config, source), source)


def config_of(hf_config: Any, source: str = "config.json") -> WhisperConfig:
    """Returns the sizes that a Hugging Face `config.json` tells.

    Args:
        hf_config: what `json.load` gave; it is a foreign file.
        source: its name, for messages.

    Returns:
        The configuration; what the file leaves out has Hugging Face's default.

    Raises:
        EmoconvError: a value of the wrong type, out of range, or that asks for what is not built
            here; by the file's own name for it.
    """
    check_only(hf_config, ONLY, source)
    config = WhisperConfig(**fields_of(hf_config, SIZES, LIMITS, source))
    _check(config, source)
    return config


def read_whisper(path: str | Path) -> tuple[dict[str, Any], WhisperConfig]:
    """Reads the encoder out of a `model.bin` of CTranslate2.

    Args:
        path: the file.

    Returns:
        The parameters of `WhisperEncoder(config)`, float32, and the configuration.

    Raises:
        EmoconvError: a damaged file, names or shapes that do not match, sizes out of range.
    """
    source = str(path)
    return port_ctranslate2(read_ctranslate2(path, KIND, REVISION, PREFIX), source)


def port_ctranslate2(
    tensors: Mapping[str, np.ndarray], source: str = "whisper"
) -> tuple[dict[str, Any], WhisperConfig]:
    """Returns the encoder's parameters from weights with CTranslate2's names.

    Args:
        tensors: `encoder/*`, floats or integers with their scales; all of them must be used.
        source: what the tensors come from, for messages.

    Returns:
        The parameters of `WhisperEncoder(config)`, float32, and the configuration.

    Raises:
        EmoconvError: names or shapes that do not match, sizes out of range, keys with a bias.
    """
    config = _sizes(tensors, source)
    floats = dequantised({n: array for n, array in tensors.items() if n != HEADS}, source)
    split: dict[str, np.ndarray] = {}
    for name, array in floats.items():
        split |= _apart(name, array, source) if f"/{STACKED}/" in name else {name: array}
    return port(split, CTRANSLATE2_RULES, _shapes(config, source), source), config


def _sizes(tensors: Mapping[str, np.ndarray], source: str) -> WhisperConfig:
    """Returns the sizes that the shapes of CTranslate2's tensors tell."""
    heads = tensors.get(HEADS)
    if heads is None or heads.ndim or heads.dtype.kind != "i":
        raise EmoconvError(f"{source}: {HEADS}: missing, or no whole number")
    hidden, mels, _ = shape_of(tensors, "encoder/conv1/weight", 3, source)
    feed_forward, _ = shape_of(tensors, "encoder/layer_0/ffn/linear_0/weight", 2, source)
    positions, _ = shape_of(tensors, "encoder/position_encodings/encodings", 2, source)
    numbers = (re.match(_LAYER + "/", name) for name in tensors)
    layers = len({found[1] for found in numbers if found})
    config = WhisperConfig(mels, hidden, layers, int(heads), feed_forward, positions)
    for name, (ours, _) in SIZES.items():
        (low, high), found = LIMITS[name], getattr(config, ours)
        if not low <= found <= high:
            raise EmoconvError(f"{source}: whisper.{ours}: {found}, allowed is {low:g} to {high:g}")
    _check(config, source)
    return config


def _apart(name: str, array: np.ndarray, source: str) -> dict[str, np.ndarray]:
    """Returns the query, key and value that a stacked tensor holds; a key has no bias."""
    stem, _, kind = name.rpartition("/")
    if not array.ndim or len(array) % 3:
        raise EmoconvError(f"{source}: {shown(name)} has shape {array.shape}, expected 3 in one")
    parts = zip("qkv", np.split(array, 3), strict=True)
    split = {f"{stem}/{letter}_proj/{kind}": part for letter, part in parts}
    if kind == "bias" and split.pop(f"{stem}/k_proj/bias").any():
        raise EmoconvError(f"{source}: {shown(name)} has a bias of keys, allowed is none")
    return split


def _shapes(config: WhisperConfig, source: str) -> Any:
    return template(WhisperEncoder(config), f"{source}: whisper")["params"]


def _check(config: WhisperConfig, source: str) -> None:
    try:
        check_whisper(config)
    except EmoconvError as error:
        raise EmoconvError(f"{source}: {error}") from error
