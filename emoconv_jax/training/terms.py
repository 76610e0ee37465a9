"""Terms of a loss that several trainees share."""

import jax
import jax.numpy as jnp
import optax

from emoconv_jax.models.recogniser import RecogniserOutput
from emoconv_jax.pipeline.batches import Batch
from emoconv_jax.shapes import Array

AROUSAL_WEIGHT = 0.5  # squared arousal points are about twice a cross entropy over 8 classes
Terms = dict[str, tuple[Array, Array]]


def recognition_terms(output: RecogniserOutput, batch: Batch, smoothing: float = 0.0) -> Terms:
    """Returns cross entropy, squared arousal error and accuracy (watched) of a batch.

    Args:
        output: of a recogniser.
        batch: with labels; who has none does not count.
        smoothing: the share of a label that is spread over all classes.
    """
    assert batch.emotion_label is not None and batch.arousal_label is not None
    label, arousal = jnp.asarray(batch.emotion_label), jnp.asarray(batch.arousal_label)
    named, rated = (label >= 0).astype(jnp.float32), (arousal > 0).astype(jnp.float32)
    entropy = smoothed_cross_entropy(output.logits, jnp.maximum(label, 0), smoothing)
    hits = (jnp.argmax(output.logits, -1) == label).astype(jnp.float32)
    error = jnp.square(output.arousal - arousal)
    return {
        "emotion": (jnp.sum(entropy * named), jnp.sum(named)),
        "arousal": (jnp.sum(error * rated), jnp.sum(rated)),
        "accuracy": (jnp.sum(hits * named), jnp.sum(named)),
    }


def smoothed_cross_entropy(logits: Array, label: Array, smoothing: float) -> Array:
    """Returns the cross entropy of a label of which a share is spread over all classes.

    Args:
        logits: classes last.
        label: index of the class.
        smoothing: the share, 0 to 1; at 0 it is the plain cross entropy.
    """
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    if not smoothing:
        return entropy
    spread = jax.nn.logsumexp(logits, -1) - jnp.mean(logits, -1)
    return (1.0 - smoothing) * entropy + smoothing * spread
