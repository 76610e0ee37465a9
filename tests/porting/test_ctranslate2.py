"""The reader of CTranslate2's files: what it returns, and hostile files refused in one line."""

import os

import numpy as np
import pytest
from ctranslate2_files import TINY, converted, file_of, string, tiny_model, variable
from hypothesis import given
from hypothesis import strategies as st

from emoconv_jax.errors import EmoconvError
from emoconv_jax.porting.ctranslate2 import dequantised, read_ctranslate2

ONES = np.ones((2, 3), np.float32)
SOUND = file_of(variable("encoder/a", ONES), variable("decoder/b", ONES), aliases=[])


def read(path, data=None, prefix="encoder/"):
    if data is not None:
        path.write_bytes(data)
    return read_ctranslate2(path, "WhisperSpec", 3, prefix)


def test_variables_of_every_type_are_read_and_others_passed_over(tmp_path):
    arrays = {
        f"encoder/{kind}": (np.arange(6).reshape(2, 3) - 2).astype(kind)
        for kind in ("float32", "float16", "int8", "int16", "int32")
    }
    upper = np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16
    halves = variable("encoder/bfloat16", upper.astype(np.int16), type=5)
    scalar = variable("encoder/scalar", np.array(8, np.int16))
    parts = [variable("decoder/x", ONES), *(variable(*item) for item in arrays.items())]
    names = [("encoder/other", "encoder/int8"), ("encoder/outer", "decoder/x")]
    data = file_of(*parts, halves, scalar, aliases=names)
    found = read(tmp_path / "model.bin", data)
    assert set(found) == {*arrays, "encoder/bfloat16", "encoder/scalar", *(a for a, _ in names)}
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    np.testing.assert_array_equal(found["encoder/bfloat16"], np.float32([1.5, -2.0]))
    assert found["encoder/scalar"] == 8 and found["encoder/scalar"].shape == ()
    np.testing.assert_array_equal(found["encoder/other"], arrays["encoder/int8"])
    np.testing.assert_array_equal(found["encoder/outer"], ONES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes, allowed are 1 to"),
        (b"PK\x03\x04" + bytes(100), "binary version 67324752, allowed is 6"),
        (file_of(version=7), "binary version 7"),
        (file_of(kind="TransformerSpec"), "holds TransformerSpec 3, expected WhisperSpec 3"),
        (file_of(revision=4), "holds WhisperSpec 4"),
        (file_of(kind="Whisper\nSpec"), r"name Whisper\\nSpec is not one of printable"),
        (file_of(variables=1 << 31), "2147483648 variables, at most 10000"),
        (file_of(named=1 << 31), "2147483648 aliases, at most 10000"),
        (file_of(variable("encoder/a", ONES), variables=2), "name of 0 bytes"),
        (SOUND + b"\0", "1 bytes after its end"),
        (SOUND[:-1], "4 bytes expected, 3 are left"),
        (file_of(*[variable("encoder/a", ONES)] * 2), "encoder/a occurs twice"),
        (file_of(variable("encoder/a", ONES, shape=(2, 4))), r"\(2, 4\) claims 24 bytes"),
        (file_of(variable("encoder/a", ONES, shape=(1,) * 5)), "5 axes, at most 4"),
        (file_of(variable("encoder/a", ONES, shape=(0,), bytes=0)), "claims 0 bytes"),
        (
            file_of(variable("encoder/a", ONES, shape=(1 << 29, 2), bytes=(1 << 32) - 4)),
            "claims 4294967292 bytes",
        ),
        (
            file_of(variable("encoder/a", ONES, shape=(1 << 20, 1 << 9), bytes=1 << 31)),
            "2147483648 bytes expected, 28 are left",
        ),
        (
            file_of(variable("decoder/a", ONES, shape=(1 << 20, 1 << 9), bytes=1 << 31)),
            "2147483648 bytes expected",
        ),
        (file_of(variable("encoder/a", ONES, type=6)), "is of type 6, allowed are 0 to 5"),
        (file_of(variable("encoder/" + "a" * 300, ONES)), "name of 309 bytes"),
        (file_of(variable("encoder/\x1b[2J", ONES)), r"name encoder/\\x1b\[2J is not"),
        (file_of(variable("a", ONES), aliases=[("b", "c")]), "alias b of c, which is not there"),
        (file_of(variable("a", ONES), aliases=[("a", "a")]), "a occurs twice"),
        (file_of(variable("a", ONES), aliases=[("b", "a"), ("c", "b")]), "alias c of b, which"),
        (
            file_of(
                variable("encoder/a", np.ones(9999, np.float32)),
                aliases=[(f"encoder/{i}", "encoder/a") for i in range(99)],
            ),
            "bytes with all aliases",
        ),
        (file_of()[:4] + string("x")[:-1] + b"y" + file_of()[18:], "is not one of printable"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path, data, message):
    with pytest.raises(EmoconvError, match=message) as caught:
        read(tmp_path / "model.bin", data)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_file_cut_anywhere_is_refused(tmp_path):
    for length in range(1, len(SOUND)):
        with pytest.raises(EmoconvError, match="damaged"):
            read(tmp_path / "model.bin", SOUND[:length])


@given(place=st.integers(0, len(SOUND) - 1), byte=st.integers(0, 255))
def test_no_changed_byte_is_anything_but_read_or_refused(tmp_path_factory, place, byte):
    data = SOUND[:place] + bytes([byte]) + SOUND[place + 1 :]
    try:
        read(tmp_path_factory.getbasetemp() / "model.bin", data)
    except EmoconvError as error:
        assert "\n" not in str(error)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(EmoconvError, match="cannot be read"):
        read(tmp_path / "absent")
    with pytest.raises(EmoconvError, match="cannot be read"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EmoconvError, match="not a regular file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize(("kind", "step"), [("int8", 1 / 127), ("int16", 1 / 1024)])
def test_integers_of_the_real_converter_are_divided_by_their_scales(tmp_path, kind, step):
    model = tiny_model(TINY)
    exact = read(converted(model, tmp_path / "exact"))
    stored = read(converted(model, tmp_path / kind, kind))
    assert exact.pop("encoder/num_heads") == stored.pop("encoder/num_heads") == TINY.heads
    found = dequantised(stored, "file")
    assert set(found) == set(exact)
    rounded = 0
    for name, array in found.items():
        error = np.abs(array - exact[name])
        if stored[name].dtype.kind == "i":
            axes = tuple(range(1, array.ndim)) if kind == "int8" else None
            greatest = np.abs(exact[name]).max(axes, keepdims=True)
            assert (error <= 0.5001 * step * greatest).all()  # half a step of rounding
            rounded += 1
        else:
            assert not error.any()
    assert rounded >= 8


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": np.ones((2, 2), np.int8)}, "a is int8 without its scale"),
        ({"a_scale": np.ones(2, np.float32)}, "a_scale has no integer weight"),
        (
            {"a": np.ones((2, 2), np.int8), "a_scale": np.ones(3, np.float32)},
            r"expected floats \(2",
        ),
        ({"a": np.ones((2, 2), np.int8), "a_scale": np.ones(2, np.int8)}, "a_scale is int8"),
        ({"a": np.ones((2, 2), np.int8), "a_scale": np.zeros(2, np.float32)}, "that are no scale"),
        (
            {"a": np.ones((2, 2), np.int16), "a_scale": np.float32(np.nan)[None][0]},
            "that are no scale",
        ),
    ],
)
def test_scales_that_do_not_fit_are_refused(tensors, message):
    with pytest.raises(EmoconvError, match=message):
        dequantised({name: np.asarray(array) for name, array in tensors.items()}, "file")
