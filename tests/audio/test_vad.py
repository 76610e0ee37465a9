"""The speaker encoder's preprocessing against its definition, written again as plain loops."""

import librosa
import numpy as np
import pytest
import webrtcvad

from emoconv_jax.audio.vad import loudest, raise_level, speaker_mel, trim_silence

WINDOW = 480  # 30 ms at 16 kHz


def voice(seconds, seed=0):
    """Pulses through three resonances, with the vibrato and syllables of speech, and a breath."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * 16000)
    time_s = np.arange(samples) / 16000
    phase = np.cumsum(130 + 15 * np.sin(2 * np.pi * 3 * time_s)) / 16000
    audio = np.diff(np.floor(phase), prepend=0.0) + 0.003 * rng.normal(size=samples)
    for centre_hz, decay in ((600, 250), (1300, 350), (2500, 500)):
        ring_s = np.arange(300) / 16000
        response = np.exp(-decay * ring_s) * np.cos(2 * np.pi * centre_hz * ring_s)
        audio = np.convolve(audio, response)[:samples]
    return (0.3 * audio / np.abs(audio).max()).astype(np.float32)


def quiet(seconds, seed=1):
    return 1e-4 * np.random.default_rng(seed).normal(size=round(seconds * 16000)).astype("f4")


def trimmed_by_definition(audio):
    """Counts, rounds and spreads the detector's decisions window by window."""
    detector = webrtcvad.Vad(3)
    total = len(audio) // WINDOW
    windows = [audio[i * WINDOW : (i + 1) * WINDOW] for i in range(total)]
    voiced = [
        detector.is_speech(np.round(w * 32767).astype("<i2").tobytes(), 16000) for w in windows
    ]
    # A window's average runs from three before it to four after it, zeros beyond the ends.
    smooth = [round(sum(voiced[max(0, i - 3) : i + 5]) / 8) == 1 for i in range(total)]
    kept = [windows[i] for i in range(total) if any(smooth[max(0, i - 3) : i + 4])]
    return np.concatenate(kept) if kept else audio


@pytest.mark.parametrize("tail", [0, 1, 479])
def test_equals_its_definition(tail):
    audio = np.concatenate([quiet(1.5), voice(1.0), quiet(0.2), voice(0.5), quiet(2.0), voice(0.3)])
    audio = np.concatenate([audio, np.zeros(tail, np.float32)])
    result = trim_silence(audio)
    np.testing.assert_array_equal(result, trimmed_by_definition(audio))
    assert 1.8 * 16000 < len(result) < 4.5 * 16000  # the voice is there, the long pauses are not


def test_speech_without_pauses_loses_less_than_a_window_and_the_detectors_start():
    audio = voice(2.0)
    result = trim_silence(audio)
    assert len(result) >= len(audio) - 4 * WINDOW
    np.testing.assert_array_equal(result, trimmed_by_definition(audio))


@pytest.mark.parametrize("samples", [0, 1, 479, 480, 16000])
def test_without_voice_the_signal_stays_whole(samples):
    audio = quiet(1.0)[:samples]
    np.testing.assert_array_equal(trim_silence(audio), audio)


def test_samples_beyond_full_scale_do_not_wrap_around():
    audio = np.concatenate([quiet(1.0), voice(1.0), quiet(1.0)])
    loud = np.concatenate([quiet(1.0), 5 * voice(1.0), quiet(1.0)])
    assert np.abs(loud).max() > 1.2
    assert abs(len(trim_silence(loud)) - len(trim_silence(audio))) < 0.4 * 16000


@pytest.mark.parametrize("target_dbfs", [-30.0, -20.0])
def test_raise_level_only_raises(target_dbfs):
    faint = 0.001 * np.sin(np.arange(16000, dtype=np.float32))
    raised = raise_level(faint, target_dbfs)
    assert 20 * np.log10(np.sqrt(np.mean(raised**2))) == pytest.approx(target_dbfs, abs=1e-3)
    np.testing.assert_allclose(raised, faint * (raised[1] / faint[1]), rtol=1e-5)
    loud = faint * 500
    np.testing.assert_array_equal(raise_level(loud, target_dbfs), loud)


def test_raise_level_leaves_silence_alone():
    assert not raise_level(np.zeros(100, np.float32)).any()
    assert raise_level(np.zeros(0, np.float32)).shape == (0,)


@pytest.mark.parametrize("samples", [400, 1600, 25599, 25600])
def test_speaker_mel_is_a_centred_power_mel(samples):
    audio = voice(1.6)[:samples]
    mel = speaker_mel(audio)
    assert mel.dtype == np.float32
    assert mel.shape == (1 + samples // 160, 40)
    padded = np.pad(audio.astype(np.float64), 200)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([padded[i * 160 : i * 160 + 400] * hann for i in range(len(mel))])
    power = np.abs(np.fft.rfft(frames)) ** 2
    filters = librosa.filters.mel(sr=16000, n_fft=400, n_mels=40)
    np.testing.assert_allclose(mel, power @ filters.T, rtol=1e-3, atol=1e-6)


def test_the_loudest_stretch_holds_the_loudest_part():
    """A second of noise in ten of near silence; found to a sixtieth of the length asked for."""
    audio = 1e-3 * np.random.default_rng(0).normal(size=160_000).astype(np.float32)
    audio[70_000:86_000] *= 100
    found = loudest(audio, 24_000)
    assert len(found) == 24_000
    assert np.square(found).sum() > 0.99 * np.square(audio[70_000:86_000]).sum()
    assert loudest(audio, 160_000) is audio
