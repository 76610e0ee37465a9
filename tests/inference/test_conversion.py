"""What is saved says what made it, is as asked for, and is drawn and told."""

import dataclasses
import json
import os
import re
import xml.etree.ElementTree

import matplotlib.image
import numpy as np
import pyloudnorm
import pytest
import soundfile

from emoconv_jax.audio.loudness import loudness_lufs
from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import read_audio, read_header
from emoconv_jax.audio.writing import MOST_COMMENT_BYTES
from emoconv_jax.config import MelConfig
from emoconv_jax.diffusion import plan as plans
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference import conversion_picture
from emoconv_jax.inference.conversion import CAUTION, Conversion, made_by_emoconv, wish

REQUEST = {"arousal": 6.0, "mix": None, "base": None, "steps": 4, "seed": 7, "guidance": 1.5}
PROVENANCE = {
    "notice": CAUTION,
    "software": "emoconv 9.8.7",
    "bundle": "tiny",
    "bundle_revision": None,
    "bundle_sha256": "ab" * 32,
    "source": "in.wav",
    "request": REQUEST,
}


def conversion(samples: int = 22050, **changes) -> Conversion:
    times_s = np.arange(samples) / 22050
    audio = (0.5 * np.sin(2 * np.pi * 220 * times_s)).astype(np.float32)
    source = (0.05 * np.sin(2 * np.pi * 110 * times_s)).astype(np.float32)
    plan = plans.guided(plans.single("arousal 6", 4), "null", 1.5)
    mel = log_mel(audio, MelConfig())
    made = Conversion(audio, 22050, mel, source, plan, PROVENANCE)
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_saved_file_says_what_made_it_in_itself_and_beside_it(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    conversion(4410).save(path)
    conversion().save(path)  # over an earlier one
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a.{suffix}", f"a.{suffix}.json"]
    assert soundfile.info(path).frames == 22050
    beside = json.loads((tmp_path / f"a.{suffix}.json").read_text())
    output = {"sample_rate_hz": 22050, "bits": None if suffix == "ogg" else 16}
    assert beside == {**PROVENANCE, "output": output}
    with soundfile.SoundFile(path) as file:
        assert file.software.startswith("emoconv 9.8.7")
    assert made_by_emoconv(read_header(path).comment) == {
        "notice": CAUTION,
        "software": "emoconv 9.8.7",
        "bundle": "tiny",
        "bundle_sha256": "ab" * 32,
        "emotion": "arousal 6",
        "seed": 7,
        "request": {"arousal": 6.0, "steps": 4, "seed": 7, "guidance": 1.5},
    }


def test_without_a_sidecar_an_older_one_goes_too(tmp_path):
    conversion().save(tmp_path / "a.wav")
    conversion().save(tmp_path / "a.wav", sidecar=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    assert made_by_emoconv(read_header(tmp_path / "a.wav").comment)


@pytest.mark.parametrize(
    "comment",
    ["", "said by café", "{", "[1]", '"x"', "{}", '{"notice":1}', "[" * 2000, '{"a":1,"a":2}'],
)
def test_a_recording_is_not_taken_for_a_conversion(comment):
    assert made_by_emoconv(comment) is None
    assert made_by_emoconv(comment + " " * MOST_COMMENT_BYTES) is None


@pytest.mark.parametrize(
    "request_",
    [
        {"curve": {"names": ["arousal"], "times_s": list(range(10_000))}},
        {"mix": {f"é{i}" * 5: i for i in range(64)}},
        {"emotion_ref": "/" + "x" * 3000},
        {f"field{i}": "x" * 200 for i in range(20)},
    ],
)
def test_the_comment_fits_into_every_format_whatever_was_asked(tmp_path, request_):
    made = conversion(provenance={**PROVENANCE, "request": {**request_, "seed": 3}})
    assert len(made.comment()) <= MOST_COMMENT_BYTES
    made.save(tmp_path / "a.wav")
    told = made_by_emoconv(read_header(tmp_path / "a.wav").comment)
    assert told and told["notice"] == CAUTION
    assert json.loads((tmp_path / "a.wav.json").read_text())["request"] == {**request_, "seed": 3}


@pytest.mark.parametrize("rate_hz", [16000, 48000])
def test_the_file_has_the_rate_and_bits_asked_for_and_the_same_pitch(tmp_path, rate_hz):
    conversion().save(tmp_path / "a.flac", sample_rate_hz=rate_hz, bits=24)
    found = soundfile.info(tmp_path / "a.flac")
    assert (found.samplerate, found.subtype, found.frames) == (rate_hz, "PCM_24", rate_hz)
    heard = read_audio(tmp_path / "a.flac", rate_hz)
    expected = 0.5 * np.sin(2 * np.pi * 220 * np.arange(rate_hz) / rate_hz)
    assert np.abs(heard - expected)[1000:-1000].max() < 1e-3


def test_the_file_can_be_as_loud_as_the_source(tmp_path):
    made = conversion()
    made.matched().save(tmp_path / "a.wav", sample_rate_hz=44100)
    heard = read_audio(tmp_path / "a.wav", 22050)
    assert loudness_lufs(heard, 22050) == pytest.approx(loudness_lufs(made.source, 22050), abs=0.1)
    assert loudness_lufs(made.audio, 22050) > loudness_lufs(heard, 22050) + 10
    assert json.loads((tmp_path / "a.wav.json").read_text())["match_loudness"] is True
    told = made_by_emoconv(read_header(tmp_path / "a.wav").comment)
    assert told and told["match_loudness"] is True


def test_loudness_that_cannot_be_measured_names_the_source(monkeypatch):
    def integrated_loudness(*_):
        raise ValueError("too short")

    monkeypatch.setattr(pyloudnorm.Meter, "integrated_loudness", integrated_loudness)
    with pytest.raises(EmoconvError, match=r"^in\.wav: loudness: cannot be measured .*too short"):
        conversion().matched()


@pytest.mark.parametrize("sidecar", [True, False])
@pytest.mark.parametrize("text", ["", "[1]", '{"notice": "mine"}', '{"speaker": "a"}', "\xff"])
def test_a_json_file_of_somebody_else_is_kept(tmp_path, sidecar, text):
    (tmp_path / "a.wav.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(EmoconvError, match=r"a\.wav\.json: is in the way and was not written by"):
        conversion().save(tmp_path / "a.wav", sidecar=sidecar)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav.json"]
    assert (tmp_path / "a.wav.json").read_bytes() == text.encode("latin-1")


@pytest.mark.parametrize("sidecar", [True, False])
def test_audio_under_its_name_is_complete(tmp_path, monkeypatch, sidecar):
    """Cut short just before the audio gets its name."""
    real = os.replace

    def replace(path, target):
        if str(target).endswith(".wav"):
            raise KeyboardInterrupt
        real(path, target)

    conversion().save(tmp_path / "b.flac")
    (tmp_path / "b.flac.json").rename(tmp_path / "a.wav.json")  # of an earlier run
    (tmp_path / "b.flac").unlink()
    before = (tmp_path / "a.wav.json").read_text()
    monkeypatch.setattr(os, "replace", replace)
    made = conversion(provenance={**PROVENANCE, "bundle": "newer"})
    with pytest.raises(KeyboardInterrupt):
        made.save(tmp_path / "a.wav", sidecar=sidecar)
    assert [p.name for p in tmp_path.iterdir()] == (["a.wav.json"] if sidecar else [])
    if sidecar:
        assert json.loads((tmp_path / "a.wav.json").read_text())["bundle"] == "newer" not in before


def test_a_failed_save_leaves_the_earlier_file_and_its_provenance(tmp_path):
    conversion().save(tmp_path / "a.wav")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = conversion(audio=np.full(22050, np.nan, np.float32), provenance={"notice": "other"})
    for sidecar in (True, False):
        with pytest.raises(EmoconvError, match=r"a\.wav: NaN"):
            broken.save(tmp_path / "a.wav", sidecar=sidecar)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("x" * 251 + ".wav", {}, EmoconvError, "cannot be written"),  # with .json it is too long
        ("absent/a.wav", {}, EmoconvError, "cannot be written"),
        ("a.mp3", {}, UsageError, "suffix"),
        ("a.wav", {"bits": 32}, UsageError, "bits: found 32"),
        ("a.wav", {"sample_rate_hz": 0}, UsageError, "sample_rate_hz: found 0, allowed is 4000"),
        ("a.flac", {"sample_rate_hz": 191_999}, UsageError, "191999, which FLAC cannot hold"),
        ("a.ogg", {"sample_rate_hz": 384_000}, UsageError, "384000, allowed is 4000 to 192000"),
        ("a.wav", {"sample_rate_hz": 400_000}, UsageError, "sample_rate_hz: found 400000"),
    ],
)
def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, name, options, error, message):
    with pytest.raises(error, match=message):
        conversion().save(tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def over_time(frames: int, conditions: int = 3) -> plans.EmotionPlan:
    share = np.linspace(0, 1, frames)
    rest = np.tile((1 - share) / (conditions - 1), (conditions - 1, 1))
    names = ("$x", "_hidden", *(f"emotion {i}" for i in range(conditions - 2)))
    return plans.over_frames(names, np.stack([share, *rest]), 4)


def picture(path) -> np.ndarray:
    return matplotlib.image.imread(path)[..., :3]


def test_a_picture_shows_pitch_before_and_after(tmp_path):
    """110 Hz becomes 220 Hz: in the panel of F0 the line of the result lies above."""
    conversion().plot(tmp_path / "a.png")
    pixels = picture(tmp_path / "a.png")
    panel = pixels[
        round(0.49 * len(pixels)) : round(0.6 * len(pixels)), : pixels.shape[1] * 6 // 10
    ]
    rows = []
    for colour in ("#56b4e9", "#d55e00"):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        hits = np.abs(panel - wanted).max(axis=-1) < 0.02
        assert hits.sum() > 200
        rows.append(np.nonzero(hits)[0].mean())
    assert rows[1] < rows[0] - 10


@pytest.mark.parametrize("conditions", [3, 64])
def test_a_plan_over_time_and_names_that_are_no_tex_are_drawn(tmp_path, conditions):
    made = conversion()
    made = dataclasses.replace(made, plan=over_time(len(made.mel), conditions))
    made.plot(tmp_path / "a.svg", title="$x_{ & < é")
    assert xml.etree.ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert [p.name for p in tmp_path.iterdir()] == ["a.svg"]


@pytest.mark.slow
def test_of_a_long_conversion_a_stretch_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(conversion_picture, "MOST_SHOWN_S", 0.5)
    made = conversion()
    changed = made.audio.copy()
    changed[round(0.6 * 22050) :] = 0
    other = dataclasses.replace(made, audio=changed, mel=log_mel(changed, MelConfig()))
    for name, one, from_s in (("a", made, 0), ("b", other, 0), ("c", other, 0.4)):
        one.plot(tmp_path / f"{name}.png", from_s=from_s)
    a, b, c = (picture(tmp_path / f"{name}.png") for name in "abc")
    np.testing.assert_array_equal(a, b)  # they differ after the stretch
    assert np.abs(b - c).max() > 0.1


@pytest.mark.slow
def test_what_is_matched_is_also_drawn_and_told_so(tmp_path):
    """The source's sine has a tenth of the amplitude at half the frequency: -20 dB, nearly."""
    made = conversion()
    matched = made.matched()
    np.testing.assert_allclose(matched.mel, log_mel(matched.audio, MelConfig()), atol=0.02)
    level = re.search(r"level of speech -29\.0 dBFS before, (-\d+\.\d) after", matched.summary())
    assert level and float(level[1]) == pytest.approx(-29.0, abs=1.5)
    assert "made as loud as its source" in matched.summary()
    assert "made as loud" not in made.summary()
    for name, one in (("a", made), ("b", matched)):
        one.plot(tmp_path / f"{name}.png", title="of both")
    a, b = (picture(tmp_path / f"{name}.png") for name in "ab")
    level_panel = slice(round(0.62 * len(a)), round(0.72 * len(a)))
    assert np.abs(a - b)[level_panel].max() > 0.1


@pytest.mark.parametrize(
    ("name", "from_s", "error", "message"),
    [
        ("a.pdf", 0, UsageError, "allowed are .png, .svg"),
        ("a.png", 0.95, UsageError, "from_s: found 0.95, allowed is 0 to 0.90"),
        ("a.png", -1, UsageError, "from_s: found -1"),
        ("absent/a.png", 0, EmoconvError, "cannot be written"),
    ],
)
def test_a_picture_that_cannot_be_made_leaves_nothing(tmp_path, name, from_s, error, message):
    with pytest.raises(error, match=message):
        conversion().plot(tmp_path / name, from_s=from_s)
    assert not list(tmp_path.iterdir())


def test_the_summary_is_a_paragraph_with_the_figures():
    text = conversion().summary()
    assert "\n" not in text
    assert text.startswith("1.0 s of in.wav converted to arousal 6 with tiny (emoconv 9.8.7): 4 st")
    assert f"seed 7; weights: {conversion().plan.summary()}. " in text
    pitch = re.search(r"Median pitch (\d+) Hz before, (\d+) Hz after", text)
    assert pitch and abs(int(pitch[1]) - 110) <= 2 and abs(int(pitch[2]) - 220) <= 4
    # a sine's power lies 3.01 dB below its peak: .05 is -26.02 dBFS
    assert "-29.0 dBFS before, -9.0 after" in text
    assert text.endswith("not spoken by the person it sounds like.")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"arousal": 6.0}, "arousal 6"),
        ({"arousal": 2.5}, "arousal 2.5"),
        ({"mix": {"happy": 3, "sad": 1}}, "happy .75, sad .25"),
        ({"mix": {"happy": 2.0}, "base": "neutral"}, "happy 1 from neutral"),
        ({"mix": {"happy": 2.0}, "intensity": 0.8}, "happy 1 at intensity 0.8"),
        ({"arousal": 2.5, "intensity": 1.0}, "arousal 2.5"),
        ({"emotion_ref": "a/b.wav"}, "the emotion of b.wav"),
        ({"emotion_ref": "a/b.wav", "mix": {"reference": 1}}, "reference 1"),
        ({"curve": {"names": ("happy", "sad")}}, "a curve of happy, sad"),
        ({}, "another emotion"),
    ],
)
def test_what_was_asked_for_is_said_in_a_few_words(request_, expected):
    assert wish(request_) == expected
