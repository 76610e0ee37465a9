"""Porting of wav2vec2: every key once, both forms of weight normalisation, foreign config.json."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import torch
from tiny_bundle import WAV2VEC2

from emoconv_jax.bench.twins.shaken import shaken
from emoconv_jax.bench.twins.wav2vec2 import DimensionalTwin, hugging_face
from emoconv_jax.config import Wav2Vec2Config
from emoconv_jax.errors import EmoconvError
from emoconv_jax.porting.torch_file import read_torch_file
from emoconv_jax.porting.wav2vec2 import PUBLIC_SILENCE, check_public, config_of, port_wav2vec2

NAMED = {"0": "arousal", "1": "dominance", "2": "valence"}
# the sizes as the public config.json has them
PUBLIC = {
    "model_type": "wav2vec2",
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "feat_extract_activation": "gelu",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "layer_norm_eps": 1e-05,
    "hidden_act": "gelu",
    "add_adapter": False,
    "adapter_attn_dim": None,
    "vocab_size": None,
    "id2label": NAMED,
}
POSITION = "wav2vec2.encoder.pos_conv_embed.conv"


def tensors_of(twin):
    return {name: tensor.numpy() for name, tensor in twin.state_dict().items()}


@pytest.fixture(scope="module")
def twin():
    torch.manual_seed(0)
    return shaken(DimensionalTwin(WAV2VEC2))


def test_every_key_is_used_but_the_training_only_one(twin):
    params, tensors = port_wav2vec2(tensors_of(twin), WAV2VEC2), tensors_of(twin)
    sizes = {name: tensor.size for name, tensor in tensors.items()}
    dropped = (
        sizes["wav2vec2.masked_spec_embed"] + sizes[f"{POSITION}.parametrizations.weight.original0"]
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(sizes.values()) - dropped


def test_both_forms_of_weight_normalisation_give_the_weight_that_pytorch_uses(twin, tmp_path):
    tensors = twin.state_dict()
    older = dict(tensors)
    older[f"{POSITION}.weight_g"] = older.pop(f"{POSITION}.parametrizations.weight.original0")
    older[f"{POSITION}.weight_v"] = older.pop(f"{POSITION}.parametrizations.weight.original1")
    torch.save(older, tmp_path / "w.bin")
    weight = twin.wav2vec2.encoder.pos_conv_embed.conv.weight.detach().numpy()
    for found in (tensors_of(twin), read_torch_file(tmp_path / "w.bin")):
        params = port_wav2vec2(found, WAV2VEC2)
        kernel = params["wav2vec2"]["encoder"]["pos_conv_embed"]["kernel"]
        np.testing.assert_allclose(kernel, weight.transpose(2, 1, 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifier.dense.bias": None}, "file: missing: classifier/dense/bias"),
        (
            {"wav2vec2.encoder.layers.1.layer_norm.bias": np.zeros(8)},
            r"unexpected: wav2vec2\.encoder\.layers\.1\.layer_norm\.bias",
        ),
        ({"lm_head.weight": np.zeros((8, 8))}, r"unexpected: lm_head\.weight"),
        (
            {"wav2vec2.encoder.layers.0.attention.k_proj.weight": np.zeros((8, 9))},
            r"wrong shape: wav2vec2\.encoder\.layers\.0\.attention\.k_proj\.weight",
        ),
        ({f"{POSITION}.weight": np.zeros((8, 4, 4))}, r"conv\.weight is there twice"),
        ({f"{POSITION}.parametrizations.weight.original0": None}, "original0 is missing"),
    ],
)
def test_other_weights_are_refused_by_name(twin, change, message):
    tensors = {n: t for n, t in (tensors_of(twin) | change).items() if t is not None}
    with pytest.raises(EmoconvError, match=message):
        port_wav2vec2(tensors, WAV2VEC2, "file")


def test_the_public_config_gives_the_default_sizes():
    assert config_of(json.loads(json.dumps(PUBLIC))) == Wav2Vec2Config()


@pytest.mark.parametrize(
    "config",
    [WAV2VEC2, dataclasses.replace(WAV2VEC2, stable=False, feature_norm="group", conv_bias=False)],
)
def test_a_config_saved_by_hugging_face_is_read(config, tmp_path):
    hugging_face(config).save_pretrained(tmp_path)
    assert config_of(json.loads((tmp_path / "config.json").read_text())) == config


def test_what_a_config_leaves_out_is_hugging_faces_default():
    base = hugging_face(config_of({"num_labels": 3}))
    assert base.to_dict() == type(base)(num_labels=3).to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "file: hidden_act: found 'relu', allowed is 'gelu'"),
        ({"hidden_act": ["gelu"]}, "hidden_act: found"),
        ({"model_type": "hubert"}, "model_type: found 'hubert'"),
        ({"add_adapter": True}, "add_adapter: found True, allowed is False"),
        ({"add_adapter": 0}, "add_adapter: found 0"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim: found 16, allowed is None"),
        ({"num_labels": 2}, "num_labels: found 2, allowed is 3"),
        ({"id2label": None}, "num_labels: found 2, allowed is 3"),
        ({"id2label": {"0": "arousal"}}, "id2label: found"),
        ({"id2label": dict(zip("012", reversed(NAMED.values()), strict=True))}, "id2label: found"),
        ({"id2label": 3}, "id2label: found 3"),
        ({"hidden_size": 1 << 40}, "hidden_size: found 1099511627776, allowed is 1 to 4096"),
        ({"hidden_size": 1024.0}, "hidden_size: found 1024.0, expected int"),
        ({"hidden_size": True}, "hidden_size: found True, expected int"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: found 0"),
        ({"num_attention_heads": 7}, "heads: 7, allowed is a divisor of hidden 1024"),
        ({"conv_dim": 512}, "conv_dim: found 512, allowed is a list"),
        ({"conv_dim": [512] * 6 + ["512"]}, r"conv_dim\[6\]: found '512', expected int"),
        ({"conv_dim": [512] * 6}, "conv_channels: 6 with 7 conv_kernels"),
        ({"conv_kernel": [1] * 99}, "conv_kernel: found"),
        ({"conv_stride": [0] * 7}, r"conv_stride\[0\]: found 0"),
        ({"conv_stride": [64] * 7}, "conv_kernel and conv_stride: a frame of"),
        ({"conv_bias": 1}, "conv_bias: found 1, expected bool"),
        ({"feat_extract_norm": "batch"}, "feature_norm: 'batch'"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps: found nan"),
        ({"layer_norm_eps": None}, "layer_norm_eps: found None, expected float"),
    ],
)
def test_unsupported_configs_are_refused_by_field(change, message):
    with pytest.raises(EmoconvError, match=message):
        config_of(PUBLIC | change, "file")


def test_a_config_that_is_no_object_is_refused():
    with pytest.raises(EmoconvError, match="file: found list, expected an object"):
        config_of([], "file")


def test_silence_tells_the_public_weights_from_others(twin):
    params = port_wav2vec2(tensors_of(twin), WAV2VEC2)
    with pytest.raises(EmoconvError, match="one second of zeros gives"):
        check_public(params, WAV2VEC2)
    # a head that says the published numbers whatever it hears
    head = params["classifier"]["out_proj"]
    head["kernel"], head["bias"] = np.zeros((8, 3), np.float32), np.float32(PUBLIC_SILENCE)
    check_public(params, WAV2VEC2)
    head["bias"] = head["bias"] + np.float32([0.0, 0.0, 2e-3])
    with pytest.raises(EmoconvError, match="one second of zeros gives"):
        check_public(params, WAV2VEC2)
