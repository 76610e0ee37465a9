"""Ogg files as encoders write them are read, and those that claim what is not in them refused."""

import io
import itertools
import tracemalloc

import numpy as np
import pytest
import soundfile
from ogg_pages import CODECS, RATE_HZ, coded, noise, page, pages, refused, sealed, written

from emoconv_jax.audio import ogg
from emoconv_jax.audio.ogg import check_ogg
from emoconv_jax.audio.reading import read_header, read_native
from emoconv_jax.errors import EmoconvError


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_what_encoders_write_is_allowed(tmp_path, codec, channels):
    """Of every length modulo the block's, so that ends of every kind come."""
    for seconds in (0.1, 0.37, 1.0, 3.3):
        path = written(tmp_path, coded(noise(seconds, channels), codec))
        audio, rate_hz = read_native(path)
        assert rate_hz == RATE_HZ
        assert len(audio) == round(seconds * RATE_HZ)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 44100, 96000, 192_000])
def test_the_codebooks_of_every_rate_are_allowed(tmp_path, rate_hz):
    for channels, quality in itertools.product((1, 2), (0.0, 0.5, 1.0)):
        path = tmp_path / "a.ogg"
        words = {"format": "OGG", "subtype": "VORBIS", "compression_level": quality}
        soundfile.write(path, noise(0.3, channels), rate_hz, **words)
        check_ogg(str(path))


def test_flac_in_ogg_is_read_exactly_if_at_all(tmp_path):
    """By RFC 9639, section 10.1: a first packet with STREAMINFO, one of comments, then frames."""
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 4000).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples, 22050, format="FLAC")  # one frame: a block has 4096 samples
    flac, place, last = file.getvalue(), 4, False
    blocks = []
    while not last:
        size = 4 + int.from_bytes(flac[place + 1 : place + 4], "big")
        last = bool(flac[place] & 0x80)
        blocks.append(flac[place : place + size])
        place += size
    first = b"\x7fFLAC\x01\x00\x00\x01fLaC" + blocks[0]
    comments = next(block for block in blocks if block[0] & 0x7F == 4)
    comments = bytes([0x84]) + comments[1:]  # the last block of this file
    content = [
        page(0, first, flags=2),
        page(1, comments),
        page(2, flac[place:], position=4000, flags=4),
    ]
    path = written(tmp_path, content)
    try:
        audio, rate_hz = read_native(path)
    except EmoconvError as error:  # of a libFLAC that was built without Ogg
        assert "a.ogg: cannot be decoded" in str(error)
    else:
        assert rate_hz == 22050
        np.testing.assert_array_equal(audio * 2**15, samples)
    refused(written(tmp_path, content[:2]), "truncated")
    refused(written(tmp_path, content + content), "another stream")


def claiming(content, position):
    """Returns a file whose last page says another position."""
    *before, last = pages(content)
    last[6:14] = position.to_bytes(8, "little")
    return [*before, sealed(last)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("position", "word"),
    [
        (0, "rise"),
        (5000, "rise"),
        (4 * RATE_HZ + 20_000, "truncated"),
        (2**40, "s long"),
        (2**62, "s long"),
        (2**63, ""),
    ],
)
def test_a_last_page_that_claims_another_length(tmp_path, codec, position, word):
    path = written(tmp_path, claiming(coded(noise(4.0), codec), position))
    tracemalloc.start()
    refused(path, word)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * 2**20  # what is there takes 1.5 MiB


def test_no_page_that_says_where_it_ends(tmp_path):
    content = pages(coded(noise(1.0)))
    for one in content:
        one[6:14] = b"\xff" * 8
    refused(written(tmp_path, [sealed(one) for one in content]))


def test_a_stream_of_one_page_ends_where_the_page_says(tmp_path):
    """Encoders cut the last block so (Vorbis I, section A.2); more is never decoded."""
    content = coded(noise(0.2))
    assert len(pages(content)) == 3
    path = written(tmp_path, claiming(content, 5000))
    assert len(read_native(path)[0]) == 5000


@pytest.mark.parametrize("codec", CODECS)
def test_a_chain_of_streams_is_refused_and_not_read_in_part(tmp_path, codec):
    one = coded(noise(1.0), codec)
    for other in (one, coded(noise(0.5), "VORBIS"), coded(noise(0.5), "OPUS")):
        refused(written(tmp_path, one + other), "another stream")
        with pytest.raises(EmoconvError, match="another stream"):
            read_header(tmp_path / "a.ogg")


def test_streams_side_by_side_are_refused(tmp_path):
    one, other = pages(coded(noise(1.0))), pages(coded(noise(1.0)))
    for each in other:
        each[14:18] = b"\x01\x02\x03\x04"
        sealed(each)
    content = [each for pair in zip(one, other, strict=True) for each in pair]
    refused(written(tmp_path, content), "another stream")


def test_pages_lost_or_out_of_order(tmp_path):
    whole = pages(coded(noise(4.0)))
    assert len(whole) > 6
    refused(written(tmp_path, whole[:4] + whole[5:]), "is number 5 after 3")
    refused(written(tmp_path, [*whole[:4], whole[5], whole[4], *whole[6:]]), "is number 5 after 3")
    refused(written(tmp_path, whole[:-1]), "truncated")
    refused(written(tmp_path, whole[1:]))


def test_one_wrong_bit_is_seen(tmp_path):
    content = coded(noise(1.0))
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 30):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(0, 8)
        refused(written(tmp_path, bytes(damaged)))


@pytest.mark.parametrize("junk", [b"\0", b"OggS", b"TAG" + bytes(125), b"x" * 200_000])
def test_other_data_between_or_behind_the_pages(tmp_path, junk):
    whole = pages(coded(noise(1.0)))
    for content in ([*whole, junk], [*whole[:3], junk, *whole[3:]]):
        refused(written(tmp_path, content), "allowed are")


def test_what_follows_a_tag_is_held_to_the_same(tmp_path):
    """libsndfile passes ID3 over."""
    tag = b"ID3\x03\x00\x00" + bytes([0, 0, 1, 4]) + bytes(128 + 4)
    content = coded(noise(1.0))
    refused(written(tmp_path, tag + content + content), "another stream")
    refused(written(tmp_path, tag + tag + content[:-9]), "truncated")


@pytest.mark.parametrize(
    "packet",
    [
        b"Speex   1.2.0" + bytes(67),
        b"\x80theora\x03\x02\x01" + bytes(32),
        b"fishead\0" + bytes(56),
        b"PCM     " + bytes(20),
        b"\x01vorbis" + bytes(23),
        b"OpusHead\x01\x01" + bytes(9),
        b"\x01",
        b"",
    ],
)
def test_ogg_without_sound_that_is_known(tmp_path, packet):
    content = [page(0, packet, flags=2), page(1, b"\x81comments", position=9000, flags=4)]
    refused(written(tmp_path, content))


def test_a_header_without_end_is_not_held_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(ogg, "MOST_HEADER_BYTES", 1000)
    content = page(0, b"\x01vorbis" + bytes(900), flags=2) + page(1, b"\x03vorbis" + bytes(1100))
    refused(written(tmp_path, [content]), "header of more than 1000 bytes")


@pytest.mark.parametrize("content", [b"OggS", b"OggS" + bytes(200), b"OggS" + b"\xff" * 70_000])
def test_a_beginning_alone(tmp_path, content):
    refused(written(tmp_path, content))


@pytest.mark.parametrize("codec", CODECS)
def test_the_limits_of_duration_and_size_hold(tmp_path, codec):
    path = written(tmp_path, coded(noise(2.0, 2), codec))
    assert len(read_native(path, max_seconds=2.0)[0]) == 2 * RATE_HZ
    with pytest.raises(EmoconvError, match=r"2\.0 s long, allowed are up to 1\.9 s") as caught:
        read_native(path, max_seconds=1.9)
    assert caught.value.kind == "too long"
    most = 2 * RATE_HZ * 2 * 4
    assert len(read_native(path, max_decoded_bytes=most)[0]) == 2 * RATE_HZ
    with pytest.raises(EmoconvError, match="1 MiB when decoded, allowed are up to 1 MiB"):
        read_native(path, max_decoded_bytes=most - 1)
    short = written(tmp_path, coded(noise(0.05), codec))
    with pytest.raises(EmoconvError, match=r"allowed are 0\.1 s or more") as caught:
        read_native(short)
    assert caught.value.kind == "too short"


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
def test_long_silence_is_refused_before_it_is_decoded(tmp_path, codec):
    path = tmp_path / "bomb.ogg"
    with soundfile.SoundFile(path, "w", 8000, 1, format="OGG", subtype=codec) as sound:
        for _ in range(61):
            sound.write(np.zeros(80_000, np.float32))
    tracemalloc.start()
    refused(path, "610.0 s", "600 s")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_channels(tmp_path):
    refused(written(tmp_path, coded(np.full((9600, 40), 0.1))), "40 channels", "32")
