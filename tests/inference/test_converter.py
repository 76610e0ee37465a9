"""The converter: a bundle that must fit together, audio as long as the source."""

import dataclasses
import os

import numpy as np
import pytest
import soundfile
from tiny_bundle import CONFIG, WITH_PUBLIC_PARTS, make_bundle

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.bundles.banks import Banks
from emoconv_jax.bundles.format import write_bundle
from emoconv_jax.bundles.parts import open_bundle
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.conversion import CAUTION
from emoconv_jax.inference.converter import EmotionConverter

FINISHED: list[float] = []
SHARED = {"steps": 3, "on_progress": FINISHED.append}


def test_parts_that_do_not_fit_together_are_refused(bundle_folder, tmp_path):
    config, banks = open_bundle(bundle_folder)
    assert config == CONFIG
    assert len(banks.emotions) == 8
    sizes = dataclasses.replace(CONFIG.score_network, emotion=16)
    write_bundle(tmp_path, dataclasses.replace(CONFIG, score_network=sizes))
    with pytest.raises(EmoconvError, match=r"config\.json: score_network.emotion is 16, the other"):
        open_bundle(tmp_path)


@pytest.mark.slow
def test_the_conversion_is_as_long_as_the_source_and_depends_on_the_seed(converter, speech):
    FINISHED.clear()
    first = converter.convert(speech, **SHARED, arousal=6, seed=1)
    assert first.audio.shape == speech.shape
    assert first.audio.dtype == np.float32
    assert np.isfinite(first.audio).all()
    assert np.abs(first.audio).max() <= 1.0
    assert first.mel.shape == (len(speech) // 256, 80)
    np.testing.assert_allclose(FINISHED, [60 * 256 / 22050 / 3] * 3)
    again = converter.convert(speech, **SHARED, arousal=6, seed=1)
    other = converter.convert(speech, **SHARED, arousal=6, seed=2)
    calmer = converter.convert(speech, **SHARED, arousal=1, seed=1)
    np.testing.assert_array_equal(again.audio, first.audio)
    assert np.abs(other.mel - first.mel).max() > 0.1
    assert np.abs(calmer.mel - first.mel).max() > 1e-4
    assert first.provenance["request"]["arousal"] == 6
    assert first.provenance["source"] == "waveform"
    assert first.provenance["notice"] == CAUTION


@pytest.mark.slow
def test_the_lower_the_start_the_nearer_the_source(converter, speech):
    """At t = .001 alpha is .9999 and sigma .0077: what comes back is the source's own mel."""
    source = log_mel(speech, converter.config.mel)
    request = {"arousal": 6, "steps": 1, "seed": 1}
    near, far = (converter.convert(speech, **request, start=start) for start in (0.001, 0.5))
    assert np.abs(near.mel - source).mean() < 0.05
    assert np.abs(far.mel - source).mean() > 0.5
    assert near.provenance["request"]["start"] == 0.001
    own = converter.convert(speech, **request)
    assert own.provenance["request"]["start"] == converter.config.diffusion.start


@pytest.mark.slow
def test_from_the_source_under_its_own_emotion_the_source_comes_back(
    converter, speech, monkeypatch
):
    """The flow backwards is the flow forwards undone; under another emotion it is not."""
    source = log_mel(speech, converter.config.mel)
    own, _ = converter.emotion.embed(source)
    vectors = converter.banks.vectors | {"emotion/own": own, "emotion/other": -16 * own}
    monkeypatch.setattr(converter, "banks", Banks(vectors, {}))
    request = {"latent": "source", "steps": 50, "start": 0.2}
    back = converter.convert(speech, **request, mix={"own": 1})
    moved = converter.convert(speech, **request, mix={"other": 1})
    lost, change = np.abs(back.mel - source).mean(), np.abs(moved.mel - back.mel).mean()
    assert lost < 0.1  # of mels around -5; 50 steps of a network of random weights
    assert change > 2 * lost
    assert back.provenance["request"]["latent"] == "source"
    assert back.provenance["request"]["solver"] == "dpmpp_2m"


@pytest.mark.slow
def test_an_inversion_is_told_step_by_step_too(converter, speech):
    FINISHED.clear()
    converter.convert(speech, **SHARED, arousal=6, latent="source")
    np.testing.assert_allclose(FINISHED, [60 * 256 / 22050 / 6] * 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda audio: audio[:2204], r"waveform: found shape \(2204,\), .* 2205 to 79380000"),
        (lambda audio: np.broadcast_to(audio[:1], 79380001), r"found shape \(79380001,\)"),
        (lambda audio: 0 * audio, "waveform: found peak 0.0"),
        (lambda audio: 32767 * audio, "waveform: found peak .* to 1"),
        (lambda audio: np.where(audio == audio.max(), np.nan, audio), "waveform: found peak nan"),
    ],
)
def test_waveforms_are_refused_as_files_are(converter, speech, spoil, message):
    with pytest.raises(EmoconvError, match=message):
        converter.convert(spoil(speech), arousal=3.0, steps=1)


@pytest.mark.slow
def test_a_file_is_read_at_the_rate_of_the_bundle(converter, speech, tmp_path):
    path = os.fspath(tmp_path / "stereo.wav")
    soundfile.write(path, np.stack([speech, speech], axis=1), 22050)
    mono = tmp_path / "mono.wav"
    soundfile.write(mono, speech, 22050)
    a, b = (converter.convert(p, **SHARED, mix={"sad": 2}) for p in (path, mono))
    np.testing.assert_array_equal(a.audio, b.audio)
    assert a.provenance["source"] == "stereo.wav"
    assert a.provenance["conditions"] == ["sad"]


@pytest.mark.slow
def test_a_bundle_that_was_saved_loads_to_equal_outputs(converter, speech, tmp_path):
    converter.save_pretrained(tmp_path)
    again = EmotionConverter.from_pretrained(tmp_path)
    assert again.config == converter.config == CONFIG
    request = {"arousal": 6, "steps": 1, "seed": 1}
    first, second = (one.convert(speech, **request) for one in (converter, again))
    np.testing.assert_array_equal(second.audio, first.audio)
    assert np.abs(first.audio).max() > 0.01
    # no part came from elsewhere: without its own there is none
    (tmp_path / "vocoder-1-of-1.safetensors").unlink()
    with pytest.raises(EmoconvError, match=r"no vocoder-\*\.safetensors"):
        EmotionConverter.from_pretrained(tmp_path)


@pytest.mark.slow
@pytest.mark.network
def test_a_bundle_may_take_the_public_speaker_encoder_and_vocoder(speech, tmp_path):
    """What they do with the project's sample says that they are these: the vocoder gives its mel
    back, and the encoder hears the voice in half of it as in the other."""
    folder = make_bundle(tmp_path / "public", WITH_PUBLIC_PARTS)
    assert not [path.name for path in folder.glob("*") if path.name[:7] in ("speaker", "vocoder")]
    converter = EmotionConverter.from_pretrained(folder)
    assert converter.convert(speech, arousal=6, steps=1).audio.shape == speech.shape
    mel = log_mel(speech, converter.config.mel)
    again = log_mel(converter.vocoder(mel), converter.config.mel)
    assert np.abs(again - mel).mean() < 0.3  # of natural logarithms
    first, second = (converter.speaker(half, 22050) for half in np.array_split(speech, 2))
    assert first @ second > 0.7 and first.shape == (256,)
