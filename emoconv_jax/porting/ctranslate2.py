"""Reads the weight files of CTranslate2 into numpy, without CTranslate2.

    u32 version, here 6;  string: the kind of network;  u32 revision of that kind
    u32 variables, each  string: its name;  u8 axes, u32 for each;  u8 type, u32 bytes;  the data
    u32 aliases, each  string: a name;  string: the variable that it stands for

All little-endian; a string is a u16 length, its characters and a zero, which the length counts.
The file is foreign: every number in it is held against limits and what is left of the file before
memory is asked for, and it must end where its last alias does. Nothing in it can be run.

Weights may be stored as integers, beside a variable `*_scale` that they were multiplied by: one
number per row for int8, one in all for int16.

Source: `ModelSpec._serialize` of CTranslate2 4.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import opened
from emoconv_jax.porting.tables import shown

VERSION = 6
MAX_NAME_BYTES = 256
MAX_VARIABLES = 10_000  # the largest Whisper has about 1 300
MAX_AXES = 4
BFLOAT16 = "bfloat16"
TYPES = ("<f4", "|i1", "<i2", "<i4", "<f2", BFLOAT16)  # by their number in the file
SCALE = "_scale"


class _Place(NamedTuple):
    """Where a variable's data lies, after its header has been checked."""

    shape: tuple[int, ...]
    dtype: str
    start: int
    size: int


def read_ctranslate2(
    path: str | Path, kind: str, revision: int, prefix: str
) -> dict[str, np.ndarray]:
    """Returns the variables of a file whose names begin with a prefix.

    Args:
        path: the file, usually `model.bin`.
        kind: of network that it must hold, as "WhisperSpec".
        revision: of that kind that it must have.
        prefix: of the names; other variables are checked and passed over.

    Returns:
        Name -> read-only array of its own type, bfloat16 as float32. An alias is the array that it
        stands for.

    Raises:
        EmoconvError: not such a file, damaged, or one that claims more than it holds.
    """
    path = Path(path)
    with opened(path) as (file, size):
        return _Reader(path, file, size).variables(kind, revision, prefix)


def dequantised(tensors: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Returns the tensors with every integer weight divided by its scale.

    Args:
        tensors: name -> array; scalars, which are settings, stay as they are.
        source: what the tensors come from, for messages.

    Returns:
        Float tensors under their names, without those of the scales.

    Raises:
        EmoconvError: an integer weight without a scale, or a scale without one, that does not fit
            it or holds what nothing can be divided by.
    """
    floats = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "i" or not tensor.ndim:
            continue
        scale = floats.pop(name + SCALE, None)
        if scale is None:
            raise EmoconvError(f"{source}: {shown(name)} is {tensor.dtype} without its scale")
        fitting = tensor.shape[:1] if tensor.dtype == np.int8 else ()
        if scale.shape != fitting or scale.dtype.kind != "f":
            raise EmoconvError(
                f"{source}: {shown(name + SCALE)} is {scale.dtype} {scale.shape}, expected floats "
                f"{fitting}"
            )
        wide = scale.astype(np.float32)
        if not (np.isfinite(wide) & (wide > 0)).all():
            raise EmoconvError(f"{source}: {shown(name + SCALE)} has entries that are no scale")
        floats[name] = tensor.astype(np.float32) / wide.reshape(-1, *[1] * (tensor.ndim - 1))
    if alone := [name for name in floats if name.endswith(SCALE)]:
        raise EmoconvError(f"{source}: {shown(alone[0])} has no integer weight")
    return floats


class _Reader:
    """Walks a file once, from its first byte to its last."""

    def __init__(self, path: Path, file: Any, size: int):
        self.path, self.file, self.size = path, file, size
        self.place = 0

    def variables(self, kind: str, revision: int, prefix: str) -> dict[str, np.ndarray]:
        """Returns the arrays wanted, having checked the whole file."""
        version = self._number("I")
        if version != VERSION:
            raise self._fault(f"binary version {version}, allowed is {VERSION}")
        found = self._string(), self._number("I")
        if found != (kind, revision):
            raise self._fault(
                f"holds {shown(found[0])} {found[1]}, expected {kind} {revision}", False
            )
        names: set[str] = set()
        places: dict[str, _Place] = {}
        for _ in range(self._count("variables")):
            name = self._new_name(names)
            places[name] = self._passed_over(name)
        aliases: dict[str, str] = {}
        for _ in range(self._count("aliases")):
            alias, name = self._new_name(names), self._string()
            if name not in places:
                raise self._fault(f"alias {shown(alias)} of {shown(name)}, which is not there")
            aliases[alias] = name
        if self.place != self.size:
            raise self._fault(f"{self.size - self.place} bytes after its end", False)
        wanted = {name: name for name in places} | aliases
        wanted = {alias: name for alias, name in wanted.items() if alias.startswith(prefix)}
        claimed = sum(places[name].size for name in wanted.values())
        if claimed > self.size:  # one variable under many names becomes many parameters
            raise self._fault(f"{claimed} bytes with all aliases, the file has {self.size}", False)
        arrays = {name: self._array(places[name]) for name in dict.fromkeys(wanted.values())}
        return {alias: arrays[name] for alias, name in wanted.items()}

    def _passed_over(self, name: str) -> _Place:
        """Returns where the next variable lies and moves behind it."""
        axes = self._number("B")
        if axes > MAX_AXES:
            raise self._fault(f"{shown(name)} has {axes} axes, at most {MAX_AXES} allowed")
        shape = tuple(self._number("I") for _ in range(axes))
        kind, claimed = self._number("B"), self._number("I")
        if kind >= len(TYPES):
            raise self._fault(f"{shown(name)} is of type {kind}, allowed are 0 to {len(TYPES) - 1}")
        width = 2 if TYPES[kind] == BFLOAT16 else np.dtype(TYPES[kind]).itemsize
        needed = math.prod(shape) * width
        if claimed != needed or not needed:
            raise self._fault(f"{shown(name)} of shape {shape} claims {claimed} bytes")
        self._left(claimed)
        place = _Place(shape, TYPES[kind], self.place, claimed)
        self.place = self.file.seek(self.place + claimed)
        return place

    def _array(self, place: _Place) -> np.ndarray:
        """Returns the array at a place that has been checked."""
        self.file.seek(place.start)
        data = self.file.read(place.size)
        if len(data) != place.size:
            raise self._fault("became shorter while it was read", False)
        if place.dtype == BFLOAT16:  # the upper half of a float32
            wide = np.frombuffer(data, "<u2").astype("<u4") << 16
            return wide.view("<f4").reshape(place.shape)
        return np.frombuffer(data, place.dtype).reshape(place.shape)

    def _count(self, what: str) -> int:
        count = self._number("I")
        if count > MAX_VARIABLES:
            raise self._fault(f"{count} {what}, at most {MAX_VARIABLES} allowed")
        return count

    def _new_name(self, names: set[str]) -> str:
        """Returns the next name, which must be new, and adds it to the names."""
        name = self._string()
        if name in names:
            raise self._fault(f"{shown(name)} occurs twice")
        names.add(name)
        return name

    def _string(self) -> str:
        length = self._number("H")
        if not 2 <= length <= MAX_NAME_BYTES:
            raise self._fault(f"name of {length} bytes, allowed are 2 to {MAX_NAME_BYTES}")
        text = self._bytes(length)
        name = text[:-1].decode("ascii", "replace")
        if text[-1] or not name.isascii() or not name.isprintable():
            raise self._fault(f"name {shown(name)} is not one of printable ASCII and a zero")
        return name

    def _number(self, kind: str) -> int:
        return struct.unpack("<" + kind, self._bytes(struct.calcsize("<" + kind)))[0]

    def _bytes(self, count: int) -> bytes:
        self._left(count)
        data = self.file.read(count)
        self.place += len(data)
        if len(data) != count:
            raise self._fault("became shorter while it was read", False)
        return data

    def _left(self, count: int) -> None:
        if count > self.size - self.place:
            raise self._fault(f"{count} bytes expected, {self.size - self.place} are left")

    def _fault(self, what: str, at: bool = True) -> EmoconvError:
        where = f" (at byte {self.place})" if at else ""
        return EmoconvError(f"{self.path}: not a CTranslate2 file, or damaged: {what}{where}")
