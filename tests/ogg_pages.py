"""Ogg files to test readers on, taken apart and made by the RFC; the checksum goes bit by bit."""

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.errors import EmoconvError

RATE_HZ = 48_000  # Opus knows no other that the others know too
CODECS = ("VORBIS", "OPUS")


def noise(seconds, channels=1):
    shape = (round(seconds * RATE_HZ), channels)
    return 0.1 * np.random.default_rng(0).normal(size=shape)


def coded(audio, codec="VORBIS", rate_hz=RATE_HZ):
    file = io.BytesIO()
    soundfile.write(file, audio, rate_hz, format="OGG", subtype=codec)
    return file.getvalue()


def sealed(page):
    """Returns a page with the checksum that it should have (RFC 3533, section 6, field 7)."""
    page[22:26] = bytes(4)
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register >> 31 else 0)) & 0xFFFFFFFF
    page[22:26] = register.to_bytes(4, "little")
    return page


def pages(content):
    found = []
    while content:
        lengths = content[27 : 27 + content[26]]
        size = 27 + len(lengths) + sum(lengths)
        found.append(bytearray(content[:size]))
        content = content[size:]
    return found


def page(number, *packets, position=0, flags=0):
    """Returns a page of packets, the last of which may be torn off by a length of 255."""
    lengths = b"".join(b"\xff" * (len(p) // 255) + bytes([len(p) % 255]) for p in packets)
    head = struct.pack("<4sBBQIIIB", b"OggS", 0, flags, position, 7, number, 0, len(lengths))
    return sealed(bytearray(head + lengths + b"".join(packets)))


def written(tmp_path, content, name="a.ogg"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else b"".join(content))
    return path


def refused(path, *words):
    """Asserts that reading fails with one line that names the file and holds the words."""
    with pytest.raises(EmoconvError) as caught:
        read_audio(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    assert os.path.basename(path) in message
    assert "allowed" in message or "expected" in message or "needed" in message
    for word in words:
        assert word in message
