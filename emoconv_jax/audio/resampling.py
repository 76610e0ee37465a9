"""Changes of sample rate, in the one place that knows the resampler."""

from collections.abc import Iterable, Iterator

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


def resampled_blocks(
    blocks: Iterable[Float[np.ndarray, " _"]], from_hz: int, to_hz: int
) -> Iterator[Float[np.ndarray, " _"]]:
    """Resamples a waveform that comes block by block, as `resample` does the whole.

    Args:
        blocks: of the waveform at `from_hz`, in order, float32.
        from_hz: their sample rate, positive.
        to_hz: the sample rate wanted, positive.

    Yields:
        Blocks at `to_hz`, which together are what `resample` returns.
    """
    if from_hz == to_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block, np.float32))
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)
