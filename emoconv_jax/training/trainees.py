"""The networks that are trained, each with its loss as named (sum, count) terms.

    recogniser       cross entropy of the emotion + squared error of the arousal, under random gain
    average_voice    masked squared error to the average-voice target (DiffVC)
    score_network    L_s + lambda_t L_m(X0_hat), lambda_t = 1 - t^2 (EmoConv-Diff), or an ablation
                     of it; EmoMix's style loss if asked for

Every draw comes from the example's own key. A term without a weight is only watched.
"""

import itertools
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.bundles.format import read_config
from emoconv_jax.bundles.parts import load_variables, network_of
from emoconv_jax.config import (
    NETWORKS,
    AverageVoiceConfig,
    DiffusionConfig,
    RecogniserConfig,
    ScoreNetworkConfig,
    TrainingConfig,
    from_dict,
)
from emoconv_jax.diffusion import heads, losses
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.average_voice import AverageVoiceEncoder
from emoconv_jax.models.pooled_recogniser import recogniser_of
from emoconv_jax.models.products import compute_type
from emoconv_jax.models.prosody_inputs import CHANNELS
from emoconv_jax.models.recogniser import pooled_mask
from emoconv_jax.models.score_networks import score_network_of
from emoconv_jax.pipeline.batches import Batch
from emoconv_jax.shapes import Array, Key
from emoconv_jax.training.augmentation import augment
from emoconv_jax.training.terms import AROUSAL_WEIGHT, Terms, recognition_terms
from emoconv_jax.training.whisper_trainees import (
    WhisperAverageVoiceTrainee,
    WhisperEmotionTrainee,
)

TIME_BANDS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of diffusion time; the loss is watched in each
PROSODY_DRAW, VOICE_DRAW = 1, 2  # apart from an example's other draws, which stay what they were
TIME_MARGIN = 1e-5  # t ~ U[margin, 1 - margin], DiffVC's code


@runtime_checkable
class Trainee(Protocol):
    """What the train step needs to know of a network; `weights` names the terms of its loss."""

    network: Any
    network_config: Any
    weights: Mapping[str, float]

    def init(self, key: Key[Array, ""]) -> Any:
        """Returns initial parameters drawn from `key`."""
        ...

    def terms(
        self, params: Any, batch: Batch, keys: Key[Array, " b"], training: bool = True
    ) -> Terms:
        """Returns the loss terms of a batch; `training` turns dropout and augmentation on."""
        ...


def make_trainee(config: TrainingConfig, statistics: Any | None = None) -> Trainee:
    """Returns the trainee that a configuration names.

    Args:
        config: of the run.
        statistics: a recogniser's normalisation, from `selection.statistics_of`.

    Returns:
        A `Trainee`.

    Raises:
        EmoconvError: the network's settings are no such network's, or there is no recogniser where
            the style loss looks for one.
    """
    if config.trainee == "recogniser":
        return RecogniserTrainee(config, statistics)
    if config.trainee == "average_voice":
        return AverageVoiceTrainee(config)
    if config.trainee == "whisper_average_voice":
        return WhisperAverageVoiceTrainee(config)
    if config.trainee == "whisper_emotion":
        return WhisperEmotionTrainee(config, statistics)
    return ScoreNetworkTrainee(config)


class RecogniserTrainee:
    """ACRNN with its emotion and arousal heads."""

    def __init__(self, config: TrainingConfig, statistics: Any):
        """Args: config: of the run. statistics: of the training mels."""
        self.config = config
        self.network_config: Any = from_dict(RecogniserConfig, config.network, "network")
        self.network: Any = recogniser_of(self.network_config, *_running(config))
        self.statistics = statistics
        self.weights: Mapping[str, float] = {"emotion": 1.0, "arousal": AROUSAL_WEIGHT}

    def init(self, key: Key[Array, ""]) -> Any:
        """Returns initial parameters drawn from `key`."""
        mel = jnp.zeros((1, self.network_config.frames, self.network_config.mels))
        return self.network.init(key, mel, jnp.ones(mel.shape[:2]))["params"]

    def terms(
        self, params: Any, batch: Batch, keys: Key[Array, " b"], training: bool = True
    ) -> Terms:
        """Returns cross entropy, squared arousal error and accuracy (watched) of a batch."""
        mel, dropout_keys = jnp.asarray(batch.mel), None
        if training:
            augment_keys = jax.vmap(lambda k: jax.random.fold_in(k, 0))(keys)
            dropout_keys = jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys)
            mel = augment(mel, augment_keys, self.config.gain_db, self.config.masked_bands)
        variables = {"params": params, "statistics": self.statistics}
        output = self.network.apply(variables, mel, jnp.asarray(batch.mask), dropout_keys)
        return recognition_terms(output, batch)


class AverageVoiceTrainee:
    """DiffVC's average-voice encoder by masked regression."""

    def __init__(self, config: TrainingConfig):
        """Args: config: of the run."""
        self.network_config: Any = from_dict(AverageVoiceConfig, config.network, "network")
        self.network: Any = AverageVoiceEncoder(self.network_config, *_running(config))
        self.weights: Mapping[str, float] = {"mse": 1.0}

    def init(self, key: Key[Array, ""]) -> Any:
        """Returns initial parameters drawn from `key`."""
        mel = jnp.zeros((1, 16, self.network_config.mels))
        return self.network.init(key, mel, jnp.ones(mel.shape[:2]))["params"]

    def terms(
        self, params: Any, batch: Batch, keys: Key[Array, " b"], training: bool = True
    ) -> Terms:
        """Returns the squared error over real frames of a batch."""
        mel, mask = jnp.asarray(batch.mel), jnp.asarray(batch.mask)
        output = self.network.apply({"params": params}, mel, mask, keys if training else None)
        error = jnp.square(output - jnp.asarray(batch.average_voice)) * mask[:, :, None]
        return {"mse": (jnp.sum(error), jnp.sum(mask) * mel.shape[-1])}


class ScoreNetworkTrainee:
    """The score network under the losses of EmoConv-Diff, and EmoMix's style loss."""

    def __init__(self, config: TrainingConfig):
        """Args: config: of the run."""
        self.config = config
        self.network_config: Any = from_dict(ScoreNetworkConfig, config.network, "network")
        running = _running(config, self.network_config.kind)
        self.network: Any = score_network_of(self.network_config, *running)
        schedule = DiffusionConfig()
        self.sde = MeanRevertingSDE(schedule.beta_0, schedule.beta_1)
        self.weights: Mapping[str, float] = {"score": 1.0, "reconstruction": 1.0}
        self.judge: tuple[Any, Any] | None = None
        if config.velocity_weight:
            if self.network_config.head != "velocity":
                raise EmoconvError(
                    f"velocity_weight: found {config.velocity_weight:g}, allowed is 0 with network."
                    f"head {self.network_config.head!r}"
                )
            self.weights = {**self.weights, "velocity": config.velocity_weight}
        if config.style_recogniser:
            self.weights = {**self.weights, "style": config.style_weight}
            bundle = pathlib.Path(config.style_recogniser)
            judging = read_config(bundle)
            if judging.recogniser.architecture != "acrnn":
                raise EmoconvError(
                    f"style_recogniser: {bundle} holds a recogniser without maps "
                    f"({judging.recogniser.architecture}), allowed is one with them (acrnn)"
                )
            self.judge = (
                network_of("recogniser", judging),
                jax.tree.map(jnp.asarray, load_variables(bundle, "recogniser")),
            )

    def init(self, key: Key[Array, ""]) -> Any:
        """Returns initial parameters drawn from `key`."""
        config = self.network_config
        mel, mask = jnp.zeros((1, 16, config.mels)), jnp.ones((1, 16))
        conditions = jnp.zeros((1, config.speaker)), jnp.zeros((1, config.emotion))
        return self.network.init(key, mel, mel, mask, jnp.zeros((1,)), *conditions)["params"]

    def terms(
        self, params: Any, batch: Batch, keys: Key[Array, " b"], training: bool = True
    ) -> Terms:
        """Returns L_s, L_m by `config.loss`, L_style if asked for; L_s by band of t is watched."""
        x0, mask = jnp.asarray(batch.mel), jnp.asarray(batch.mask)
        average_voice = jnp.asarray(batch.average_voice)
        speaker, emotion = jnp.asarray(batch.speaker), jnp.asarray(batch.emotion)
        t, noise, heard = jax.vmap(lambda key: self._draw(key, x0.shape[1:]))(keys)
        told: dict[str, Array] = {}
        if batch.prosody is not None:
            told = {"prosody": jnp.asarray(batch.prosody), "present": jnp.ones((len(t), CHANNELS))}
        if training:
            if self.config.speaker_noise:
                speaker = jax.vmap(self._another_voice)(speaker, keys)
            emotion, speaker = emotion * heard[:, 0, None], speaker * heard[:, 1, None]
            if told:
                told["present"] = jax.vmap(self._present)(keys)
        xt = losses.perturb(self.sde, x0, average_voice, noise, t)
        output = self.network.apply(
            {"params": params}, xt, average_voice, mask, t, speaker, emotion, **told
        )
        drawn = (self.network_config.head, self.sde, output)

        def score(mask: Array) -> tuple[Array, Array]:
            return losses.score_loss(*drawn, x0, average_voice, noise, t, mask)

        terms = {"score": score(mask)}
        for low, high in itertools.pairwise(TIME_BANDS):
            within = ((t >= low) & (t < high)).astype(mask.dtype)
            terms[f"score/t_{low:.2f}-{high:.2f}"] = score(mask * within[:, None])
        if self.config.velocity_weight:
            terms["velocity"] = losses.velocity_loss(
                self.sde, output, x0, average_voice, noise, t, mask
            )
        denoised = heads.denoised_from_output(*drawn, xt, average_voice, t)
        if self.config.loss == "tweedie":
            weight = losses.reconstruction_weight(t)
            terms["reconstruction"] = losses.reconstruction_loss(denoised, x0, mask, weight)
        elif self.config.loss == "xt":
            mean = heads.mean_from_output(*drawn, xt, average_voice, t)
            terms["reconstruction"] = losses.reconstruction_loss(mean, x0, mask)
        if self.judge is not None:
            terms["style"] = self._style(denoised, x0, mask, t)
        return terms

    def _style(self, denoised: Array, x0: Array, mask: Array, t: Array) -> tuple[Array, Array]:
        """Returns the style loss by the judging recogniser's maps."""
        assert self.judge is not None
        network, variables = self.judge
        # where no one judges, X0_hat may be too large for the exponential of the front end
        early = (t <= losses.STYLE_TIME)[:, None, None]
        found = network.apply(variables, jnp.where(early, denoised, x0), mask).maps
        wanted = network.apply(variables, x0, mask).maps
        masks = [mask, *[pooled_mask(mask)] * (len(wanted) - 1)]
        return losses.style_loss(found, wanted, masks, t)

    def _draw(self, key: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
        """Returns an example's time, noise and whether it hears its emotion and its speaker."""
        time_key, noise_key, emotion_key, speaker_key = jax.random.split(key, 4)
        t = jax.random.uniform(time_key, minval=TIME_MARGIN, maxval=1.0 - TIME_MARGIN)
        emotion = jax.random.bernoulli(emotion_key, 1.0 - self.config.emotion_dropout)
        speaker = jax.random.bernoulli(speaker_key, 1.0 - self.config.speaker_dropout)
        heard = jnp.stack([emotion, speaker]).astype(t.dtype)
        return t, jax.random.normal(noise_key, shape), heard

    def _another_voice(self, speaker: Array, key: Array) -> Array:
        """Returns a d-vector somewhere around one, so that few voices are not learnt by heart."""
        noise = jax.random.normal(jax.random.fold_in(key, VOICE_DRAW), speaker.shape)
        moved = speaker + self.config.speaker_noise * noise / np.sqrt(len(noise))
        return moved / jnp.linalg.norm(moved)

    def _present(self, key: Array) -> Array:
        """Returns which channels of the prosody an example sees.

        Each is absent in a share d of the examples: all of them in d / 2, as at a conversion
        without, and otherwise each on its own with p, (1 - d / 2) (1 - p) = 1 - d.
        """
        dropout = self.config.prosody_dropout
        all_key, each_key = jax.random.split(jax.random.fold_in(key, PROSODY_DRAW))
        some = jax.random.bernoulli(all_key, 1.0 - dropout / 2)
        kept = (1.0 - dropout) / (1.0 - dropout / 2)
        each = jax.random.bernoulli(each_key, kept, (CHANNELS,))
        return (some & each).astype(jnp.float32)


def blank_statistics(config: TrainingConfig) -> Any | None:
    """Returns the normalisation that changes nothing, where only shapes or costs count.

    Args:
        config: of the run.

    Returns:
        The Linen collection `statistics`; None for trainees without one.
    """
    if config.trainee not in ("recogniser", "whisper_emotion"):
        return None
    sizes = from_dict(NETWORKS[config.trainee], config.network, "network")
    whisper = config.trainee == "whisper_emotion"
    shape = (2 * len(sizes.states) * sizes.hidden,) if whisper else (3, sizes.bands)
    return {"mean": np.zeros(shape, np.float32), "std": np.ones(shape, np.float32)}


def _running(config: TrainingConfig, kind: str = "") -> tuple[Any, bool]:
    """Returns how a network is run, the attributes behind its configuration: type and remat."""
    return compute_type(config.compute, kind), config.remat


def parameter_count(params: Any) -> int:
    """Returns how many numbers a parameter tree holds.

    Args:
        params: a pytree of arrays.

    Returns:
        The sum of their sizes.
    """
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
