"""Audio files out: 16-bit WAV and FLAC, whole or not at all."""

import os
import pathlib

import numpy as np
import soundfile

from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import replacing
from emoconv_jax.shapes import Float

FORMATS = {".wav": "WAV", ".flac": "FLAC"}
LIMITED_PEAK = 0.99

_FULL_SCALE = 2**15


def check_suffix(path: str | os.PathLike[str]) -> str:
    """Returns the container format that a file name asks for.

    Args:
        path: a name ending in .wav or .flac, in any case.

    Returns:
        "WAV" or "FLAC".

    Raises:
        UsageError: another suffix.
    """
    suffix = pathlib.Path(path).suffix
    if suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: suffix {suffix!r}, allowed are {', '.join(FORMATS)}")
    return FORMATS[suffix.lower()]


def write_audio(
    path: str | os.PathLike[str], audio: Float[np.ndarray, " n"], sample_rate_hz: int
) -> None:
    """Writes a mono waveform as 16-bit WAV or FLAC, by the suffix of its name.

    A waveform that exceeds full scale is scaled as a whole to a peak of 0.99, never clipped. The
    file appears under its name only when complete; an earlier file of that name is replaced.

    Args:
        path: the file to write; its folder must exist.
        audio: the waveform, full scale 1, at least one sample.
        sample_rate_hz: its sample rate, positive.

    Raises:
        UsageError: a suffix other than .wav and .flac.
        EmoconvError: an empty waveform, NaN or infinite samples, or a file that cannot be written.
    """
    target = pathlib.Path(path)
    container = check_suffix(target)
    if audio.size == 0:
        raise EmoconvError(f"{target}: no samples to write, at least 1 is needed")
    if not np.isfinite(audio).all():
        raise EmoconvError(f"{target}: NaN or infinite samples to write, allowed are finite ones")
    peak = np.abs(audio).max()
    if peak > 1.0:
        audio = audio * (LIMITED_PEAK / peak)
    # The inverse of reading (integer / 2**15), so that what was read is written back unchanged.
    samples = np.clip(np.rint(audio * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    whole = samples.astype(np.int16)
    try:
        with replacing(target) as (partial,):
            soundfile.write(partial, whole, sample_rate_hz, subtype="PCM_16", format=container)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        # Without soundfile's prefix, which names the temporary file.
        found = " ".join(str(getattr(error, "error_string", error)).split())
        raise EmoconvError(
            f"{target}: cannot be written ({found:.120}), expected a writable folder"
            " and a sample rate the format can hold"
        ) from error
