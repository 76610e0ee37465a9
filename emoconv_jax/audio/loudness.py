"""Loudness as it is heard, by ITU-R BS.1770, so that a conversion can be as loud as its source.

The filters are pyloudnorm's, which is loaded only where loudness is asked for.
"""

import importlib.util

import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.shapes import Float

HIGHEST_PEAK = 0.99
BLOCK_S = 0.4  # ITU-R BS.1770-4, annex 1
_WITHIN = 1 - 1e-9  # a block of all samples is no sample longer than they, however that is rounded


def check_installed() -> None:
    """Makes sure that loudness can be measured here, before work depends on it.

    Raises:
        EmoconvError: pyloudnorm is not installed.
    """
    if importlib.util.find_spec("pyloudnorm") is None:
        raise EmoconvError(
            "matching loudness needs pyloudnorm, which is not installed; "
            "`pip install -e .[loudness]` has it"
        )


def loudness_lufs(audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> float:
    """Returns the integrated loudness of a mono waveform.

    Args:
        audio: the waveform, full scale 1, at least one sample.
        sample_rate_hz: its sample rate.

    Returns:
        LUFS; -inf where no block lies above -70. A waveform shorter than a block of 0.4 s is
        measured as one block.

    Raises:
        EmoconvError: pyloudnorm is not installed, or cannot measure it.

    Source: ITU-R BS.1770-4, in pyloudnorm's implementation.
    """
    check_installed()
    import pyloudnorm

    block_s = min(BLOCK_S, len(audio) / sample_rate_hz * _WITHIN)
    try:
        meter = pyloudnorm.Meter(sample_rate_hz, block_size=block_s)
        with np.errstate(all="ignore"):  # of silence: the mean of no blocks
            return float(meter.integrated_loudness(audio.astype(np.float64)))
    except Exception as error:  # another's code: one file fails, not the job
        raise EmoconvError(
            f"loudness: cannot be measured of {len(audio)} samples at {sample_rate_hz} Hz "
            f"({' '.join(str(error).split()):.120})"
        ) from error


def match_loudness(
    audio: Float[np.ndarray, " n"], reference: Float[np.ndarray, " m"], sample_rate_hz: int
) -> Float[np.ndarray, " n"]:
    """Scales a waveform to the loudness of another.

    Args:
        audio: the waveform to scale, full scale 1.
        reference: the waveform that is as loud as it should be.
        sample_rate_hz: of both.

    Returns:
        The scaled waveform, float32. Where the loudness would lift the peak above 0.99 it stays
        lower, at that peak. Where one of the two is silent nothing is changed.

    Raises:
        EmoconvError: pyloudnorm is not installed, or cannot measure one of them.
    """
    wanted, found = (loudness_lufs(sound, sample_rate_hz) for sound in (reference, audio))
    if not (np.isfinite(wanted) and np.isfinite(found)):
        return audio.astype(np.float32)
    gain = 10 ** ((wanted - found) / 20)
    return (audio * min(gain, HIGHEST_PEAK / np.abs(audio).max())).astype(np.float32)
