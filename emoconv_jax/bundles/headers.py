"""The header of a safetensors file: a foreign file's own word on what follows, checked first.

    8 bytes   length of the header, little-endian
    header    JSON: tensor name -> dtype, shape and place of its data
    data

The library's parser takes the last of two fields of one name and reads headers of up to 100 MB;
here both are refused before it is called.
"""

import pathlib

from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import parse_json

MOST_HEADER_BYTES = 1 << 20  # 200 bytes a tensor: of 5000 tensors, far more than any part has
LENGTH_BYTES = 8


def check_header(path: pathlib.Path) -> None:
    """Refuses a file whose header is not what a safetensors file of a bundle has.

    Args:
        path: the file.

    Raises:
        EmoconvError: a folder, pipe or device; a header that is longer than the file or the limit,
            no JSON object, or names a tensor or a tensor's field twice.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise EmoconvError(f"{path}: not a regular file")
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if length > size - LENGTH_BYTES:
            raise EmoconvError(
                f"{path}: damaged file (its header claims {length} bytes, the file has {size})"
            )
        if length > MOST_HEADER_BYTES:
            raise EmoconvError(
                f"{path}: header of {length} bytes, at most {MOST_HEADER_BYTES} allowed"
            )
        text = file.read(length)
    header = parse_json(text, f"{path}: damaged file: header")
    if not isinstance(header, dict):
        raise EmoconvError(f"{path}: damaged file (its header is no JSON object)")
