"""wav2vec2 against Hugging Face's in PyTorch, and its padding against none."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
import transformers
from tiny_bundle import WAV2VEC2

from emoconv_jax.bench.twins.shaken import shaken
from emoconv_jax.bench.twins.wav2vec2 import DimensionalTwin
from emoconv_jax.config import Wav2Vec2Config
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.wav2vec2 import (
    DimensionalRecogniser,
    Wav2Vec2,
    check_wav2vec2,
    least_samples,
    normalised,
)
from emoconv_jax.porting.wav2vec2 import port_wav2vec2

TINY = dataclasses.replace(WAV2VEC2, layers=2)
BASE = dataclasses.replace(TINY, feature_norm="group", stable=False, conv_bias=False)
ODD = dataclasses.replace(TINY, position_kernel=7, eps=1e-3)
LENGTHS = (700, 431, 50)  # the last has one frame


def twin_and_params(config):
    """Returns a random twin and its parameters after porting."""
    torch.manual_seed(0)
    twin = shaken(DimensionalTwin(config))
    tensors = {name: tensor.numpy() for name, tensor in twin.state_dict().items()}
    return twin, port_wav2vec2(tensors, config)


def padded_waveforms(lengths=LENGTHS, samples=None, junk=0.0):
    """Returns waveforms of these lengths in one batch, with `junk` in the padding, and the mask."""
    mask = (np.arange(samples or max(lengths)) < np.array(lengths)[:, None]).astype(np.float32)
    generators = [np.random.default_rng(seed) for seed in range(len(lengths))]
    waveform = np.full(mask.shape, junk, np.float32)
    for row, (generator, length) in enumerate(zip(generators, lengths, strict=True)):
        waveform[row, :length] = generator.normal(0.1, 0.7, length)
    return waveform, mask


def hidden_states(config, params, waveform, mask):
    apply = jax.jit(Wav2Vec2(config).apply)
    return [np.asarray(a) for a in apply({"params": params["wav2vec2"]}, waveform, mask)]


@pytest.mark.slow
@pytest.mark.parametrize("config", [TINY, ODD], ids=["even", "odd"])
def test_unequal_lengths_match_pytorch(config):
    twin, params = twin_and_params(config)
    waveform, mask = padded_waveforms()
    found, real = hidden_states(config, params, waveform, mask)
    with torch.no_grad():
        tensors = torch.from_numpy(waveform), torch.from_numpy(mask).long()
        expected = twin.wav2vec2(tensors[0], attention_mask=tensors[1]).last_hidden_state.numpy()
        frames = twin.wav2vec2._get_feat_extract_output_lengths(tensors[1].sum(-1)).numpy()
    assert found.shape == expected.shape
    np.testing.assert_array_equal(real.sum(-1), frames)
    assert real[-1].tolist() == [1.0] + [0.0] * (real.shape[1] - 1)
    np.testing.assert_allclose(found[real > 0], expected[real > 0], rtol=0, atol=1e-4)
    assert expected[real > 0].std() > 0.3  # the comparison says something


@pytest.mark.slow
def test_the_base_variant_matches_pytorch():
    twin, params = twin_and_params(BASE)
    waveform, mask = padded_waveforms((700, 700))
    found, real = hidden_states(BASE, params, waveform, mask)
    with torch.no_grad():
        expected = twin.wav2vec2(torch.from_numpy(waveform)).last_hidden_state.numpy()
    assert real.min() == 1.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("config", [TINY, BASE], ids=["stable", "base"])
def test_padding_changes_nothing(config):
    _, params = twin_and_params(config)
    apply = jax.jit(DimensionalRecogniser(config).apply)
    short = apply({"params": params}, *padded_waveforms())
    long = apply({"params": params}, *padded_waveforms(samples=1001, junk=3.0))
    for found, expected in zip(long, short, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_recogniser_matches_pytorch_on_waveforms_of_any_level():
    twin, params = twin_and_params(TINY)
    waveform, mask = padded_waveforms()
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    utterances = [row[:length] for row, length in zip(waveform, LENGTHS, strict=True)]
    inputs = extractor(utterances, sampling_rate=16_000, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = twin(inputs["input_values"], inputs["attention_mask"])
    found = jax.jit(DimensionalRecogniser(TINY).apply)({"params": params}, waveform, mask)
    assert [part.shape for part in found] == [(3, 8), (3, 3)]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-5)
    assert float(expected[0].std(0).max()) > 0.1  # utterances differ


def test_normalised_is_hugging_faces():
    waveform, mask = padded_waveforms((50, 20), junk=9.0)
    waveform[1] *= 1e-4  # so quiet that what is added to the variance matters
    found = np.asarray(normalised(jax.numpy.asarray(waveform), jax.numpy.asarray(mask)))
    extractor = transformers.Wav2Vec2FeatureExtractor()
    for row, length in enumerate((50, 20)):
        expected = extractor(waveform[row, :length], sampling_rate=16_000)["input_values"][0]
        np.testing.assert_allclose(found[row, :length], expected, rtol=0, atol=1e-5)
        assert not found[row, length:].any()


def test_an_utterance_without_a_frame_is_zero_and_harms_no_other():
    _, params = twin_and_params(TINY)
    apply = jax.jit(DimensionalRecogniser(TINY).apply)
    waveform, mask = padded_waveforms((700, least_samples(TINY) - 1))
    embedding, dimensions = apply({"params": params}, waveform, mask)
    np.testing.assert_array_equal(embedding[1], 0.0)
    assert np.isfinite(dimensions).all()
    alone, _ = apply({"params": params}, waveform[:1], mask[:1])
    np.testing.assert_allclose(embedding[0], alone[0], rtol=0, atol=1e-5)


def test_the_public_sizes_need_400_samples():
    assert least_samples(Wav2Vec2Config()) == 400  # 25 ms, as published
    waveform = np.zeros((1, 399), np.float32)
    with pytest.raises(EmoconvError, match="399 samples, allowed are 400 or more"):
        jax.eval_shape(Wav2Vec2(Wav2Vec2Config()).init, jax.random.key(0), waveform, waveform)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, r"wav2vec2\.heads: 5, allowed is a divisor of hidden 8"),
        ({"position_groups": 0}, r"wav2vec2\.position_groups: 0"),
        ({"feature_norm": "batch"}, r"wav2vec2\.feature_norm: 'batch'"),
        ({"conv_strides": (5,)}, r"wav2vec2\.conv_channels: 2 with 2 conv_kernels and 1"),
        ({"conv_channels": (), "conv_kernels": (), "conv_strides": ()}, "1 or more"),
    ],
)
def test_impossible_configurations_are_refused_by_field(change, message):
    with pytest.raises(EmoconvError, match=message):
        check_wav2vec2(dataclasses.replace(TINY, **change))


@pytest.mark.slow
def test_the_public_sizes_match_pytorch():
    config = dataclasses.replace(Wav2Vec2Config(), layers=2)  # of 12 alike
    twin, params = twin_and_params(config)
    waveform, mask = padded_waveforms((8000, 5000))
    found, real = hidden_states(config, params, waveform, mask)
    with torch.no_grad():
        tensors = torch.from_numpy(waveform), torch.from_numpy(mask).long()
        expected = twin.wav2vec2(tensors[0], attention_mask=tensors[1]).last_hidden_state.numpy()
    assert real.sum(-1).tolist() == [24, 15]
    np.testing.assert_allclose(found[real > 0], expected[real > 0], rtol=0, atol=1e-4)
