"""Whisper's states of recordings of any length: parity, windows, times, the public weights."""

import copy
import itertools
import pathlib
import re

import jax
import numpy as np
import pytest
import torch
import transformers
from ctranslate2_files import TINY, tiny_model
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.whisper.modeling_whisper import WhisperEncoder as WhisperEncoderTwin

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.audio.whisper_mel import whisper_log_mel
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.whisper import (
    WhisperStates,
    at_mel_frames,
    joined,
    load_whisper,
    window_starts,
)
from emoconv_jax.models.whisper import WhisperConfig, WhisperEncoder
from emoconv_jax.porting.ctranslate2 import read_ctranslate2
from emoconv_jax.porting.whisper import port_whisper
from emoconv_jax.porting.whisper_files import MODEL, fetch_whisper

RATE_HZ = 16_000
WINDOW = 16_000  # samples that the 50 positions of TINY hold
SAMPLE = pathlib.Path(__file__).parents[2] / "data" / "samples" / "neutral.flac"


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def params(model):
    tensors = {name: tensor.numpy() for name, tensor in model.model.state_dict().items()}
    return port_whisper(tensors, TINY)


@pytest.fixture(scope="module")
def sample():
    return read_audio(SAMPLE, RATE_HZ)


@pytest.mark.parametrize("samples", [11_200, WINDOW])
def test_padded_states_are_the_references(model, params, sample, samples):
    clip = sample[8000 : 8000 + samples]
    extractor = transformers.WhisperFeatureExtractor(feature_size=TINY.mels, chunk_length=1)
    inputs = extractor(clip, sampling_rate=RATE_HZ, return_tensors="pt")["input_features"]
    with torch.no_grad():
        expected = model.model.encoder(inputs).last_hidden_state.numpy()[0]
    found = WhisperStates(params, TINY, states=(2,), padded=True)(clip, RATE_HZ)
    assert found.shape == (samples // 320, 1, TINY.hidden)
    np.testing.assert_allclose(found[:, 0], expected[: samples // 320], rtol=0, atol=1e-4)


def test_states_as_long_as_the_recording_hear_a_tail_of_silence_and_no_more(params, sample):
    """Frames that only the compiler's few lengths ask for change nothing."""
    clip = sample[8000:14_401]
    found = WhisperStates(params, TINY)(clip, RATE_HZ)
    assert found.shape == (20, 3, TINY.hidden)  # 40 mel frames
    mel = whisper_log_mel(clip, TINY.mels, len(clip) + 4800)[None]
    apply = jax.jit(WhisperEncoder(TINY).apply)
    expected, _ = apply({"params": params}, mel, np.ones(mel.shape[:2], np.float32))
    np.testing.assert_allclose(found, expected[0, :20], rtol=0, atol=1e-5)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("samples", [160, 479, 480, 15_999, 16_160, 16_480, 40_000, 50_001])
def test_every_length_has_its_frames(params, sample, samples, padded):
    found = WhisperStates(params, TINY, states=(1,), padded=padded)(sample[:samples], RATE_HZ)
    assert len(found) == -(-(samples // 160) // 2)
    assert np.isfinite(found).all()


def test_other_sample_rates_and_too_little_sound(params, sample):
    states = WhisperStates(params, TINY)
    assert len(states(read_audio(SAMPLE, 22_050)[:22_050], 22_050)) == 50
    with pytest.raises(EmoconvError, match="audio: 159 samples at 16 kHz, allowed are 160 or more"):
        states(sample[:159], RATE_HZ)


@given(frames=st.integers(151, 6000))
def test_windows_begin_end_and_overlap_as_they_should(frames):
    starts = window_starts(frames, 150)
    assert starts[0] == 0 and starts[-1] == frames - 150
    steps = [after - before for before, after in itertools.pairwise(starts)]
    assert min(steps) >= 1 and max(steps) <= 150 - 20 + 1  # 20 of 150 are 4 s of 30
    assert len(starts) == 2 or min(steps) > 5 + 2  # so that no frame lies in two fades


@given(frames=st.integers(151, 900))
def test_windows_of_one_signal_join_to_it(frames):
    whole = np.random.default_rng(frames).normal(size=(frames, 2, 3)).astype(np.float32)
    starts = window_starts(frames, 150)
    found = joined([whole[start : start + 150] for start in starts], starts)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("frames", [151, 180, 280, 281, 450])
def test_windows_that_differ_meet_without_a_click(frames):
    """Constants 0, 1, 0, 1 ...: no step is greater than the steepest of a cosine over the fade."""
    starts = window_starts(frames, 150)
    windows = [np.full((150, 1, 1), number % 2, np.float32) for number in range(len(starts))]
    found = joined(windows, starts)[:, 0, 0]
    assert np.abs(np.diff(found)).max() <= np.pi / 2 / 5 + 1e-6
    assert found[0] == 0 and found[-1] == (len(starts) - 1) % 2
    # what is of two windows lies in the middle of what they share
    mixed = np.flatnonzero((found > 0.01) & (found < 0.99))
    middles = [(after + before + 150) / 2 for before, after in itertools.pairwise(starts)]
    distances = np.abs(mixed[:, None] + 0.5 - np.array(middles)).min(1)
    assert len(mixed) == 5 * len(middles) and distances.max() <= 3


def test_states_at_mel_frames_lie_on_the_line_of_their_times():
    mel = MelConfig()
    seconds = np.arange(100, dtype=np.float32)[:, None, None] / 50
    found = at_mel_frames(seconds, 172, mel)[:, 0, 0]
    centres = (256 * np.arange(172) + 128) / 22_050
    np.testing.assert_allclose(found, np.minimum(centres, 99 / 50), rtol=0, atol=1e-6)
    assert at_mel_frames(np.ones((1, 4), np.float32), 3, mel).tolist() == [[1.0] * 4] * 3


@pytest.mark.parametrize("second", [0.41, 0.873])
def test_a_sound_is_at_one_time_in_both_log_mels(second):
    """The encoder's frames have the centres of every other frame of its log-mel."""

    def swelling(rate_hz):
        times = np.arange(round(1.5 * rate_hz)) / rate_hz
        tone = np.exp(-np.square((times - second) / 0.05)) * np.sin(2 * np.pi * 1000 * times)
        return tone.astype(np.float32)

    def centre(power):
        return (power * np.arange(len(power))).sum() / power.sum()

    expected = np.exp(2 * log_mel(swelling(22_050), MelConfig())).sum(1)
    power = (10 ** (4 * whisper_log_mel(swelling(RATE_HZ)) - 4)).sum(1)
    found = at_mel_frames(power[::2], len(expected), MelConfig())
    assert centre(found) == pytest.approx(centre(expected), abs=0.05)


# CTranslate2's names -> transformers', written down apart from the tables of the port
NAMES = (
    (r"^encoder/", ""),
    (r"^layer_(\d+)/", r"layers.\1."),
    ("^position_encodings/encodings", "embed_positions.weight"),
    ("ffn/layer_norm", "final_layer_norm"),
    ("self_attention/layer_norm", "self_attn_layer_norm"),
    ("ffn/linear_0", "fc1"),
    ("ffn/linear_1", "fc2"),
    ("self_attention/linear_1", "self_attn.out_proj"),
    ("/gamma$", ".weight"),
    ("/beta$", ".bias"),
    ("/", "."),
)


@pytest.fixture(scope="module")
def public():
    """Returns transformers' encoder with the public weights, and our parameters of them."""
    state = {}
    stored = read_ctranslate2(fetch_whisper() / MODEL, "WhisperSpec", 3, "encoder/")
    assert stored.pop("encoder/num_heads") == 8
    for name, array in stored.items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        tensor = torch.from_numpy(array.astype(np.float32))
        stem, stacked, kind = name.partition("self_attention.linear_0")
        if stacked:
            parts = zip("qkv", tensor.chunk(3), strict=True)
            state |= {f"{stem}self_attn.{letter}_proj{kind}": part for letter, part in parts}
        else:
            state[name] = tensor
    assert not any(state.pop(f"layers.{layer}.self_attn.k_proj.bias").any() for layer in range(6))
    sizes = transformers.WhisperConfig(
        d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048,
        decoder_layers=1,
    )  # fmt: skip
    theirs = WhisperEncoderTwin(sizes).eval()
    theirs.load_state_dict(state)
    params, config = load_whisper()
    assert config == WhisperConfig()
    return theirs, params


def their_states(encoder, audio):
    extractor = transformers.WhisperFeatureExtractor()
    inputs = extractor(audio, sampling_rate=RATE_HZ, return_tensors="pt")["input_features"]
    with torch.no_grad():
        found = encoder(inputs, output_hidden_states=True).hidden_states
    return np.stack([state.numpy()[0] for state in found], axis=1)


@pytest.mark.slow
@pytest.mark.network
def test_the_public_weights_give_pytorchs_states(public, sample):
    """On the sample with silence up to 30 s, and on 30 s full of it."""
    theirs, params = public
    states = WhisperStates(params, WhisperConfig(), padded=True)
    for audio in (sample, np.tile(sample, 9)[: 30 * RATE_HZ]):
        expected = their_states(theirs, audio)
        found = states(audio, RATE_HZ)
        frames = -(-(len(audio) // 160) // 2)
        assert found.shape == (frames, 7, 512)
        expected = expected[:frames]
        # a few frames, in which attention rests, have channels in the hundreds: float32 has fewer
        # places there, and PyTorch's own states differ by as much from those in float64
        error, greatest = np.abs(found - expected), np.abs(expected).max((1, 2))
        assert (error.max((1, 2)) / greatest).max() <= 1e-4
        assert (error <= 1e-4).mean() > 0.999
        assert np.median(error.max((1, 2))) <= 2e-5


@pytest.mark.slow
@pytest.mark.network
def test_in_float64_the_public_weights_give_pytorchs_states_to_nine_places(public, sample):
    """Of what separates the two in float32, nothing is left: it was rounding."""
    theirs, params = public
    mel = whisper_log_mel(sample, 80, 30 * RATE_HZ).astype(np.float64)
    with torch.no_grad():
        inputs = torch.from_numpy(mel.T[None].copy())
        expected = copy.deepcopy(theirs).double()(inputs).last_hidden_state.numpy()
    with jax.enable_x64(True):
        apply = jax.jit(WhisperEncoder(WhisperConfig(), (6,)).apply)
        found, _ = apply({"params": params}, mel[None], np.ones((1, 3000)))
        found = np.asarray(found)[:, :, 0]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


@pytest.mark.slow
@pytest.mark.network
def test_no_step_of_a_long_recording_shows_a_seam(public, sample):
    """Frames, each at unit deviation, do not move faster where windows meet than elsewhere."""
    _, params = public
    long = np.tile(sample, 12)[: 40 * RATE_HZ]
    found = WhisperStates(params, WhisperConfig(), states=(2, 4, 6))(long, RATE_HZ)
    assert len(found) == 2000
    found = found - found.mean(-1, keepdims=True)
    found /= found.std(-1, keepdims=True)
    steps = np.sqrt(np.square(np.diff(found, axis=0)).mean(-1))
    # windows end at 30 s and begin at 10.3 s; four repetitions of the sample are 735 frames
    seam, before, after = (steps[start : start + 80] for start in (970, 970 - 735, 970 + 735))
    usual = np.stack([before, after])
    assert (seam.max(0) <= 1.2 * usual.max((0, 1))).all()
    assert (seam.mean(0) <= 1.1 * usual.mean((0, 1))).all()


@pytest.mark.slow
@pytest.mark.network
def test_states_as_long_as_the_recording_are_like_padded_ones(public, sample):
    _, params = public
    found = WhisperStates(params, WhisperConfig())(sample, RATE_HZ)
    expected = WhisperStates(params, WhisperConfig(), padded=True)(sample, RATE_HZ)
    likeness = np.sum(found * expected, axis=-1) / (
        np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    )
    assert likeness.mean(0).min() > 0.9
