"""Reads PyTorch weight files into numpy without PyTorch and without running what they contain.

A `torch.save` file is a pickle plus raw tensor storages, in one of two containers: a zip archive
(PyTorch 1.6 and later) or the flat legacy format before it. A pickle can name any function to be
called, so it is read in three steps, each of which refuses what it does not know:

1. scan: the opcodes are walked without executing them; only those that build plain values pass;
2. unpickle: the few global names that tensors need are replaced by constructors of this file,
   which only record what was asked for;
3. resolve: records become numpy arrays, after their storage, offset, sizes and strides have been
   checked against the bytes that are really there.

Arrays are read-only views of their storages, so the memory used is bounded by the file's size.

Source: the formats are those of torch/serialization.py, PyTorch 2.
"""

import collections
import io
import math
import mmap
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import MOST_FOREIGN_BYTES, opened

MAX_PICKLE_BYTES = 32 << 20  # 115 bytes per tensor, so far more than any network has
MAX_VALUES = 100_000  # a pickle of references to references can stand for 2^n values
MAX_DEPTH = 32
MAX_AXES = 8
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

# Little-endian storage types by PyTorch's class name; bfloat16 is widened to float32.
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")
# separated by spaces: what torch.save writes with the pickle protocols 2 to 5, and no more
OPCODES = (
    "PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET NONE NEWTRUE NEWFALSE "
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
    "SHORT_BINBYTES EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS "
    "SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID"
)


class _Storage(NamedTuple):
    """A storage that the pickle refers to: where its bytes are and how many it claims."""

    key: str
    dtype: str
    numbers: int


class _Tensor(NamedTuple):
    """A view of a storage, as the pickle describes it; nothing in it has been checked yet."""

    storage: Any
    offset: Any
    sizes: Any
    strides: Any


def read_torch_file(path: str | Path) -> Any:
    """Returns what a `torch.save` file holds, tensors as read-only numpy arrays.

    Args:
        path: a file in the zip or the legacy format. Its suffix does not matter.

    Returns:
        Nested dict, list and tuple of arrays, strings, numbers, booleans and None. bfloat16 tensors
        come as float32.

    Raises:
        EmoconvError: not such a file, damaged, larger than it claims, or one that asks for anything
            beyond tensors and plain values; nothing it asks for has been executed.
    """
    path = Path(path)
    with (
        opened(path) as (file, size),
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        if data[:4] == b"PK\x03\x04":
            return _read_zip(path, file, size)
        return _read_legacy(path, data)


def _read_zip(path: Path, file: Any, size: int) -> Any:
    """Reads the zip format: `NAME/data.pkl` and one stored member per storage."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = _checked_members(path, archive, size)
            roots = [name[: -len("/data.pkl")] for name in members if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise EmoconvError(f"{path}: {len(roots)} members named data.pkl, expected one")
            root = roots[0]
            order = f"{root}/byteorder"
            if order in members and archive.read(order) != b"little":
                raise EmoconvError(f"{path}: big-endian weights, only little-endian are read")
            wanted, value = _unpickle(path, archive.read(f"{root}/data.pkl"))
            stored = {}
            for storage in wanted.values():
                name = f"{root}/data/{storage.key}"
                if name not in members:
                    raise EmoconvError(f"{path}: storage {storage.key!r} is missing")
                _check_bytes(path, storage, members[name])
                stored[storage.key] = np.frombuffer(archive.read(name), np.uint8)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, RuntimeError) as error:
        raise EmoconvError(f"{path}: damaged zip archive: {error}") from error
    return _Resolver(path, stored).value(value)


def _checked_members(path: Path, archive: zipfile.ZipFile, size: int) -> dict[str, int]:
    """Returns the size of each member, having refused compression, doubles and overlaps.

    `torch.save` never compresses; members that are stored and do not add up to more than the file
    cannot be a bomb.
    """
    members: dict[str, int] = {}
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise EmoconvError(f"{path}: member {info.filename!r:.80} is compressed, not stored")
        if info.filename in members:
            raise EmoconvError(f"{path}: member {info.filename!r:.80} occurs twice")
        members[info.filename] = info.file_size
    if sum(members.values()) > size:
        raise EmoconvError(f"{path}: members claim {sum(members.values())} bytes of {size}")
    return members


def _read_legacy(path: Path, data: mmap.mmap) -> Any:
    """Reads the flat format: five pickles (magic, version, system, value, keys), then storages."""
    pickles = [_next_pickle(path, data)]
    if _unpickle(path, pickles[0])[1] != LEGACY_MAGIC:
        raise EmoconvError(f"{path}: not a PyTorch weight file (neither zip nor legacy format)")
    pickles += [_next_pickle(path, data) for _ in range(4)]
    version, system, (wanted, value), keys = (
        _unpickle(path, pickles[1])[1],
        _unpickle(path, pickles[2])[1],
        _unpickle(path, pickles[3]),
        _unpickle(path, pickles[4])[1],
    )
    if version != LEGACY_PROTOCOL:
        raise EmoconvError(f"{path}: another version than {LEGACY_PROTOCOL}, the only one read")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise EmoconvError(f"{path}: big-endian weights, only little-endian are read")
    listed = isinstance(keys, list) and all(type(key) is str for key in keys)
    if not listed or sorted(keys) != sorted(wanted):
        raise EmoconvError(f"{path}: the list of storages does not match the tensors")
    stored = {}
    for key in keys:
        storage = wanted[key]
        numbers = int.from_bytes(data.read(8), "little", signed=True)
        available = data.size() - data.tell()
        width = _width(storage.dtype)
        if not 0 <= numbers * width <= available:
            raise EmoconvError(
                f"{path}: storage {key!r:.40} claims {numbers} numbers of {width} bytes, "
                f"{available} bytes are left"
            )
        _check_bytes(path, storage, numbers * width)
        stored[key] = np.frombuffer(data.read(numbers * width), np.uint8)
    return _Resolver(path, stored).value(value)


def _check_bytes(path: Path, storage: _Storage, available: int) -> None:
    """Refuses a storage whose pickle claims another size than is there."""
    claimed = storage.numbers * _width(storage.dtype)
    if claimed != available:
        raise EmoconvError(
            f"{path}: storage {storage.key!r:.40} claims {claimed} bytes, {available} are there"
        )


def _width(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _next_pickle(path: Path, data: mmap.mmap) -> bytes:
    """Returns the bytes of the pickle at the file's position and moves behind it."""
    start = data.tell()
    _scan(path, data)
    end = data.tell()
    data.seek(start)
    return data.read(end - start)


def _scan(path: Path, stream: Any) -> None:
    """Walks one pickle without executing it and refuses opcodes and globals it may not hold."""
    start = stream.tell()
    allowed = frozenset(OPCODES.split())
    try:
        for opcode, argument, position in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                _constructor(path, module, name)
            if opcode.name not in allowed:
                raise EmoconvError(f"{path}: pickle opcode {opcode.name} is not allowed")
            if stream.tell() - start > MAX_PICKLE_BYTES:
                raise EmoconvError(f"{path}: pickle of more than {MAX_PICKLE_BYTES} bytes")
            # a memo slot costs at least one byte of pickle; a larger index only asks for memory
            if opcode.name == "LONG_BINPUT" and argument > (position or 0) - start:
                raise EmoconvError(f"{path}: pickle memo index {argument} is out of range")
    except (ValueError, IndexError, UnicodeError) as error:
        raise EmoconvError(f"{path}: not a PyTorch weight file, or damaged: {error}") from error


def _unpickle(path: Path, text: bytes) -> tuple[dict[str, _Storage], Any]:
    """Returns the storages one pickle refers to, by key, and its value with tensors as records.

    Messages never print a value of the pickle: a short nest of references can have an endless repr.
    """
    _scan(path, io.BytesIO(text))
    reader = _Unpickler(path, io.BytesIO(text))
    try:
        return reader.storages, reader.load()
    except EmoconvError:
        raise
    except Exception as error:  # an arbitrary byte string can fail in any way
        raise EmoconvError(f"{path}: damaged pickle: {error}") from error


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows tensors, dictionaries and nothing else."""

    def __init__(self, path: Path, stream: io.BytesIO):
        super().__init__(stream)
        self.path = path
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Returns this file's stand-in for an allowed global, or raises EmoconvError."""
        return _constructor(self.path, module_name, global_name)

    def persistent_load(self, pid: Any) -> _Storage:
        """Records the storage that a persistent id ('storage', type, key, device, n) names."""
        well_formed = (
            isinstance(pid, tuple)
            and len(pid) in (5, 6)
            and pid[0] == "storage"
            and isinstance(pid[1], str)
            and isinstance(pid[2], str)
            and type(pid[4]) is int
            and pid[4] >= 0
            and pid[5:] in ((), (None,))  # a sixth entry is a view, written before PyTorch 0.4
        )
        name = str(pid[1]).removeprefix("torch.") if well_formed else ""
        if name not in STORAGES:
            raise EmoconvError(f"{self.path}: unknown kind of storage {name[:80]}")
        storage = _Storage(pid[2], STORAGES[name], pid[4])
        if self.storages.setdefault(storage.key, storage) != storage:
            raise EmoconvError(f"{self.path}: storage {storage.key!r:.40} is described twice")
        return storage


def _constructor(path: Path, module: str, name: str) -> Any:
    """Returns what stands in for a global: a string, a builtin type or a fresh function.

    Fresh and builtin ones because a pickle may set attributes on what it names: this way nothing
    survives the file.
    """
    full = f"{module}.{name}"
    functions: Mapping[str, Callable[..., Any]] = {
        "torch._utils._rebuild_tensor": lambda *view: _Tensor(*view),
        "torch._utils._rebuild_tensor_v2": lambda *view: _Tensor(*view[:4]),
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "collections.OrderedDict": collections.OrderedDict,
        "torch.Size": tuple,
    }
    if full in functions and "." not in name:  # a name with dots is looked up in steps
        return functions[full]
    if module == "torch" and (name in STORAGES or name in DTYPES):
        return full
    raise EmoconvError(f"{path}: asks for {full!r:.120}, which is not a tensor; refused")


class _Resolver:
    """Turns the unpickled value into fresh plain containers and checked arrays."""

    def __init__(self, path: Path, stored: Mapping[str, np.ndarray]):
        self.path = path
        self.stored = stored
        self.views: dict[tuple[str, str], np.ndarray] = {}
        self.values = 0

    def value(self, item: Any, depth: int = 0) -> Any:
        """Returns `item` with records replaced by arrays; refuses other types and nested bombs."""
        self.values += 1
        if self.values > MAX_VALUES or depth > MAX_DEPTH:
            raise EmoconvError(
                f"{self.path}: more than {MAX_VALUES} values or {MAX_DEPTH} levels of nesting"
            )
        if type(item) is _Tensor:
            return self._array(item)
        if isinstance(item, dict):
            pairs = dict.items(item)
            return {self._key(k): self.value(v, depth + 1) for k, v in pairs}
        if type(item) in (list, tuple):
            return type(item)(self.value(entry, depth + 1) for entry in item)
        if item is None or type(item) in (str, bytes, int, float, bool):
            return item
        raise EmoconvError(f"{self.path}: holds a {type(item).__name__}, expected plain values")

    def _key(self, key: Any) -> Any:
        if key is None or type(key) in (str, bytes, int, float, bool):
            return key
        raise EmoconvError(f"{self.path}: a {type(key).__name__} as dictionary key")

    def _array(self, tensor: _Tensor) -> np.ndarray:
        """Returns the array of a tensor record whose view lies within its storage."""
        storage, offset, sizes, strides = tensor
        if type(storage) is not _Storage or type(sizes) is not tuple or type(strides) is not tuple:
            raise EmoconvError(f"{self.path}: malformed tensor")
        if len(sizes) > MAX_AXES:  # before anything is computed from them
            raise EmoconvError(
                f"{self.path}: tensor of {len(sizes)} axes, at most {MAX_AXES} allowed"
            )
        numbers = (offset, *sizes, *strides)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(sizes) != len(strides):
            raise EmoconvError(f"{self.path}: malformed tensor")
        count = math.prod(sizes)
        last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        # an expanded tensor (stride 0) can claim any size; no weight file needs one
        fits = last < storage.numbers and count <= storage.numbers
        largest = math.prod(n or 1 for n in sizes)
        if largest > MOST_FOREIGN_BYTES or (count and not fits):
            raise EmoconvError(
                f"{self.path}: tensor of sizes {sizes!r:.80}, strides {strides!r:.80} and offset "
                f"{offset!r:.40} does not fit its storage of {storage.numbers!r:.40}"
            )
        base = self._typed(storage)
        if not count:
            return np.zeros(sizes, base.dtype)
        steps = [s * base.itemsize if n > 1 else 0 for n, s in zip(sizes, strides, strict=True)]
        return np.lib.stride_tricks.as_strided(base[offset:], sizes, steps, writeable=False)

    def _typed(self, storage: _Storage) -> np.ndarray:
        """Returns a storage's bytes as numbers, aligned, once per storage."""
        key = (storage.key, storage.dtype)
        if key not in self.views:
            raw = self.stored[storage.key]
            if storage.dtype == "bfloat16":  # the upper half of a float32
                wide = raw.view("<u2").astype("<u4") << 16
                self.views[key] = wide.view("<f4")
            else:
                self.views[key] = np.require(raw.view(storage.dtype), requirements="A")
        return self.views[key]
