"""The restricted reader, against what torch.save writes and what an attacker could."""

import collections
import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from emoconv_jax.errors import EmoconvError
from emoconv_jax.porting.torch_file import read_torch_file

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path, value, zipped, protocol=2):
    torch.save(value, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return path


def refused(path, match=None):
    """Checks that the file is refused with one line that names it."""
    with pytest.raises(EmoconvError, match=match) as info:
        read_torch_file(path)
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)


def with_pickle(path, text, root="archive", **members):
    """Writes a zip-format file around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", text)
        for name, content in members.items():
            archive.writestr(f"{root}/data/{name.removeprefix('s')}", content)
    return path


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Storage:
    """Pickles as a persistent reference to a storage of so many floats."""

    def __init__(self, numbers):
        self.numbers = numbers


class ViewPickler(pickle.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return ("storage", torch.FloatStorage, "0", "cpu", obj.numbers)
        return None


def view_file(path, numbers, offset, sizes, strides):
    """Writes a file whose one tensor is any view of a storage of six floats."""
    stream = io.BytesIO()
    arguments = (Storage(numbers), offset, sizes, strides, False, None)
    ViewPickler(stream, 2).dump({"w": Call(torch._utils._rebuild_tensor_v2, *arguments)})
    return with_pickle(path, stream.getvalue(), s0=np.arange(6, dtype="<f4").tobytes())


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_back_what_torch_saved(tmp_path, zipped, protocol):
    torch.manual_seed(0)
    base = torch.randn(6, 4)
    kinds = [torch.float64, torch.float16, torch.int64, torch.int32, torch.int16]
    kinds += [torch.int8, torch.uint8, torch.bool]
    value = {
        "state": torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Conv1d(2, 2, 3)).state_dict(),
        "parameter": torch.nn.Parameter(base.clone()),
        "views": [base, base[1:4], base.t(), base[::2, 1], base[3, 2]],
        "kinds": {str(kind): (10 * base).to(kind) for kind in kinds},
        "empty": torch.zeros(0, 3),
        "plain": (1, -2.5, "text", None, True, 2**40, torch.Size([1, 2])),
        "ordered": collections.OrderedDict(a=1),
        5: [],
    }
    if protocol > 2:  # in protocol 2 bytes are a call of _codecs.encode, which is refused
        value["bytes"] = b"\x00\xff"
    found = read_torch_file(save(tmp_path / "w.pt", value, zipped, protocol))
    assert list(found) == list(value)
    assert list(found["state"]) == list(value["state"])
    for name, tensor in value["state"].items():
        np.testing.assert_array_equal(found["state"][name], tensor.numpy())
    np.testing.assert_array_equal(found["parameter"], base.numpy())
    for array, tensor in zip(found["views"], value["views"], strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())
    for name, tensor in value["kinds"].items():
        assert found["kinds"][name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(found["kinds"][name], tensor.numpy())
    assert found["empty"].shape == (0, 3)
    assert found["plain"] == value["plain"]
    assert found.get("bytes") == value.get("bytes")
    assert found["ordered"] == {"a": 1}


@FORMATS
def test_bfloat16_is_widened_exactly(tmp_path, zipped):
    tensor = torch.randn(40, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = read_torch_file(save(tmp_path / "w.pt", [tensor], zipped))[0]
    np.testing.assert_array_equal(found, tensor.float().numpy())


def test_arrays_are_read_only(tmp_path):
    found = read_torch_file(save(tmp_path / "w.pt", [torch.ones(3)], True))[0]
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 2.0


@FORMATS
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("name", "function", "argument"),
    [("system", os.system, "touch {}"), ("eval", eval, "open('{}', 'w').close()")],
    ids=["os.system", "builtins.eval"],
)
def test_calls_are_refused_and_not_executed(tmp_path, zipped, protocol, name, function, argument):
    mark = tmp_path / "executed"
    call = Call(function, argument.format(mark))
    path = save(tmp_path / "w.pt", {"state": [torch.ones(2), call]}, zipped, protocol)
    refused(path, name)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the file does what it should not
    assert mark.exists()


def test_nested_and_old_pickles_are_refused(tmp_path):
    inner = pickle.dumps(Call(os.system, "true"))
    refused(with_pickle(tmp_path / "a.pt", pickle.dumps(Call(pickle.loads, inner), 2)), "loads")
    refused(with_pickle(tmp_path / "b.pt", pickle.dumps(Call(os.system, "true"), 0)), "system")
    refused(with_pickle(tmp_path / "c.pt", b"(ios\nsystem\n."), r"os\.system")
    refused(with_pickle(tmp_path / "d.pt", b"\x80\x02\x82\x01."), "EXT1")
    getter = pickle.dumps(Call(getattr, "a", "upper"), 2)
    refused(with_pickle(tmp_path / "e.pt", getter), "getattr")
    (tmp_path / "f.pt").write_bytes(pickle.dumps(Call(os.system, "true"), 2))
    refused(tmp_path / "f.pt", "system")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch", "load"),
        ("torch", "_utils._rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch.storage", "_load_from_bytes"),
        ("torch.nn.modules.linear", "Linear"),
        ("collections", "OrderedDict.__reduce__"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("builtins", "getattr"),
        ("__builtin__", "eval"),
        ("emoconv_jax.porting.torch_file", "read_torch_file"),
        ("_codecs", "encode"),
    ],
)
def test_only_the_names_of_tensors_are_known(tmp_path, module, name):
    """In the old form of a global, which is scanned, and the new one, known when it is reached."""
    old = f"c{module}\n{name}\n.".encode()
    words = [bytes([0x8C, len(word)]) + word.encode() for word in (module, name)]
    for text in (b"\x80\x02" + old, b"\x80\x04" + b"".join(words) + b"\x93."):
        refused(with_pickle(tmp_path / "w.pt", text), "refused")


def test_attributes_set_on_allowed_names_do_not_outlive_the_file(tmp_path):
    # BUILD with (None, {name: value}) sets attributes on any object that the pickle can name
    name = b"X\x0c\x00\x00\x00__defaults__"
    text = b"\x80\x02ctorch._utils\n_rebuild_parameter\nN}" + name + b"K\x01\x85s\x86b."
    refused(with_pickle(tmp_path / "evil.pt", text), "function")
    parameter = torch.nn.Parameter(torch.ones(2))
    found = read_torch_file(save(tmp_path / "w.pt", [parameter], True))
    np.testing.assert_array_equal(found[0], np.ones(2))


def test_other_objects_are_refused(tmp_path):
    refused(save(tmp_path / "a.pt", torch.nn.Linear(2, 2), True), "torch.nn")
    refused(save(tmp_path / "b.pt", {"x": {1, 2}}, True, 2), "set")
    refused(with_pickle(tmp_path / "c.pt", b"\x80\x02ccollections\nOrderedDict\n."), "a type")


@FORMATS
def test_truncated_files_are_refused(tmp_path, zipped):
    path = save(tmp_path / "w.pt", {"w": torch.arange(100.0)}, zipped)
    whole = path.read_bytes()
    for size in (0, 1, 3, 10, 60, len(whole) // 2, len(whole) - 300, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path)


@FORMATS
def test_damaged_bytes_never_end_in_another_error(tmp_path, zipped):
    path = save(tmp_path / "w.pt", {"w": torch.arange(4.0), "n": [1, "a"]}, zipped)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for position in rng.integers(len(whole), size=3):
            damaged[position] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_torch_file(path)
        except EmoconvError as error:
            assert str(path) in str(error)


def test_something_else_is_refused(tmp_path):
    refused(tmp_path / "absent.pt", "cannot be read")
    for name, content in {
        "a": b"RIFF....WAVEfmt ",
        "b": b"\x89HDF\r\n",
        "c": b"\x80\x02}.",
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "not a PyTorch weight file")
    with zipfile.ZipFile(tmp_path / "d.pt", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    refused(tmp_path / "d.pt", "data.pkl")


def test_zip_bombs_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/data/0", bytes(10**7))
    refused(tmp_path / "a.pt", "compressed")
    # every entry of the directory points at the same stored bytes
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/data/0", bytes(10**5))
        for number in range(1, 9):
            info = zipfile.ZipInfo(f"archive/data/{number}")
            original = archive.getinfo("archive/data/0")
            info.header_offset, info.CRC = original.header_offset, original.CRC
            info.file_size = info.compress_size = original.file_size
            archive.filelist.append(info)
    (tmp_path / "b.pt").write_bytes(stream.getvalue())
    refused(tmp_path / "b.pt", "claim")


@pytest.mark.parametrize(
    ("offset", "sizes", "strides"),
    [
        (1, (2, 3), (3, 1)),  # ends one number behind
        (0, (7,), (1,)),
        (6, (1,), (1,)),
        (0, (2,), (6,)),
        (-1, (2,), (1,)),
        (3, (3,), (-1,)),
        (0, (-2, -3), (1, 1)),
        (0, (10**12,), (0,)),  # expanded
        (0, (2**33, 0), (1, 1)),
        (0, (2, 3), (1,)),
        (5, (2, 2), (-3, -1)),  # within the storage, backwards
        (0, (2, 2), (1, 5)),  # ends one number behind
        (0, (2, 2), (2**63, 2**63)),  # wraps around in 64 bits
        (0, (2**32, 2**32), (0, 0)),  # as many as fit no number of 64 bits
        (True, (1,), (1,)),
        (0, (True,), (1,)),
        (0, (2.0,), (1,)),
        (0, (1,) * 9, (1,) * 9),
        (2**70, (1,), (1,)),
    ],
)
def test_views_outside_their_storage_are_refused(tmp_path, offset, sizes, strides):
    refused(view_file(tmp_path / "w.pt", 6, offset, sizes, strides), "tensor")


def test_views_inside_their_storage_are_read(tmp_path):
    found = read_torch_file(view_file(tmp_path / "w.pt", 6, 1, (2, 2), (3, 1)))["w"]
    np.testing.assert_array_equal(found, [[1, 2], [4, 5]])
    found = read_torch_file(view_file(tmp_path / "w.pt", 6, 5, (1, 1), (2**70, 1)))["w"]
    np.testing.assert_array_equal(found, [[5]])


@pytest.mark.parametrize("numbers", [0, 5, 7, 2**40])
def test_storages_of_another_size_than_claimed_are_refused(tmp_path, numbers):
    refused(view_file(tmp_path / "w.pt", numbers, 0, (1,), (1,)), "claims")


def test_legacy_storage_that_claims_too_much_is_refused(tmp_path):
    path = save(tmp_path / "w.pt", {"w": torch.arange(6.0)}, False)
    whole = path.read_bytes()
    for claim in (7, 2**40, 2**62, -1):
        path.write_bytes(whole[: -8 - 24] + struct.pack("<q", claim) + whole[-24:])
        refused(path, "claims")


def test_values_that_multiply_by_reference_are_refused(tmp_path):
    nest = ["x"]
    for _ in range(30):
        nest = [nest, nest]
    refused(save(tmp_path / "wide.pt", nest, True), "more than")
    cycle: list = []
    cycle.append(cycle)
    refused(save(tmp_path / "cycle.pt", cycle, True), "nesting")


def test_memory_is_not_asked_for_by_a_memo_index(tmp_path):
    refused(with_pickle(tmp_path / "w.pt", b"\x80\x02}r\xff\xff\xff\x7f."), "memo")


@pytest.mark.parametrize(
    "text",
    [
        b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"}.",  # a frame
        b"\x80\x02X" + (2**31).to_bytes(4, "little") + b"a.",  # text
        b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"a.",  # long text
        b"\x80\x03B" + (2**31).to_bytes(4, "little") + b"a.",  # bytes
        b"\x80\x02]q\x00" + b"h\x00\x86" * 10 + b"j\xff\xff\xff\xff.",  # a memo slot never filled
    ],
    ids=["frame", "text", "long text", "bytes", "memo"],
)
def test_memory_is_not_asked_for_by_a_length(tmp_path, text):
    path = with_pickle(tmp_path / "w.pt", text)
    tracemalloc.start()
    try:
        refused(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_memo_that_doubles_costs_no_more_than_the_values_allowed(tmp_path):
    """60 lists, each of two of the one before: 2^60 values in 600 bytes."""
    text = b"\x80\x02]q\x00"
    for i in range(60):
        text += b"]q" + bytes([i + 1]) + b"(h" + bytes([i]) + b"h" + bytes([i]) + b"e"
    tracemalloc.start()
    try:
        refused(with_pickle(tmp_path / "w.pt", text + b"."), "more than 100000 values or 32 levels")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
