"""Converting with prosody by rule: what plans ask for, and what comes of bad input."""

import dataclasses

import numpy as np
import pytest
from tiny_bundle import CHANGE, CONFIG, SUNG, make_bundle, read_speech

from emoconv_jax.audio.prosody import prosody
from emoconv_jax.bundles.banks import Banks
from emoconv_jax.bundles.parts import open_bundle
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference import chunks
from emoconv_jax.inference.batching import Job, Stretch
from emoconv_jax.inference.conversion import Conversion
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.curve import Curve
from emoconv_jax.inference.melody import RISE_FRAMES, Melody
from emoconv_jax.inference.request import Request
from emoconv_jax.inference.resolved import resolve

RATE_HZ = 22050


@pytest.fixture(scope="module")
def sung_folder(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundles") / "sung", SUNG)


@pytest.fixture(scope="module")
def sung(sung_folder) -> EmotionConverter:
    return EmotionConverter.from_pretrained(sung_folder)


@pytest.fixture(scope="module")
def resolved(sung_folder):
    config, banks = open_bundle(sung_folder)
    return lambda **request: resolve(Request(**request), config, banks)


def test_stretches_ask_the_same_where_they_overlap(resolved):
    """Heard as 2 and then as 5: a step of three points, taken over the two seconds that follow."""
    frames, overlap = 600, chunks.OVERLAP_FRAMES
    own = np.stack([np.full(2 * frames, 7.5), np.ones(2 * frames), np.full(2 * frames, -3.0)], -1)
    melody = Melody(np.zeros(22050, np.float32), MelConfig())
    melody.own, melody.middle = own.astype(np.float32), np.full(2 * frames, 7.5)
    job = Job(resolved(arousal=5), None, 1)
    asked = []
    for start, heard in ((0, 2.0), (frames - overlap, 5.0)):
        mel, none = np.zeros((frames, 80), np.float32), np.zeros(8, np.float32)
        stretch = Stretch(mel, mel, none, none, first_frame=start)
        asked.append(melody.ask(stretch, job, heard).asked.wanted)
    np.testing.assert_array_equal(asked[0][-overlap:], asked[1][:overlap])
    np.testing.assert_allclose(asked[1][-1, 0], 7.5, atol=1e-5)
    assert np.abs(np.diff(asked[1][:, 0])).max() <= 1.01 * 3 * CHANGE[0] / RISE_FRAMES


def changes(found, frames=8, heard=3.0, reference=None):
    source = found.heard(heard)
    return found.changes(frames, 0, source, None if reference is None else found.heard(reference))


def test_an_arousal_asks_for_its_bank_less_what_is_heard(resolved):
    """CHANGE is per point: arousal 5 heard as 3 asks for 2 of it, heard as 5 for nothing."""
    for heard, points in ((3.0, 2.0), (5.0, 0.0), (6.5, -1.5), (0.4, 4.0), (9.0, -2.0)):
        found = changes(resolved(arousal=5), heard=heard)
        assert found.shape == (8, 4)
        np.testing.assert_allclose(found, np.tile(points * CHANGE, (8, 1)), atol=1e-5)


def test_mixes_intensity_and_shares_scale_it(resolved):
    mix = {"arousal 6": 3.0, "arousal 4": 1.0}  # 2.25 + .25 points
    np.testing.assert_allclose(changes(resolved(mix=mix))[0], 2.5 * CHANGE, rtol=1e-5)
    half = resolved(mix=mix, intensity=0.5)
    np.testing.assert_allclose(changes(half)[0], 1.25 * CHANGE, rtol=1e-5)
    third = resolved(mix=mix, prosody=0.3)
    np.testing.assert_allclose(changes(third)[0], 0.75 * CHANGE, rtol=1e-5)
    np.testing.assert_array_equal(changes(resolved(mix=mix, prosody=0)), 0)


def test_guidance_does_not_multiply_it(resolved):
    guided = resolved(arousal=5, guidance=3, negative="source")
    np.testing.assert_allclose(changes(guided)[0], 2 * CHANGE, rtol=1e-5)


def test_no_emotion_and_the_sources_own_ask_for_nothing(resolved):
    for name in ("null", "source"):
        np.testing.assert_array_equal(changes(resolved(mix={name: 1.0}), heard=6.0), 0)
        half = changes(resolved(mix={name: 1.0, "arousal 7": 1.0}), heard=6.0)
        np.testing.assert_allclose(half[0], 0.5 * CHANGE, rtol=1e-4)


def test_a_base_counts_by_its_steps(resolved):
    """Of 10 uniform steps 4 are base, 4 the mixture by strength .5, 2 the target: a mean of .4."""
    request = {"arousal": 7, "base": "arousal 3", "solver": "ddim", "steps": 10}
    for strength, share in ((0.0, 0.0), (0.5, 0.4), (1.0, 1.0)):
        found = changes(resolved(**request, strength=strength, latent="noise"))
        np.testing.assert_allclose(found[0], share * 4 * CHANGE, atol=1e-5)


def test_a_reference_asks_for_the_arousal_heard_in_it(resolved):
    found = resolved(emotion_ref="other.wav")
    np.testing.assert_allclose(changes(found, reference=6.0)[0], 3 * CHANGE, rtol=1e-5)
    np.testing.assert_array_equal(changes(found, reference=None), 0)


def test_a_curve_bends_it_in_time(resolved):
    """From 3 to 7 within a second: at the middle of frame j it is 4 (j + .5) 256 / 22050 more."""
    found = changes(resolved(curve=Curve((0.0, 1.0), ("arousal",), ((3.0,), (7.0,)))), frames=80)
    points = 4 * (np.arange(80) + 0.5) * 256 / RATE_HZ
    np.testing.assert_allclose(found, points[:, None] * CHANGE, atol=1e-4)
    later = resolved(curve=Curve((0.0, 1.0), ("arousal",), ((3.0,), (7.0,))))
    moved = later.changes(40, 40, later.heard(3.0))
    np.testing.assert_allclose(moved, found[40:], atol=1e-6)


def test_a_bundle_whose_network_takes_none_refuses_it_by_name(bundle_folder):
    config, banks = open_bundle(bundle_folder)
    for field, value in (("prosody", 1.0), ("prosody", 0), ("rate", "follow"), ("rate", "keep")):
        with pytest.raises(UsageError, match=f"{field}: found {value}, bundle tiny has a score"):
            resolve(Request(arousal=5, **{field: value}), config, banks)
    found = resolve(Request(arousal=5), config, banks)
    assert (found.request.prosody, found.request.rate) == (None, None)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"prosody": 1.1}, r"prosody: found 1\.1, allowed is 0\.\.1"),
        ({"prosody": float("nan")}, "prosody: found nan, allowed is"),
        ({"rate": "fast"}, "rate: found 'fast', allowed are keep, follow"),
    ],
)
def test_what_makes_no_sense_is_refused(resolved, request_, message):
    with pytest.raises(UsageError, match=message):
        resolved(arousal=5, **request_)


def test_banks_of_an_older_version_ask_for_nothing_and_it_is_said(sung_folder):
    config, banks = open_bundle(sung_folder)
    found = resolve(Request(arousal=7), config, Banks(banks.vectors, banks.made_from))
    np.testing.assert_array_equal(changes(found), 0)
    assert any("banks tell no changes of prosody" in note for note in found.notes())
    assert not any("prosody" in note for note in resolve(Request(arousal=7), config, banks).notes())


@pytest.mark.slow
def test_what_is_asked_of_speech_is_said_and_scaled(sung):
    """The change of pitch is the same at every voiced frame but for the range about the middle."""
    speech = read_speech()
    source = prosody(speech, RATE_HZ, CONFIG.mel)
    voiced = source[:, 1] > 0
    still, moved, half = (
        sung.convert(speech, arousal=6, steps=2, prosody=share) for share in (0.0, 1.0, 0.5)
    )
    assert still.wanted is not None and moved.wanted is not None and half.wanted is not None
    np.testing.assert_array_equal(still.wanted, source)
    told = moved.provenance["prosody"]
    heard = 6 - told["level_unlimited_db"] / (CHANGE[2] * 20 / np.log(10))
    octaves = np.mean(moved.wanted[voiced, 0] - source[voiced, 0])
    assert told["f0_octaves"] == pytest.approx(octaves, abs=2e-3)
    if abs(octaves) > 0:  # a median is near the mean
        assert octaves == pytest.approx((6 - heard) * CHANGE[0], abs=0.1)
    np.testing.assert_allclose(
        half.provenance["prosody"]["level_unlimited_db"], told["level_unlimited_db"] / 2, atol=1e-2
    )
    assert np.abs(moved.mel - still.mel).max() > 1e-3
    assert "Asked by rule: pitch" in moved.summary()
    assert moved.provenance["request"]["prosody"] == 1.0
    assert moved.provenance["request"]["rate"] == "keep"
    assert len(moved.audio) == len(speech)


@pytest.mark.slow
def test_the_pace_follows_and_the_new_length_is_said(sung):
    """1.2 s of voice: as long as the ratio of durations says, streamed as well."""
    time_s = np.arange(round(1.2 * RATE_HZ)) / RATE_HZ
    voice = sum(0.1 * np.sin(2 * np.pi * 150 * k * time_s) / k for k in range(1, 9))
    voice = np.asarray(voice, np.float32)
    request = {"arousal": 1, "steps": 1, "rate": "follow"}
    made = sung.convert(voice, **request)
    heard = sung.emotion.hear(voice[: len(voice) // 256 * 256], RATE_HZ).arousal
    ratio = np.exp(CHANGE[3] * (1 - np.clip(heard, 1, 7)))
    frames = len(voice) // 256
    assert len(made.mel) == pytest.approx(frames * np.clip(ratio, 0.8, 1.25), abs=1)
    assert len(made.audio) == 256 * len(made.mel) + len(voice) % 256
    said = made.provenance["prosody"]
    assert said["seconds_after"] == pytest.approx(len(made.audio) / RATE_HZ, abs=1e-3)
    if len(made.mel) != frames:
        assert f"s before, {len(made.audio) / RATE_HZ:.2f} s after" in made.summary()
    streamed = np.concatenate(list(sung.stream(voice, **request)))
    assert len(streamed) == len(made.audio)


@pytest.mark.slow
def test_a_long_recording_at_another_pace_joins_without_a_seam(sung):
    """16 s are two stretches, whose overlap keeps its length so that it can be joined."""
    speech = np.tile(read_speech(), 24)[: 16 * RATE_HZ]
    made = sung.convert(speech, arousal=7, steps=1, rate="follow", latent="noise")
    assert made.wanted is not None
    assert len(made.wanted) == len(made.mel)
    assert np.isfinite(made.audio).all()
    assert len(made.audio) == 256 * len(made.mel) + len(speech) % 256


def inputs():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, RATE_HZ).astype(np.float32)
    cough = np.concatenate([0.05 * read_speech(), 6 * noise[:3000], 0.05 * read_speech()])
    return {
        "noise": noise,
        "whisper": np.convolve(noise, np.exp(-np.arange(60) / 8.0), "same").astype(np.float32),
        "fragment": read_speech()[: RATE_HZ // 5],
        "offset": np.full(RATE_HZ, 0.1, np.float32),
        "cough": np.clip(cough, -1, 1).astype(np.float32),
        "full scale": np.sign(np.sin(np.arange(RATE_HZ) / 20)).astype(np.float32),
    }


@pytest.mark.slow
@pytest.mark.parametrize("rate", ["keep", "follow"])
@pytest.mark.parametrize("name", list(inputs()))
def test_bad_input_converts_to_numbers(sung, name, rate):
    made = sung.convert(inputs()[name], arousal=7, steps=1, rate=rate)
    assert isinstance(made, Conversion) and made.wanted is not None
    for values in (made.audio, made.mel, made.wanted):
        assert np.isfinite(values).all()
    f0_hz = 2.0 ** made.wanted[made.wanted[:, 1] > 0.5, 0]
    assert not len(f0_hz) or (f0_hz.min() >= 49.9 and f0_hz.max() <= 600.1)
    assert "\n" not in made.summary()


def test_silence_is_refused_in_one_line(sung):
    with pytest.raises(EmoconvError, match="peak") as caught:
        sung.convert(np.zeros(RATE_HZ, np.float32), arousal=7, steps=1)
    assert "\n" not in str(caught.value)


def test_the_picture_shows_what_was_asked(sung, tmp_path):
    made = sung.convert(read_speech(), arousal=6, steps=1)
    made.plot(tmp_path / "asked.png")
    dataclasses.replace(made, wanted=None).plot(tmp_path / "plain.png")
    assert (tmp_path / "asked.png").read_bytes() != (tmp_path / "plain.png").read_bytes()
