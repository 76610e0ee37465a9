"""What the heads on Whisper's encoder read of a recording: its states, and their statistics.

    (1) x' = x LEVEL / rms(x)                     so that nothing downstream hears the gain
    (2) s_0 .. s_L = the encoder's states of x'   not padded to 30 s, see `inference.whisper`
    (3) frames[j] = (s_4, s_6) at frame j of our log-mel, by `at_mel_frames`: 2 x 512 numbers
    (4) pooled = (mean_k s_l[k], std_k s_l[k]) for l = 0 .. L: 7 x 2 x 512 numbers

`emoconv prepare --whisper` stores (3) and (4), and a conversion computes the same.
"""

import dataclasses
from typing import Any

import numpy as np

from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.whisper import WhisperStates, at_mel_frames, load_whisper
from emoconv_jax.models.whisper import WhisperConfig
from emoconv_jax.porting.whisper_files import MODEL_SHA256
from emoconv_jax.shapes import Float

LEVEL = 0.05  # root mean square, eq. 1
FRAME_STATES = (4, 6)  # of Whisper base, eq. 3; 0 is before the first layer, 6 after the last norm
ENCODER = MODEL_SHA256  # the fingerprint of the weights that features and heads are of
SILENT = 1e-6  # of the root mean square: below it there is no level to set


@dataclasses.dataclass(frozen=True)
class WhisperHeard:
    """What a recording's heads read.

    Attributes:
        frames: eq. 3, one row per frame of the log-mel.
        pooled: eq. 4, in the order state, mean before deviation, channel.
    """

    frames: Float[np.ndarray, "f s"]
    pooled: Float[np.ndarray, " p"]


class WhisperFeatures:
    """Waveform -> what the heads on Whisper's encoder read."""

    def __init__(self, params: dict[str, Any] | None = None, config: WhisperConfig | None = None):
        """Loads the public base model, unless another is given.

        Args:
            params: of `WhisperEncoder(config)`.
            config: the sizes.

        Raises:
            EmoconvError: the weights cannot be fetched, or the encoder has too few layers.
        """
        if params is None or config is None:
            params, config = load_whisper()
        if config.layers < max(FRAME_STATES):
            raise EmoconvError(
                f"whisper: {config.layers} layers, needed are {max(FRAME_STATES)} or more"
            )
        self._states = WhisperStates(params, config)

    def __call__(
        self, audio: Float[np.ndarray, " n"], sample_rate_hz: int, frames: int, mel: MelConfig
    ) -> WhisperHeard:
        """Returns what a recording of any level has.

        Args:
            audio: mono.
            sample_rate_hz: of it.
            frames: of its log-mel.
            mel: the log-mel's settings.

        Raises:
            EmoconvError: less than 10 ms.
        """
        states = self._states(level_set(audio), sample_rate_hz)
        chosen = states[:, list(FRAME_STATES)].reshape(len(states), -1)
        return WhisperHeard(at_mel_frames(chosen, frames, mel), pooled_of(states))


def pooled_of(states: Float[np.ndarray, "k s c"]) -> Float[np.ndarray, " p"]:
    """Returns mean and deviation of every state over time, eq. 4.

    Args:
        states: of the encoder, all of them.
    """
    # float64: sums over minutes of sound
    mean, std = states.mean(axis=0, dtype=np.float64), states.std(axis=0, dtype=np.float64)
    return np.stack([mean, std], axis=1).astype(np.float32).reshape(-1)


def level_set(audio: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Returns a recording at the level LEVEL, eq. 1; silence stays as it is.

    Args:
        audio: mono.
    """
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0
    return audio if rms < SILENT else (audio * (LEVEL / rms)).astype(np.float32)
