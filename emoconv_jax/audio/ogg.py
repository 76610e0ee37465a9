"""What an Ogg file claims, held against what is in it before a decoder opens it.

libsndfile takes the length from the last page of the first stream, whatever comes before it and
behind it, so that the rest of a chained file would be lost without a word. And libvorbis unpacks
the codebooks of a stream when it is opened, in part on the stack: a file of 200 bytes can ask for a
codebook of four million entries, which ends the process, or for 256 that take gigabytes.

A file is a row of pages: a header of 27 bytes, the lengths of up to 255 segments, and the segments.
A segment of less than 255 bytes ends a packet; the first three packets of a Vorbis stream are its
headers. Source: RFC 3533, section 6; Vorbis I specification, sections 3.2.1, 4.2 and A.2.
"""

import dataclasses
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from emoconv_jax.errors import EmoconvError

MAGIC, VORBIS, VORBIS_SETUP = b"OggS", b"\x01vorbis", b"\x05vorbis"
# By rate, channels and quality, libvorbis itself writes 2 to 11 kB, at most 6561 entries in one
# codebook, and 9 000 to 88 000 values (entries times dimensions) in all.
MOST_SETUP_BYTES = 2**16
MOST_HEADER_BYTES = 2**26  # of any header: comments may hold a picture
MOST_ENTRIES = 2**15  # 256 KiB of stack
MOST_VALUES = 2**20  # about 50 MB

_HEADER_BYTES, _ID3_BYTES = 27, 10
_CONTINUED, _LAST = 1, 4  # flags
_NO_PACKET_ENDS = 2**64 - 1  # in place of a position
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclasses.dataclass(frozen=True)
class _Page:
    start: int  # in the file
    flags: int
    position: int  # samples there are when its last packet is decoded
    stream: int
    number: int
    segments: bytes
    body: bytes


def check_ogg(name: str) -> None:
    """Refuses an Ogg file that is not one whole stream with codebooks of usual size.

    Args:
        name: of a regular file; one that is no Ogg file is left to others.

    Raises:
        EmoconvError: a missing end, a damaged or missing page, data between or behind the pages, a
            second stream, positions that fall, or codebooks that are damaged or too large; names
            the file.
        OSError: the file cannot be read.
    """
    with open(name, "rb") as file:
        start = _start(file)
        if start is None:
            return
        before, reached, headers = None, 0, _Headers()
        for page in _pages(name, file, start):
            where = f"{name}: the Ogg page at byte {page.start}"
            if before is not None and (page.stream != before.stream or before.flags & _LAST):
                raise EmoconvError(f"{where} begins another stream, allowed are files of one")
            if before is not None and page.number != (before.number + 1) % 2**32:
                raise EmoconvError(
                    f"{where} is number {page.number} after {before.number}, allowed are files "
                    "without gaps"
                )
            if page.position != _NO_PACKET_ENDS:
                if page.position < reached:
                    raise EmoconvError(
                        f"{where} ends at sample {page.position}, the one before at {reached}; "
                        "allowed are positions that rise"
                    )
                reached = page.position
            headers.add(page, where)
            before = page
        if before is None or not before.flags & _LAST:
            raise _truncated(name)
        if len(headers.packets) == 3:
            _check_codebooks(name, headers.packets[2])


class _Headers:
    """The first packets of a stream: three if it is Vorbis, else one."""

    def __init__(self):
        self.packets: list[bytes] = []
        self._begun = bytearray()

    def add(self, page: _Page, where: str) -> None:
        """Takes the segments of the next page, as libogg does."""
        start = 0
        for number, size in enumerate(page.segments):
            wanted = 3 if self.packets and self.packets[0].startswith(VORBIS) else 1
            if len(self.packets) == wanted:
                return
            if not number and bool(page.flags & _CONTINUED) != bool(self._begun):
                raise EmoconvError(f"{where} tears a packet apart, allowed are intact files")
            self._begun += page.body[start : start + size]
            start += size
            if len(self._begun) > MOST_HEADER_BYTES:
                raise EmoconvError(
                    f"{where} goes on with a header of more than {MOST_HEADER_BYTES} bytes, "
                    "allowed are shorter ones"
                )
            if size < 255:
                self.packets.append(bytes(self._begun))
                self._begun.clear()


def _start(file: BinaryIO) -> int | None:
    """Returns where the first page begins, behind ID3 tags, which libsndfile skips; or None."""
    start = 0
    while True:
        file.seek(start)
        head = file.read(_ID3_BYTES)
        if head.startswith(MAGIC):
            return start
        if not head.startswith(b"ID3") or len(head) < _ID3_BYTES:
            return None
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        start += _ID3_BYTES + size


def _pages(name: str, file: BinaryIO, start: int) -> Iterator[_Page]:
    """Yields the pages up to the end of the file, with their checksums verified."""
    end = os.fstat(file.fileno()).st_size
    file.seek(start)
    while start < end:
        header = file.read(_HEADER_BYTES)
        if header[:4] != MAGIC[: len(header)]:
            raise EmoconvError(
                f"{name}: no Ogg page at byte {start}, allowed are files of whole pages alone"
            )
        if len(header) < _HEADER_BYTES:
            raise _truncated(name)
        segments = file.read(header[26])
        body = file.read(sum(segments))
        if len(segments) < header[26] or len(body) < sum(segments):
            raise _truncated(name)
        number = int.from_bytes(header[22:26], "little")
        if page_checksum(header[:22] + bytes(4) + header[26:] + segments + body) != number:
            raise EmoconvError(
                f"{name}: damaged, the checksum of the Ogg page at byte {start} is wrong, allowed "
                "are intact files"
            )
        position, stream, number = (
            int.from_bytes(header[i:j], "little") for i, j in ((6, 14), (14, 18), (18, 22))
        )
        yield _Page(start, header[5], position, stream, number, segments, body)
        start += len(header) + len(segments) + len(body)


def page_checksum(page: bytes) -> int:
    """Returns the checksum of a page whose own field for it is zero.

    Args:
        page: header, lengths and segments.

    Returns:
        CRC-32 of polynomial 0x04c11db7 without reflection, from 0. zlib's reflects the bits and
        begins and ends with their inverse.
    """
    reflected = zlib.crc32(page.translate(_REVERSED), 2**32 - 1) ^ (2**32 - 1)
    return int(f"{reflected:032b}"[::-1], 2)


def _truncated(name: str) -> EmoconvError:
    return EmoconvError(f"{name}: truncated, the last Ogg page is missing, allowed are whole files")


class _Bits:
    """Numbers of any width, packed from the lowest bit of each byte on."""

    def __init__(self, data: bytes):
        self._data, self._place = data, 0

    def take(self, width: int) -> int:
        """Returns the next number; 0 where the width is 0."""
        stop = self.skip(width)
        first = (stop - width) // 8
        found = int.from_bytes(self._data[first : -(-stop // 8)], "little")
        return found >> (stop - width - 8 * first) & ((1 << width) - 1)

    def skip(self, width: int) -> int:
        """Passes bits over; returns where the next number begins."""
        self._place += width
        if self._place > 8 * len(self._data):
            raise ValueError
        return self._place


def _check_codebooks(name: str, setup: bytes) -> None:
    """Refuses a setup header whose codebooks would take more memory than any encoder asks for."""
    if len(setup) > MOST_SETUP_BYTES:
        raise EmoconvError(
            f"{name}: Vorbis headers of {len(setup)} bytes, allowed are up to {MOST_SETUP_BYTES}"
        )
    values = 0
    try:
        if not setup.startswith(VORBIS_SETUP):
            raise ValueError
        bits = _Bits(setup[len(VORBIS_SETUP) :])
        for _ in range(bits.take(8) + 1):
            if bits.take(24) != 0x564342:
                raise ValueError
            dimensions, entries = bits.take(16), bits.take(24)
            values += entries * max(dimensions, 1)
            if entries > MOST_ENTRIES or values > MOST_VALUES:
                raise EmoconvError(
                    f"{name}: Vorbis codebooks of {entries} entries or {values} values, allowed "
                    f"are up to {MOST_ENTRIES} and {MOST_VALUES}"
                )
            _skip_codebook(bits, dimensions, entries)
    except ValueError:
        raise EmoconvError(f"{name}: damaged Vorbis headers, allowed are intact files") from None


def _skip_codebook(bits: _Bits, dimensions: int, entries: int) -> None:
    """Passes over what follows the size of a codebook."""
    if bits.take(1):  # lengths in order: how many entries have each
        bits.skip(5)
        known = 0
        while known < entries:
            known += bits.take((entries - known).bit_length())
    elif bits.take(1):  # sparse: some entries have no length
        for _ in range(entries):
            if bits.take(1):
                bits.skip(5)
    else:
        bits.skip(5 * entries)
    lookup = bits.take(4)
    if lookup in (1, 2):
        bits.skip(64)  # least value and step
        width = bits.take(4) + 1
        bits.skip(1)
        if not dimensions:
            raise ValueError
        count = _root(entries, dimensions) if lookup == 1 else entries * dimensions
        bits.skip(width * count)
    elif lookup:
        raise ValueError


def _root(number: int, degree: int) -> int:
    """Returns the greatest whole number whose power of that degree is at most `number`."""
    root = round(number ** (1 / degree))
    return root - (root**degree > number)
