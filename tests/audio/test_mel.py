import librosa
import numpy as np
import pytest

from emoconv_jax.audio.mel import log_mel, shortest_samples
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError

CONFIG = MelConfig()


def speechlike(samples):
    rng = np.random.default_rng(samples)
    time_s = np.arange(samples) / CONFIG.sample_rate_hz
    voice = sum(np.sin(2 * np.pi * 150 * k * time_s) / k for k in range(1, 30))
    return (0.1 * voice + 0.01 * rng.normal(size=samples)).astype(np.float32)


def librosas_log_mel(audio):
    """The same definition through librosa's own STFT and mel filters, in float64."""
    whole = audio[: len(audio) // 256 * 256].astype(np.float64)
    padded = np.concatenate([whole[384:0:-1], whole, whole[-2:-386:-1]])
    spectrum = librosa.stft(padded, n_fft=1024, hop_length=256, window="hann", center=False)
    magnitude = np.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
    filters = librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0, fmax=8000, norm="slaney")
    return np.log(np.maximum(filters @ magnitude, 1e-5)).T


@pytest.mark.parametrize(
    "samples", [512, 513, 767, 768, 1000, 1023, 1024, 1279, 1280, 5000, 22050, 66150]
)
def test_equals_librosa(samples):
    audio = speechlike(samples)
    mel = log_mel(audio, CONFIG)
    assert mel.dtype == np.float32
    assert mel.shape == (samples // 256, 80)
    np.testing.assert_allclose(mel, librosas_log_mel(audio), atol=2e-4)


def test_the_blocks_of_a_long_recording_join_without_a_seam():
    audio = speechlike(256 * 4200)
    np.testing.assert_allclose(log_mel(audio, CONFIG), librosas_log_mel(audio), atol=2e-4)


def test_silence_is_the_floor_of_both_equations():
    filters = librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0, fmax=8000)
    expected = np.log(np.maximum(np.sqrt(1e-9) * filters.sum(axis=1), 1e-5))
    mel = log_mel(np.zeros(2560, np.float32), CONFIG)
    np.testing.assert_allclose(mel, np.tile(expected, (10, 1)), atol=1e-5)


def test_a_tone_peaks_in_the_bin_whose_centre_is_nearest():
    centres_hz = librosa.mel_frequencies(82, fmin=0, fmax=8000)[1:-1]
    for f0_hz in (400.0, 1000.0, 3000.0):
        audio = 0.5 * np.sin(2 * np.pi * f0_hz * np.arange(22050) / 22050)
        found = log_mel(audio.astype(np.float32), CONFIG)[20:60].mean(axis=0).argmax()
        assert abs(found - np.abs(centres_hz - f0_hz).argmin()) <= 1


def test_shortest_waveform():
    assert shortest_samples(CONFIG) == 512
    for samples in (0, 1, 255, 256, 511):
        with pytest.raises(EmoconvError, match=f"{samples} samples, allowed are 512 or more"):
            log_mel(speechlike(samples), CONFIG)


@pytest.mark.parametrize(("fft", "hop"), [(64, 16), (64, 32), (256, 64), (32, 32)])
def test_shortest_waveform_is_the_least_that_reflects(fft, hop):
    config = MelConfig(fft_samples=fft, hop_samples=hop, mels=4)
    shortest = shortest_samples(config)
    assert log_mel(speechlike(shortest), config).shape == (shortest // hop, 4)
    pad = (fft - hop) // 2
    assert shortest > pad >= shortest - hop
