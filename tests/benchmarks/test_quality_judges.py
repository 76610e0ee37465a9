"""Judges recover planted classes, are stored without loss, and refuse what does not fit."""

import json
import pathlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.quality import fit_judges
from benchmarks.quality.clips import Clip
from benchmarks.quality.real_speech import figures, truth
from emoconv_jax.config import EMOTIONS
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.whisper_features import level_set
from emoconv_jax.listeners.emotion import (
    FUNCTIONALS,
    JUDGES_FILE,
    TENSORS_FILE,
    Judge,
    Linear,
    load_judges,
    save_judges,
)


def acted(voices=4, each=12, emotions=("neutral", "happy", "sad", "angry")) -> list[Clip]:
    """Returns made-up clips of every voice and emotion."""
    return [
        Clip("made", pathlib.Path(f"{v}-{e}-{i}.wav"), f"made/{v}", "F", "en", "b", e, "", "", "")
        for v in range(voices)
        for e in emotions
        for i in range(each)
    ]


def planted(clips: list[Clip], width=24, noise=0.5) -> np.ndarray:
    """Returns features that hold the emotion, an offset of the voice, and noise."""
    rng = np.random.default_rng(0)
    emotions = rng.normal(size=(len(EMOTIONS), width))
    voices = rng.normal(size=(len({c.voice for c in clips}), width))
    rows = [
        3 * emotions[EMOTIONS.index(c.emotion)] + 0.5 * voices[int(c.voice.split("/")[1])]
        for c in clips
    ]
    return np.array(rows) + noise * rng.normal(size=(len(clips), width))


def test_planted_classes_and_arousal_are_recovered_on_a_voice_left_out():
    clips = acted()
    x = planted(clips)
    own = [i for i, c in enumerate(clips) if c.voice != "made/3"]
    others = [i for i, c in enumerate(clips) if c.voice == "made/3"]
    model, told = fit_judges.chosen(x[own], [clips[i] for i in own])
    shares, arousal = model(x[others])
    named = [EMOTIONS[i] for i in shares.argmax(axis=-1)]
    found = figures([clips[i] for i in others], named, arousal.tolist())
    assert found["emotions_named"] == 1.0 and found["r"] > 0.95
    assert found["slope"] == pytest.approx(1.0, abs=0.2)
    assert told["emotions_named"] == 1.0 and told["penalty"] in fit_judges.PENALTIES
    np.testing.assert_allclose(shares.sum(axis=-1), 1.0, rtol=1e-6)
    never = [EMOTIONS.index(e) for e in ("calm", "fearful", "disgust", "surprised")]
    assert shares[:, never].max() < 1e-6


def test_more_features_than_clips_are_fitted_in_their_principal_directions():
    """A penalty on the weights does not change with a rotation: the directions lose nothing."""
    clips = acted(voices=3, each=3)
    narrow = planted(clips)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(100, 24)))[0].T
    centre, scale = narrow.mean(axis=0), narrow.std(axis=0)
    directions = fit_judges._directions((narrow - centre) / scale @ rotation)
    np.testing.assert_allclose(directions @ directions.T, np.eye(len(directions)), atol=1e-8)
    standard = (narrow - centre) / scale @ rotation
    np.testing.assert_allclose(standard @ directions.T @ directions, standard, atol=1e-6)


def test_a_voice_with_many_clips_weighs_no_more_than_one_with_few():
    clips = acted(voices=2, each=2) + acted(voices=1, each=6)
    weights = fit_judges.weights_of(clips)
    assert weights.mean() == pytest.approx(1.0)
    for emotion in ("neutral", "angry"):
        sums = [
            sum(w for w, c in zip(weights, clips, strict=True) if (c.voice, c.emotion) == cell)
            for cell in ((f"made/{v}", emotion) for v in (0, 1))
        ]
        assert sums[0] == pytest.approx(sums[1])


def test_figures_by_hand():
    """Two voices, offsets of 0 and 3: within voices heard is .5 of acted arousal."""
    clips = [c for c in acted(2, 1) if c.emotion in ("neutral", "angry")]
    heard = [0.5 * truth(c) + 3 * (c.voice == "made/1") for c in clips]
    found = figures(clips, ["neutral", "happy", "neutral", "angry"], heard)
    assert found["slope"] == pytest.approx(0.5) and found["emotions_named"] == 0.75
    assert found["named"] == {"angry": 0.5} and (found["clips"], found["voices"]) == (4, 2)


def linear(width: int, rng: np.random.Generator) -> Linear:
    shapes = [(width,), (width,), (width, len(EMOTIONS)), (len(EMOTIONS),), (width,), (1,)]
    parts = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    parts[1] = np.abs(parts[1]) + 1
    return Linear(*parts)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    from emoconv_jax.audio.functionals import NAMES

    model = linear(len(NAMES), np.random.default_rng(2))
    save_judges(tmp_path, {FUNCTIONALS: model}, {FUNCTIONALS: {}}, EMOTIONS, {FUNCTIONALS: {}})
    return tmp_path


@pytest.mark.slow
def test_a_stored_judge_hears_the_same_and_no_gain(folder, speech):
    judge = load_judges(folder)[FUNCTIONALS]
    told, louder = judge.hear(speech, 22_050), judge.hear(0.2 * speech, 22_050)
    tensors = load_file(str(folder / TENSORS_FILE))
    x = (told.embedding - tensors["functionals.centre"]) / tensors["functionals.scale"]
    arousal = x @ tensors["functionals.arousal_weights"] + tensors["functionals.arousal_bias"]
    assert told.arousal == pytest.approx(float(arousal[0]), rel=1e-4)
    assert set(told.probabilities) == set(EMOTIONS)
    assert sum(told.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
    assert louder.arousal == pytest.approx(told.arousal, abs=1e-2)


def test_clips_are_set_to_one_level_and_silence_stays():
    tone = np.sin(np.arange(8000) / 5).astype(np.float32)
    assert np.sqrt(np.mean(level_set(0.3 * tone) ** 2)) == pytest.approx(0.05, rel=1e-4)
    assert not level_set(np.zeros(100, np.float32)).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format: allowed is 1"),
        ({"emotions": None}, "emotions: expected a list"),
        ({"judges": {"magic": {}}}, "kind: found 'magic', allowed are whisper, functionals"),
        ({"judges": {"whisper": {"encoder": "0"}}}, "encoder: found '0', allowed is 905e"),
        ({"judges": {"whisper": {}}}, "states: found None, expected a list of int"),
        ({"judges": {"whisper": {"states": ["3"]}}}, "states: found .'3'., expected a list of int"),
        ({"judges": {"whisper": {"states": [3]}}}, "statistics: found None, expected a list"),
        ({"judges": {"whisper": 3}}, "judges.whisper: expected a dict"),
        ({"judges": {}}, "judges: any is missing"),
        ({"emotions": [1]}, "emotions: expected a list of str"),
        ({"emotions": ["sad"]}, r"functionals.weights: found \(113, 8\), allowed is \(113, 1\)"),
    ],
)
def test_judges_that_do_not_fit_are_refused_by_field(folder, change, message):
    path = folder / JUDGES_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EmoconvError, match=message):
        load_judges(folder)


def test_tensors_that_are_damaged_are_refused_by_name(folder):
    path = folder / TENSORS_FILE
    tensors = load_file(str(path))
    tensors["functionals.bias"][0] = np.nan
    save_file(tensors, str(path))
    with pytest.raises(
        EmoconvError, match=r"functionals\.bias: found \(8,\), allowed is \(8,\) of"
    ):
        load_judges(folder)
    path.write_bytes(b"no tensors")
    with pytest.raises(EmoconvError, match="cannot be read"):
        load_judges(folder)


def test_a_judge_is_a_recogniser_of_recordings():
    model = linear(3, np.random.default_rng(3))
    judge = Judge("made", EMOTIONS, lambda audio, rate: np.full(3, rate / 22_050), model)
    told = judge.hear(np.ones(100, np.float32), 22_050)
    shares, arousal = model(np.ones(3))
    assert told.arousal == pytest.approx(float(arousal))
    assert list(told.probabilities.values()) == pytest.approx(shares.tolist())
