"""The other roles: average voice, emotion and vocoder, each a callable on one utterance.

Lengths are padded to a few buckets, because every new shape is compiled anew; the networks are
masked, so the padding changes nothing.
"""

import dataclasses
import pathlib

import jax
import numpy as np

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.resampling import resample
from emoconv_jax.bundles.format import BundleConfig, load_tensors, read_config
from emoconv_jax.bundles.parts import load_variables, network_of, template_of
from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW
from emoconv_jax.models.recogniser import Recogniser, recognise
from emoconv_jax.models.vocoder import Vocoder
from emoconv_jax.models.wav2vec2 import DIMENSIONS, least_samples
from emoconv_jax.porting.registry import fetch_weights
from emoconv_jax.shapes import Float

SMALLEST_BUCKET = 32  # frames
SAMPLES_STEP = 320  # of a waveform, 20 ms at 16 kHz: a frame of wav2vec2


def bucket(frames: int) -> int:
    """Returns the padded length for a number of frames: four sizes per octave from 128 on.

    Args:
        frames: 1 or more.

    Returns:
        A multiple of 32, less than a quarter longer beyond 128 frames: 32, 64, 96, 128, 160, 192,
        224, 256, 320, 384, 448, 512, 640 ...
    """
    octave = 1 << max(frames - 1, 1).bit_length() - 1  # greatest power of two below `frames`
    step = max(SMALLEST_BUCKET, octave // 4)
    return -(-frames // step) * step


def pad(mel: Float[np.ndarray, "f m"], floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mel as a batch of one, padded to its bucket, and its mask.

    Args:
        mel: log-mel.
        floor: fills the padding: the logarithm of the mel's floor.

    Returns:
        ([1, bucket, m], [1, bucket]).
    """
    size = bucket(len(mel))
    padded = np.full((1, size, mel.shape[1]), floor, np.float32)
    padded[0, : len(mel)] = mel
    return padded, (np.arange(size)[None, :] < len(mel)).astype(np.float32)


def log_floor(config: BundleConfig) -> float:
    """Returns the log-mel of silence.

    Args:
        config: of the bundle.

    Returns:
        ln(floor).
    """
    return float(np.log(config.mel.floor))


class AverageVoiceRole:
    """Log-mel -> average voice Y."""

    def __init__(self, config: BundleConfig, variables: dict):
        """Args: config: of the bundle. variables: of the network."""
        network = network_of("average_voice", config)
        self.variables, self.floor = variables, log_floor(config)
        self._apply = jax.jit(network.apply)

    @classmethod
    def from_bundle(cls, folder: pathlib.Path) -> "AverageVoiceRole":
        """Returns the role as the bundle in `folder` fills it."""
        config = read_config(folder)
        return cls(config, load_variables(folder, "average_voice", config))

    def __call__(self, mel: Float[np.ndarray, "f m"]) -> Float[np.ndarray, "f m"]:
        """Returns Y for a log-mel of any length."""
        return np.asarray(self._apply(self.variables, *pad(mel, self.floor)))[0, : len(mel)]


@dataclasses.dataclass(frozen=True)
class Recognition:
    """What the recogniser says of an utterance.

    Arousal, dominance and valence are on 1..7; they are regressions and may lie a little outside.

    Attributes:
        embedding: [256], or [1024] of wav2vec2.
        probabilities: emotion -> 0..1; empty for wav2vec2, which has no classes.
        arousal: calm to excited.
        dominance: weak to strong; None for the recogniser, which does not tell it.
        valence: unpleasant to pleasant; None likewise.
    """

    embedding: Float[np.ndarray, " e"]
    probabilities: dict[str, float]
    arousal: float
    dominance: float | None = None
    valence: float | None = None


class EmotionRole:
    """Log-mel -> emotion embedding, class probabilities and arousal."""

    def __init__(self, config: BundleConfig, variables: dict):
        """Args: config: of the bundle. variables: of the network, statistics included."""
        self.network = Recogniser(config.recogniser)
        self.emotions, self.mel = config.recogniser.emotions, config.mel
        self.variables, self.floor = variables, log_floor(config)
        self._recognise = jax.jit(
            lambda variables, mel, mask: recognise(self.network, variables, mel, mask)
        )

    @classmethod
    def from_bundle(cls, folder: pathlib.Path) -> "EmotionRole":
        """Returns the role as the bundle in `folder` fills it."""
        config = read_config(folder)
        return cls(config, load_variables(folder, "recogniser", config))

    def __call__(self, mel: Float[np.ndarray, "f m"]) -> Recognition:
        """Returns what the recogniser says of a log-mel of any length."""
        output = self._recognise(self.variables, *pad(mel, self.floor))
        probabilities = np.asarray(jax.nn.softmax(output.logits[0]))
        return Recognition(
            embedding=np.asarray(output.embedding[0]),
            probabilities=dict(zip(self.emotions, map(float, probabilities), strict=True)),
            arousal=float(output.arousal[0]),
        )

    def hear(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> Recognition:
        """Returns what the recogniser says of a waveform.

        Args:
            audio: mono.
            sample_rate_hz: of it.
        """
        return self(log_mel(resample(audio, sample_rate_hz, self.mel.sample_rate_hz), self.mel))

    def embed(self, mel: Float[np.ndarray, "f m"]) -> tuple[np.ndarray, float]:
        """Returns (embedding, arousal) of a log-mel."""
        found = self(mel)
        return found.embedding, found.arousal


class DimensionalRole:
    """Waveform -> emotion embedding, arousal, dominance and valence, by wav2vec2."""

    def __init__(self, config: BundleConfig, variables: dict):
        """Args: config: of the bundle. variables: of the network."""
        self.network, self.variables = network_of("wav2vec2", config), variables
        self.rate_hz, self.least = config.wav2vec2.sample_rate_hz, least_samples(config.wav2vec2)
        self._apply = jax.jit(self.network.apply)

    def hear(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> Recognition:
        """Returns what the network says of a waveform.

        Args:
            audio: mono, of any level.
            sample_rate_hz: of it.
        """
        audio = resample(audio, sample_rate_hz, self.rate_hz)
        size = bucket(-(-max(len(audio), self.least) // SAMPLES_STEP)) * SAMPLES_STEP
        padded = np.zeros((1, size), np.float32)
        padded[0, : len(audio)] = audio
        mask = (np.arange(size)[None] < max(len(audio), self.least)).astype(np.float32)
        embedding, dimensions = self._apply(self.variables, padded, mask)
        # the head's scale is about 0..1
        span = AROUSAL_HIGH - AROUSAL_LOW
        told = [AROUSAL_LOW + span * float(value) for value in np.asarray(dimensions)[0]]
        named = dict(zip(DIMENSIONS, told, strict=True))
        return Recognition(embedding=np.asarray(embedding)[0], probabilities={}, **named)


def emotion_role(folder: pathlib.Path, config: BundleConfig) -> EmotionRole | DimensionalRole:
    """Returns the emotion role as a bundle fills it.

    Args:
        folder: of the bundle.
        config: of it.
    """
    kind = EmotionRole if config.roles.emotion == "recogniser" else DimensionalRole
    return kind(config, load_variables(folder, config.roles.emotion, config))


class VocoderRole:
    """Log-mel -> waveform, by HiFi-GAN."""

    def __init__(self, config: BundleConfig, folder: pathlib.Path):
        """Loads the weights from the bundle or, as its roles say, from the user cache.

        Args:
            config: of the bundle.
            folder: of the bundle.
        """
        network = Vocoder(config.vocoder)
        template = template_of("vocoder", config)["params"]
        if config.roles.vocoder == "bundle":
            self.params = load_variables(folder, "vocoder", config)["params"]
        else:
            path = fetch_weights("vocoder")
            self.params = load_tensors([path], template, str(path))
        self.floor, self.hop_samples = log_floor(config), config.mel.hop_samples
        self._apply = jax.jit(lambda params, mel: network.apply({"params": params}, mel))

    def __call__(self, mel: Float[np.ndarray, "f m"]) -> Float[np.ndarray, " n"]:
        """Returns 256 samples per frame; never clips: a peak above 1 scales the whole down."""
        padded, _ = pad(mel, self.floor)
        audio = np.asarray(self._apply(self.params, padded))[0, : len(mel) * self.hop_samples]
        return audio / max(1.0, float(np.abs(audio).max(initial=0.0)))
