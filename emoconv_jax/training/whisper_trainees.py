"""The heads on Whisper's encoder, each with its loss as named (sum, count) terms.

    whisper_average_voice   masked squared error to the average-voice target
                            + `phone_weight` x cross entropy of the phones that are known
    whisper_emotion         cross entropy of the emotion + squared error of the arousal

Their inputs are stored features, so that a step costs what the head does and no more. What is drawn
for an example comes from its own key.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from emoconv_jax.config import (
    TrainingConfig,
    WhisperAverageVoiceConfig,
    WhisperEmotionConfig,
    from_dict,
)
from emoconv_jax.models.products import compute_type
from emoconv_jax.models.whisper_heads import WhisperAverageVoiceHead, WhisperEmotionHead
from emoconv_jax.pipeline.batches import Batch
from emoconv_jax.shapes import Array, Key
from emoconv_jax.training.terms import (
    AROUSAL_WEIGHT,
    Terms,
    recognition_terms,
    smoothed_cross_entropy,
)


class WhisperAverageVoiceTrainee:
    """The average voice and the phones from Whisper's frames."""

    def __init__(self, config: TrainingConfig):
        """Args: config: of the run."""
        self.network_config: Any = from_dict(WhisperAverageVoiceConfig, config.network, "network")
        dtype = compute_type(config.compute)
        self.network: Any = WhisperAverageVoiceHead(self.network_config, dtype, config.remat)
        self.smoothing = config.label_smoothing
        self.weights: Mapping[str, float] = {"mse": 1.0, "phones": config.phone_weight}

    def init(self, key: Key[Array, ""]) -> Any:
        """Returns initial parameters drawn from `key`."""
        width = len(self.network_config.states) * self.network_config.hidden
        states = jnp.zeros((1, 16, width))
        return self.network.init(key, states, jnp.ones(states.shape[:2]))["params"]

    def terms(
        self, params: Any, batch: Batch, keys: Key[Array, " b"], training: bool = True
    ) -> Terms:
        """Returns squared error, cross entropy and accuracy (watched) of the phones."""
        assert batch.phones is not None
        states, mask = jnp.asarray(batch.states), jnp.asarray(batch.mask)
        output = self.network.apply({"params": params}, states, mask, keys if training else None)
        error = jnp.square(output.mel - jnp.asarray(batch.average_voice)) * mask[..., None]
        phone = jnp.asarray(batch.phones)
        known = (phone >= 0) & (phone < output.phones.shape[-1])  # units of other languages are not
        known = mask * known.astype(mask.dtype)
        label = jnp.where(known > 0, phone, 0)
        entropy = smoothed_cross_entropy(output.phones, label, self.smoothing if training else 0.0)
        hits = (jnp.argmax(output.phones, -1) == label).astype(mask.dtype)
        return {
            "mse": (jnp.sum(error), jnp.sum(mask) * output.mel.shape[-1]),
            "phones": (jnp.sum(entropy * known), jnp.sum(known)),
            "accuracy": (jnp.sum(hits * known), jnp.sum(known)),
        }


class WhisperEmotionTrainee:
    """Emotion and arousal from Whisper's states pooled over an utterance."""

    def __init__(self, config: TrainingConfig, statistics: Any):
        """Args: config: of the run. statistics: of the training clips' pooled states."""
        self.network_config: Any = from_dict(WhisperEmotionConfig, config.network, "network")
        self.network: Any = WhisperEmotionHead(self.network_config)
        self.statistics, self.config = statistics, config
        self.weights: Mapping[str, float] = {"emotion": 1.0, "arousal": AROUSAL_WEIGHT}

    def init(self, key: Key[Array, ""]) -> Any:
        """Returns initial parameters drawn from `key`."""
        width = self.network_config.pooled * 2 * self.network_config.hidden
        return self.network.init(key, jnp.zeros((1, width)))["params"]

    def terms(
        self, params: Any, batch: Batch, keys: Key[Array, " b"], training: bool = True
    ) -> Terms:
        """Returns cross entropy, squared arousal error and accuracy (watched) of a batch."""
        variables = {"params": params, "statistics": self.statistics}
        pooled = jnp.asarray(batch.pooled)
        output = self.network.apply(variables, pooled, keys if training else None)
        return recognition_terms(output, batch, self.config.label_smoothing if training else 0.0)
