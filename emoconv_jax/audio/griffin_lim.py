"""A waveform from a log-mel without any weights: the phases of Griffin and Lim.

It sounds metallic, but pitch, rhythm, level and timbre are those of the mel, whichever network
drew it; so a run can be listened to before there is a vocoder.

Source: Griffin and Lim, IEEE TASSP 32(2), 1984; with momentum, Perraudin et al., WASPAA 2013, as
librosa does it.
"""

import functools

import librosa
import numpy as np

from emoconv_jax.config import MelConfig
from emoconv_jax.shapes import Float

ITERATIONS = 32  # 64 bring the mel of the output closer by a twentieth only
LOUDEST = 4.0  # no log-mel of a full-scale signal comes near; untrained networks ask for more


def griffin_lim(
    mel: Float[np.ndarray, "f m"], config: MelConfig, iterations: int = ITERATIONS
) -> Float[np.ndarray, " n"]:
    """Returns a waveform whose log-mel is close to the one given; the same one every time.

    Args:
        mel: log-mel as `audio.mel.log_mel` makes it, finite; values above LOUDEST count as that.
        config: the settings it was made with.
        iterations: rounds of the search for phases, 1 or more.

    Returns:
        Frames times hop samples; never clips: a peak above 1 scales the whole down.
    """
    fft, hop = config.fft_samples, config.hop_samples
    magnitude = np.exp(np.minimum(mel, LOUDEST), dtype=np.float32)
    spectrum = np.maximum(magnitude @ _inverse_filters(config), 0.0)
    # phases start at 0: nothing is drawn, and the mel comes as close as from random ones
    padded = librosa.griffinlim(
        spectrum.T, n_iter=iterations, n_fft=fft, hop_length=hop, center=False, init=None
    )
    edge = (fft - hop) // 2  # the mel's windows begin so far ahead of the first sample
    audio = padded[edge : edge + len(mel) * hop]
    return audio / max(1.0, float(np.abs(audio).max(initial=0.0)))


@functools.cache
def _inverse_filters(config: MelConfig) -> Float[np.ndarray, "m bins"]:
    """Returns the least-squares way back from mel bins to those of the spectrum."""
    filters = librosa.filters.mel(
        sr=config.sample_rate_hz,
        n_fft=config.fft_samples,
        n_mels=config.mels,
        fmin=config.low_hz,
        fmax=config.high_hz,
    )
    return np.linalg.pinv(filters).T.astype(np.float32)
