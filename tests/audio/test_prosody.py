import numpy as np
import pytest

from emoconv_jax.audio.prosody import f0_track, level_db, median_f0_hz, set_level


def harmonics(f0_hz, seconds=1.0, rate_hz=22050):
    """A tone with the falling harmonics of a voice; `f0_hz` may be a number or a curve."""
    samples = round(seconds * rate_hz)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0_hz, samples)) / rate_hz
    audio = np.zeros(samples)
    for k in range(1, int(0.4 * rate_hz / np.max(f0_hz))):
        audio += np.sin(k * phase) / k
    return (0.2 * audio).astype(np.float32)


def pulses(f0_hz, seconds=1.0, rate_hz=22050):
    """A pulse train through a decaying resonance at 700 Hz, as of a vocal tract."""
    train = np.zeros(round(seconds * rate_hz))
    train[np.round(np.arange(0, seconds - 0.01, 1 / f0_hz) * rate_hz).astype(int)] = 1.0
    time_s = np.arange(400) / rate_hz
    response = np.exp(-400 * time_s) * np.cos(2 * np.pi * 700 * time_s)
    return (0.5 * np.convolve(train, response)[: len(train)]).astype(np.float32)


def cents(found_hz, true_hz):
    return 1200 * np.log2(found_hz / true_hz)


@pytest.mark.slow
@pytest.mark.parametrize("rate_hz", [16000, 22050])
@pytest.mark.parametrize("f0_hz", [80.0, 110.0, 147.3, 220.0, 313.0, 440.0, 580.0])
def test_median_of_steady_voices(f0_hz, rate_hz):
    # Half a step of the pitch grid is 10 cents; beyond it lies the period's rounding at 11 kHz.
    assert abs(cents(median_f0_hz(harmonics(f0_hz, rate_hz=rate_hz), rate_hz), f0_hz)) < 20
    assert abs(cents(median_f0_hz(pulses(f0_hz, rate_hz=rate_hz), rate_hz), f0_hz)) < 20


def test_the_track_follows_a_glide():
    true_hz = np.linspace(120, 240, 44100)
    times_s, f0_hz = f0_track(harmonics(true_hz, 2.0), 22050)
    assert times_s.shape == f0_hz.shape and times_s[0] == 0
    inner = (times_s > 0.1) & (times_s < 1.9)
    expected_hz = 120 + 60 * times_s[inner]
    assert np.isfinite(f0_hz[inner]).mean() > 0.95
    assert np.nanmedian(np.abs(cents(f0_hz[inner], expected_hz))) < 25


def test_voice_and_noise_are_told_apart():
    noise = 0.05 * np.random.default_rng(0).normal(size=22050)
    audio = np.concatenate([harmonics(150.0), noise]).astype(np.float32)
    times_s, f0_hz = f0_track(audio, 22050)
    voiced = np.isfinite(f0_hz)
    assert voiced[(times_s > 0.1) & (times_s < 0.9)].mean() > 0.95
    assert voiced[(times_s > 1.1) & (times_s < 1.9)].mean() < 0.1
    assert abs(cents(median_f0_hz(audio, 22050), 150.0)) < 20


def test_unvoiced_and_very_short_sounds_have_no_pitch():
    noise = 0.1 * np.random.default_rng(1).normal(size=4000).astype(np.float32)
    assert np.isnan(median_f0_hz(np.zeros(8000, np.float32), 16000))
    assert np.isnan(median_f0_hz(noise[:100], 22050))
    assert np.isnan(median_f0_hz(noise[:1], 22050))


def sine(peak, seconds=1.0):
    time_s = np.arange(round(seconds * 22050)) / 22050
    return (peak * np.sin(2 * np.pi * 400 * time_s)).astype(np.float32)


@pytest.mark.parametrize("peak", [1.0, 0.1, 0.003])
def test_level_of_a_sine(peak):
    assert level_db(sine(peak)) == pytest.approx(20 * np.log10(peak / np.sqrt(2)), abs=0.05)


def test_pauses_do_not_count():
    hiss = 1e-3 * np.random.default_rng(2).normal(size=3 * 22050).astype(np.float32)
    audio = np.concatenate([hiss, sine(0.2), hiss, np.zeros(22050, np.float32)])
    # One of the 41 windows that hold the sine may hold only part of it: up to 10 log10(41 / 40).
    assert level_db(audio) == pytest.approx(level_db(sine(0.2)), abs=0.12)


def test_silence_has_no_level_and_keeps_it():
    for audio in (np.zeros(22050, np.float32), np.zeros(0, np.float32), sine(1e-5)):
        assert level_db(audio) == float("-inf")
        np.testing.assert_array_equal(set_level(audio, -20.0), audio)


@pytest.mark.parametrize("target_db", [-40.0, -26.0, -12.0])
def test_set_level_reaches_the_level(target_db):
    audio = np.concatenate([sine(0.05), np.zeros(22050, np.float32), sine(0.02)])
    result = set_level(audio, level_db=target_db)
    assert result.dtype == np.float32
    assert level_db(result) == pytest.approx(target_db, abs=0.05)
    np.testing.assert_allclose(result, audio * (result[100] / audio[100]), rtol=1e-4, atol=1e-9)


def test_set_level_never_clips():
    assert np.abs(set_level(sine(0.1), 10.0)).max() == pytest.approx(0.99, abs=1e-6)
