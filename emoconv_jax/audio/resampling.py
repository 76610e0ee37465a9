"""Changes of sample rate, in the one place that knows the resampler."""

import numpy as np
import soxr

from emoconv_jax.shapes import Float


def resample(
    audio: Float[np.ndarray, " n"], from_hz: int, to_hz: int
) -> Float[np.ndarray, " resampled"]:
    """Resamples a waveform with SoX's high-quality band-limited filter.

    Args:
        audio: the waveform at `from_hz`.
        from_hz: its sample rate, positive.
        to_hz: the sample rate wanted, positive.

    Returns:
        The waveform at `to_hz`, float32, about n to_hz / from_hz samples. A peak near full scale
        may overshoot 1 slightly, as band-limiting does.
    """
    samples = np.ascontiguousarray(audio, dtype=np.float32)
    if from_hz == to_hz:
        return samples
    return soxr.resample(samples, from_hz, to_hz, quality="HQ")
