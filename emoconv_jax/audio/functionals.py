"""Functionals of speech: numbers of a fixed count for a clip of any length, without a network.

    frames       every 23 ms, those within 40 dB of the loudest
    contours     7 cepstral coefficients of the log-mel, log energy, log2 F0 (voiced frames alone),
                 and the differences of all of them
    functionals  mean, standard deviation, 10, 50 and 90 % point, and slope per second of a contour;
                 of voicing the voiced share of the frames, the voiced stretches per second, and
                 the mean and the deviation of their lengths; the clip's logarithm of seconds

Source: the selection follows Eyben et al., GeMAPS (IEEE Trans. Affective Computing 7(2), 2016),
which describes emotion in speech by such numbers.
"""

import librosa
import numpy as np

from emoconv_jax.audio.prosody import f0_track
from emoconv_jax.audio.resampling import resample
from emoconv_jax.shapes import Float

RATE_HZ = 22_050
FFT_SAMPLES, HOP_SAMPLES = 1024, 512  # the hop is that of `f0_track`
CEPSTRA, MELS, HIGHEST_HZ = 7, 40, 8000.0  # more coefficients tell voices apart, not emotions
RANGE_DB = 40.0
POINTS = (10, 50, 90)
FEWEST = 3  # frames of a contour, else its functionals are 0
FLOOR = 1e-10  # of power

STATISTICS = ("mean", "deviation", *(f"point{p}" for p in POINTS), "slope")
CONTOURS = (*(f"cepstrum{i}" for i in range(CEPSTRA)), "energy", "f0")
VOICING = ("voiced_share", "voiced_stretches_per_s", "voiced_mean_s", "voiced_deviation_s")
NAMES = (
    *(f"{c}{d}_{s}" for c in CONTOURS for d in ("", "_delta") for s in STATISTICS),
    *VOICING,
    "log_seconds",
)


def functionals(audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> Float[np.ndarray, " d"]:
    """Returns the functionals of a clip.

    Args:
        audio: mono. Its level is heard, in the energy and the first cepstral coefficient: who does
            not want that sets it first.
        sample_rate_hz: of it.

    Returns:
        One number per name of NAMES, all finite.
    """
    speech = resample(audio, sample_rate_hz, RATE_HZ).astype(np.float32)
    speech = np.pad(speech, (0, max(0, FFT_SAMPLES - len(speech))))
    power = librosa.feature.melspectrogram(
        y=speech, sr=RATE_HZ, n_fft=FFT_SAMPLES, hop_length=HOP_SAMPLES, n_mels=MELS,
        fmax=HIGHEST_HZ,
    )  # fmt: skip
    cepstra = librosa.feature.mfcc(S=10 * np.log10(power + FLOOR), n_mfcc=CEPSTRA)
    energy = 10 * np.log10(power.sum(axis=0) + FLOOR)
    _, f0_hz = f0_track(speech, RATE_HZ)
    frames = min(len(energy), len(f0_hz))
    cepstra, energy, f0_hz = cepstra[:, :frames], energy[:frames], f0_hz[:frames]
    loud = energy >= energy.max() - RANGE_DB
    seconds = np.arange(frames) * (HOP_SAMPLES / RATE_HZ)
    voiced = np.isfinite(f0_hz)
    log_f0 = np.log2(np.where(voiced, f0_hz, 1.0))
    found: list[float] = []
    for contour in (*cepstra, energy):
        found += _statistics(contour, seconds, loud)
        found += _statistics(np.gradient(contour) if frames > 1 else contour, seconds, loud)
    found += _statistics(log_f0, seconds, voiced)
    steps = np.diff(log_f0, prepend=log_f0[:1])
    found += _statistics(steps, seconds, voiced & np.roll(voiced, 1) & (np.arange(frames) > 0))
    found += _voicing(voiced)
    found.append(float(np.log(len(speech) / RATE_HZ)))
    return np.array(found, np.float32)


def _statistics(contour: np.ndarray, seconds: np.ndarray, kept: np.ndarray) -> list[float]:
    """Returns STATISTICS of a contour's kept frames."""
    values, at = contour[kept].astype(np.float64), seconds[kept]
    if len(values) < FEWEST:
        return [0.0] * len(STATISTICS)
    at = at - at.mean()
    slope = float(at @ (values - values.mean()) / (at @ at))
    points = [float(p) for p in np.percentile(values, POINTS)]
    return [float(values.mean()), float(values.std()), *points, slope]


def _voicing(voiced: np.ndarray) -> list[float]:
    """Returns VOICING of a clip."""
    hop_s = HOP_SAMPLES / RATE_HZ
    edges = np.flatnonzero(np.diff(np.concatenate([[0], voiced.astype(int), [0]])))
    lengths = (edges[1::2] - edges[::2]) * hop_s
    if not len(lengths):
        return [0.0] * len(VOICING)
    rate = len(lengths) / (len(voiced) * hop_s)
    return [float(voiced.mean()), rate, float(lengths.mean()), float(lengths.std())]
