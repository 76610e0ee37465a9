"""The folder of a bundle: what is written is read back, and what is foreign is refused by name."""

import json
import pathlib
import pickle

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from emoconv_jax.bundles import format as bundle_format
from emoconv_jax.bundles.agreement import check_agreement
from emoconv_jax.bundles.format import (
    CONFIG_FILE,
    BundleConfig,
    load_part,
    part_files,
    read_config,
    write_bundle,
)
from emoconv_jax.config import AverageVoiceConfig, MelConfig, VocoderConfig, to_dict
from emoconv_jax.errors import EmoconvError

SHAPES = {"params": {"a": {"kernel": (3, 4), "bias": (4,)}, "b": {"g": (1,)}}, "statistics": (5,)}
STORED = "part-1-of-1.safetensors"


def is_shape(node) -> bool:
    return isinstance(node, tuple)


def template():
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, np.float32), SHAPES, is_leaf=is_shape
    )


def params(seed=0):
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: generator.normal(size=shape).astype(np.float32), SHAPES, is_leaf=is_shape
    )


def assert_refused(folder: pathlib.Path, message: str) -> None:
    """One line that says where and what."""
    with pytest.raises(EmoconvError, match=message) as caught:
        load_part(folder, "part", template())
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def edit(folder: pathlib.Path, **tensors) -> None:
    """Changes the stored tensors; None takes one away."""
    arrays = load_file(folder / STORED) | tensors
    save_file({name: a for name, a in arrays.items() if a is not None}, folder / STORED)


def save_part(folder, role, params, dtype=np.float16):
    write_bundle(folder, BundleConfig("made", "MIT"), {role: params}, dtype=dtype)


@pytest.fixture
def part(tmp_path) -> pathlib.Path:
    save_part(tmp_path, "part", params())
    return tmp_path


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_part_comes_back_as_float32_rounded_to_the_stored_type(tmp_path, dtype):
    saved = params()
    save_part(tmp_path, "part", saved, dtype)
    found = load_part(tmp_path, "part", template())
    assert jax.tree.structure(found) == jax.tree.structure(saved)
    for a, b in zip(jax.tree.leaves(saved), jax.tree.leaves(found), strict=True):
        assert b.dtype == np.float32
        np.testing.assert_array_equal(b, a.astype(dtype).astype(np.float32))


def test_shards_stay_below_the_limit_and_join_again(tmp_path, monkeypatch):
    many = {f"layer_{i}": {"kernel": np.full((10, 10), i, np.float32)} for i in range(20)}
    monkeypatch.setattr(bundle_format, "SHARD_BYTES", 2000)
    save_part(tmp_path, "part", many)
    files = part_files(tmp_path, "part")
    assert len(files) > 3
    assert {f.name for f in files} == {
        f"part-{i + 1}-of-{len(files)}.safetensors" for i in range(len(files))
    }
    assert max(f.stat().st_size for f in files) <= 2000
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), many)
    found = load_part(tmp_path, "part", shapes)
    assert all((found[name]["kernel"] == many[name]["kernel"]).all() for name in many)


def test_saving_again_leaves_nothing_of_the_part_before(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_format, "SHARD_BYTES", 300)
    save_part(tmp_path, "part", params(1))
    save_part(tmp_path, "party", params(2))
    assert len(part_files(tmp_path, "part")) > 1
    monkeypatch.undo()
    save_part(tmp_path, "part", params(3))
    assert [f.name for f in part_files(tmp_path, "part")] == [STORED]
    assert {f.name for f in tmp_path.iterdir() if f.suffix != ".safetensors"} == {CONFIG_FILE}
    found = load_part(tmp_path, "part", template())
    np.testing.assert_allclose(found["statistics"], params(3)["statistics"], rtol=1e-3)
    assert len(part_files(tmp_path, "party")) > 1


def test_what_the_stored_type_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    loud = {"a": {"kernel": np.full(3, 70000.0, np.float32)}}  # float16 ends at 65504
    with pytest.raises(EmoconvError, match=r"part: tensor a/kernel holds .* float16 cannot"):
        save_part(tmp_path, "part", loud)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"params/a/bias": None}, r"tensor params/a/bias is missing \(1 in all\)"),
        ({"params/c": np.zeros(2, np.float16)}, r"unexpected tensor 'params/c' \(2,\)"),
        (
            {"params/a/kernel": np.zeros((4, 3), np.float16)},
            r"params/a/kernel has shape \(4, 3\), expected \(3, 4\)",
        ),
        ({"params/b/g": np.zeros(1, np.float64)}, r"params/b/g is F64, allowed are F16, F32"),
        ({"params/b/g": np.zeros(1, np.int32)}, r"params/b/g is I32, allowed are F16, F32"),
        ({"statistics": np.full(5, np.nan, np.float16)}, "statistics holds NaN or infinity"),
        ({"statistics": np.full(5, np.inf, np.float32)}, "statistics holds NaN or infinity"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(part, tensors, message):
    edit(part, **tensors)
    assert_refused(part, message)


def test_a_tensor_in_two_shards_is_refused(part):
    (part / STORED).rename(part / "part-1-of-2.safetensors")
    save_file({"statistics": np.zeros(5, np.float16)}, part / "part-2-of-2.safetensors")
    assert_refused(part, "tensor statistics is stored twice")


def test_what_a_killed_write_leaves_is_refused_and_writing_again_mends_it(part, monkeypatch):
    """Killed after the new shards took their names, before the old one went."""
    old = (part / STORED).read_bytes()
    monkeypatch.setattr(bundle_format, "SHARD_BYTES", 300)
    save_part(part, "part", params(1))
    (part / STORED).write_bytes(old)
    count = len(part_files(part, "part")) - 1
    assert count > 1
    other = rf"part-1-of-{count}\.safetensors"
    assert_refused(part, rf"{STORED}: {other} beside it is of another write; import or export")
    save_part(part, "part", params(1))
    load_part(part, "part", template())


def test_a_missing_part_is_named(tmp_path):
    assert_refused(tmp_path, r"no part-\*\.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 60, -2])
def test_a_truncated_file_is_refused(part, kept):
    whole = (part / STORED).read_bytes()
    (part / STORED).write_bytes(whole[:kept])
    assert_refused(part, "damaged file")


def test_a_header_that_claims_the_sky_is_refused(part):
    (part / STORED).write_bytes((2**62).to_bytes(8, "little") + b"{}")
    assert_refused(part, "damaged file")


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_a_pickle_is_never_opened(part):
    sprung = part / "sprung"
    danger = pickle.dumps(Trap(sprung))
    for name in ("part.pt", "part.bin", "part.pkl", "part-1-of-1.pt"):
        (part / name).write_bytes(danger)
    load_part(part, "part", template())
    (part / STORED).write_bytes(danger)
    assert_refused(part, "damaged file")
    assert not sprung.exists()
    pickle.loads(danger)
    assert sprung.exists()  # the trap works


def test_the_configuration_comes_back(tmp_path, tiny):
    write_bundle(tmp_path / "new", tiny)
    assert read_config(tmp_path / "new") == tiny
    assert [f.name for f in (tmp_path / "new").iterdir()] == [CONFIG_FILE]


def refused_config(folder: pathlib.Path, content: bytes | dict, message: str) -> None:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / CONFIG_FILE).write_bytes(text)
    with pytest.raises(EmoconvError, match=message) as caught:
        read_config(folder)
    assert str(caught.value).startswith(str(folder / CONFIG_FILE))
    assert "\n" not in str(caught.value)


BASE = {"name": "x", "licence": "MIT"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"{'name': 1}", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (1 << 20) + b"{}", "1048578 bytes, at most 1048576 allowed"),
        (b"[]", "found list, expected an object"),
        (b"{}", "json: name: missing"),
        (BASE | {"weights": 1}, "json: weights: unknown field"),
        (BASE | {"score_network": {"widht": 8}}, "json: score_network.widht: unknown field"),
        (BASE | {"recogniser": {"maps": [1, "2"]}}, r"json: recogniser.maps\[1\]: found str"),
        (BASE | {"format": 2, "new": 1}, "format is 2, this version reads 1"),
        (BASE | {"diffusion": {"start": 0}}, "diffusion.start is 0.0, allowed is 0.001 to 1"),
        (BASE | {"diffusion": {"beta_0": -1}}, "diffusion.beta_0 is -1.0, allowed is 0.0001 to"),
        (BASE | {"diffusion": {"latent": "air"}}, "latent is 'air', allowed are noise, source"),
        (BASE | {"score_network": {"head": "x"}}, "head is 'x', allowed are score, velocity"),
        (BASE | {"score_network": {"conditioning": "x"}}, "'x', allowed are input, blocks"),
        (BASE | {"score_network": {"kind": "x"}}, "kind is 'x', allowed are unet2d, unet1d"),
        (BASE | {"score_network": {"layers": 65}}, "layers is 65, allowed is 0 to 64"),
        (BASE | {"score_network": {"prosody": 1}}, "prosody: found int 1, expected bool"),
        (BASE | {"average_voice": {"layers": 10**6}}, "layers is 1000000, allowed is 1 to 24"),
        (BASE | {"vocoder": {"upsample_rates": [10**4000] * 2}}, "is far larger, allowed is 0 to"),
        (BASE | {"vocoder": {"upsample_rates": [2] * 99}}, "has 99 entries, at most 16 allowed"),
        (BASE | {"name": "x" * 300}, "name has 300 characters, at most 200 allowed"),
        (BASE | {"mel": {"fft_samples": 128}}, "fft_samples is 128, at least mel.hop_samples"),
        (BASE | {"mel": {"floor": -1}}, "mel.floor is -1.0, allowed is 1e-12 to 0.1"),
        (BASE | {"format": "1"}, "format is '1', this version reads 1"),
        (
            BASE | {"vocoder": {"mel": {"hop_samples": 300}}},
            "vocoder.mel.hop_samples is 300, the bundle's mel has 256",
        ),
        (
            BASE | {"mel": {"sample_rate_hz": 16000}},
            "vocoder.mel.sample_rate_hz is 22050, the bundle's mel has 16000",
        ),
    ],
)
def test_a_foreign_configuration_is_refused_by_field(tmp_path, content, message):
    refused_config(tmp_path, content, message)


def test_no_folder_and_no_bundle(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(EmoconvError, match="not found; a bundle is a folder with a config"):
            read_config(folder)


def test_parts_must_fit_together(tiny):
    check_agreement(tiny, "here")
    for part, field, message in (
        ("average_voice", "mels", "average_voice.mels is 7, the other parts need 80"),
        ("recogniser", "mels", "recogniser.mels is 7, the other parts need 80"),
        ("recogniser", "embedding", "score_network.emotion is 8, the other parts need 7"),
        ("speaker", "embedding", "score_network.speaker is 256, the other parts need 7"),
    ):
        data = to_dict(tiny)
        data[part][field] = 7
        with pytest.raises(EmoconvError, match=message):
            check_agreement(bundle_format.from_dict(BundleConfig, data), "here")
    short = VocoderConfig(mel=MelConfig(), upsample_rates=(8, 8, 2))
    other = BundleConfig("x", "MIT", vocoder=short, average_voice=AverageVoiceConfig())
    with pytest.raises(EmoconvError, match=r"product of .* is 128, the other parts"):
        check_agreement(other, "here")


def test_transposed_views_come_back_in_their_own_order(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(3, 2).T  # Fortran order in memory
    save_part(tmp_path, "made", {"a": values})
    template = {"a": jax.ShapeDtypeStruct((2, 3), np.float32)}
    assert np.array_equal(load_part(tmp_path, "made", template)["a"], [[0, 2, 4], [1, 3, 5]])
