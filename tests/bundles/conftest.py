"""The configuration of a bundle of tiny networks."""

import pytest

from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.config import AverageVoiceConfig, RecogniserConfig, ScoreNetworkConfig


@pytest.fixture
def tiny() -> BundleConfig:
    return BundleConfig(
        name="tiny",
        licence="CC0-1.0",
        score_network=ScoreNetworkConfig(
            width=8, multipliers=(1, 2), groups=4, condition_width=8, emotion=8
        ),
        average_voice=AverageVoiceConfig(
            channels=16, feed_forward=16, layers=1, postnet_width=8, postnet_groups=4
        ),
        recogniser=RecogniserConfig(maps=(4,) * 6, linear=8, hidden=4, embedding=8),
    )
