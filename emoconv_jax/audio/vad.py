"""What the GE2E speaker encoder hears: levelled speech without its silences, as a power mel.

    speaker_mel(trim_silence(raise_level(audio16k)))

is the preprocessing its public weights were trained with. Everything is at 16 kHz.

Source: Wan et al., GE2E (arXiv 1710.10467); constants of the PyPI package Resemblyzer 0.1.4.
"""

import librosa
import numpy as np
import webrtcvad

from emoconv_jax.audio.mel import periodic_hann
from emoconv_jax.shapes import Float

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160

_FFT_SAMPLES = 400
_MELS = 40
_WINDOW_SAMPLES = 480  # 30 ms
_AVERAGED_WINDOWS = 8
_DILATED_WINDOWS = 7
_MOST_AGGRESSIVE = 3
_INT16_PEAK = 2**15 - 1


def raise_level(
    audio: Float[np.ndarray, " n"], target_dbfs: float = -30.0
) -> Float[np.ndarray, " n"]:
    """Raises the RMS of the whole waveform to a level; a louder one is left as it is.

    Args:
        audio: the waveform, full scale 1.
        target_dbfs: the RMS in dBFS below which it is raised.

    Returns:
        The waveform, float32; digital silence comes back unchanged.
    """
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0
    target_rms = 10 ** (target_dbfs / 20)
    if rms == 0.0 or rms >= target_rms:
        return audio.astype(np.float32)
    return (audio * (target_rms / rms)).astype(np.float32)


def trim_silence(audio16k: Float[np.ndarray, " n"]) -> Float[np.ndarray, " voiced"]:
    """Removes the stretches without voice, as WebRTC's detector hears them.

    Windows of 30 ms; the decisions are averaged over 8 windows and rounded, then each voiced window
    also keeps its 3 neighbours on either side.

    Args:
        audio16k: the waveform at 16 kHz, full scale 1.

    Returns:
        The voiced windows joined, float32; the untrimmed waveform if there are none.
    """
    audio = audio16k.astype(np.float32)
    windows = audio[: len(audio) // _WINDOW_SAMPLES * _WINDOW_SAMPLES].reshape(-1, _WINDOW_SAMPLES)
    pcm = np.rint(np.clip(windows, -1.0, 1.0) * _INT16_PEAK).astype("<i2")
    detector = webrtcvad.Vad(_MOST_AGGRESSIVE)
    voiced = np.array(
        [detector.is_speech(window.tobytes(), SAMPLE_RATE_HZ) for window in pcm], dtype=np.float64
    )
    if not voiced.any():
        return audio
    before = (_AVERAGED_WINDOWS - 1) // 2
    padded = np.pad(voiced, (before, _AVERAGED_WINDOWS - 1 - before))
    # A tie, 4 of 8, counts as silence: the reference rounds half to even.
    smooth = np.convolve(padded, np.ones(_AVERAGED_WINDOWS), "valid") > _AVERAGED_WINDOWS / 2
    margin = _DILATED_WINDOWS // 2
    kept = np.convolve(np.pad(smooth, margin), np.ones(_DILATED_WINDOWS), "valid") > 0
    return windows[kept].reshape(-1) if kept.any() else audio


def speaker_mel(audio16k: Float[np.ndarray, " n"]) -> Float[np.ndarray, "f m"]:
    """Computes the speaker encoder's mel: power, without logarithm.

    Args:
        audio16k: the waveform at 16 kHz, full scale 1, at least one sample.

    Returns:
        The power mel of 40 bins, float32, 1 + n // 160 frames, each centred on its hop, with zeros
        beyond the ends.
    """
    # framed here as in `audio.mel`: librosa's own STFT compiles for seconds in every new process
    padded = np.pad(audio16k.astype(np.float32), _FFT_SAMPLES // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _FFT_SAMPLES)[::HOP_SAMPLES]
    power = np.abs(np.fft.rfft(windows * periodic_hann(_FFT_SAMPLES), axis=-1)) ** 2
    filters = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=_FFT_SAMPLES, n_mels=_MELS)
    return (power @ filters.T).astype(np.float32)


def power_mel(
    audio16k: Float[np.ndarray, " n"], fft_samples: int, window: Float[np.ndarray, " w"]
) -> Float[np.ndarray, "f m"]:
    """Computes a power mel of 40 bins every 10 ms without any padding, as librosa does it.

    Args:
        audio16k: the waveform at 16 kHz; a shorter one than an FFT is filled up with zeros.
        fft_samples: of the FFT.
        window: in its middle.

    Returns:
        The power mel, float32, a frame for every hop from which a whole FFT fits.
    """
    audio16k = np.pad(audio16k, (0, max(0, fft_samples - len(audio16k))))
    before = (fft_samples - len(window)) // 2
    window = np.pad(window, (before, fft_samples - len(window) - before))
    windows = np.lib.stride_tricks.sliding_window_view(audio16k, fft_samples)[::HOP_SAMPLES]
    power = np.abs(np.fft.rfft(windows * window, axis=-1)) ** 2
    filters = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=fft_samples, n_mels=_MELS)
    return (power @ filters.T).astype(np.float32)


def loudest(audio: Float[np.ndarray, " n"], samples: int) -> Float[np.ndarray, " _"]:
    """Returns the stretch of a recording that has the most power, to a sixtieth of its length.

    Args:
        audio: the waveform.
        samples: the stretch's length, at least 60; a shorter recording comes back whole.
    """
    if len(audio) <= samples:
        return audio
    block = samples // 60
    blocks = audio[: len(audio) // block * block].reshape(-1, block)  # a view: it may be an hour
    power = np.einsum("bn,bn->b", blocks, blocks)
    total = np.concatenate([[0.0], np.cumsum(power, dtype=np.float64)])
    start = block * int(np.argmax(total[60:] - total[:-60]))
    return audio[start : start + samples]
