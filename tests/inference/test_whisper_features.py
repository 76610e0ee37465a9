"""What the heads on Whisper's encoder read: by arithmetic on the states, at any level of sound."""

import dataclasses

import numpy as np
import pytest
from ctranslate2_files import TINY, tiny_model

from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.whisper import WhisperStates, at_mel_frames
from emoconv_jax.inference.whisper_features import WhisperFeatures, level_set
from emoconv_jax.porting.whisper import port_whisper

SIX_LAYERS = dataclasses.replace(TINY, layers=6)
FRAMES = 60  # of .7 s, 22 050 Hz, hop 256


def ported(config):
    tensors = tiny_model(config).model.state_dict().items()
    return port_whisper({name: tensor.numpy() for name, tensor in tensors}, config)


@pytest.fixture(scope="module")
def params():
    return ported(SIX_LAYERS)


@pytest.fixture(scope="module")
def heard(params, speech):
    return WhisperFeatures(params, SIX_LAYERS)(speech, 22050, FRAMES, MelConfig())


def test_level_is_set_and_silence_stays(speech):
    assert np.sqrt(np.mean(np.square(level_set(speech)))) == pytest.approx(0.05, rel=1e-5)
    np.testing.assert_allclose(level_set(speech * 0.01), level_set(speech), rtol=1e-4, atol=1e-7)
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(level_set(silence), silence)


@pytest.mark.slow
def test_two_states_at_the_frames_of_the_mel_and_statistics_of_all(params, speech, heard):
    states = WhisperStates(params, SIX_LAYERS)(level_set(speech), 22050)
    assert states.shape == (35, 7, 12)
    side_by_side = np.concatenate([states[:, 4], states[:, 6]], axis=1)
    np.testing.assert_array_equal(heard.frames, at_mel_frames(side_by_side, FRAMES, MelConfig()))
    assert heard.pooled.shape == (7 * 2 * 12,)
    for state, (mean, deviation) in enumerate(heard.pooled.reshape(7, 2, 12)):
        np.testing.assert_allclose(mean, states[:, state].mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(deviation, states[:, state].std(axis=0), atol=1e-5)


@pytest.mark.slow
def test_gain_is_not_heard(params, speech, heard):
    soft = WhisperFeatures(params, SIX_LAYERS)(speech / 8, 22050, FRAMES, MelConfig())
    np.testing.assert_array_equal(soft.frames, heard.frames)  # a power of two is exact
    np.testing.assert_array_equal(soft.pooled, heard.pooled)


def test_an_encoder_with_too_few_layers_is_refused():
    with pytest.raises(EmoconvError, match="whisper: 2 layers, needed are 6 or more"):
        WhisperFeatures(ported(TINY), TINY)
