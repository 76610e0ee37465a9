"""Long recordings: cut where it is quiet, joined without a trace."""

import itertools

import numpy as np
import pytest

from emoconv_jax.inference.chunks import (
    LONGEST_FRAMES,
    OVERLAP_FRAMES,
    chunks_of,
    joined,
)


def noise(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-4, 1, (frames, 4)).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 31, 1279, 1280, 1281, 1500, 2047, 2048, 2560, 3000, 10_337])
def test_chunks_cover_everything_and_none_is_long_or_tiny(frames):
    chunks = chunks_of(noise(frames))
    assert (chunks[0].start, chunks[-1].stop) == (0, frames)
    lengths = [chunk.stop - chunk.start for chunk in chunks]
    assert max(lengths) <= LONGEST_FRAMES
    assert len(chunks) == 1 or min(lengths) > LONGEST_FRAMES // 3
    for one, other in itertools.pairwise(chunks):
        assert one.stop - other.start == OVERLAP_FRAMES
    assert (len(chunks) == 1) == (frames <= LONGEST_FRAMES)


def test_a_cut_falls_into_the_pause():
    """A pause of 50 frames that the first cut can reach: the second half of 20 s begins near."""
    mel = noise(1750)
    mel[950:1000] = -11.5
    one, other = chunks_of(mel)
    half = OVERLAP_FRAMES // 2
    assert one.stop - 2 * half >= 950 and other.start + 2 * half <= 1000


def test_the_parts_of_one_mel_join_to_it():
    """Both neighbours have the same in the overlap, so that fading changes nothing."""
    mel = noise(5000)
    pieces = list(joined(mel[chunk.start : chunk.stop] for chunk in chunks_of(mel)))
    np.testing.assert_allclose(np.concatenate(pieces), mel, rtol=0, atol=1e-6)


def test_a_seam_fades_from_one_neighbour_to_the_other():
    chunks = chunks_of(noise(2000))
    levels = [np.full((c.stop - c.start, 4), i, np.float32) for i, c in enumerate(chunks)]
    found = np.concatenate(list(joined(levels)))[:, 0]
    assert len(found) == 2000 and len(chunks) == 2
    seam = found[chunks[1].start : chunks[0].stop]
    assert (np.diff(seam) > 0).all() and 0 < seam[0] < 0.01 and 0.99 < seam[-1] < 1
    np.testing.assert_allclose(seam + seam[::-1], 1, atol=1e-6)
    assert (found[: chunks[1].start] == 0).all() and (found[chunks[0].stop :] == 1).all()


def test_parts_come_as_soon_as_they_are_final():
    """What has been heard does not wait for what follows, but for the overlap."""
    mel, given = noise(4000), []

    def watched():
        for chunk in chunks_of(mel):
            given.append(chunk)
            yield mel[chunk.start : chunk.stop]

    frames = 0
    for piece in joined(watched()):
        frames += len(piece)
        assert frames >= given[-1].start
    assert frames == 4000
