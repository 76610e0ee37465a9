"""What is measured on one utterance, converted or real."""

import dataclasses

import numpy as np

from emoconv_jax.audio.prosody import level_db, median_f0_hz
from emoconv_jax.config import MelConfig
from emoconv_jax.inference.roles import AnyEmotionRole
from emoconv_jax.inference.speaker import SpeakerRole
from emoconv_jax.shapes import Float


@dataclasses.dataclass(frozen=True)
class Measures:
    """Figures of one utterance.

    Attributes:
        arousal: the recogniser's, 1..7.
        f0_hz: median over voiced frames; NaN where nothing is voiced.
        level_db: RMS of the active speech, dBFS.
        speaker: d-vector.
    """

    arousal: float
    f0_hz: float
    level_db: float
    speaker: Float[np.ndarray, " d"]


def measure(
    audio: Float[np.ndarray, " n"],
    mel: MelConfig,
    emotion: AnyEmotionRole,
    speaker: SpeakerRole,
) -> Measures:
    """Measures a waveform.

    Args:
        audio: mono, at the mel's sample rate.
        mel: settings that the recogniser reads.
        emotion: the recogniser.
        speaker: the d-vector encoder.

    Returns:
        Its figures.
    """
    rate_hz = mel.sample_rate_hz
    return Measures(
        arousal=emotion.hear(audio, rate_hz).arousal,
        f0_hz=float(median_f0_hz(audio, rate_hz)),
        level_db=float(level_db(audio, rate_hz)),
        speaker=speaker(audio, rate_hz),
    )


def nearest_speaker(
    vector: Float[np.ndarray, " d"], centroids: dict[str, Float[np.ndarray, " d"]]
) -> str:
    """Returns the speaker whose centroid has the greatest cosine with a d-vector.

    Args:
        vector: d-vector.
        centroids: speaker -> mean d-vector, any length; at least one speaker.

    Returns:
        The speaker's name.
    """
    return max(centroids, key=lambda name: cosine(vector, centroids[name]))


def cosine(a: Float[np.ndarray, " d"], b: Float[np.ndarray, " d"]) -> float:
    """Returns the cosine of the angle between two vectors.

    Args:
        a: not zero.
        b: not zero.

    Returns:
        -1..1.
    """
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
