"""Codebooks that would take the memory or the stack of whoever opens the file."""

import struct

import pytest
import soundfile
from ogg_pages import RATE_HZ, page, refused, sealed, written

from emoconv_jax.audio.ogg import MOST_ENTRIES, MOST_VALUES


class Bits:
    """Numbers packed from the lowest bit of each byte on (Vorbis I, section 2.1)."""

    def __init__(self):
        self.text = ""

    def put(self, *fields):
        for value, width in fields:
            self.text += f"{value:0{width}b}"[::-1] if width else ""

    def bytes(self):
        whole = self.text + "0" * (-len(self.text) % 8)
        return bytes(int(whole[i : i + 8][::-1], 2) for i in range(0, len(whole), 8))


def vorbis(setup):
    """Returns a mono stream of 48 kHz with blocks of 256 and 2048 samples."""
    ident = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, RATE_HZ, 0, 64_000, 0, 0xB8, 1)
    comments = b"\x03vorbis" + struct.pack("<II", 0, 0) + b"\x01"
    return [
        page(0, ident, flags=2),
        page(1, comments, setup),
        page(2, b"\x00" * 9, position=RATE_HZ, flags=4),
    ]


def ordered(bits, depth, dimensions=1):
    """Puts a codebook of 2^depth entries, all of which have codes of that length."""
    bits.put((0x564342, 24), (dimensions, 16), (2**depth, 24), (1, 1), (depth - 1, 5))
    bits.put((2**depth, depth + 1), (0, 4))


HARMLESS = {
    "ordered": lambda bits: ordered(bits, 3),
    "dense": lambda bits: bits.put(
        (0x564342, 24), (2, 16), (4, 24), (0, 1), (0, 1), *[(1, 5)] * 4, (0, 4)
    ),
    "sparse": lambda bits: bits.put(
        *((0x564342, 24), (2, 16), (4, 24), (0, 1), (1, 1)),
        *((1, 1), (0, 5), (0, 1), (0, 1), (1, 1), (0, 5), (0, 4)),
    ),
    # 27 entries of 3 dimensions: 3 values in a lattice, or 81 one by one
    "lattice": lambda bits: bits.put(
        *((0x564342, 24), (3, 16), (27, 24), (0, 1), (0, 1), *[(4, 5)] * 27),
        *((1, 4), (0, 32), (0, 32), (1, 4), (0, 1), *[(1, 2)] * 3),
    ),
    "listed": lambda bits: bits.put(
        *((0x564342, 24), (3, 16), (27, 24), (0, 1), (0, 1), *[(4, 5)] * 27),
        *((2, 4), (0, 32), (0, 32), (1, 4), (0, 1), *[(1, 2)] * 81),
    ),
}


@pytest.mark.parametrize("harmless", HARMLESS)
def test_codebooks_that_unpack_to_gigabytes(tmp_path, harmless):
    """One of 2^22 entries would overflow the stack when the file is opened."""
    bits = Bits()
    bits.put((255, 8))
    HARMLESS[harmless](bits)
    for _ in range(255):
        ordered(bits, 22)
    content = vorbis(b"\x05vorbis" + bits.bytes())
    assert sum(map(len, content)) < 4000
    path = written(tmp_path, content)
    values = {"ordered": 8, "dense": 8, "sparse": 8, "lattice": 81, "listed": 81}[harmless]
    refused(path, f"{2**22} entries or {2**22 + values} values", str(MOST_ENTRIES))
    refused(written(tmp_path, b"ID3\x04\0\0\0\0\0\0" + path.read_bytes()), "entries")


@pytest.mark.parametrize("dimensions", [0, 1])  # of none the lengths alone take memory
def test_codebooks_that_are_many(tmp_path, dimensions):
    bits = Bits()
    bits.put((255, 8))
    for _ in range(256):
        ordered(bits, 15, dimensions)
    path = written(tmp_path, vorbis(b"\x05vorbis" + bits.bytes()))
    refused(path, f"{2**15} entries or {2**20 + 2**15} values", str(MOST_VALUES))


@pytest.mark.parametrize("depth", [3, 15])
def test_codebooks_up_to_the_limit_can_be_opened(tmp_path, depth):
    """With one floor, residue, mapping and mode, each as short as it can be: no sound at all."""
    bits = Bits()
    bits.put((31, 8))
    for _ in range(32):
        ordered(bits, depth)
    bits.put((0, 6), (0, 16))
    bits.put((0, 6), (1, 16), (0, 5), (0, 2), (4, 4))
    bits.put((0, 6), (0, 16), (0, 24), (0, 24), (0, 24), (0, 6), (0, 8), (0, 3), (0, 1))
    bits.put((0, 6), (0, 16), (0, 1), (0, 1), (0, 2), (0, 8), (0, 8), (0, 8))
    bits.put((0, 6), (0, 1), (0, 16), (0, 16), (0, 8), (1, 1))
    path = written(tmp_path, vorbis(b"\x05vorbis" + bits.bytes()))
    assert soundfile.info(path).channels == 1
    refused(path, "0 samples")


def test_codebooks_behind_a_packet_that_a_decoder_would_pass_over(tmp_path):
    """A segment that claims to continue nothing is no packet; counting it would hide the third."""
    bits = Bits()
    bits.put((0, 8))
    ordered(bits, 22)
    first, _, last = vorbis(b"\x05vorbis" + bits.bytes())
    comments = b"\x03vorbis" + struct.pack("<II", 0, 0) + b"\x01"
    hidden = page(1, b"x", comments, b"\x05vorbis" + bits.bytes(), flags=1)
    refused(written(tmp_path, [first, hidden, last]), "tears a packet apart")


@pytest.mark.parametrize("kept", [8, 12, 20, 40])
def test_headers_that_end_too_early(tmp_path, kept):
    bits = Bits()
    bits.put((0, 8))
    HARMLESS["listed"](bits)
    refused(written(tmp_path, vorbis((b"\x05vorbis" + bits.bytes())[:kept])), "damaged Vorbis")


def test_headers_of_many_bytes(tmp_path):
    content, number = vorbis(b"")[:1], 1
    content.append(page(1, b"\x03vorbis" + struct.pack("<II", 0, 0) + b"\x01"))
    setup = (b"\x05vorbis\xff" + b"BCV" * 40_000)[: 255 * 400]
    for start in range(0, len(setup), 255 * 200):
        number += 1
        body = setup[start : start + 255 * 200]
        one = page(number, body, flags=1 if start else 0)
        del one[27 + 200]  # the length of 0 that ends a packet
        one[26] = 200
        content.append(sealed(one))
    content.append(page(number + 1, b"", b"\0", position=RATE_HZ, flags=5))
    refused(written(tmp_path, content), f"headers of {255 * 400} bytes")
