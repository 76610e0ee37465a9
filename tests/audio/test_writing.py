import os

import numpy as np
import pytest
import soundfile

from emoconv_jax.audio.reading import read_audio, read_header
from emoconv_jax.audio.writing import LIMITED_PEAK, MOST_COMMENT_BYTES, check_output, write_audio
from emoconv_jax.errors import EmoconvError, UsageError


def noise(samples=4410, peak=0.8):
    audio = np.random.default_rng(0).uniform(-1, 1, samples)
    return (audio * (peak / np.abs(audio).max())).astype(np.float32)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "A.WAV"])
def test_round_trip_is_within_half_a_step_of_16_bits(tmp_path, name):
    write_audio(tmp_path / name, noise(), 22050)
    assert soundfile.info(tmp_path / name).subtype == "PCM_16"
    assert np.abs(read_audio(tmp_path / name) - noise()).max() <= 0.5 / 2**15 + 1e-7
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_what_was_read_is_written_back_bit_for_bit(tmp_path, bits, suffix):
    drawn = np.random.default_rng(1).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 70_000)
    samples = drawn.astype(np.int32) << (32 - bits)  # libsndfile's place for them
    subtype = f"PCM_{bits}"
    soundfile.write(tmp_path / "in.wav", samples, 16000, subtype)
    out = tmp_path / f"out.{suffix}"
    write_audio(str(out), read_audio(tmp_path / "in.wav", 16000), 16000, bits=bits)
    assert soundfile.info(out).subtype == subtype
    np.testing.assert_array_equal(soundfile.read(out, dtype="int32")[0], samples)


def test_vorbis_keeps_pitch_level_and_length(tmp_path):
    """A minute, because the encoder cannot take that much at once."""
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(60 * 22050) / 22050)).astype(np.float32)
    write_audio(tmp_path / "a.ogg", tone, 22050)
    assert soundfile.info(tmp_path / "a.ogg").subtype == "VORBIS"
    heard = read_audio(tmp_path / "a.ogg")
    assert heard.shape == tone.shape
    assert np.abs(heard - tone)[2048:-2048].max() < 0.02


COMMENT = '{"notice":"caf\\u00e9 \\"\\\\"}'


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("comment", [COMMENT, "é", "x" * MOST_COMMENT_BYTES])
def test_the_comment_is_read_back(tmp_path, suffix, comment):
    path = tmp_path / f"a.{suffix}"
    write_audio(path, noise(), 22050, software="emoconv 9", comment=comment)
    assert read_header(path).comment == comment
    assert read_header(path).duration_s == pytest.approx(0.2)
    with soundfile.SoundFile(path) as file:
        assert file.software.startswith("emoconv 9")
    write_audio(path, noise(), 22050)
    assert read_header(path).comment == ""


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"bits": 8}, "bits: found 8, allowed are 16, 24"),
        ({"comment": "é" * 1023}, "comment: found 2046 bytes, allowed are up to 2045"),
    ],
)
def test_what_no_file_can_hold_is_wrong_usage(tmp_path, request_, message):
    with pytest.raises(UsageError, match=message):
        write_audio(tmp_path / "a.wav", noise(), 22050, **request_)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["wav", "flac", "ogg"])
@pytest.mark.parametrize(
    "rate_hz", [0, 3999, 4000, 7999, 65536, 96000, 191999, 192000, 192001, 384000, 384001]
)
def test_a_rate_is_refused_if_and_only_if_the_format_cannot_hold_it(tmp_path, name, rate_hz):
    """FLAC: whole numbers of Hz up to 65535 and of 10 Hz up to 655350 (RFC 9639, section 9.1)."""
    allowed = 4000 <= rate_hz <= (192_000 if name == "ogg" else 384_000)
    if name == "flac":
        allowed = allowed and (rate_hz <= 65535 or rate_hz % 10 == 0)
    path = tmp_path / f"a.{name}"
    if allowed:
        check_output(name, rate_hz)
        write_audio(path, noise(), rate_hz)
        assert soundfile.info(path).samplerate == rate_hz
        return
    for attempt in (
        lambda: check_output(name, rate_hz),
        lambda: write_audio(path, noise(), rate_hz),
    ):
        with pytest.raises(UsageError, match=f"sample_rate_hz: found {rate_hz}, "):
            attempt()


def test_what_goes_with_the_audio_is_written_before_it_has_its_name(tmp_path):
    path = tmp_path / "a.wav"

    def before():
        assert not path.exists()
        assert [p.stat().st_size for p in tmp_path.iterdir()] == [whole]
        raise EmoconvError("no room")

    write_audio(tmp_path / "b.wav", noise(), 22050)
    whole = (tmp_path / "b.wav").stat().st_size
    (tmp_path / "b.wav").unlink()
    with pytest.raises(EmoconvError, match=r"^no room$"):
        write_audio(path, noise(), 22050, before=before)
    assert os.listdir(tmp_path) == []


def test_a_name_that_is_not_utf8_is_written_and_read(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    for suffix in ("wav", "flac", "ogg"):
        path = folder / os.fsdecode(b"\xff." + suffix.encode())
        write_audio(path, noise(), 22050)
        assert len(read_audio(path)) == len(noise())


@pytest.mark.parametrize("peak", [1.0001, 3.0, 1e6])
def test_beyond_full_scale_is_scaled_not_clipped(tmp_path, peak):
    write_audio(tmp_path / "hot.wav", noise(peak=peak), 22050)
    np.testing.assert_allclose(
        read_audio(tmp_path / "hot.wav"), noise(peak=LIMITED_PEAK), atol=1 / 2**15
    )


def test_full_scale_does_not_wrap_around(tmp_path):
    square = np.where(np.arange(4410) % 100 < 50, 1.0, -1.0)
    write_audio(tmp_path / "square.wav", square, 22050)
    np.testing.assert_allclose(read_audio(tmp_path / "square.wav"), square, atol=1 / 2**15)


@pytest.mark.parametrize("name", ["a.mp3", "a", "a.wav.txt"])
def test_other_suffixes_are_wrong_usage(tmp_path, name):
    with pytest.raises(UsageError, match=r"allowed are \.wav, \.flac, \.ogg"):
        write_audio(tmp_path / name, noise(), 22050)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite(tmp_path, bad):
    audio = noise()
    audio[7] = bad
    with pytest.raises(EmoconvError, match=r"bad\.wav: NaN"):
        write_audio(tmp_path / "bad.wav", audio, 22050)


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path):
    write_audio(tmp_path / "kept.flac", noise(), 22050)
    before = (tmp_path / "kept.flac").read_bytes()
    for audio, rate_hz in ((noise(), 2_000_000), (noise(0 + 1)[:0], 22050)):
        with pytest.raises(EmoconvError) as caught:
            write_audio(tmp_path / "kept.flac", audio, rate_hz)
        assert "kept.flac" in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / "kept.flac").read_bytes() == before
    assert os.listdir(tmp_path) == ["kept.flac"]


def test_a_folder_in_the_way_and_a_missing_folder(tmp_path):
    (tmp_path / "taken.wav").mkdir()
    for path in (tmp_path / "taken.wav", tmp_path / "absent" / "a.wav"):
        with pytest.raises(EmoconvError, match="cannot be written"):
            write_audio(path, noise(), 22050)
    assert os.listdir(tmp_path) == ["taken.wav"]


def test_the_longest_name_the_system_allows(tmp_path):
    name = "x" * 251 + ".wav"
    write_audio(tmp_path / name, noise(), 22050)
    assert os.listdir(tmp_path) == [name]


def test_the_file_has_the_permissions_of_an_ordinary_new_file(tmp_path):
    (tmp_path / "ordinary").touch()
    write_audio(tmp_path / "a.wav", noise(), 22050)
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "ordinary").stat().st_mode
