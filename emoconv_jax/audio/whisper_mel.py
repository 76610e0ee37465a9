"""The log-mel that Whisper hears: 100 frames per second, relative to the loudest.

    (1) zeros follow the waveform up to the length asked for; 200 samples are reflected at each end
    (2) X = STFT with window = 400, periodic Hann, hop 160; frame i is centred on sample 160 i,
        and the frame centred on the very end is left out: n // 160 frames
    (3) y = log10(max(Slaney mel of |X|^2, 1e-10))
    (4) log-mel = (max(y, max over all frames of y - 8) + 4) / 4

By eq. 4 a frame depends on the loudest one of its recording: a long recording is turned into one
log-mel, which is then cut, and not the reverse.

Source: Radford et al. 2022 (arXiv 2212.04356) and whisper/audio.py of its authors.
"""

import functools

import librosa
import numpy as np

from emoconv_jax.audio.mel import periodic_hann
from emoconv_jax.errors import EmoconvError
from emoconv_jax.shapes import Float

WHISPER_RATE_HZ = 16_000
FFT_SAMPLES, HOP_SAMPLES = 400, 160
HIGH_HZ = 8000.0
POWER_FLOOR = 1e-10  # eq. 3
RANGE = 8.0  # decades below the loudest that are told apart, eq. 4
_BLOCK_FRAMES = 4096  # bounds the memory of long recordings
_LEAST_SAMPLES = FFT_SAMPLES // 2 + 1  # reflection needs one sample more than it adds


def whisper_log_mel(
    audio: Float[np.ndarray, " n"], mels: int = 80, padded_samples: int = 0
) -> Float[np.ndarray, "f m"]:
    """Computes the log-mel of a waveform, eqs. 1 to 4.

    Args:
        audio: the waveform at 16 kHz, full scale 1.
        mels: mel bins: 80, or 128 of the newest large model.
        padded_samples: length that zeros bring it to; a longer waveform stays as long as it is.
            Whisper itself is always given 30 s, 480 000.

    Returns:
        The log-mel, float32, f = samples // 160; the range of its values is 2.

    Raises:
        EmoconvError: a waveform that is too short, padded as it is, for a frame and its reflection.
    """
    samples = max(len(audio), padded_samples)
    if samples < _LEAST_SAMPLES:
        raise EmoconvError(f"audio: {samples} samples, allowed are {_LEAST_SAMPLES} or more")
    whole = np.pad(np.asarray(audio, np.float32), (0, samples - len(audio)))
    reflected = np.pad(whole, FFT_SAMPLES // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(reflected, FFT_SAMPLES)[::HOP_SAMPLES]
    windows = windows[: samples // HOP_SAMPLES]
    hann, filters, blocks = periodic_hann(FFT_SAMPLES), _mel_filters(mels), []
    for start in range(0, len(windows), _BLOCK_FRAMES):
        spectrum = np.fft.rfft(windows[start : start + _BLOCK_FRAMES] * hann, axis=-1)
        power = (np.square(spectrum.real) + np.square(spectrum.imag)) @ filters
        blocks.append(np.log10(np.maximum(power, POWER_FLOOR)).astype(np.float32))
    decades = np.concatenate(blocks)
    return (np.maximum(decades, decades.max() - np.float32(RANGE)) + 4) / 4


@functools.cache
def _mel_filters(mels: int) -> Float[np.ndarray, "bins m"]:
    """Slaney's filters (area-normalised, his mel scale), one column per mel bin."""
    return librosa.filters.mel(
        sr=WHISPER_RATE_HZ, n_fft=FFT_SAMPLES, n_mels=mels, fmin=0.0, fmax=HIGH_HZ
    ).T
