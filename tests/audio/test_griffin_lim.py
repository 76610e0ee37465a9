"""Griffin-Lim against what it inverts: the mel of its output, a tone's pitch and level."""

import numpy as np
import pytest

from emoconv_jax.audio.griffin_lim import LOUDEST, griffin_lim
from emoconv_jax.audio.mel import log_mel
from emoconv_jax.config import MelConfig

CONFIG = MelConfig()
RATE_HZ = CONFIG.sample_rate_hz


def sine(f0_hz: float, amplitude: float, samples: int = RATE_HZ) -> np.ndarray:
    time_s = np.arange(samples) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * f0_hz * time_s)).astype(np.float32)


def error(audio: np.ndarray, mel: np.ndarray) -> float:
    """Mean distance of the audio's log-mel where the one asked for is heard, in nepers."""
    heard = mel > -8
    return float(np.abs(log_mel(audio, CONFIG) - mel)[heard].mean())


@pytest.mark.slow
def test_the_mel_of_the_output_is_the_mel_given(speech):
    """Within 0.2 nepers (1.7 dB) on average; the same magnitudes without phases miss by more."""
    mel = log_mel(speech, CONFIG)
    audio = griffin_lim(mel, CONFIG)
    assert audio.shape == (len(mel) * CONFIG.hop_samples,)
    assert audio.dtype == np.float32
    assert error(audio, mel) < 0.2
    assert error(audio, mel) < 0.7 * error(griffin_lim(mel, CONFIG, iterations=1), mel)


def test_every_frame_lies_where_the_mel_has_it():
    """A burst of noise in 8 of 40 frames, in a place that no symmetry maps to itself."""
    audio = np.zeros(40 * 256, np.float32)
    audio[24 * 256 : 32 * 256] = 0.3 * np.random.default_rng(0).normal(size=8 * 256)
    power = np.square(griffin_lim(log_mel(audio, CONFIG), CONFIG)).reshape(40, 256).sum(axis=1)
    assert power[23:33].sum() > 0.98 * power.sum()
    centre = (power * np.arange(40)).sum() / power.sum()
    assert abs(centre - 27.5) < 0.5


@pytest.mark.parametrize("f0_hz", [220.0, 440.0, 1500.0])
def test_a_tone_comes_back_at_its_pitch_and_level(f0_hz):
    given = sine(f0_hz, 0.3)
    audio = griffin_lim(log_mel(given, CONFIG), CONFIG)[4096:-4096]
    found_hz = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))).argmax() * RATE_HZ / len(audio)
    assert abs(12 * np.log2(found_hz / f0_hz)) < 1.0  # a mel bin is 1.5 semitones at 1 kHz
    ratio = np.sqrt(np.mean(audio**2)) / np.sqrt(np.mean(given**2))
    assert abs(20 * np.log10(ratio)) < 3.0


def test_the_same_mel_gives_the_same_sound(speech):
    mel = log_mel(speech, CONFIG)
    assert np.array_equal(griffin_lim(mel, CONFIG), griffin_lim(mel, CONFIG))


@pytest.mark.parametrize("level", [-1e4, -11.5, 50.0, 1e4])
def test_mels_of_no_speech_stay_within_full_scale(level):
    audio = griffin_lim(np.full((20, 80), level, np.float32), CONFIG)
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() <= 1.0


def test_no_full_scale_signal_is_cut():
    square = np.sign(sine(43.0, 1.0))
    impulses = np.zeros(RATE_HZ, np.float32)
    impulses[::256] = 1.0
    loudest = max(log_mel(audio, CONFIG).max() for audio in (square, sine(100, 1.0), impulses))
    assert loudest < LOUDEST
