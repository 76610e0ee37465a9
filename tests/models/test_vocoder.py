"""HiFi-GAN against a PyTorch twin in its three published forms, narrowed."""

import dataclasses

import jax
import numpy as np
import pytest
import torch

from emoconv_jax.bench.twins.vocoder import VocoderTwin
from emoconv_jax.config import MelConfig, VocoderConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.vocoder import Vocoder
from emoconv_jax.porting.torch_file import read_torch_file
from emoconv_jax.porting.vocoder import port_vocoder

torch.set_num_threads(1)  # on convolutions this small, threads only wait for each other

MEL = MelConfig(mels=6)
V1 = VocoderConfig(mel=MEL, channels=32)
V2 = dataclasses.replace(V1, channels=16)
V3 = VocoderConfig(
    mel=MEL,
    resblock=2,
    upsample_rates=(8, 8, 4),
    upsample_kernels=(16, 16, 8),
    channels=16,
    resblock_kernels=(3, 5, 7),
    resblock_dilations=((1, 2), (2, 6), (3, 12)),
)


def saved_twin(path, config, zipped=True):
    """Returns a random twin, loud enough that tanh and both slopes matter, saved to `path`."""
    torch.manual_seed(0)
    twin = VocoderTwin(config)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name.endswith("weight_g"):
                parameter *= 1.5
    torch.save({"generator": twin.state_dict()}, path, _use_new_zipfile_serialization=zipped)
    return twin


@pytest.mark.parametrize(
    ("config", "zipped"), [(V1, True), (V2, False), (V3, True)], ids=["V1", "V2", "V3"]
)
def test_matches_pytorch(tmp_path, config, zipped):
    twin = saved_twin(tmp_path / "g.pth", config, zipped)
    params = port_vocoder(read_torch_file(tmp_path / "g.pth")["generator"], config)
    mel = np.random.default_rng(0).normal(-4.0, 2.0, (2, 5, 6)).astype(np.float32)
    found = jax.jit(Vocoder(config).apply)({"params": params}, mel)
    with torch.no_grad():
        expected = twin(torch.from_numpy(mel)).numpy()
    assert found.shape == (2, 5 * 256)
    scale = np.abs(expected).max()
    assert 0.01 < scale < 1.0  # neither silent nor all clipped: the comparison says something
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)


def test_a_frame_reaches_only_its_neighbourhood(tmp_path):
    # every layer is a convolution: far from a changed frame the audio must be the very same
    saved_twin(tmp_path / "g.pth", V1)
    params = port_vocoder(read_torch_file(tmp_path / "g.pth")["generator"], V1)
    mel = np.random.default_rng(0).normal(-4.0, 2.0, (1, 60, 6)).astype(np.float32)
    changed = mel.copy()
    changed[0, 30] += 1.0
    apply = jax.jit(Vocoder(V1).apply)
    audio, other = apply({"params": params}, mel), apply({"params": params}, changed)
    difference = np.abs(np.asarray(audio - other))[0].reshape(60, 256).max(1)
    assert difference[30] > 1e-5
    assert difference[:10].max() == difference[51:].max() == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resblock": 3}, "vocoder.resblock: 3"),
        ({"upsample_rates": (8, 8, 2, 4)}, "vocoder.upsample_rates"),
        ({"upsample_rates": ()}, "vocoder.upsample_rates"),
        ({"upsample_rates": (-16, -16)}, "vocoder.upsample_rates"),
        ({"upsample_kernels": (16, 16, 4)}, "vocoder.upsample_kernels"),
        ({"upsample_kernels": (16, 16, 4, 3)}, "vocoder.upsample_kernels"),
        ({"upsample_kernels": (16, 6, 4, 4)}, "vocoder.upsample_kernels"),
        ({"channels": 40}, "vocoder.channels: 40"),
        ({"channels": 0}, "vocoder.channels: 0"),
        ({"resblock_kernels": (3, 4, 5)}, "vocoder.resblock_kernels"),
        ({"resblock_kernels": ()}, "vocoder.resblock_kernels"),
        ({"resblock_dilations": ((1, 3),)}, "vocoder.resblock_dilations"),
        ({"resblock_dilations": ((1,), (0,), (1,))}, "vocoder.resblock_dilations"),
    ],
)
def test_impossible_configurations_are_refused_by_field(change, message):
    config = dataclasses.replace(V1, **change)
    example = np.zeros((1, 2, 6), np.float32)
    with pytest.raises(EmoconvError, match=message):
        jax.eval_shape(Vocoder(config).init, jax.random.key(0), example)


def test_weights_of_another_size_are_refused(tmp_path):
    saved_twin(tmp_path / "g.pth", V2)
    tensors = read_torch_file(tmp_path / "g.pth")["generator"]
    with pytest.raises(EmoconvError, match=r"v2.*wrong shape: .*conv_pre"):
        port_vocoder(tensors, V1, "v2")
    with pytest.raises(EmoconvError, match=r"unexpected: .*convs1"):
        port_vocoder(tensors, dataclasses.replace(V2, resblock=2))
