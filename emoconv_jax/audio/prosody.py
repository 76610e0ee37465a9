"""Pitch and level of speech: what emotion moves and what conversions are measured by."""

import librosa
import numpy as np

from emoconv_jax.audio.mel import periodic_hann
from emoconv_jax.audio.pitch import frame_f0
from emoconv_jax.audio.resampling import resample
from emoconv_jax.config import MelConfig
from emoconv_jax.shapes import Float

LEAST_RMS = 1e-5

LOWEST_F0_HZ, HIGHEST_F0_HZ = 65.0, 650.0  # a low male voice to a shouting woman's

# Chosen for speed: see `f0_track`.
_RATE_HZ = 11_025
_FRAME_SAMPLES = 1024
_HOP_SAMPLES = 256
_RESOLUTION_SEMITONES = 0.2

_LEVEL_WINDOW_S = 0.025
_ABSOLUTE_GATE_DB = -70.0  # ITU-R BS.1770-4, 5.6
_RELATIVE_GATE_DB = -15.9  # ITU-T P.56, the margin between active level and threshold
_HIGHEST_PEAK = 0.99
_BLOCK_FRAMES = 4096  # bounds the memory of long recordings


def prosody(
    audio: Float[np.ndarray, " n"], sample_rate_hz: int, config: MelConfig
) -> Float[np.ndarray, "f 3"]:
    """Returns pitch, voicing and energy of each frame of the log-mel.

    Args:
        audio: the waveform, full scale 1.
        sample_rate_hz: of it; another than the mel's is resampled.
        config: of the mel.

    Returns:
        float32, f = n // hop frames, each centred as the mel's on the middle of its hop: log2 of F0
        in Hz, on straight lines through what is voiceless and held at the ends, 0 throughout where
        nothing is voiced; voicing, 0 or 1; and ln of the RMS amplitude under the mel's window,
        ln(1e-5) at least.
    """
    sound = resample(audio, sample_rate_hz, config.sample_rate_hz)
    f0_hz = frame_f0(sound, config.sample_rate_hz, config.hop_samples)
    energy = _log_energy(sound, config)
    return np.stack([_interpolated(f0_hz), f0_hz > 0, energy], axis=1).astype(np.float32)


def _interpolated(f0_hz: Float[np.ndarray, " f"]) -> Float[np.ndarray, " f"]:
    """Returns log2 of F0 with the gaps filled; zeros where all of it is one."""
    voiced = np.flatnonzero(f0_hz)
    if not voiced.size:
        return np.zeros(len(f0_hz))
    return np.interp(np.arange(len(f0_hz)), voiced, np.log2(f0_hz[voiced]))


def _log_energy(audio: Float[np.ndarray, " n"], config: MelConfig) -> Float[np.ndarray, " f"]:
    fft, hop = config.fft_samples, config.hop_samples
    frames = len(audio) // hop
    if not frames:
        return np.zeros(0)
    before = (fft - hop) // 2
    power = np.pad(np.square(audio[: frames * hop], dtype=np.float64), before)
    hann = periodic_hann(fft).astype(np.float64)
    # as the spectrum has it; what lies beyond the ends does not count
    weights = np.square(hann)
    windows = np.lib.stride_tricks.sliding_window_view(power, fft)[::hop]
    inside = np.lib.stride_tricks.sliding_window_view(
        np.pad(np.ones(frames * hop, np.float64), before), fft
    )[::hop]
    mean = [
        (windows[i : i + _BLOCK_FRAMES] @ weights) / (inside[i : i + _BLOCK_FRAMES] @ weights)
        for i in range(0, frames, _BLOCK_FRAMES)
    ]
    return np.log(np.maximum(np.sqrt(np.concatenate(mean)), LEAST_RMS))


def f0_track(
    audio: Float[np.ndarray, " n"], sample_rate_hz: int
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Follows the fundamental frequency with pYIN, at settings chosen for speed.

    At 11 025 Hz, a hop of 23 ms and steps of a fifth of a semitone.

    Args:
        audio: the waveform.
        sample_rate_hz: its sample rate.

    Returns:
        The times of the frames in seconds, and the fundamental frequency in Hz, 65 to 650, NaN
        where the voice is silent or unvoiced. Less than 93 ms, one analysis frame, is one NaN.

    Source: Mauch and Dixon, pYIN, ICASSP 2014, in librosa's implementation.
    """
    samples = resample(audio, sample_rate_hz, _RATE_HZ)
    if len(samples) < _FRAME_SAMPLES:
        # The zeros around a fragment would pass for the periods of a voice.
        return np.zeros(1), np.full(1, np.nan)
    f0_hz, _, _ = librosa.pyin(
        samples,
        fmin=LOWEST_F0_HZ,
        fmax=HIGHEST_F0_HZ,
        sr=_RATE_HZ,
        frame_length=_FRAME_SAMPLES,
        hop_length=_HOP_SAMPLES,
        resolution=_RESOLUTION_SEMITONES,
    )
    return np.arange(len(f0_hz)) * (_HOP_SAMPLES / _RATE_HZ), f0_hz


def median_f0_hz(audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> float:
    """Returns the median fundamental frequency of the voiced frames in Hz.

    Args:
        audio: the waveform.
        sample_rate_hz: its sample rate.

    Returns:
        The median in Hz, 65 to 650; NaN if no frame is voiced.
    """
    _, f0_hz = f0_track(audio, sample_rate_hz)
    voiced = f0_hz[np.isfinite(f0_hz)]
    return float(np.median(voiced)) if voiced.size else float("nan")


def level_db(audio: Float[np.ndarray, " n"], sample_rate_hz: int = 22050) -> float:
    """Returns the level of the speech in a waveform, without its pauses, in dBFS.

    The power is averaged over 25 ms windows that lie above -70 dBFS and no more than 15.9 dB below
    the average of those. A sine of peak 1 has -3.01 dBFS.

    Args:
        audio: the waveform, full scale 1.
        sample_rate_hz: its sample rate.

    Returns:
        The level in dBFS; -inf if no window lies above -70 dBFS.

    Source: the two gates follow ITU-R BS.1770-4, the margin is that of ITU-T P.56.
    """
    power = _active_power(audio, sample_rate_hz)
    return float(10 * np.log10(power)) if power > 0.0 else float("-inf")


def set_level(
    audio: Float[np.ndarray, " n"], level_db: float, sample_rate_hz: int = 22050
) -> Float[np.ndarray, " n"]:
    """Scales a waveform so that its speech has the level asked for.

    Args:
        audio: the waveform, full scale 1.
        level_db: the level wanted, in dBFS, as the function of that name finds it.
        sample_rate_hz: the sample rate of the waveform.

    Returns:
        The scaled waveform, float32. Where the level would lift the peak above 0.99 it stays
        lower, at that peak. Silence is returned as it is.
    """
    power = _active_power(audio, sample_rate_hz)
    if power == 0.0:
        return audio.astype(np.float32)
    gain = np.sqrt(10 ** (level_db / 10) / power)
    return (audio * min(gain, _HIGHEST_PEAK / np.abs(audio).max())).astype(np.float32)


def level_spread_db(audio: Float[np.ndarray, " n"], sample_rate_hz: int = 22050) -> float:
    """Returns how much the level of the speech varies: the standard deviation over its windows.

    Args:
        audio: the waveform, full scale 1.
        sample_rate_hz: its sample rate.

    Returns:
        Decibels, over the windows that `level_db` averages; 0 if there is none.
    """
    power = _active_windows(audio, sample_rate_hz)
    return float(np.std(10 * np.log10(power))) if power.size else 0.0


def _active_power(audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> float:
    """Returns the mean power of the windows that pass both gates; 0 if none does."""
    power = _active_windows(audio, sample_rate_hz)
    return float(power.mean()) if power.size else 0.0


def _active_windows(
    audio: Float[np.ndarray, " n"], sample_rate_hz: int
) -> Float[np.ndarray, " windows"]:
    """Returns the power of each window that passes both gates."""
    window_samples = max(1, min(len(audio), round(_LEVEL_WINDOW_S * sample_rate_hz)))
    whole = audio[: len(audio) // window_samples * window_samples].astype(np.float64)
    power = np.square(whole.reshape(-1, window_samples)).mean(axis=1)
    active = power[power > 10 ** (_ABSOLUTE_GATE_DB / 10)]
    if active.size == 0:
        return active
    return active[active >= active.mean() * 10 ** (_RELATIVE_GATE_DB / 10)]
