"""Every setting that a bundle or a training run stores, as frozen dataclasses.

A configuration is data: `to_dict` and `from_dict` turn it into JSON and back, and `from_dict`
refuses unknown fields and wrong types by name, because a bundle's `config.json` is a foreign file.

It lies below `audio` and `diffusion` (not beside them) so that the mel's settings, which the
vocoder and the bundle must agree on, exist once.

Source: the defaults are the published sizes: DiffVC (arXiv 2109.13821), HiFi-GAN V1
(arXiv 2010.05646), GE2E (arXiv 1710.10467), ACRNN (Chen et al. 2018) as used by EmoMix.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from emoconv_jax.errors import EmoconvError
from emoconv_jax.schema import from_dict as from_dict
from emoconv_jax.schema import to_dict as to_dict

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
AROUSAL_LOW, AROUSAL_HIGH = 1.0, 7.0  # the papers' scale: 1 calm .. 7 excited
TRAINING_SPLITS = ("a", "b", "train")  # whose voices a model has heard
LATENTS = ("noise", "source")
TRAINEES = (
    "recogniser",
    "average_voice",
    "whisper_emotion",
    "whisper_average_voice",
    "score_network",
)
TARGETS = ("phones", "parallel")
COMPUTES = ("auto", "float32", "bfloat16")
CROPS, READERS = ("random", "whole"), ("plain", "tensorflow")
LEAST_START = 0.001  # far below this diffusion time, float32 has no sigma left


@dataclasses.dataclass(frozen=True)
class MelConfig:
    """The log-mel of DiffVC and HiFi-GAN. Frequencies in Hz, lengths in samples."""

    sample_rate_hz: int = 22050
    fft_samples: int = 1024
    hop_samples: int = 256
    mels: int = 80
    low_hz: float = 0.0
    high_hz: float = 8000.0
    floor: float = 1e-5


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """The noise schedule beta_t = beta_0 + t (beta_1 - beta_0).

    The rest is how a conversion runs by default: `latent`, from "noise" or the "source" inverted,
    `latent_noise` of it drawn anew; `start`, from which time; `guidance`, how far beyond.
    """

    beta_0: float = 0.05
    beta_1: float = 20.0
    latent: str = "noise"
    latent_noise: float = 0.0
    start: float = 1.0
    guidance: float = 1.0


@dataclasses.dataclass(frozen=True)
class ScoreNetworkConfig:
    """The score network. `emotion=0` is DiffVC without an emotion; `head` says what it predicts.

    `kind` is "unet2d", DiffVC's U-Net on the mel image, or "unet1d" over frames (ours); `prosody`
    says whether it sees F0, voicing and energy. `multipliers`, `groups`, `reference_block` and
    `conditioning` are of unet2d: where speaker and emotion enter, "input" as planes beside the
    image (the reference), "blocks" into every residual block as well (ours). `layers` and `heads`
    are of unet1d: blocks at half rate, and of their attention.
    """

    mels: int = 80
    width: int = 256
    multipliers: tuple[int, ...] = (1, 2, 4)
    groups: int = 8
    condition_width: int = 128
    speaker: int = 256
    emotion: int = 256
    reference_block: bool = False
    head: str = "velocity"  # "velocity" (ours) or "score" (the reference)
    conditioning: str = "input"
    kind: str = "unet2d"
    prosody: bool = False
    layers: int = 6
    heads: int = 4


@dataclasses.dataclass(frozen=True)
class AverageVoiceConfig:
    """DiffVC's transformer encoder with its convolutional PostNet."""

    mels: int = 80
    channels: int = 192
    feed_forward: int = 768
    heads: int = 2
    layers: int = 6
    kernel: int = 3
    window: int = 4
    prenet_layers: int = 3
    prenet_kernel: int = 5
    prenet_dropout: float = 0.5
    dropout: float = 0.1
    postnet_width: int = 128
    postnet_kernel: int = 7
    postnet_groups: int = 8


@dataclasses.dataclass(frozen=True)
class SpeakerConfig:
    """The GE2E d-vector encoder."""

    mels: int = 40
    hidden: int = 256
    layers: int = 3
    embedding: int = 256


@dataclasses.dataclass(frozen=True)
class VocoderConfig:
    """HiFi-GAN; the defaults are V1. `resblock` is 1 or 2 (V3 uses 2)."""

    mel: MelConfig = dataclasses.field(default_factory=MelConfig)
    resblock: int = 1
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2)
    upsample_kernels: tuple[int, ...] = (16, 16, 4, 4)
    channels: int = 512
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))


@dataclasses.dataclass(frozen=True)
class RecogniserConfig:
    """EmoMix's ACRNN or, if "pooled", `models.pooled_recogniser`; both tell emotion and arousal."""

    architecture: str = "acrnn"
    mels: int = 80
    bands: int = 40
    frames: int = 258  # 3 s at hop 256 / 22 050 Hz
    maps: tuple[int, ...] = (128, 256, 256, 256, 256, 256)
    linear: int = 768
    hidden: int = 128  # of each LSTM direction
    embedding: int = 256
    feed_forward: int = 64
    emotions: tuple[str, ...] = EMOTIONS


@dataclasses.dataclass(frozen=True)
class Wav2Vec2Config:
    """wav2vec2 with a head for dimensions of emotion; the defaults are Wagner et al.'s.

    `feature_norm` is "layer" or, on the first convolution alone, "group"; `stable` normalises
    before attention and feed-forward, not after. `position_` is the positional convolution.
    """

    sample_rate_hz: int = 16000
    hidden: int = 1024
    layers: int = 12
    heads: int = 16
    feed_forward: int = 4096
    conv_channels: tuple[int, ...] = (512,) * 7
    conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = True
    feature_norm: str = "layer"
    stable: bool = True
    position_kernel: int = 128
    position_groups: int = 16
    eps: float = 1e-5
    dimensions: int = 3


@dataclasses.dataclass(frozen=True)
class WhisperAverageVoiceConfig:
    """The average voice from Whisper's frames, and the phones; the defaults are of Whisper base.

    `encoder` is the fingerprint of the Whisper whose hidden `states`, of `hidden` numbers each, it
    was trained on; a run has none, export writes it.
    """

    encoder: str = ""
    states: tuple[int, ...] = (4, 6)
    hidden: int = 512
    channels: int = 256
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 1, 1)
    dropout: float = 0.1
    mels: int = 80
    phones: int = 40


@dataclasses.dataclass(frozen=True)
class WhisperEmotionConfig:
    """Emotion and arousal from Whisper's states pooled over an utterance; defaults as above.

    Of the `pooled` states, each a mean and a deviation, it reads `states`.
    """

    encoder: str = ""
    states: tuple[int, ...] = (2, 3, 4)
    pooled: int = 7
    hidden: int = 512
    embedding: int = 128
    dropout: float = 0.5
    emotions: tuple[str, ...] = EMOTIONS


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Attributes:
        trainee: one of TRAINEES.
        network: fields of the trainee's configuration; those not named have its defaults.
        splits: whose utterances train: `a` of all corpora, `ravdess/a` of one.
        validation: the split that is only watched.
        batch: examples per step.
        frames: of a crop.
        crop: "random", every example a crop of `frames`, or "whole", batches of utterances of
            similar length, cropped beyond `frames`.
        reader: "plain" or "tensorflow" (tf.data); the batches are the same.
        steps: in all; the learning rate falls to zero along a cosine over them.
        learning_rate: of Adam, after the warm-up.
        b2: how slowly Adam forgets squared gradients.
        weight_decay: of AdamW: a step shrinks matrices (not vectors) by this times its rate.
        warmup: steps of linear rise.
        clip: greatest global gradient norm.
        ema: decay of the averaged parameters.
        seed: of initial parameters, order, crops and every draw of the step.
        target: of an average voice: "phones", what each phone sounds like on average, or
            "parallel", the mean of the same sentence over other voices.
        phone_weight: of the phones' cross entropy beside the squared error of an average voice.
        label_smoothing: share of a label that a head on Whisper sees spread over all classes.
        loss: "tweedie" (L_s + lambda_t L_m(X0_hat)), "score" (L_s) or "xt" (L_s + L_m(X_t)).
        velocity_weight: of the velocity's error, alike at all times, beside it; 0 for none.
        style_weight: of EmoMix's style loss, 0 for none; weighted, it should begin at L_s / 10.
        style_recogniser: the bundle whose recogniser judges the style.
        emotion_dropout: share of examples that see no emotion, for guidance against none.
        speaker_dropout: share of examples that see no speaker, drawn apart from the emotion.
        speaker_noise: length of the noise added to a d-vector of 1, which then has length 1 again.
        prosody_dropout: share of examples in which a channel of the prosody is absent; in half of
            these all three are.
        bank_share: share of examples that see a bank in place of their own emotion embedding: all
            that a conversion has. In its own a network would also hear the voice.
        bank_rule: "local" or "paper", how those of arousal are made; see `bundles.banks`.
        speaker_share: share of examples that see the d-vector of another clip of their speaker, as
            a conversion's is of another emotion. In its own a network would also hear the emotion.
        gain_db: the recogniser hears each example louder or softer by up to this.
        masked_bands: the recogniser loses up to this many neighbouring mel bins per example.
        compute: "float32", "bfloat16" or "auto", the faster one on this machine: what the network
            computes in; parameters, statistics, losses and updates are float32 in all.
        accumulate: micro-batches that a step is computed in, one after the other; the update is
            that of the whole batch.
        remat: computes activations again on the way back: less memory, a third more time.
        parallel: "jit" or "pmap", how a step is spread over devices; the update is the same.
        shard_state: divides parameters and optimiser state over the devices (jit only).
    """

    trainee: str
    network: dict = dataclasses.field(default_factory=dict)
    splits: tuple[str, ...] = TRAINING_SPLITS
    validation: str = "validation"
    batch: int = 16
    frames: int = 128
    crop: str = "random"
    reader: str = "plain"
    steps: int = 1000
    learning_rate: float = 1e-4
    b2: float = 0.999
    weight_decay: float = 0.0
    warmup: int = 50
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    target: str = "phones"
    phone_weight: float = 0.2
    label_smoothing: float = 0.1
    loss: str = "tweedie"
    velocity_weight: float = 0.0
    style_weight: float = 0.0
    style_recogniser: str = ""
    emotion_dropout: float = 0.1
    speaker_dropout: float = 0.1
    speaker_noise: float = 0.0
    prosody_dropout: float = 0.15
    bank_share: float = 0.5
    bank_rule: str = "local"
    speaker_share: float = 1.0
    gain_db: float = 12.0
    masked_bands: int = 12
    compute: str = "float32"
    accumulate: int = 1
    remat: bool = False
    parallel: str = "jit"
    shard_state: bool = False

    def __post_init__(self) -> None:
        """Refuses a value that no run can mean, by name."""
        for name, (low, high) in TRAINING_LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise EmoconvError(
                    f"{name}: found {getattr(self, name)}, allowed is {low:g} to {high:g}"
                )
        for name, allowed in TRAINING_CHOICES.items():
            if getattr(self, name) not in allowed:
                raise EmoconvError(
                    f"{name}: found {getattr(self, name)!r}, allowed is {' or '.join(allowed)}"
                )
        if self.batch % self.accumulate:
            raise EmoconvError(
                f"accumulate: found {self.accumulate}, allowed is a divisor of batch {self.batch}"
            )
        if self.shard_state and self.parallel != "jit":
            raise EmoconvError("shard_state: found true, allowed is false with parallel 'pmap'")
        if self.style_weight and not self.style_recogniser:
            raise EmoconvError("style_recogniser: missing, style_weight needs a bundle")


NETWORKS = {
    "recogniser": RecogniserConfig,
    "average_voice": AverageVoiceConfig,
    "whisper_emotion": WhisperEmotionConfig,
    "whisper_average_voice": WhisperAverageVoiceConfig,
    "score_network": ScoreNetworkConfig,
}
# What a run sets out from where its file in configs/ says nothing else; configs/base.py says why.
BASE: dict[str, dict[str, Any]] = {
    "recogniser": {"splits": ("a",), "batch": 40, "frames": 258, "steps": 20_000},
    "average_voice": {"batch": 128, "steps": 40_000, "learning_rate": 5e-4},
    "whisper_emotion": {"splits": ("a",), "batch": 64, "steps": 4000, "learning_rate": 1e-3},
    "whisper_average_voice": {"target": "parallel", "steps": 10_000, "learning_rate": 1e-3},
    "score_network": {
        "network": {"conditioning": "blocks"},
        "batch": 32,
        "steps": 100_000,
        "ema": 0.9999,
    },
}
ON_ACCELERATORS = {"compute": "bfloat16", "warmup": 500}


def runs_of(trainees: Mapping[str, Mapping[str, Any]]) -> Callable[..., Any]:
    """Returns the `get_config` of a file in configs/.

    Args:
        trainees: what the file's run of each trainee has otherwise than `BASE`, as arguments of
            `TrainingConfig`; `network` adds to that of `BASE`.

    Returns:
        Function of a trainee's name; it returns a `ConfigDict` with every field of the run and of
        its network, so that each can be set on the command line.
    """

    def get_config(trainee: str = "") -> Any:
        from ml_collections import ConfigDict  # slow to import, and needed by runs alone

        if trainee not in trainees:
            raise ValueError(f"{trainee!r}: no such trainee, allowed are {', '.join(trainees)}")
        fields = ON_ACCELERATORS | BASE[trainee] | dict(trainees[trainee])
        parts = (BASE[trainee].get("network", {}), trainees[trainee].get("network", {}))
        fields["network"] = dict(vars(NETWORKS[trainee](**{**parts[0], **parts[1]})))
        return ConfigDict(dict(vars(TrainingConfig(trainee, **fields))))

    return get_config


SHARES = ("weight_decay", "ema", "label_smoothing", "emotion_dropout", "prosody_dropout")
SHARES += ("speaker_dropout", "speaker_noise", "bank_share", "speaker_share")
TRAINING_LIMITS = {
    "batch": (1, 1 << 20),
    "frames": (4, 1 << 16),
    "steps": (1, 1 << 40),
    "learning_rate": (0, 10),
    "b2": (0, 1 - 1e-9),
    "warmup": (0, 1 << 40),
    "clip": (1e-9, 1e9),
    "seed": (0, 2**32 - 1),
    "phone_weight": (0, 1e12),
    "velocity_weight": (0, 1e12),
    "style_weight": (0, 1e12),
    "accumulate": (1, 1 << 20),
    "gain_db": (0, 60),
    "masked_bands": (0, 79),
    **dict.fromkeys(SHARES, (0, 1)),
}
TRAINING_CHOICES = {
    "trainee": TRAINEES,
    "crop": CROPS,
    "target": TARGETS,
    "reader": READERS,
    "loss": ("tweedie", "score", "xt"),
    "compute": COMPUTES,
    "parallel": ("jit", "pmap"),
    "bank_rule": ("local", "paper"),
}
