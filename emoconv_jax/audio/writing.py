"""Audio files out: WAV, FLAC and OGG, whole or not at all, with a note of what made them."""

import io
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import soundfile

from emoconv_jax.audio.reading import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import replacing
from emoconv_jax.shapes import Float

FORMATS = ("wav", "flac", "ogg")
BITS = (16, 24)  # of WAV and FLAC; OGG is Vorbis, which has none
HIGHEST_VORBIS_HZ = 192_000  # from 200 001 on libsndfile 1.2 does not refuse: it crashes
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
    if suffix[1:].lower() not in FORMATS:
        raise UsageError(f"{path}: suffix {suffix!r}, allowed are .{', .'.join(FORMATS)}")
    return suffix[1:].upper()


def check_output(name: str, sample_rate_hz: int | None = None, bits: int = 16) -> None:
    """Refuses what no file of a format can hold, before work is spent on it.

    Args:
        name: of the format: wav, flac or ogg.
        sample_rate_hz: of the file; None is one that all of them can hold.
        bits: of a sample; of no meaning for OGG.

    Raises:
        UsageError: another format or number of bits, or a sample rate beyond 4000 to 384000
            (192000 of OGG) or that the format has no way to write, such as 191999 of FLAC.
    """
    if name not in FORMATS:
        raise UsageError(f"format: found {name!r}, allowed are {', '.join(FORMATS)}")
    if bits not in BITS:
        raise UsageError(f"bits: found {bits}, allowed are {', '.join(map(str, BITS))}")
    if sample_rate_hz is None:
        return
    container = name.upper()
    highest_hz = HIGHEST_VORBIS_HZ if container == "OGG" else HIGHEST_RATE_HZ
    if not LOWEST_RATE_HZ <= sample_rate_hz <= highest_hz:
        raise UsageError(
            f"sample_rate_hz: found {sample_rate_hz}, allowed is {LOWEST_RATE_HZ} to {highest_hz}"
        )
    try:
        subtype = _subtype(container, bits)
        held = io.BytesIO()
        with soundfile.SoundFile(held, "w", sample_rate_hz, 1, subtype, format=container) as file:
            file.write(np.zeros(64, np.float32))  # FLAC refuses a rate only now
    except soundfile.SoundFileError:
        raise UsageError(
            f"sample_rate_hz: found {sample_rate_hz}, which {container} cannot hold"
        ) from None


def write_audio(
    path: str | os.PathLike[str],
    audio: Float[np.ndarray, " n"],
    sample_rate_hz: int,
    *,
    bits: int = 16,
    software: str = "",
    comment: str = "",
    before: Callable[[], None] | None = None,
) -> None:
    """Writes a mono waveform as WAV, FLAC or OGG (Vorbis), by the suffix of its name.

    A waveform that exceeds full scale is scaled as a whole to a peak of 0.99, never clipped. The
    file appears under its name only when complete; an earlier file of that name is replaced.

    Args:
        path: the file to write; its folder must exist.
        audio: the waveform, full scale 1, at least one sample.
        sample_rate_hz: its sample rate, as `check_output` allows it.
        bits: of a sample, 16 or 24; of no meaning for OGG.
        software: for the file's field of that name (WAV: INFO, FLAC and OGG: Vorbis comment).
        comment: for the field of that name, at most MOST_COMMENT_BYTES in UTF-8.
        before: called when all is written, before the file gets its name; None is nothing. What
            goes with the audio is written here, so that audio under its name has it.

    Raises:
        UsageError: another suffix, what `check_output` refuses, or too long a comment.
        EmoconvError: an empty waveform, NaN or infinite samples, or a file that cannot be written;
            or of `before`.
    """
    target = pathlib.Path(path)
    container = check_suffix(target)
    try:
        check_output(container.lower(), sample_rate_hz, bits)
    except UsageError as error:
        raise UsageError(f"{target}: {error}") from None
    if len(comment.encode()) > MOST_COMMENT_BYTES:
        raise UsageError(
            f"comment: found {len(comment.encode())} bytes, allowed are up to {MOST_COMMENT_BYTES}"
        )
    if audio.size == 0:
        raise EmoconvError(f"{target}: no samples to write, at least 1 is needed")
    peak = float(max(audio.max(), -audio.min()))  # NaN if a sample is
    if not np.isfinite(peak):
        raise EmoconvError(f"{target}: NaN or infinite samples to write, allowed are finite ones")
    form = (sample_rate_hz, 1, _subtype(container, bits), None, container)
    try:
        with replacing(target) as (partial,):
            held: Any = os.fsencode(partial)  # as text soundfile refuses what is not UTF-8
            with soundfile.SoundFile(held, "w", *form) as file:
                if software:
                    file.software = software
                if comment:
                    file.comment = comment
                for block in _blocks(audio, LIMITED_PEAK / peak if peak > 1.0 else 1.0):
                    file.write(block if container == "OGG" else _whole(block, bits))
            if before is not None:
                before()
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        # Without soundfile's prefix, which names the temporary file.
        found = " ".join(str(getattr(error, "error_string", error)).split())
        raise EmoconvError(
            f"{target}: cannot be written ({found:.120}), expected a writable folder"
        ) from error


def _subtype(container: str, bits: int) -> str:
    return "VORBIS" if container == "OGG" else f"PCM_{bits}"


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
