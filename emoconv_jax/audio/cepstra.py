"""Cepstra of log-mels, and the warping of time between two recordings of the same words."""

import math

import librosa
import numpy as np
from scipy.fft import dct

from emoconv_jax.shapes import Float, Int

COEFFICIENTS = 13


def cepstra(log_mels: Float[np.ndarray, "f m"]) -> Float[np.ndarray, "f k"]:
    """Returns c_1 .. c_13 of each frame, where ln |S| = c_0 + sum_k c_k cos.

    Of N bins' orthonormal DCT-II X_k, c_k = sqrt(2 / N) X_k. c_0, the level, is left out.

    Args:
        log_mels: natural logarithms of magnitudes.

    Returns:
        Coefficients, in nepers.
    """
    spectrum = np.asarray(dct(log_mels.astype(np.float64), type=2, axis=1, norm="ortho"))
    return math.sqrt(2 / log_mels.shape[1]) * spectrum[:, 1 : COEFFICIENTS + 1]


def warping_path(
    a: Float[np.ndarray, "f k"], b: Float[np.ndarray, "g k"]
) -> Int[np.ndarray, "p 2"]:
    """Returns which frames belong together, by dynamic time warping of least euclidean distance.

    Args:
        a: coefficients of frames.
        b: likewise.

    Returns:
        Pairs of frames, from the first of both to the last of both.
    """
    _, path = librosa.sequence.dtw(X=a.T, Y=b.T, metric="euclidean")
    return np.asarray(path)[::-1]
