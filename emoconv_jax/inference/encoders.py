"""The other roles: average voice, emotion and vocoder, each a callable on one utterance.

Lengths are padded to a few buckets, because every new shape is compiled anew; the networks are
masked, so the padding changes nothing.
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.bundles.format import BundleConfig, load_tensors, read_config
from emoconv_jax.bundles.parts import load_variables, network_of
from emoconv_jax.models.recogniser import Recogniser, recognise
from emoconv_jax.models.vocoder import Vocoder
from emoconv_jax.porting.registry import fetch_weights
from emoconv_jax.shapes import Float

SMALLEST_BUCKET = 32  # frames


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

    Attributes:
        embedding: [256].
        probabilities: emotion -> 0..1.
        arousal: 1..7; a regression, so values may lie a little outside.
    """

    embedding: Float[np.ndarray, " e"]
    probabilities: dict[str, float]
    arousal: float


class EmotionRole:
    """Log-mel -> emotion embedding, class probabilities and arousal."""

    def __init__(self, config: BundleConfig, variables: dict):
        """Args: config: of the bundle. variables: of the network, statistics included."""
        self.network = Recogniser(config.recogniser)
        self.emotions = config.recogniser.emotions
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

    def embed(self, mel: Float[np.ndarray, "f m"]) -> tuple[np.ndarray, float]:
        """Returns (embedding, arousal) of a log-mel."""
        found = self(mel)
        return found.embedding, found.arousal


class VocoderRole:
    """Log-mel -> waveform, by HiFi-GAN."""

    def __init__(self, config: BundleConfig):
        """Loads the weights from the user cache, fetching them once if they are not there.

        Args:
            config: of the bundle.
        """
        network = Vocoder(config.vocoder)
        example = jax.ShapeDtypeStruct((1, SMALLEST_BUCKET, config.mel.mels), jnp.float32)
        template = jax.eval_shape(network.init, jax.random.key(0), example)["params"]
        path = fetch_weights("vocoder")
        self.params = load_tensors([path], template, str(path))
        self.floor, self.hop_samples = log_floor(config), config.mel.hop_samples
        self._apply = jax.jit(lambda params, mel: network.apply({"params": params}, mel))

    def __call__(self, mel: Float[np.ndarray, "f m"]) -> Float[np.ndarray, " n"]:
        """Returns 256 samples per frame; never clips: a peak above 1 scales the whole down."""
        padded, _ = pad(mel, self.floor)
        audio = np.asarray(self._apply(self.params, padded))[0, : len(mel) * self.hop_samples]
        return audio / max(1.0, float(np.abs(audio).max(initial=0.0)))
