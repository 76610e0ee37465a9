"""Weight files of CTranslate2: sound ones by its own converter, and others byte by byte."""

import pathlib
import struct

import numpy as np
import torch
import transformers
from ctranslate2.converters.transformers import WhisperLoader

from emoconv_jax.bench.twins.shaken import shaken
from emoconv_jax.models.whisper import WhisperConfig

TINY = WhisperConfig(mels=5, hidden=12, layers=2, heads=3, feed_forward=20, positions=50)
TYPES = ("float32", "int8", "int16", "int32", "float16")


def tiny_model(config: WhisperConfig = TINY) -> transformers.WhisperForConditionalGeneration:
    """Returns transformers' whole network of these sizes with random weights."""
    torch.manual_seed(0)
    sizes = transformers.WhisperConfig(
        num_mel_bins=config.mels,
        d_model=config.hidden,
        encoder_layers=config.layers,
        encoder_attention_heads=config.heads,
        encoder_ffn_dim=config.feed_forward,
        max_source_positions=config.positions,
        decoder_layers=1,
        decoder_attention_heads=config.heads,
        decoder_ffn_dim=8,
        max_target_positions=7,
        vocab_size=30,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
    )
    return shaken(transformers.WhisperForConditionalGeneration(sizes))


def converted(
    model: transformers.WhisperForConditionalGeneration, path: pathlib.Path, kind: str = "float32"
) -> pathlib.Path:
    """Writes the network as CTranslate2's own converter does."""
    spec = WhisperLoader().get_model_spec(model)
    spec.register_vocabulary([str(token) for token in range(model.config.vocab_size)])
    spec.validate()
    spec.optimize(quantization=kind)
    spec._serialize(str(path))
    return path


def string(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def variable(name: str, array: np.ndarray, **claims) -> bytes:
    """Returns a variable's bytes; `claims` replaces what its header says of it."""
    told = {"shape": array.shape, "type": TYPES.index(str(array.dtype)), "bytes": array.nbytes}
    told |= claims
    shape = told["shape"]
    header = struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    return string(name) + header + struct.pack("<BI", told["type"], told["bytes"]) + array.tobytes()


def file_of(*variables: bytes, aliases=(), **claims) -> bytes:
    """Returns a file's bytes; `claims` replaces its version, kind, revision or counts.

    The counts are `variables` and, of aliases, `named`.
    """
    told = {"version": 6, "kind": "WhisperSpec", "revision": 3, "variables": len(variables)}
    told |= {"named": len(aliases)} | claims
    parts = [struct.pack("<I", told["version"]), string(told["kind"])]
    parts += [struct.pack("<II", told["revision"], told["variables"]), *variables]
    parts += [struct.pack("<I", told["named"])]
    parts += [string(alias) + string(name) for alias, name in aliases]
    return b"".join(parts)
