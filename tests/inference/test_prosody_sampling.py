"""A bundle of the network over frames converts, and hears the prosody that it is given."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_bundle import CONFIG, make_bundle

from emoconv_jax.bundles.parts import load_variables
from emoconv_jax.config import ScoreNetworkConfig
from emoconv_jax.diffusion.plan import single
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.sampling import Sampler

NETWORK = ScoreNetworkConfig(
    kind="unet1d", prosody=True, width=8, condition_width=8, emotion=8, layers=1, heads=2
)
OVER_FRAMES = dataclasses.replace(CONFIG, name="frames", score_network=NETWORK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundles") / "frames", OVER_FRAMES)


@pytest.mark.slow
def test_a_bundle_of_it_converts(folder, speech):
    made = EmotionConverter.from_pretrained(folder).convert(speech, arousal=6, steps=2, seed=1)
    assert made.audio.shape == speech.shape
    assert np.isfinite(made.audio).all() and np.abs(made.audio).max() > 0


@pytest.mark.slow
def test_the_sampler_tells_the_network_of_prosody(folder):
    variables = load_variables(folder, "score_network")
    sampler = Sampler(OVER_FRAMES, variables, devices=jax.local_devices()[:1])
    rng = np.random.default_rng(0)
    batch, frames, plan = 2, 16, single("target", 2)
    mels = [rng.normal(-5, 1, (batch, frames, 80)).astype(np.float32) for _ in range(2)]
    speaker, emotion = (
        rng.normal(size=(batch, width)).astype(np.float32)
        for width in (NETWORK.speaker, NETWORK.emotion)
    )
    tracked = np.stack(
        [rng.uniform(6, 9, (batch, frames)), np.ones((batch, frames)), np.zeros((batch, frames))],
        -1,
    ).astype(np.float32)

    def sample(**prosody):
        keys = jax.random.split(jax.random.key(0), batch)
        mask = np.ones((batch, frames), np.float32)
        return np.asarray(sampler(
            *mels, mask, speaker, emotion[:1], emotion, plan.weights, keys,
            solver="ddim", segments=plan.segments(), **prosody,
        ))  # fmt: skip

    none, given = sample(), sample(prosody=tracked)
    assert none.shape == (batch, frames, 80)
    assert np.abs(given - none).max() > 1e-3
    absent, present = np.zeros((batch, 3), np.float32), np.ones((batch, 3), np.float32)
    np.testing.assert_allclose(sample(prosody=tracked, present=absent), none, atol=1e-5)
    np.testing.assert_array_equal(sample(prosody=tracked, present=present), given)
    one = np.stack([present[0], absent[0]])
    mixed = sample(prosody=tracked, present=one)
    np.testing.assert_allclose(mixed[0], given[0], atol=1e-5)
    np.testing.assert_allclose(mixed[1], none[1], atol=1e-5)


def test_a_mel_on_other_frequencies_has_no_comb(tmp_path):
    mel = dataclasses.replace(CONFIG.mel, high_hz=7000.0)
    vocoder = dataclasses.replace(CONFIG.vocoder, mel=mel)
    config = dataclasses.replace(OVER_FRAMES, mel=mel, vocoder=vocoder)
    folder = make_bundle(tmp_path / "other", config)
    with pytest.raises(EmoconvError, match=r"mel.*high_hz"):
        EmotionConverter.from_pretrained(folder)
