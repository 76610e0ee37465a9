"""Porting of Whisper's encoder: three kinds of files, every tensor once, decoders left out."""

import json

import jax
import numpy as np
import pytest
from ctranslate2_files import TINY, converted, tiny_model
from safetensors.numpy import save_file

from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.whisper import load_whisper
from emoconv_jax.models.whisper import WhisperConfig
from emoconv_jax.porting.ctranslate2 import read_ctranslate2
from emoconv_jax.porting.whisper import config_of, port_ctranslate2, port_whisper

LAYER = "model.encoder.layers.1"


def tensors_of(model):
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return {n: t for n, t in tensors.items() if n != "proj_out.weight"}  # the embeddings again


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def stored(model, tmp_path_factory):
    path = converted(model, tmp_path_factory.mktemp("ct2") / "model.bin")
    return read_ctranslate2(path, "WhisperSpec", 3, "encoder/")


def test_every_tensor_of_the_encoder_is_used_and_none_of_the_decoder(model):
    params = port_whisper(tensors_of(model), TINY)
    expected = sum(parameter.numel() for parameter in model.model.encoder.parameters())
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_all_kinds_of_files_give_the_same_parameters(model, tmp_path):
    expected = port_whisper(tensors_of(model), TINY)
    whole, encoder = tmp_path / "whole", tmp_path / "encoder"
    for folder, prefix in ((whole, ""), (encoder, "model.")):
        folder.mkdir()
        tensors = {name.removeprefix(prefix): t for name, t in tensors_of(model).items()}
        if prefix:
            tensors = {n: t for n, t in tensors.items() if n.startswith("encoder.")}
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    folder = tmp_path / "ct2"
    folder.mkdir()
    converted(model, folder / "model.bin")
    for source in (whole, encoder, folder, folder / "model.bin"):
        params, config = load_whisper(source)
        assert config == TINY
        jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(EmoconvError, match=r"neither model\.safetensors nor model\.bin in it"):
        load_whisper(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(bytes(3))
    with pytest.raises(EmoconvError, match=r"config\.json: not found"):
        load_whisper(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{LAYER}.fc1.bias": None}, "file: missing: layers_1/fc1/bias"),
        ({f"{LAYER}.self_attn.k_proj.bias": np.zeros(12)}, r"unexpected: .*k_proj\.bias"),
        (
            {"model.encoder.layers.2.fc1.bias": np.zeros(20)},
            r"unexpected: model\.encoder\.layers\.2",
        ),
        ({"encoder.conv1.bias": np.zeros(12)}, r"used twice: encoder\.conv1\.bias"),
        ({f"{LAYER}.fc2.weight": np.zeros((12, 21))}, r"wrong shape: .*fc2\.weight"),
        ({"model.encoder.conv1.bias": np.full(12, np.nan)}, "not finite in float32"),
        ({"classifier.weight": np.zeros(2)}, r"unexpected: classifier\.weight"),
    ],
)
def test_other_weights_are_refused_by_name(model, change, message):
    tensors = {n: t for n, t in (tensors_of(model) | change).items() if t is not None}
    with pytest.raises(EmoconvError, match=message):
        port_whisper(tensors, TINY, "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder/num_heads": None}, "encoder/num_heads: missing"),
        ({"encoder/num_heads": np.array(5, np.int16)}, r"whisper\.heads: 5, allowed is a divisor"),
        ({"encoder/num_heads": np.array(0, np.int16)}, r"whisper\.heads: 0, allowed is 1 to 64"),
        ({"encoder/conv1/weight": None}, "missing: encoder/conv1/weight"),
        ({"encoder/layer_1/ffn/linear_0/bias": None}, "missing: layers_1/fc1/bias"),
        ({"encoder/layer_9/ffn/linear_0/bias": np.zeros(20)}, "unexpected: encoder/layer_9"),
        (
            {"encoder/layer_0/self_attention/linear_0/bias": np.ones(36, np.float32)},
            "has a bias of keys",
        ),
        (
            {"encoder/layer_0/self_attention/linear_0/bias": np.zeros(35, np.float32)},
            "expected 3 in one",
        ),
        ({"encoder/scale_alibi": np.array(1, np.int8)}, "unexpected: encoder/scale_alibi"),
        ({"encoder/conv1/weight_zero": np.ones(3, np.float32)}, "unexpected: .*weight_zero"),
    ],
)
def test_other_weights_of_ctranslate2_are_refused_by_name(stored, change, message):
    tensors = {n: t for n, t in (stored | change).items() if t is not None}
    with pytest.raises(EmoconvError, match=message):
        port_ctranslate2(tensors, "file")


def test_what_a_config_leaves_out_is_hugging_faces_default():
    assert config_of({}) == WhisperConfig(hidden=384, layers=4, heads=6, feed_forward=1536)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bart"}, "file: model_type: found 'bart'"),
        ({"activation_function": "relu"}, "activation_function: found 'relu'"),
        ({"scale_embedding": True}, "scale_embedding: found True"),
        ({"d_model": 1 << 40}, "d_model: found 1099511627776, allowed is 4 to 4096"),
        ({"encoder_layers": 2.0}, "encoder_layers: found 2.0, expected int"),
        ({"encoder_attention_heads": 7}, "heads: 7, allowed is a divisor of hidden 384"),
        ({"d_model": 385}, "hidden: 385, allowed is an even number"),
    ],
)
def test_unsupported_configs_are_refused_by_field(change, message):
    with pytest.raises(EmoconvError, match=message):
        config_of(change, "file")
