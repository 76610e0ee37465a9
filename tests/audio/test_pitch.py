import numpy as np
import pytest
import scipy.signal

from emoconv_jax.audio.pitch import HIGHEST_HZ, LOWEST_HZ, frame_f0
from emoconv_jax.audio.prosody import LEAST_RMS, prosody
from emoconv_jax.config import MelConfig

RATE_HZ, HOP, CONFIG = 22050, 256, MelConfig()


def voice(f0_hz, seconds=1.0, amplitude=0.2, rate_hz=RATE_HZ):
    """Harmonics that fall by 1/k; `f0_hz` may be a number or a curve over the samples."""
    samples = round(seconds * rate_hz)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0_hz, samples)) / rate_hz
    count = max(1, int(0.4 * rate_hz / np.max(f0_hz)))
    tone = np.sum([np.sin(k * phase) / k for k in range(1, min(count, 20) + 1)], axis=0)
    return (amplitude * tone).astype(np.float32)


def noise(seconds, level=0.05, seed=0):
    samples = np.random.default_rng(seed).normal(size=round(seconds * RATE_HZ))
    return (level * samples).astype(np.float32)


def middles(frames):
    return np.arange(frames) * HOP + HOP // 2


@pytest.mark.parametrize("f0_hz", [65.0, 80.0, 147.3, 220.0, 313.0, 440.0, 600.0])
def test_a_steady_voice(f0_hz):
    found = frame_f0(voice(f0_hz), RATE_HZ, HOP)
    assert len(found) == RATE_HZ // HOP
    assert (found[4:-4] > 0).all()
    np.testing.assert_allclose(1200 * np.log2(found[4:-4] / f0_hz), 0, atol=10)


def test_a_glide_is_found_at_the_middle_of_each_hop():
    """An octave in 2 s moves 3.5 cents in half a hop; the median of the error shows a shift."""
    true_hz = 120 * 2 ** (np.arange(2 * RATE_HZ) / (2 * RATE_HZ))
    found = frame_f0(voice(true_hz, 2.0), RATE_HZ, HOP)
    error = 1200 * np.log2(found[8:-8] / true_hz[middles(len(found))][8:-8])
    assert abs(np.median(error)) < 1.5
    assert np.abs(error).max() < 20


def test_a_voice_with_jitter_breath_and_noise_keeps_its_octave():
    """Periods that differ by 2 %, as much noise as a tenth of the voice's power."""
    rng, instants = np.random.default_rng(0), [0.0]
    while instants[-1] < 2.0:
        instants.append(instants[-1] + (1 + 0.02 * rng.normal()) / 140)
    train = np.zeros(2 * RATE_HZ + 400)
    train[(np.array(instants[:-1]) * RATE_HZ).astype(int)] = 1.0
    times_s = np.arange(400) / RATE_HZ
    resonance = np.exp(-300 * times_s) * (1 + np.cos(2 * np.pi * 600 * times_s))
    sound = np.convolve(train, resonance)[: 2 * RATE_HZ]
    sound += np.sqrt(0.1) * np.std(sound) * rng.normal(size=len(sound))
    found = frame_f0((0.1 * sound).astype(np.float32), RATE_HZ, HOP)
    voiced = found[found > 0]
    assert len(voiced) > 0.8 * len(found)
    assert (np.abs(np.log2(voiced / 140)) > np.log2(1.2)).mean() < 0.03


def whisper():
    """Noise through the resonances of a vowel; one as narrow as 80 Hz is nearly a tone."""
    sound = noise(2.0, 0.1)
    for centre_hz, width_hz in ((700, 80), (1220, 90), (2600, 120)):
        radius = np.exp(-np.pi * width_hz / RATE_HZ)
        pole = 2 * radius * np.cos(2 * np.pi * centre_hz / RATE_HZ)
        sound = scipy.signal.lfilter([1 - pole + radius**2], [1, -pole, radius**2], sound)
    return (0.1 * sound / np.std(sound)).astype(np.float32)


@pytest.mark.parametrize(
    "sound",
    [noise(2.0), whisper(), np.zeros(RATE_HZ, np.float32), np.full(RATE_HZ, 0.2, np.float32)],
    ids=["noise", "whisper", "silence", "offset"],
)
def test_what_has_no_voice(sound):
    found = prosody(sound, RATE_HZ, CONFIG)
    assert np.isfinite(found).all()
    assert found[:, 1].mean() < 0.05
    if not found[:, 1].any():
        assert not found[:, 0].any()


def test_a_cough_louder_than_speech_is_finite_and_within_the_limits():
    burst = noise(0.15, 0.9) * np.exp(-np.linspace(0, 6, round(0.15 * RATE_HZ)))
    sound = np.concatenate([voice(120.0, amplitude=0.02), burst, voice(130.0, amplitude=0.02)])
    found = prosody(sound.astype(np.float32), RATE_HZ, CONFIG)
    assert np.isfinite(found).all()
    f0_hz = 2 ** found[found[:, 1] > 0, 0]
    assert f0_hz.min() >= LOWEST_HZ and f0_hz.max() <= HIGHEST_HZ
    assert np.mean(np.abs(f0_hz - 125) < 10) > 0.95


@pytest.mark.parametrize("samples", [1, 127, 129, 256, 300, 600, 4410])
def test_fragments(samples):
    for sound in (noise(1.0)[:samples], voice(200.0)[:samples]):
        found = prosody(sound, RATE_HZ, CONFIG)
        assert found.shape == (samples // HOP, 3) and np.isfinite(found).all()


def test_pitch_is_interpolated_through_gaps_and_held_at_the_ends():
    quiet = np.zeros(RATE_HZ // 2, np.float32)
    sound = np.concatenate([quiet, voice(100.0, 0.5), quiet, voice(200.0, 0.5), quiet])
    octaves, voicing, _ = prosody(sound, RATE_HZ, CONFIG).T
    gaps = np.flatnonzero(voicing == 0)
    first, last = np.flatnonzero(voicing)[[0, -1]]
    assert (octaves[:first] == octaves[first]).all() and (octaves[last:] == octaves[last]).all()
    inner = gaps[(gaps > first) & (gaps < last)]
    np.testing.assert_allclose(np.diff(octaves[inner], 2), 0, atol=1e-5)
    assert octaves[inner].min() > np.log2(97) and octaves[inner].max() < np.log2(206)


def test_energy_of_a_sine_and_of_silence():
    """A sine of peak a has RMS a / sqrt 2, at the ends too."""
    sine = 0.3 * np.sin(2 * np.pi * 500 * np.arange(RATE_HZ) / RATE_HZ)
    energy = prosody(sine.astype(np.float32), RATE_HZ, CONFIG)[:, 2]
    np.testing.assert_allclose(energy, np.log(0.3 / np.sqrt(2)), atol=0.02)
    silent = prosody(np.zeros(RATE_HZ, np.float32), RATE_HZ, CONFIG)[:, 2]
    np.testing.assert_allclose(silent, np.log(LEAST_RMS), rtol=1e-6)


def test_a_long_recording_is_tracked_as_its_parts_are():
    """Beyond 30 s it goes in blocks, whose joints no frame shows."""
    true_hz = 150 * 2 ** (0.5 * np.sin(2 * np.pi * np.arange(70 * RATE_HZ) / RATE_HZ / 3))
    found = frame_f0(voice(true_hz, 70.0), RATE_HZ, HOP)
    error = np.log2(np.maximum(found, 1) / true_hz[middles(len(found))])
    assert np.abs(error[8:-8]).max() < np.log2(1.02)


def test_another_sample_rate_gives_the_same_frames():
    at_16k = voice(180.0, rate_hz=16000)
    found = prosody(at_16k, 16000, CONFIG)
    assert abs(len(found) - RATE_HZ // HOP) <= 1
    np.testing.assert_allclose(found[4:-4, 0], np.log2(180), atol=0.01)
