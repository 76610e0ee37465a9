"""Diffusion-based emotional voice conversion in JAX.

    from emoconv_jax import EmotionConverter

Importing the package costs nothing: public names are loaded when they are first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
_PUBLIC = {
    "EmotionConverter": "emoconv_jax.inference.converter",
    "EmoconvError": "emoconv_jax.errors",
    "UsageError": "emoconv_jax.errors",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'emoconv_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
