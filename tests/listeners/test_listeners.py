"""The listeners themselves, on the project's sample, whose words and voice are known."""

from typing import NamedTuple

import librosa
import numpy as np
import pytest

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.audio.vad import power_mel
from emoconv_jax.listeners.naturalness import Dnsmos
from emoconv_jax.listeners.second_speaker import SecondSpeaker
from emoconv_jax.listeners.transcripts import edits, words
from emoconv_jax.listeners.whisper import Whisper, most_tokens, repeats_itself

SAMPLE = "data/samples/neutral.flac"
TEXT = "The queen wore a purple gown and a silver chain."
RATE_HZ = 22_050


@pytest.fixture(scope="module")
def sample(pytestconfig) -> np.ndarray:
    return read_audio(pytestconfig.rootpath / SAMPLE, RATE_HZ)


@pytest.mark.slow
def test_the_power_mel_is_librosas(sample):
    audio = librosa.resample(sample[:30_000], orig_sr=RATE_HZ, target_sr=16_000)
    expected = librosa.feature.melspectrogram(
        y=audio, sr=16_000, n_fft=512, win_length=400, hop_length=160, n_mels=40,
        window="hamming", center=False, power=2.0,
    )  # fmt: skip
    found = power_mel(audio, 512, np.hamming(401)[:-1])
    np.testing.assert_allclose(found, expected.T, rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return Whisper()


class Segment(NamedTuple):
    """What faster-whisper says of a stretch of speech."""

    text: str
    compression_ratio: float


def test_segments_that_repeat_themselves_are_not_heard(sample):
    """One by zlib's measure, one by its words; the third is speech."""
    asked = {}

    class Model:
        def transcribe(self, speech, **options):
            asked.update(options, seconds=len(speech) / 16_000)
            return [
                Segment(" la", 2.5),
                Segment(" no no no no", 1.2),
                Segment(" Hello ", 2.3),
            ], None

    whisper = Whisper.__new__(Whisper)
    whisper._model = Model()
    assert whisper(sample, RATE_HZ) == "Hello"
    assert (asked["no_speech_threshold"], asked["log_prob_threshold"]) == (0.6, -1.0)
    assert asked["condition_on_previous_text"] is False
    assert asked["max_new_tokens"] == most_tokens(asked["seconds"])


@pytest.mark.slow
@pytest.mark.network
def test_whisper_understands_the_sample_at_any_level(whisper, sample):
    for gain in (1.0, 0.01):
        assert edits(words(TEXT), words(whisper(gain * sample, RATE_HZ))) <= 1


@pytest.mark.slow
@pytest.mark.network
def test_whisper_hears_nothing_in_silence(whisper):
    assert whisper(np.zeros(RATE_HZ, np.float32), RATE_HZ) == ""
    assert whisper(np.zeros(0, np.float32), RATE_HZ) == ""


@pytest.mark.slow
@pytest.mark.network
def test_whispers_answer_to_noise_is_short(whisper):
    """A second has 12 + 8 tokens at most, and a word has one at least."""
    for kind in (np.random.default_rng(0).normal(0.0, 0.01, RATE_HZ), np.full(RATE_HZ, 0.1)):
        assert len(whisper(kind.astype(np.float32), RATE_HZ).split()) <= 20


@pytest.mark.parametrize("seconds", [0.0, 1.0, 30.0, 3600.0])
def test_an_answer_has_no_more_tokens_than_can_be_said(seconds):
    """12 in a second and 8 more; the model has room for 448, a prompt of 4 among them."""
    assert most_tokens(seconds) == 8 + 12 * min(seconds, 30) <= 448 - 4


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        (" I'm sorry, I'm sorry, I'm sorry, I'm sorry, I'm", True),
        ("you you you you", True),
        ("No. No! No? no", True),
        ("ha-ha-ha-ha", True),
        ("very, very, very good", False),
        ("We will go to the door and to the door", False),
        ("see the seed seeded", False),
        ("", False),
    ],
)
def test_four_times_the_same_is_a_loop(text, loop):
    assert repeats_itself(text) == loop


@pytest.mark.slow
@pytest.mark.network
def test_the_second_encoder_knows_a_voice_from_another(sample):
    """Halves of the sample against the sample with its formants moved by a third."""
    encoder = SecondSpeaker()
    half = len(sample) // 2
    first, second = encoder(sample[:half], RATE_HZ), encoder(sample[half:], RATE_HZ)
    other = encoder(sample[half:], int(RATE_HZ * 1.33))
    assert np.linalg.norm(first) == pytest.approx(1.0, abs=1e-5)
    assert first @ second > first @ other + 0.1
    short = sample[20_000:31_000]  # half a second, less than its window
    longer = np.pad(short, (0, RATE_HZ // 4))
    assert encoder(short, RATE_HZ) @ encoder(longer, RATE_HZ) > 0.99  # silence is no voice


@pytest.mark.slow
def test_dnsmos_likes_speech_better_than_speech_in_noise(sample):
    dnsmos = Dnsmos()
    noise = np.random.default_rng(0).normal(0.0, 0.05, len(sample)).astype(np.float32)
    clean, noisy = (dnsmos(one, RATE_HZ) for one in (sample, sample + noise))
    assert clean[0] > 3.0 and clean[1] > noisy[1] + 0.5
