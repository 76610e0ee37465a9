"""Audio files in: WAV, FLAC, OGG and MP3, treated as hostile until proven sound.

What a file claims is checked before a single sample is decoded, because a small file can decode to
more than a thousand times its size; what it then contains is checked block by block, and only the
mono waveform that is asked for is ever held whole.
"""

import contextlib
import dataclasses
import math
import os
import re
import stat
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile

from emoconv_jax.audio.ogg import check_ogg
from emoconv_jax.audio.resampling import resample, resampled_blocks
from emoconv_jax.errors import EmoconvError
from emoconv_jax.shapes import Float

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3")  # that such files usually have
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 384_000
MOST_CHANNELS = 32
MOST_DECODED_BYTES = 256 * 2**20  # as float32, all channels; unless the caller allows more
SHORTEST_S = 0.1
SILENCE_PEAK = 1e-4  # -80 dBFS

_BLOCK_FRAMES = 65_536
_UNKNOWN_FRAMES = 2**63 - 1  # what libsndfile reports when the header does not say
_STREAMED_BYTES = 2**32 - 1  # the data size that encoders write into a WAV sent down a pipe


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        duration_s: in seconds.
        comment: its comment field, however long; empty where there is none.
    """

    duration_s: float
    comment: str


def read_audio(
    path: str | os.PathLike[str],
    sample_rate_hz: int = 22050,
    *,
    max_seconds: float | int = 600.0,
    max_decoded_bytes: int = MOST_DECODED_BYTES,
) -> Float[np.ndarray, " n"]:
    """Reads an audio file as a mono waveform at the sample rate asked for.

    Channels are averaged. A waveform that exceeds full scale (float files, or the overshoot of
    resampling) is scaled down as a whole, so that nothing is clipped. Memory goes to the waveform
    returned and to one block, whatever the rate and the channels of the file.

    Args:
        path: a WAV, FLAC, OGG (Vorbis or Opus) or MP3 file, recognised by its content.
        sample_rate_hz: the sample rate of the result, 4000 to 384000.
        max_seconds: the longest duration accepted, in seconds.
        max_decoded_bytes: the largest size accepted of all channels as float32, in bytes.

    Returns:
        The waveform, float32 in [-1, 1].

    Raises:
        EmoconvError: one line with the file, what was found and what is allowed, if it is missing,
            not a regular file, empty, truncated, undecodable, of another format, a chain of OGG
            streams (see `audio.ogg`), too long, too large when decoded, shorter than 0.1 s, outside
            4000 to 384000 Hz, of more than 32 channels, silent (peak below -80 dBFS), or holds NaN
            or infinite samples.
    """
    _check_rate("sample_rate_hz", sample_rate_hz)
    name = os.fspath(path)
    with _opened(name, max_seconds, max_decoded_bytes) as sound:
        audio, peak = _resampled(name, sound, sample_rate_hz, 1.0)
    if peak > 1.0:  # only now known; absurd float values have overflowed in the filter
        del audio
        # opened anew: an MP3 that is wound back does not decode to the very same samples
        with _opened(name, max_seconds, max_decoded_bytes) as sound:
            audio, _ = _resampled(name, sound, sample_rate_hz, peak)
    check_heard(name, peak)
    overshoot = _peak(audio)
    if overshoot > 1.0:  # as `_limited`, but in place
        audio /= np.float32(overshoot)
        np.clip(audio, -1.0, 1.0, out=audio)
    return audio


def read_native(
    path: str | os.PathLike[str],
    *,
    max_seconds: float | int = 600.0,
    max_decoded_bytes: int = MOST_DECODED_BYTES,
) -> tuple[Float[np.ndarray, " n"], int]:
    """Reads an audio file as a mono waveform at its own sample rate and level.

    Args:
        path: as for `read_audio`.
        max_seconds: the longest duration accepted, in seconds.
        max_decoded_bytes: the largest size accepted of all channels as float32, in bytes.

    Returns:
        The waveform, float32, and its sample rate in Hz.

    Raises:
        EmoconvError: as for `read_audio`, silence apart; its `kind` is "missing", "empty", "too
            short" or "too long" where that is what is wrong.
    """
    name = os.fspath(path)
    with _opened(name, max_seconds, max_decoded_bytes) as sound:
        return _joined(_blocks(name, sound), sound.frames), sound.samplerate


def read_header(
    path: str | os.PathLike[str],
    *,
    max_seconds: float | int = 600.0,
    max_decoded_bytes: int = MOST_DECODED_BYTES,
) -> Header:
    """Reads what an audio file says of itself, without decoding it.

    Args:
        path: as for `read_audio`.
        max_seconds: the longest duration accepted, in seconds.
        max_decoded_bytes: the largest size accepted of all channels as float32, in bytes.

    Returns:
        Its duration and its comment.

    Raises:
        EmoconvError: as for `read_audio`, as far as that can be told from the header.
    """
    with _opened(os.fspath(path), max_seconds, max_decoded_bytes) as sound:
        return Header(sound.frames / sound.samplerate, sound.comment)


def check_heard(name: str, peak: float) -> None:
    """Refuses silence.

    Args:
        name: of the file.
        peak: greatest absolute sample of it.

    Raises:
        EmoconvError: a peak below -80 dBFS.
    """
    if peak < SILENCE_PEAK:
        raise EmoconvError(
            f"{name}: silent (peak {peak:.1e}), allowed is a peak from {SILENCE_PEAK:g} (-80 dBFS)"
        )


def check_waveform(
    audio: np.ndarray, sample_rate_hz: int, max_seconds: float | int
) -> Float[np.ndarray, " n"]:
    """Refuses a caller's waveform for what a file would be refused for.

    Args:
        audio: anything in an array.
        sample_rate_hz: of it.
        max_seconds: the longest duration accepted, in seconds.

    Returns:
        The waveform, float32.

    Raises:
        EmoconvError: not one channel of a length that is allowed, silent, beyond full scale, or
            with NaN.
    """
    shortest, longest = SHORTEST_S * sample_rate_hz, max_seconds * sample_rate_hz
    if audio.ndim != 1 or not shortest <= len(audio) <= longest:
        raise EmoconvError(
            f"waveform: found shape {audio.shape}, allowed is one channel of "
            f"{math.ceil(shortest)} to {math.floor(longest)} samples"
        )
    peak = float(np.abs(audio, dtype=np.float64).max())
    if not SILENCE_PEAK <= peak <= 1.0:  # also refuses NaN
        raise EmoconvError(f"waveform: found peak {peak}, allowed is {SILENCE_PEAK:g} to 1")
    return audio.astype(np.float32)


def conform(
    audio: Float[np.ndarray, " n"], native_rate_hz: int, sample_rate_hz: int
) -> Float[np.ndarray, " resampled"]:
    """Returns a waveform at another sample rate, scaled down as a whole where it exceeds 1.

    Args:
        audio: mono, float32.
        native_rate_hz: its sample rate.
        sample_rate_hz: of the result.

    Returns:
        The waveform, float32 in [-1, 1].
    """
    # Scaled before resampling too: absurd float values would overflow in the filter.
    return _limited(resample(_limited(audio), native_rate_hz, sample_rate_hz))


@contextlib.contextmanager
def _opened(
    name: str, max_seconds: float | int, max_decoded_bytes: int
) -> Iterator[soundfile.SoundFile]:
    """Opens a file whose header is within the limits; what fails meanwhile is told in one line."""
    _check_regular(name)
    try:
        check_ogg(name)
        held: Any = os.fsencode(name)  # as text soundfile refuses a name that is not UTF-8
        with soundfile.SoundFile(held) as sound:
            _check_header(name, sound, max_seconds, max_decoded_bytes)
            _check_complete(name, sound)
            yield sound
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        # TypeError: a name ending in .raw, which soundfile wants described by the caller
        found = " ".join(str(getattr(error, "error_string", error)).split()) or "damaged data"
        raise EmoconvError(
            f"{name}: cannot be decoded ({found:.80}), allowed are intact WAV, FLAC, OGG, MP3 files"
        ) from error


def _check_rate(where: str, rate_hz: int) -> None:
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise EmoconvError(
            f"{where}: sample rate {rate_hz} Hz,"
            f" allowed are {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz"
        )


def _check_regular(name: str) -> None:
    """Refuses what is not a non-empty regular file, before opening it: a fifo would block."""
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        kind = "missing" if isinstance(error, FileNotFoundError) else ""
        raise EmoconvError(f"{name!r}: {reason}, expected a readable audio file", kind) from error
    if stat.S_ISDIR(status.st_mode):
        raise EmoconvError(f"{name}: is a directory, expected an audio file")
    if not stat.S_ISREG(status.st_mode):
        raise EmoconvError(f"{name}: not a regular file, expected an audio file")
    if status.st_size == 0:
        raise EmoconvError(f"{name}: empty (0 bytes), expected an audio file", "empty")


def _check_header(
    name: str, sound: soundfile.SoundFile, max_seconds: float | int, max_decoded_bytes: int
) -> None:
    """Holds the file's own claims against the limits."""
    frames, rate_hz, channels = sound.frames, sound.samplerate, sound.channels
    if sound.format not in FORMATS:
        raise EmoconvError(f"{name}: format {sound.format}, allowed are WAV, FLAC, OGG, MP3")
    _check_rate(name, rate_hz)
    if not 1 <= channels <= MOST_CHANNELS:
        raise EmoconvError(f"{name}: {channels} channels, allowed are 1 to {MOST_CHANNELS}")
    if frames >= _UNKNOWN_FRAMES:
        raise EmoconvError(f"{name}: the header does not state a length, one is needed")
    if frames > max_seconds * rate_hz:
        raise EmoconvError(
            f"{name}: {frames / rate_hz:.1f} s long, allowed are up to {max_seconds:g} s",
            "too long",
        )
    if frames * channels * 4 > max_decoded_bytes:
        raise EmoconvError(
            f"{name}: {frames * channels * 4 / 2**20:.0f} MiB when decoded,"
            f" allowed are up to {max_decoded_bytes / 2**20:.0f} MiB"
        )
    if frames < SHORTEST_S * rate_hz:
        raise EmoconvError(
            f"{name}: {frames} samples ({max(frames, 0) / rate_hz:.3f} s),"
            f" allowed are {SHORTEST_S:g} s or more",
            "too short" if frames > 0 else "empty",
        )


def _check_complete(name: str, sound: soundfile.SoundFile) -> None:
    """Refuses cut-off files whose missing end libsndfile passes over in silence.

    FLAC and MP3 need no check: decoding them comes out shorter than the header says. OGG has had
    its own, `audio.ogg`.
    """
    if sound.format in ("FLAC", "OGG", "MP3"):
        return
    # libsndfile shortens a WAV to what is there and mentions the claim only in its log.
    claim = re.search(r"data : (\d+) \(should be (\d+)\)", sound.extra_info)
    if claim is None:
        return
    claimed_bytes, present_bytes = int(claim[1]), int(claim[2])
    if claimed_bytes > present_bytes + 1 and claimed_bytes != _STREAMED_BYTES:
        raise EmoconvError(
            f"{name}: truncated, the header claims {claimed_bytes} bytes of samples and"
            f" {present_bytes} are there, allowed are whole files"
        )


def _blocks(name: str, sound: soundfile.SoundFile) -> Iterator[Float[np.ndarray, " _"]]:
    """Yields an opened file block by block as mono, as many samples as the header claims."""
    filled = 0
    while filled < sound.frames:
        wanted = min(_BLOCK_FRAMES, sound.frames - filled)
        block = sound.read(wanted, dtype="float32", always_2d=True)
        if len(block) == 0:
            raise EmoconvError(
                f"{name}: truncated, the header claims {sound.frames} samples and {filled} could"
                " be decoded, allowed are whole files"
            )
        if not np.isfinite(block).all():
            raise EmoconvError(
                f"{name}: NaN or infinite samples between {filled / sound.samplerate:.2f} s and"
                f" {(filled + len(block)) / sound.samplerate:.2f} s, allowed are finite ones"
            )
        yield block.mean(axis=1, dtype=np.float64).astype(np.float32)
        filled += len(block)


def _resampled(
    name: str, sound: soundfile.SoundFile, sample_rate_hz: int, divisor: float
) -> tuple[Float[np.ndarray, " n"], float]:
    """Decodes an opened file at another rate, divided by a number; returns its own peak as well."""
    peak = 0.0

    def divided() -> Iterator[np.ndarray]:
        nonlocal peak
        for block in _blocks(name, sound):
            peak = max(peak, _peak(block))
            yield np.clip(block / np.float32(divisor), -1.0, 1.0) if divisor > 1.0 else block

    most = sound.frames * sample_rate_hz // sound.samplerate + 2
    return _joined(resampled_blocks(divided(), sound.samplerate, sample_rate_hz), most), peak


def _joined(blocks: Iterator[np.ndarray], most_samples: int) -> Float[np.ndarray, " n"]:
    """Returns blocks as one array, without holding all of it twice."""
    audio, filled = np.empty(most_samples, np.float32), 0
    for block in blocks:
        audio[filled : filled + len(block)] = block
        filled += len(block)
    return audio[:filled]


def _peak(audio: np.ndarray) -> float:
    return float(max(audio.max(initial=0.0), -audio.min(initial=0.0)))


def _limited(audio: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Returns the waveform scaled as a whole to within [-1, 1]; unchanged if it is there."""
    peak = _peak(audio)
    return audio if peak <= 1.0 else np.clip(audio / np.float32(peak), -1.0, 1.0)
