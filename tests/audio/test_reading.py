"""Whole files are read faithfully, and hostile ones refused in one line before they cost anything.

The files are made here by soundfile or byte by byte; nothing is mocked.
"""

import os
import struct
import time
import tracemalloc

import numpy as np
import pytest
import soundfile
from ogg_pages import refused

from emoconv_jax.audio.reading import conform, read_audio, read_header, read_native
from emoconv_jax.errors import EmoconvError

RATE_HZ = 22050


def tone(seconds, rate_hz=RATE_HZ, f0_hz=440.0, peak=0.5):
    return peak * np.sin(2 * np.pi * f0_hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def wav_bytes(samples, claimed_bytes=None, rate_hz=RATE_HZ, channels=1):
    """Returns a 16-bit WAV written field by field, with a free choice of claims."""
    data = np.asarray(samples, "<i2").tobytes()
    claimed_bytes = len(data) if claimed_bytes is None else claimed_bytes
    byte_rate = min(rate_hz * channels * 2, 2**32 - 1)
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", min(36 + claimed_bytes, 2**32 - 1), b"WAVE", b"fmt ", 16, 1, channels),
        *(rate_hz, byte_rate, channels * 2, 16, b"data", claimed_bytes),
    )
    return head + data


def test_16_bit_wav_and_flac_are_read_exactly(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 5000).astype(np.int16)
    for suffix in ("wav", "flac"):
        path = tmp_path / f"exact.{suffix}"
        soundfile.write(path, samples, RATE_HZ)
        audio = read_audio(path)
        assert audio.dtype == np.float32
        np.testing.assert_array_equal(audio, samples / np.float32(2**15))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("ogg", {"format": "OGG", "subtype": "VORBIS"}),
        ("opus", {"format": "OGG", "subtype": "OPUS"}),
        ("mp3", {"format": "MP3", "subtype": "MPEG_LAYER_III"}),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_formats_keep_pitch_level_and_length(tmp_path, suffix, options, channels):
    path, rate_hz = tmp_path / f"lossy.{suffix}", 48000
    soundfile.write(path, np.stack([tone(1.0, rate_hz)] * channels, axis=1), rate_hz, **options)
    audio = read_audio(path, 16000)
    assert abs(len(audio) - 16000) < 16000 * 0.02
    middle = audio[4000:12000] * np.hanning(8000)
    spectrum = np.abs(np.fft.rfft(middle))
    assert abs(np.argmax(spectrum) * 16000 / 8000 - 440) <= 2  # bins are 2 Hz apart
    assert abs(audio[4000:12000].std() - 0.5 / np.sqrt(2)) < 0.02


def test_channels_are_averaged_and_the_rate_is_changed(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(1.0, 44100), np.zeros(44100)], axis=1), 44100, "FLOAT")
    audio = read_audio(path, 16000)
    assert len(audio) == 16000
    np.testing.assert_allclose(audio[800:-800], tone(1.0, 16000)[800:-800] / 2, atol=1e-3)


@pytest.mark.parametrize("peak", [1.0, 1.7, 32768.0, 1e38])
def test_samples_beyond_full_scale_are_scaled_not_clipped(tmp_path, peak):
    path = tmp_path / "hot.wav"
    soundfile.write(path, tone(0.5, 16000, peak=peak), 16000, "FLOAT")
    audio = read_audio(path, RATE_HZ)
    assert np.abs(audio).max() <= 1.0
    np.testing.assert_allclose(audio[500:-500], tone(0.5, peak=1.0)[500:-500], atol=0.02)


def test_content_decides_not_the_suffix(tmp_path):
    for name in ("speech.raw", "speech.txt", "speech"):
        path = tmp_path / name
        path.write_bytes(wav_bytes(tone(0.2) * 2**15))
        if name == "speech.raw":  # soundfile reads this suffix as headerless only
            refused(path)
        else:
            assert len(read_audio(path)) == round(0.2 * RATE_HZ)


def test_a_wav_from_a_pipe_may_leave_its_length_open(tmp_path):
    path = tmp_path / "piped.wav"
    path.write_bytes(wav_bytes(tone(0.5) * 2**15, claimed_bytes=2**32 - 1))
    assert len(read_audio(path)) == round(0.5 * RATE_HZ)


def test_missing_directory_empty_and_impossible_names(tmp_path):
    refused(tmp_path / "absent.wav", "No such file")
    refused(tmp_path, "directory")
    (tmp_path / "empty.wav").touch()
    refused(tmp_path / "empty.wav", "empty")
    with pytest.raises(EmoconvError, match="null"):
        read_audio("zero\0byte.wav")
    with pytest.raises(EmoconvError, match="too long"):
        read_audio("x" * 5000)


def test_a_fifo_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    began_s = time.monotonic()
    refused(tmp_path / "pipe.wav", "not a regular file")
    refused("/dev/zero", "not a regular file")
    assert time.monotonic() - began_s < 1.0


@pytest.mark.parametrize("frames", [0, 1, 100, round(0.1 * RATE_HZ) - 1])
def test_too_short(tmp_path, frames):
    path = tmp_path / "short.wav"
    path.write_bytes(wav_bytes(tone(1.0)[:frames] * 2**15))
    refused(path, f"{frames} samples", "0.1 s")


def test_a_tenth_of_a_second_is_enough(tmp_path):
    path = tmp_path / "shortest.wav"
    path.write_bytes(wav_bytes(tone(1.0)[: round(0.1 * RATE_HZ)] * 2**15))
    assert len(read_audio(path)) == round(0.1 * RATE_HZ)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 70_000])
def test_samples_that_are_not_finite(tmp_path, bad, place):
    audio = tone(4.0)
    audio[place] = bad
    soundfile.write(tmp_path / "nan.wav", audio, RATE_HZ, "FLOAT")
    refused(tmp_path / "nan.wav", "NaN")


@pytest.mark.parametrize("peak", [0.0, 5e-5])
def test_silence(tmp_path, peak):
    soundfile.write(tmp_path / "silent.wav", tone(1.0, peak=peak), RATE_HZ, "FLOAT")
    refused(tmp_path / "silent.wav", "silent")


def test_quiet_is_not_silent(tmp_path):
    soundfile.write(tmp_path / "quiet.wav", tone(1.0, peak=2e-4), RATE_HZ, "FLOAT")
    assert np.abs(read_audio(tmp_path / "quiet.wav")).max() > 1.9e-4


def test_channels(tmp_path):
    soundfile.write(tmp_path / "many.wav", np.full((4000, 1024), 0.5), RATE_HZ)
    refused(tmp_path / "many.wav", "1024 channels", "32")
    soundfile.write(tmp_path / "most.wav", np.stack([tone(0.2)] * 32, axis=1), RATE_HZ)
    assert len(read_audio(tmp_path / "most.wav")) == round(0.2 * RATE_HZ)


@pytest.mark.parametrize("rate_hz", [1, 3999, 384_001, 2**31 - 1])
def test_sample_rates_of_the_file(tmp_path, rate_hz):
    path = tmp_path / "rate.wav"
    path.write_bytes(wav_bytes(tone(1.0) * 2**15, rate_hz=rate_hz))
    refused(path, f"{rate_hz} Hz", "4000", "384000")


def test_sample_rate_asked_for(tmp_path):
    with pytest.raises(EmoconvError, match="sample_rate_hz"):
        read_audio(tmp_path / "any.wav", 0)


@pytest.mark.parametrize("claimed_bytes", [2**31 - 16, 4_000_000_000, 100_000])
def test_a_wav_that_claims_more_than_it_holds(tmp_path, claimed_bytes):
    path = tmp_path / "claims.wav"
    path.write_bytes(wav_bytes(tone(0.5) * 2**15, claimed_bytes=claimed_bytes))
    refused(path, "truncated", str(claimed_bytes))


@pytest.mark.parametrize(
    ("claimed_frames", "word"), [(2**36 - 1, "s long"), (0, "length"), (90_000, "")]
)
def test_a_flac_that_claims_another_length(tmp_path, claimed_frames, word):
    path = tmp_path / "claims.flac"
    soundfile.write(path, tone(2.0), RATE_HZ)
    content = bytearray(path.read_bytes())
    # STREAMINFO's bytes 18 to 25 end in the 36-bit count of samples
    field = int.from_bytes(content[18:26], "big") >> 36 << 36 | claimed_frames
    content[18:26] = field.to_bytes(8, "big")
    path.write_bytes(content)
    refused(path, word)


def test_long_silence_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.flac"
    with soundfile.SoundFile(path, "w", 8000, 1, format="FLAC", subtype="PCM_16") as sound:
        for _ in range(61):
            sound.write(np.zeros(80_000, np.int16))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    refused(path, "610.0 s", "600 s")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_decoded_bytes_are_limited_too(tmp_path):
    path = tmp_path / "wide.wav"
    with open(path, "wb") as file:  # sparse: 268 s of 8 channels at 48 kHz, within 600 s
        file.write(wav_bytes([], claimed_bytes=268 * 48000 * 16, rate_hz=48000, channels=8))
        file.truncate(44 + 268 * 48000 * 16)
    refused(path, "MiB", "256")
    with pytest.raises(EmoconvError, match="393 MiB when decoded, allowed are up to 392 MiB"):
        read_audio(path, max_decoded_bytes=392 * 2**20)


@pytest.mark.parametrize("peak", [0.5, 2.0])
def test_memory_goes_to_the_result_not_to_the_file(tmp_path, peak):
    """88 MiB when decoded, of which 5 MiB are asked for."""
    path, frames = tmp_path / "wide.wav", 60 * 48000
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + frames * 32, b"WAVE", b"fmt ", 16, 3, 8),
        *(48000, 48000 * 32, 32, 32, b"data", frames * 32),
    )
    with open(path, "wb") as file:  # sparse
        file.write(header + np.full(8 * 480, peak, "<f4").tobytes())
        file.truncate(44 + frames * 32)
    tracemalloc.start()
    audio = read_audio(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(audio) == 60 * RATE_HZ
    assert most < audio.nbytes + 12 * 2**20


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("peak", [0.5, 1.4])
def test_reading_at_a_rate_is_reading_and_then_resampling(tmp_path, suffix, peak):
    """Bit for bit, though one is done block by block: 4 s are three blocks."""
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(4.0, 44100, peak=peak), 44100, "FLOAT" if suffix == "wav" else None)
    for rate_hz in (16000, 44100):
        expected = conform(*read_native(path), rate_hz)
        np.testing.assert_array_equal(read_audio(path, rate_hz), expected)


def test_a_header_is_read_alone(tmp_path):
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", 8000, 1) as sound:
        sound.comment = "said by café"
        sound.write(tone(2.0, 8000))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])  # only decoding would show it
    header = read_header(path)
    assert (header.duration_s, header.comment) == (2.0, "said by café")
    with pytest.raises(EmoconvError, match=r"2\.0 s long, allowed are up to 1 s"):
        read_header(path, max_seconds=1)
    with pytest.raises(EmoconvError, match="No such file"):
        read_header(tmp_path / "absent.wav")


def test_the_duration_limit_is_the_callers(tmp_path):
    path = tmp_path / "two.wav"
    soundfile.write(path, tone(2.0), RATE_HZ)
    assert len(read_audio(path, max_seconds=2.0)) == 2 * RATE_HZ
    with pytest.raises(EmoconvError, match=r"2\.0 s long, allowed are up to 1\.5 s"):
        read_audio(path, max_seconds=1.5)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("kept", [0.999, 0.97, 0.5, 0.1, 0.002])
def test_truncated_files(tmp_path, suffix, kept):
    path = tmp_path / f"cut.{suffix}"
    rng = np.random.default_rng(1)
    soundfile.write(path, tone(4.0) + 0.1 * rng.normal(size=4 * RATE_HZ), RATE_HZ)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(path)


def test_other_formats(tmp_path):
    soundfile.write(tmp_path / "speech.aiff", tone(1.0), RATE_HZ)
    refused(tmp_path / "speech.aiff", "AIFF", "FLAC")
    for name in ("text.wav", "text.mp3", "text.gsm"):
        (tmp_path / name).write_bytes(b"not a sound " * 500)
        refused(tmp_path / name)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_damaged_bytes_give_sound_audio_or_one_error(tmp_path, suffix):
    """Any damage ends in a waveform within the promises or in an EmoconvError."""
    path = tmp_path / f"damaged.{suffix}"
    soundfile.write(path, tone(0.6), RATE_HZ)
    content = path.read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(40):
        damaged = bytearray(content)
        reach = 64 if rng.random() < 0.5 else len(damaged)  # half of the hits go to the header
        for place in rng.integers(0, reach, rng.integers(1, 6)):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            audio = read_audio(path)
        except EmoconvError as error:
            assert "\n" not in str(error) and path.name in str(error)
        else:
            assert audio.dtype == np.float32 and audio.ndim == 1 and len(audio) > 0
            assert np.isfinite(audio).all() and 0 < np.abs(audio).max() <= 1
