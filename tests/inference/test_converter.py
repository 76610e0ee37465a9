"""The converter: requests, a bundle that must fit together, audio as long as the source."""

import dataclasses
import json
import os

import numpy as np
import pytest
import soundfile
from tiny_bundle import CONFIG

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.bundles.banks import load_banks
from emoconv_jax.bundles.format import write_config
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference.converter import (
    CAUTION,
    Conversion,
    Request,
    open_bundle,
    resolve,
)

FINISHED: list[int] = []
SHARED = {"steps": 3, "on_step": FINISHED.append}  # the same in all tests: one compilation


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "give arousal or mix"),
        ({"arousal": 3.0, "mix": {"happy": 1.0}}, "give arousal or mix"),
        ({"base": "neutral"}, "give arousal or mix"),
        ({"arousal": 0.0}, r"arousal: found 0.0, allowed is 1..7"),
        ({"arousal": 8.0}, r"arousal: found 8.0, allowed is 1..7"),
        ({"arousal": float("nan")}, r"arousal: found nan, allowed is 1..7"),
        ({"arousal": 3.0, "base": "neutral"}, "base and strength belong to a mix"),
        ({"arousal": 3.0, "strength": 0.5}, "base and strength belong to a mix"),
        ({"mix": {"happy": 1.0}, "strength": 0.5}, "strength: needs a base"),
        ({"mix": {"happy": 1.0}, "base": "sad", "strength": 1.1}, r"strength: found 1.1"),
        ({"mix": {"happy": 1.0}, "base": "sad", "strength": -0.1}, r"strength: found -0.1"),
        ({"mix": {"happy": 1.0}, "base": "sad", "strength": float("nan")}, "strength: found nan"),
        ({"mix": {"happy": -1.0, "sad": 2.0}}, r"mix.happy: found weight -1.0"),
        ({"mix": {"happy": float("nan")}}, r"mix.happy: found weight nan"),
        ({"mix": {"happy": float("inf")}}, r"mix.happy: found weight inf"),
        ({"mix": {"happy": 0.0, "sad": 0.0}}, "at least one weight must be above 0"),
        ({"mix": {}}, "at least one weight must be above 0"),
        ({"arousal": 3.0, "steps": 0}, r"steps: found 0, allowed is 1..1000"),
        ({"arousal": 3.0, "steps": 1001}, r"steps: found 1001"),
        ({"arousal": 3.0, "solver": "magic"}, "solver: found 'magic', allowed are .*maximum_like"),
        ({"arousal": 3.0, "guidance": float("inf")}, "guidance: found inf"),
        ({"arousal": 3.0, "guidance": -1.0}, r"guidance: found -1.0"),
        ({"arousal": 3.0, "start": 0.0}, r"start: found 0.0, allowed is above 0 and up to 1"),
        ({"arousal": 3.0, "start": 1.1}, "start: found 1.1"),
        ({"arousal": 3.0, "start": float("nan")}, "start: found nan"),
        ({"arousal": 3.0, "seed": -1}, r"seed: found -1, allowed is 0..4294967295"),
        ({"arousal": 3.0, "seed": 2**32}, "seed: found 4294967296"),
    ],
)
def test_requests_that_make_no_sense_are_usage_errors_before_anything_is_loaded(request_, message):
    with pytest.raises(UsageError, match=message) as caught:
        Request(**request_).plan()
    assert "\n" not in str(caught.value)


def test_an_arousal_becomes_its_bank_and_guidance_adds_the_null_condition(bundle_folder):
    banks = load_banks(bundle_folder, 8)
    plan, vectors = resolve(Request(arousal=2.5, steps=3), banks)
    np.testing.assert_allclose(plan.weights, np.ones((3, 1)))
    np.testing.assert_allclose(
        vectors, [(banks.vectors["arousal/2"] + banks.vectors["arousal/3"]) / 2], rtol=1e-5
    )
    plan, vectors = resolve(Request(arousal=2.0, steps=3, guidance=1.5), banks)
    np.testing.assert_allclose(plan.weights, np.tile([1.5, -0.5], (3, 1)))
    np.testing.assert_array_equal(vectors, [banks.vectors["arousal/2"], np.zeros(8)])


def test_a_mix_is_normalised_and_follows_emomix_with_a_base(bundle_folder):
    """T = 10: K_max = 6, K_min = 2: 4 steps of the base, 4 of both, 2 of the mix."""
    banks = load_banks(bundle_folder, 8)
    plan, vectors = resolve(Request(mix={"happy": 3, "sad": 1}, steps=2), banks)
    assert plan.names == ("happy", "sad")
    np.testing.assert_allclose(plan.weights, [[0.75, 0.25]] * 2)
    np.testing.assert_array_equal(vectors, [banks.emotion("happy"), banks.emotion("sad")])
    wanted = Request(mix={"happy": 1.0}, base="neutral", strength=0.7, steps=10)
    plan, _ = resolve(wanted, banks)
    assert plan.names == ("neutral", "happy")
    np.testing.assert_allclose(
        plan.weights, [[1, 0]] * 4 + [[0.3, 0.7]] * 4 + [[0, 1]] * 2, atol=1e-6
    )


def test_an_emotion_the_bundle_does_not_know_is_a_usage_error(bundle_folder):
    banks = load_banks(bundle_folder, 8)
    with pytest.raises(UsageError, match="'bored' is unknown, allowed are angry, calm"):
        resolve(Request(mix={"happy": 1.0, "bored": 1.0}), banks)
    with pytest.raises(UsageError, match="'bored' is unknown"):
        resolve(Request(mix={"happy": 1.0}, base="bored"), banks)


def test_notes_say_what_was_changed_and_what_to_expect():
    assert Request(mix={"happy": 0.6, "sad": 0.4}).notes() == []
    (note,) = Request(mix={"happy": 3.0, "sad": 1.0}).notes()
    assert note == "mix weights sum to 4; normalised to happy 0.75, sad 0.25"
    (note,) = Request(mix={"happy": 1.0}, base="sad", strength=0.9).notes()
    assert "above 0.8" in note


def test_parts_that_do_not_fit_together_are_refused(bundle_folder, tmp_path):
    config, banks = open_bundle(bundle_folder)
    assert config == CONFIG
    assert len(banks.emotions) == 8
    sizes = dataclasses.replace(CONFIG.score_network, emotion=16)
    write_config(tmp_path, dataclasses.replace(CONFIG, score_network=sizes))
    with pytest.raises(EmoconvError, match=r"config\.json: score_network.emotion is 16, the other"):
        open_bundle(tmp_path)


def conversion(samples: int = 2205) -> Conversion:
    audio = np.sin(np.arange(samples) / 10).astype(np.float32)
    return Conversion(audio, 22050, np.zeros((8, 80), np.float32), {"notice": CAUTION})


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_saving_writes_audio_and_provenance_and_nothing_else(tmp_path, suffix):
    conversion().save(tmp_path / f"a.{suffix}")
    conversion(4410).save(tmp_path / f"a.{suffix}")  # over an earlier one
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a.{suffix}", f"a.{suffix}.json"]
    assert soundfile.info(tmp_path / f"a.{suffix}").frames == 4410
    assert json.loads((tmp_path / f"a.{suffix}.json").read_text()) == {"notice": CAUTION}


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    longest = "x" * 251 + ".wav"  # itself allowed, with .json at its end not
    with pytest.raises(EmoconvError, match="cannot be written"):
        conversion().save(tmp_path / longest)
    with pytest.raises(EmoconvError, match="cannot be written"):
        conversion().save(tmp_path / "absent" / "a.wav")
    with pytest.raises(UsageError, match="suffix"):
        conversion().save(tmp_path / "a.mp3")
    broken = dataclasses.replace(conversion(), audio=np.full(10, np.nan, np.float32))
    with pytest.raises(EmoconvError, match="NaN"):
        broken.save(tmp_path / "a.wav")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_conversion_is_as_long_as_the_source_and_depends_on_the_seed(converter, speech):
    FINISHED.clear()
    first = converter.convert(speech, **SHARED, arousal=6, seed=1)
    assert first.audio.shape == speech.shape
    assert first.audio.dtype == np.float32
    assert np.isfinite(first.audio).all()
    assert np.abs(first.audio).max() <= 1.0
    assert first.mel.shape == (len(speech) // 256, 80)
    assert FINISHED == [1, 2, 3]
    again = converter.convert(speech, **SHARED, arousal=6, seed=1)
    other = converter.convert(speech, **SHARED, arousal=6, seed=2)
    calmer = converter.convert(speech, **SHARED, arousal=1, seed=1)
    np.testing.assert_array_equal(again.audio, first.audio)
    assert np.abs(other.mel - first.mel).max() > 0.1
    assert np.abs(calmer.mel - first.mel).max() > 1e-4
    assert first.provenance["request"]["arousal"] == 6
    assert first.provenance["source"] == "waveform"
    assert first.provenance["notice"] == CAUTION


@pytest.mark.slow
def test_the_lower_the_start_the_nearer_the_source(converter, speech):
    """At t = .001 alpha is .9999 and sigma .0077: what comes back is the source's own mel."""
    source = log_mel(speech, converter.config.mel)
    request = {"arousal": 6, "steps": 1, "seed": 1}
    near, far = (converter.convert(speech, **request, start=start) for start in (0.001, 0.5))
    assert np.abs(near.mel - source).mean() < 0.01
    assert np.abs(far.mel - source).mean() > 0.1
    assert near.provenance["request"]["start"] == 0.001
    own = converter.convert(speech, **request)
    assert own.provenance["request"]["start"] == converter.config.diffusion.start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda audio: audio[:2204], r"waveform: found shape \(2204,\), .* 2205 to 1323000"),
        (lambda audio: np.resize(audio, 1323001), r"waveform: found shape \(1323001,\)"),
        (lambda audio: 0 * audio, "waveform: found peak 0.0"),
        (lambda audio: 32767 * audio, "waveform: found peak .* to 1"),
        (lambda audio: np.where(audio == audio.max(), np.nan, audio), "waveform: found peak nan"),
    ],
)
def test_waveforms_are_refused_as_files_are(converter, speech, spoil, message):
    with pytest.raises(EmoconvError, match=message):
        converter.convert(spoil(speech), arousal=3.0, steps=1)


@pytest.mark.slow
def test_a_file_is_read_at_the_rate_of_the_bundle(converter, speech, tmp_path):
    path = os.fspath(tmp_path / "stereo.wav")
    soundfile.write(path, np.stack([speech, speech], axis=1), 22050)
    mono = tmp_path / "mono.wav"
    soundfile.write(mono, speech, 22050)
    a, b = (converter.convert(p, **SHARED, mix={"sad": 2}) for p in (path, mono))
    np.testing.assert_array_equal(a.audio, b.audio)
    assert a.provenance["source"] == "stereo.wav"
    assert a.provenance["conditions"] == ["sad"]
