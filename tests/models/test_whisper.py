"""Whisper's encoder against Hugging Face's in PyTorch, and its padding against none."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
from ctranslate2_files import TINY, tiny_model
from transformers.models.whisper.modeling_whisper import sinusoids as their_sinusoids

from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.whisper import WhisperConfig, WhisperEncoder, check_whisper, sinusoids
from emoconv_jax.porting.whisper import port_whisper

LENGTHS = (100, 61, 8, 1)  # mel frames; two of them odd


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def params_of(model, config=TINY):
    tensors = {name: tensor.numpy() for name, tensor in model.model.encoder.state_dict().items()}
    return port_whisper({f"encoder.{name}": tensor for name, tensor in tensors.items()}, config)


def padded_mels(lengths=LENGTHS, frames=None, junk=0.0, mels=TINY.mels):
    """Returns mels of these lengths in one batch, with `junk` in the padding, and the mask."""
    mask = (np.arange(frames or max(lengths)) < np.array(lengths)[:, None]).astype(np.float32)
    mel = np.full((*mask.shape, mels), junk, np.float32)
    for row, length in enumerate(lengths):
        mel[row, :length] = np.random.default_rng(length).normal(size=(length, mels))
    return mel, mask


def states_of(params, mel, mask, config=TINY, states=None):
    apply = jax.jit(WhisperEncoder(config, states).apply)
    return [np.asarray(array) for array in apply({"params": params}, mel, mask)]


def their_states(model, mel):
    with torch.no_grad():
        inputs = torch.from_numpy(mel.transpose(0, 2, 1).copy())
        found = model.model.encoder(inputs, output_hidden_states=True)
    np.testing.assert_array_equal(found.hidden_states[-1], found.last_hidden_state)
    return np.stack([state.numpy() for state in found.hidden_states], axis=2)


def test_every_state_of_a_full_window_matches_pytorch(model):
    mel, mask = padded_mels((100, 100))
    found, real = states_of(params_of(model), mel, mask)
    expected = their_states(model, mel)
    assert found.shape == expected.shape == (2, 50, TINY.layers + 1, TINY.hidden)
    assert real.shape == (2, 50) and real.min() == 1.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert expected[:, :, -1].std() > 0.3  # the comparison says something


@pytest.mark.parametrize("frames", [62, 8])
def test_fewer_frames_are_those_of_an_encoder_with_as_many_positions(model, frames):
    """The reference refuses them, but one that is built for so many frames does not."""
    mel, mask = padded_mels((frames,))
    short = tiny_model(dataclasses.replace(TINY, positions=frames // 2))
    state = model.model.encoder.state_dict()
    state["embed_positions.weight"] = state["embed_positions.weight"][: frames // 2]
    short.model.encoder.load_state_dict(state)
    found, _ = states_of(params_of(model), mel, mask)
    np.testing.assert_allclose(found, their_states(short, mel), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_padding_and_company_change_nothing(model):
    params = params_of(model)
    short, real = states_of(params, *padded_mels())
    long, _ = states_of(params, *padded_mels((*LENGTHS[1:], 50), frames=90, junk=7.0))
    assert real.sum(1).tolist() == [50, 31, 4, 1]
    for row, length in enumerate(LENGTHS[1:], start=1):
        frames = -(-length // 2)
        np.testing.assert_allclose(short[row, :frames], long[row - 1, :frames], rtol=0, atol=1e-5)
        mel, mask = padded_mels()
        alone, _ = states_of(params, mel[row : row + 1, :length], mask[row : row + 1, :length])
        np.testing.assert_allclose(short[row, :frames], alone[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_states_are_chosen_and_those_above_need_no_parameters(model):
    params, (mel, mask) = params_of(model), padded_mels((40,))
    every, _ = states_of(params, mel, mask)
    some, _ = states_of(params, mel, mask, states=(2, 0))
    np.testing.assert_allclose(some, every[:, :, [2, 0]], rtol=0, atol=1e-6)
    lower = {
        name: leaves for name, leaves in params.items() if name not in ("layers_1", "layer_norm")
    }
    first, _ = states_of(lower, mel, mask, states=(1,))
    np.testing.assert_allclose(first, every[:, :, [1]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("states", [(), (3,), (-1, 0)])
def test_states_that_there_are_not_are_refused(model, states):
    with pytest.raises(EmoconvError, match=r"whisper: states \(.*\), allowed are one or more of 0"):
        states_of({}, *padded_mels((4,)), states=states)


def test_more_frames_than_positions_are_refused():
    with pytest.raises(EmoconvError, match="whisper: 101 mel frames, allowed are at most 100"):
        states_of({}, *padded_mels((101,)))


def test_positions_are_the_papers():
    found = sinusoids(1500, 512)
    np.testing.assert_allclose(found, their_sinusoids(1500, 512), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, r"whisper\.heads: 5, allowed is a divisor of hidden 12"),
        ({"heads": 0}, r"whisper\.heads: 0, allowed is 1 or more"),
        ({"layers": -1}, r"whisper\.layers: -1"),
        ({"hidden": 15}, r"whisper\.hidden: 15, allowed is an even number"),
    ],
)
def test_impossible_configurations_are_refused_by_field(change, message):
    with pytest.raises(EmoconvError, match=message):
        check_whisper(dataclasses.replace(TINY, **change))


def test_the_defaults_are_whisper_bases():
    example = np.zeros((1, 2, 80), np.float32), np.ones((1, 2), np.float32)
    shapes = jax.eval_shape(WhisperEncoder(WhisperConfig()).init, jax.random.key(0), *example)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == 20_590_592  # of transformers' encoder of openai/whisper-base
