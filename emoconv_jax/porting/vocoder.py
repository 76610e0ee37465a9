"""The table that moves public HiFi-GAN weights into `models.vocoder.Vocoder`.

The weights come with weight normalisation, w = g v / ||v||, the norm over all axes but the first.
It is folded here, in float64, so that the network has plain kernels.

Source: Salimans and Kingma 2016 (arXiv 1602.07868), eq. 2.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.config import VocoderConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.vocoder import Vocoder
from emoconv_jax.porting.tables import Rule, port

RULES = (
    Rule(r"(conv_pre|conv_post)\.weight", r"\1/kernel", "conv1d"),
    Rule(r"(conv_pre|conv_post)\.bias", r"\1/bias"),
    Rule(r"ups\.(\d+)\.weight", r"ups_\1/kernel", "transposed1d"),
    Rule(r"ups\.(\d+)\.bias", r"ups_\1/bias"),
    Rule(r"resblocks\.(\d+)\.(convs[12]?)\.(\d+)\.weight", r"resblocks_\1/\2_\3/kernel", "conv1d"),
    Rule(r"resblocks\.(\d+)\.(convs[12]?)\.(\d+)\.bias", r"resblocks_\1/\2_\3/bias"),
)
# how g and v are called by torch.nn.utils.weight_norm, and by the parametrization that follows it
NORMALISED = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


def port_vocoder(
    tensors: Mapping[str, np.ndarray],
    config: VocoderConfig | None = None,
    source: str = "vocoder",
) -> dict[str, Any]:
    """Returns the parameters of `Vocoder(config)`.

    Args:
        tensors: the `generator` of a HiFi-GAN checkpoint, with or without weight normalisation.
        config: the sizes; None is V1.
        source: what the tensors come from, for messages.

    Returns:
        The parameter tree, float32.

    Raises:
        EmoconvError: names or shapes that do not match.
    """
    config = config or VocoderConfig()
    example = jnp.zeros((1, 1, config.mel.mels))
    template = jax.eval_shape(Vocoder(config).init, jax.random.key(0), example)["params"]
    return port(fold_weight_norm(tensors, source), RULES, template, source)


def fold_weight_norm(
    tensors: Mapping[str, np.ndarray], source: str = "weights"
) -> dict[str, np.ndarray]:
    """Returns the tensors with every pair (g, v) replaced by the weight g v / ||v||.

    Args:
        tensors: foreign name -> array.
        source: what the tensors come from, for messages.

    Returns:
        Tensors named `*.weight` in place of the pairs; all others as they are.

    Raises:
        EmoconvError: a g without its v, the reverse, or a g that is not one number per first index.
    """
    folded = dict(tensors)
    for g_suffix, v_suffix in NORMALISED:
        stems = {
            name.removesuffix(suffix)
            for name in tensors
            for suffix in (g_suffix, v_suffix)
            if name.endswith(suffix)
        }
        for stem in sorted(stems):
            g, v = folded.pop(stem + g_suffix, None), folded.pop(stem + v_suffix, None)
            if g is None or v is None:
                lacking = stem + (g_suffix if g is None else v_suffix)
                raise EmoconvError(f"{source}: {lacking} is missing beside its pair")
            if g.shape != v.shape[:1] + (1,) * (v.ndim - 1):
                raise EmoconvError(f"{source}: {stem}{g_suffix} {g.shape} beside {v.shape}")
            folded[stem + ".weight"] = _scaled(g, v)
    return folded


def _scaled(g: np.ndarray, v: np.ndarray) -> np.ndarray:
    wide = v.astype(np.float64)
    norm = np.sqrt(np.sum(np.square(wide), axis=tuple(range(1, v.ndim)), keepdims=True))
    return (g * (wide / norm)).astype(np.float32)
