"""Audio files out: WAV, FLAC and OGG, whole or not at all, with a note of what made them."""

import os
import pathlib
from collections.abc import Iterator

import numpy as np
import soundfile

from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import replacing
from emoconv_jax.shapes import Float

FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
BITS = (16, 24)  # of WAV and FLAC; OGG is Vorbis, which has none
LIMITED_PEAK = 0.99
MOST_COMMENT_BYTES = 2045  # libsndfile writes longer ones into a WAV and cannot read them back

_BLOCK_FRAMES = 65_536  # the Vorbis encoder keeps what it is given at once on the stack


def check_suffix(path: str | os.PathLike[str]) -> str:
    """Returns the container format that a file name asks for.

    Args:
        path: a name ending in .wav, .flac or .ogg, in any case.

    Returns:
        "WAV", "FLAC" or "OGG".

    Raises:
        UsageError: another suffix.
    """
    suffix = pathlib.Path(path).suffix
    if suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: suffix {suffix!r}, allowed are {', '.join(FORMATS)}")
    return FORMATS[suffix.lower()]


def write_audio(
    path: str | os.PathLike[str],
    audio: Float[np.ndarray, " n"],
    sample_rate_hz: int,
    *,
    bits: int = 16,
    software: str = "",
    comment: str = "",
) -> None:
    """Writes a mono waveform as WAV, FLAC or OGG (Vorbis), by the suffix of its name.

    A waveform that exceeds full scale is scaled as a whole to a peak of 0.99, never clipped. The
    file appears under its name only when complete; an earlier file of that name is replaced.

    Args:
        path: the file to write; its folder must exist.
        audio: the waveform, full scale 1, at least one sample.
        sample_rate_hz: its sample rate, positive.
        bits: of a sample, 16 or 24; of no meaning for OGG.
        software: for the file's field of that name (WAV: INFO, FLAC and OGG: Vorbis comment).
        comment: for the field of that name, at most MOST_COMMENT_BYTES in UTF-8.

    Raises:
        UsageError: another suffix or number of bits, or too long a comment.
        EmoconvError: an empty waveform, NaN or infinite samples, or a file that cannot be written.
    """
    target = pathlib.Path(path)
    container = check_suffix(target)
    if bits not in BITS:
        raise UsageError(f"bits: found {bits}, allowed are {', '.join(map(str, BITS))}")
    if len(comment.encode()) > MOST_COMMENT_BYTES:
        raise UsageError(
            f"comment: found {len(comment.encode())} bytes, allowed are up to {MOST_COMMENT_BYTES}"
        )
    if audio.size == 0:
        raise EmoconvError(f"{target}: no samples to write, at least 1 is needed")
    peak = float(max(audio.max(), -audio.min()))  # NaN if a sample is
    if not np.isfinite(peak):
        raise EmoconvError(f"{target}: NaN or infinite samples to write, allowed are finite ones")
    subtype = "VORBIS" if container == "OGG" else f"PCM_{bits}"
    try:
        with (
            replacing(target) as (partial,),
            soundfile.SoundFile(partial, "w", sample_rate_hz, 1, subtype, format=container) as file,
        ):
            if software:
                file.software = software
            if comment:
                file.comment = comment
            for block in _blocks(audio, LIMITED_PEAK / peak if peak > 1.0 else 1.0):
                file.write(block if container == "OGG" else _whole(block, bits))
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        # Without soundfile's prefix, which names the temporary file.
        found = " ".join(str(getattr(error, "error_string", error)).split())
        raise EmoconvError(
            f"{target}: cannot be written ({found:.120}), expected a writable folder"
            " and a sample rate the format can hold"
        ) from error


def _blocks(audio: np.ndarray, scale: float) -> Iterator[np.ndarray]:
    for start in range(0, len(audio), _BLOCK_FRAMES):
        yield audio[start : start + _BLOCK_FRAMES] * scale


def _whole(audio: np.ndarray, bits: int) -> np.ndarray:
    """Returns whole numbers in the upper bits of int16 or int32, as libsndfile takes them.

    It is the inverse of reading (integer / full scale), so that what was read is written unchanged.
    """
    full_scale = 2 ** (bits - 1)
    samples = np.clip(np.rint(audio.astype(np.float64) * full_scale), -full_scale, full_scale - 1)
    return samples.astype(np.int16) if bits == 16 else samples.astype(np.int32) << 8
