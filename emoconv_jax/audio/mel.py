"""The log-mel that the score network and the vocoder share.

    (1) cut the waveform to a multiple of the hop, then reflect (fft - hop) / 2 samples at each end
    (2) X = STFT with window = fft, periodic Hann, not centred: exactly n / hop frames
    (3) magnitude = sqrt(re^2 + im^2 + 1e-9)
    (4) log-mel = ln(max(Slaney mel of (3), floor))

Source: DiffVC (arXiv 2109.13821) and HiFi-GAN (arXiv 2010.05646), whose public vocoders expect it.
"""

import functools

import librosa
import numpy as np

from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.shapes import Float

_MAGNITUDE_FLOOR = 1e-9  # inside the square root, eq. 3
_BLOCK_FRAMES = 4096  # bounds the memory of long recordings


def shortest_samples(config: MelConfig) -> int:
    """Returns the shortest waveform that `log_mel` accepts: 512 samples at the defaults.

    Reflection needs more samples than it adds, (fft - hop) / 2, after the cut to whole hops.
    """
    pad_samples = (config.fft_samples - config.hop_samples) // 2
    return (pad_samples // config.hop_samples + 1) * config.hop_samples


def log_mel(audio: Float[np.ndarray, " n"], config: MelConfig) -> Float[np.ndarray, "f m"]:
    """Computes the log-mel of a waveform, eqs. 1 to 4.

    Args:
        audio: the waveform at `config.sample_rate_hz`, full scale 1.
        config: the settings of the mel.

    Returns:
        The log-mel, float32, f = n // hop frames; frame i covers the hop from sample i hop on,
        centred in its window. Values from ln(floor) = -11.5 to about 2.

    Raises:
        EmoconvError: fewer samples than `shortest_samples(config)`.
    """
    if len(audio) < shortest_samples(config):
        raise EmoconvError(
            f"audio: {len(audio)} samples, allowed are {shortest_samples(config)} or more"
        )
    fft, hop = config.fft_samples, config.hop_samples
    whole = np.asarray(audio[: len(audio) // hop * hop], dtype=np.float32)
    padded = np.pad(whole, (fft - hop) // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, fft)[::hop]
    hann = periodic_hann(fft)
    filters = _mel_filters(config)
    blocks = []
    for start in range(0, len(windows), _BLOCK_FRAMES):
        spectrum = np.fft.rfft(windows[start : start + _BLOCK_FRAMES] * hann, axis=-1)
        magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + _MAGNITUDE_FLOOR)
        blocks.append(np.log(np.maximum(magnitude @ filters, config.floor)).astype(np.float32))
    return np.concatenate(blocks)


@functools.cache
def periodic_hann(samples: int) -> Float[np.ndarray, " samples"]:
    """Returns the Hann window of one period.

    Args:
        samples: its length.
    """
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)).astype(np.float32)


@functools.cache
def _mel_filters(config: MelConfig) -> Float[np.ndarray, "bins m"]:
    """Slaney's filters (area-normalised, his mel scale), one column per mel bin."""
    return librosa.filters.mel(
        sr=config.sample_rate_hz,
        n_fft=config.fft_samples,
        n_mels=config.mels,
        fmin=config.low_hz,
        fmax=config.high_hz,
    ).T
