"""Whisper's log-mel against that of Hugging Face's feature extractor."""

import numpy as np
import pytest
import transformers

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.audio.whisper_mel import whisper_log_mel
from emoconv_jax.errors import EmoconvError

WINDOW_SAMPLES = 480_000
TOLERANCE = 1e-4  # their FFT is float32's; a decade is .25


@pytest.fixture(scope="module")
def speech(pytestconfig) -> np.ndarray:
    return read_audio(pytestconfig.rootpath / "data" / "samples" / "neutral.flac", 16_000)


@pytest.mark.slow
@pytest.mark.parametrize("mels", [80, 128])
def test_thirty_seconds_of_speech_and_silence_are_the_references(speech, mels):
    extractor = transformers.WhisperFeatureExtractor(feature_size=mels)
    expected = extractor(speech, sampling_rate=16_000, return_tensors="np")["input_features"][0].T
    found = whisper_log_mel(speech, mels, WINDOW_SAMPLES)
    assert found.shape == expected.shape == (3000, mels) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    assert np.ptp(found) == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize("samples", [201, 16_000, 16_159, 16_160])
def test_a_waveform_as_long_as_it_is_is_the_references(speech, samples):
    clip = speech[16_000 : 16_000 + samples]
    extractor = transformers.WhisperFeatureExtractor()
    expected = extractor(clip, sampling_rate=16_000, padding=False, return_tensors="np")
    found = whisper_log_mel(clip)
    assert found.shape == (samples // 160, 80)
    np.testing.assert_allclose(found, expected["input_features"][0].T, rtol=0, atol=TOLERANCE)


def test_frames_are_centred_on_their_samples():
    """A click at sample 160 i is loudest in frame i, and as loud in the two beside it."""
    audio = np.zeros(8000, np.float32)
    audio[160 * 20] = 1.0
    mel = whisper_log_mel(audio).mean(1)
    assert mel.argmax() == 20
    assert mel[19] == pytest.approx(mel[21], abs=1e-5)


def test_a_recording_longer_than_its_padding_stays_whole(speech):
    np.testing.assert_array_equal(whisper_log_mel(speech, 80, 1000), whisper_log_mel(speech))


def test_too_short_a_waveform_is_refused():
    with pytest.raises(EmoconvError, match="audio: 200 samples, allowed are 201 or more"):
        whisper_log_mel(np.zeros(200, np.float32))
    assert np.isfinite(whisper_log_mel(np.zeros(0, np.float32), 80, 480)).all()
