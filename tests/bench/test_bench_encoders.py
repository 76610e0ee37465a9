"""The comparison of encoders: both passes of each compute the same, and the times are there."""

import numpy as np
import pytest

from emoconv_jax.bench.encoders import ENCODERS, average_voice, compare, speaker, wav2vec2
from emoconv_jax.config import AverageVoiceConfig, SpeakerConfig, Wav2Vec2Config

TINY = {
    "wav2vec2": (
        wav2vec2,
        Wav2Vec2Config(
            hidden=16,
            layers=1,
            heads=2,
            feed_forward=24,
            conv_channels=(8, 8),
            conv_kernels=(10, 8),
            conv_strides=(5, 8),
            position_kernel=6,
            position_groups=2,
        ),
    ),
    "speaker": (speaker, SpeakerConfig(hidden=8, layers=2, embedding=6)),
    "average_voice": (
        average_voice,
        AverageVoiceConfig(
            channels=8,
            feed_forward=12,
            layers=1,
            prenet_layers=1,
            postnet_width=8,
            postnet_groups=2,
        ),
    ),
}


@pytest.mark.parametrize("name", list(ENCODERS))
def test_both_passes_agree(name):
    encoder, config = TINY[name]
    assert encoder is ENCODERS[name]
    ours, theirs = (one() for one in encoder(0.3, config))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def test_times_of_every_round_are_told():
    comparison = compare("speaker", 1.6, rounds=2, threads=1)
    assert len(comparison.ours_s) == len(comparison.twin_s) == 2
    assert min(comparison.ours_s + comparison.twin_s) > 0.0
    assert comparison.ratio > 0.0
    assert comparison.difference < 1e-5 < comparison.scale
