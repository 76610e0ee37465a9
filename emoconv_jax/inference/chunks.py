"""Long recordings in chunks: where a log-mel is cut, and how what was sampled is joined again.

    cut    at the quietest place within the last WINDOW_FRAMES that a chunk may have, so that no
           chunk is longer than LONGEST_FRAMES and a seam falls between words
    join   neighbours share OVERLAP_FRAMES around the cut, over which one log-mel fades into the
           other along a raised cosine

The vocoder hears the joined log-mel, so there is no seam in the waveform itself.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from emoconv_jax.shapes import Float

LONGEST_FRAMES = 1280  # 14.9 s; attention over more of them costs memory and gains nothing
WINDOW_FRAMES = 256  # 3 s: speech without a pause in them is rare
OVERLAP_FRAMES = 32  # .37 s


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A stretch of frames, overlaps included: from `start` to before `stop`."""

    start: int
    stop: int


def chunks_of(mel: Float[np.ndarray, "f m"]) -> list[Chunk]:
    """Returns the chunks that a recording is converted in.

    Args:
        mel: its log-mel.

    Returns:
        Chunks in order, each of at most LONGEST_FRAMES, that overlap by OVERLAP_FRAMES; a
        recording that is no longer than that is one chunk.
    """
    frames, half = len(mel), OVERLAP_FRAMES // 2
    power = np.exp(2 * mel.astype(np.float64)).mean(axis=1)  # the mel is of magnitudes
    level = np.convolve(power, np.full(OVERLAP_FRAMES, 1 / OVERLAP_FRAMES), "same")
    found, begin, cut = [], 0, 0
    while frames - begin > LONGEST_FRAMES:
        latest = begin + LONGEST_FRAMES - half
        if frames - cut < 2 * (LONGEST_FRAMES - WINDOW_FRAMES):  # two are left, of like length
            latest = min(latest, cut + (frames - cut + WINDOW_FRAMES) // 2)
        first = latest - WINDOW_FRAMES
        cut = first + int(np.argmin(level[first:latest]))
        found.append(Chunk(begin, cut + half))
        begin = cut - half
    return [*found, Chunk(begin, frames)]


def joined(mels: Iterable[Float[np.ndarray, "_ m"]]) -> Iterator[Float[np.ndarray, "_ m"]]:
    """Joins the log-mels of chunks as they come.

    Args:
        mels: of the chunks of `chunks_of`, in order.

    Yields:
        Log-mels, as soon as nothing can change them any more; together they are the recording's.
    """
    fade = 0.5 - 0.5 * np.cos(np.pi * (np.arange(OVERLAP_FRAMES) + 0.5) / OVERLAP_FRAMES)
    fade = fade[:, None].astype(np.float32)
    tail: np.ndarray | None = None
    for mel in mels:
        if tail is not None:
            yield (1 - fade) * tail + fade * mel[:OVERLAP_FRAMES]
            mel = mel[OVERLAP_FRAMES:]
        yield mel[:-OVERLAP_FRAMES]
        tail = mel[-OVERLAP_FRAMES:]
    if tail is not None:
        yield tail
