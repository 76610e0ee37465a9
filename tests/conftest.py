"""Suite-wide settings: shape-checked annotations and JAX's strictest promotion and key rules.

Tests marked `corpora` read recorded speech under $EMOCONV_CORPORA; without it they are deselected.
"""

import os

from jaxtyping import install_import_hook

install_import_hook("emoconv_jax", "beartype.beartype")

import jax  # noqa: E402  (after the hook, so that nothing of ours is imported unchecked)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def pytest_collection_modifyitems(config, items):
    if os.environ.get("EMOCONV_CORPORA"):
        return
    wanting = [item for item in items if item.get_closest_marker("corpora")]
    config.hook.pytest_deselected(items=wanting)
    items[:] = [item for item in items if item not in wanting]
