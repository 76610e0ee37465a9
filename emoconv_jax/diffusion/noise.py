"""The noise of a conversion, a function of utterance, step and frame alone.

Each frame's noise has its own key, made of the utterance's, the step and the number that the frame
has in the whole file. So neither the batch around an utterance nor its padding changes it, and a
part of a long file that is converted alone draws what the whole file would have drawn.
"""

import jax
import jax.numpy as jnp

from emoconv_jax.shapes import Array, Float, Int, Key

START_FOLD = 2**31 - 1  # no solver has that many steps, so start and step noise never coincide


def frame_noise(
    keys: Key[Array, "b"],
    step: Int[Array, ""] | int,
    shape: tuple[int, int],
    first_frame: Int[Array, "b"] | None = None,
) -> Float[Array, "b f m"]:
    """Returns standard normal noise of a step.

    Args:
        keys: one typed key per utterance.
        step: number of the step, from 0; START_FOLD for the state that a solver sets out from.
        shape: how many frames, and values per frame.
        first_frame: number, within the whole file, of each utterance's first frame here; None
            is 0 for all.

    Returns:
        The noise in float32, which at frame i is that of frame `first_frame + i` of the file.
    """
    first = jnp.zeros(keys.shape, jnp.int32) if first_frame is None else first_frame

    def of_frame(key: Array, frame: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, frame), shape[1:], jnp.float32)

    def of_utterance(key: Array, first: Array) -> Array:
        numbers = first + jnp.arange(shape[0])
        return jax.vmap(of_frame, (None, 0))(jax.random.fold_in(key, step), numbers)

    return jax.vmap(of_utterance)(keys, first)
