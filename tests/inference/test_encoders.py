"""Encoders by role: padded to buckets, which must change nothing."""

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file
from tiny_bundle import CONFIG

from emoconv_jax.bundles.parts import load_variables
from emoconv_jax.inference.encoders import (
    AverageVoiceRole,
    EmotionRole,
    VocoderRole,
    log_floor,
    pad,
)
from emoconv_jax.inference.lengths import bucket
from emoconv_jax.inference.speaker import SpeakerRole
from emoconv_jax.models.vocoder import Vocoder


def params_in(path) -> dict:
    """Returns what a part's file holds, in float32."""
    arrays = load_file(path).items()
    return unflatten_dict({tuple(k.split("/")): np.float32(a) for k, a in arrays})["params"]


def test_buckets_hold_their_frames_with_little_padding_in_few_sizes():
    """Every size is a compilation; beyond 128 frames at most a quarter is padding."""
    sizes = {frames: bucket(frames) for frames in range(1, 5200)}
    for frames, size in sizes.items():
        assert frames <= size
        assert size % 32 == 0  # the U-Net halves twice, the recogniser pools and windows
        assert size < (1.25 * frames if frames > 128 else frames + 32)
    for octave in (128, 256, 512, 1024, 2048):
        assert len({s for s in sizes.values() if octave < s <= 2 * octave}) == 4


def test_padding_is_silence_outside_the_mask():
    mel = np.ones((70, 80), np.float32)
    padded, mask = pad(mel, -11.5)
    assert padded.shape == (1, 96, 80)
    np.testing.assert_array_equal(padded[0, :70], mel)
    assert (padded[0, 70:] == -11.5).all()
    assert mask.tolist() == [[1.0] * 70 + [0.0] * 26]


def mel_of(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).normal(-5, 2, (frames, 80)).astype(np.float32)


def test_average_voice_and_emotion_do_not_hear_the_padding(bundle_folder):
    """The same frames beside other padding: what lies behind the mask is replaced by noise."""
    voice = AverageVoiceRole.from_bundle(bundle_folder)
    emotion = EmotionRole.from_bundle(bundle_folder)
    mel = mel_of(50)
    expected, heard = voice(mel), emotion(mel)
    assert expected.shape == mel.shape
    voice.floor = emotion.floor = 3.0
    np.testing.assert_allclose(voice(mel), expected, atol=1e-4)
    again = emotion(mel)
    np.testing.assert_allclose(again.embedding, heard.embedding, atol=1e-4)
    assert again.arousal == pytest.approx(heard.arousal, abs=1e-4)
    assert sum(heard.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
    assert tuple(heard.probabilities) == emotion.emotions
    embedding, arousal = emotion.embed(mel)
    np.testing.assert_allclose(embedding, again.embedding)
    assert arousal == again.arousal


def test_the_floor_is_the_log_of_the_mels(bundle_folder):
    from emoconv_jax.bundles.format import read_config

    config = read_config(bundle_folder)
    assert log_floor(config) == pytest.approx(np.log(1e-5))
    assert load_variables(bundle_folder, "recogniser", config)["statistics"]["mean"].shape == (
        3,
        40,
    )


@pytest.mark.slow
@pytest.mark.network
def test_d_vectors_know_a_voice_from_a_tone_and_not_its_level(speech):
    speaker = SpeakerRole()
    vector = speaker(speech, 22050)
    assert vector.shape == (256,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    quieter = speaker(speech * np.float32(0.1), 22050)  # raised to -30 dBFS again
    assert vector @ quieter > 0.97
    time_s = np.arange(22050) / 22050
    tone = (0.3 * np.sin(2 * np.pi * 150 * time_s)).astype(np.float32)
    assert vector @ speaker(tone, 22050) < 0.8


def test_a_bundles_own_vocoder_speaks(bundle_folder):
    """As its network does on a mel with far more silence behind it."""
    role, mel = VocoderRole(CONFIG, bundle_folder), mel_of(20)
    params = params_in(bundle_folder / "vocoder-1-of-1.safetensors")
    longer = np.full((1, 90, 80), log_floor(CONFIG), np.float32)
    longer[0, :20] = mel
    expected = jax.jit(Vocoder(CONFIG.vocoder).apply)({"params": params}, longer)[0, : 20 * 256]
    audio = role(mel)
    assert audio.shape == (20 * 256,)
    np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-5)
    assert audio.std() > 0.01


def test_a_bundles_own_speaker_encoder_hears(bundle_folder, speech):
    vector = SpeakerRole.from_bundle(bundle_folder, CONFIG)(speech, 22050)
    params = params_in(bundle_folder / "speaker-1-of-1.safetensors")
    given = SpeakerRole(CONFIG.speaker, params)(speech, 22050)
    np.testing.assert_array_equal(vector, given)
    params["linear"]["kernel"] = -params["linear"]["kernel"]
    other = SpeakerRole(CONFIG.speaker, params)(speech, 22050)
    assert vector @ other < 0.5 < np.linalg.norm(vector)  # these very weights matter


@pytest.mark.slow
def test_the_vocoder_gives_a_hop_of_samples_per_frame_and_never_clips(converter):
    loud = np.full((20, 80), 3.0, np.float32)
    audio = converter.vocoder(loud)
    assert audio.shape == (20 * 256,)
    assert np.abs(audio).max() <= 1.0
