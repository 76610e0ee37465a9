"""Suite-wide settings: shape-checked annotations and JAX's strictest promotion and key rules."""

from jaxtyping import install_import_hook

install_import_hook("emoconv_jax", "beartype.beartype")

import jax  # noqa: E402  (after the hook, so that nothing of ours is imported unchecked)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
