import numpy as np
import pytest

from emoconv_jax.config import EMOTIONS
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.labels import (
    BASE_AROUSAL,
    arousal_labels,
    base_arousal,
    emotion_name,
    standard_scores,
)
from emoconv_jax.pipeline.manifest import Row


def row(emotion="angry", intensity="strong", corpus="ravdess", speaker="01", arousal=""):
    return Row(corpus, "x.flac", speaker, emotion=emotion, intensity=intensity, arousal=arousal)


def test_corpora_names_meet_the_vocabulary():
    nemo = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")
    assert [emotion_name(name) for name in nemo] == [
        "angry", "fearful", "happy", "neutral", "sad", "surprised",
    ]  # fmt: skip
    assert [emotion_name(name.upper()) for name in EMOTIONS] == list(EMOTIONS)
    assert set(BASE_AROUSAL) == set(EMOTIONS)


def test_an_unknown_emotion_is_named_with_what_is_allowed():
    with pytest.raises(EmoconvError, match=r"'bored'.*neutral, calm"):
        emotion_name("bored")


def test_bases_by_intensity():
    assert base_arousal("calm", "strong") == 1.7
    assert base_arousal("anger", "normal") == 5.2
    assert base_arousal("anger") == pytest.approx(6.0)  # (5.2 + 6.8) / 2
    with pytest.raises(EmoconvError, match="'loud'"):
        base_arousal("calm", "loud")


def test_level_and_pitch_move_a_label_by_seven_tenths_of_a_deviation():
    rows = [row("happy", "normal")] * 2
    # two clips: z is -1 and +1, whatever the distance
    labels = arousal_labels(rows, [-30.0, -20.0], [200.0, 250.0])
    np.testing.assert_allclose(labels, [5.0 - 0.7, 5.0 + 0.7])
    # opposite signs cancel
    np.testing.assert_allclose(arousal_labels(rows, [-30.0, -20.0], [250.0, 200.0]), [5.0, 5.0])


def test_labels_compare_a_speaker_with_itself_within_one_class():
    rows = [row("sad", "normal", speaker=s) for s in ("01", "01", "02", "02")]
    rows += [row("sad", "strong")]
    level_db, f0_hz = [-30.0, -20.0, -60.0, -50.0, 0.0], [100.0, 110.0, 300.0, 330.0, 600.0]
    labels = arousal_labels(rows, level_db, f0_hz)
    np.testing.assert_allclose(labels, [1.8, 3.2, 1.8, 3.2, 3.5])


def test_a_corpus_of_normalised_level_uses_pitch_alone():
    rows = [row("sadness", "", corpus="nemo")] * 2
    labels = arousal_labels(rows, [-10.0, -30.0], [100.0, 120.0])
    np.testing.assert_allclose(labels, [3.0 - 0.7, 3.0 + 0.7])  # base (2.5 + 3.5) / 2


def test_missing_measurements_count_as_the_mean():
    rows = [row("happy", "normal")] * 3
    labels = arousal_labels(rows, [-30.0, -np.inf, -20.0], [200.0, np.nan, 0.0])
    assert labels[1] == pytest.approx(5.0)
    assert labels[0] < 5.0 < labels[2]
    np.testing.assert_allclose(arousal_labels(rows, [np.nan] * 3, [0.0] * 3), [5.0] * 3)


def test_labels_are_clipped():
    labels = arousal_labels([row()] * 2, [-30.0, -10.0], [200.0, 300.0])
    np.testing.assert_allclose(labels, [6.8 - 0.7, 7.0])


def test_ratings_are_kept_and_utterances_without_anything_are_unlabelled():
    rows = [row(arousal="4.5"), row(emotion="", intensity="")]
    np.testing.assert_allclose(arousal_labels(rows, [-20.0] * 2, [100.0] * 2), [4.5, -1.0])
    for rating in ("8", "nan", "high"):
        with pytest.raises(EmoconvError, match=rf"ravdess/x\.flac: arousal '{rating}'"):
            arousal_labels([row(arousal=rating)], [0.0], [100.0])


def test_the_emotion_of_a_rated_utterance_is_checked_too():
    with pytest.raises(EmoconvError, match=r"ravdess/x\.flac: emotion 'bogus'"):
        arousal_labels([row(emotion="bogus", arousal="3")], [0.0], [100.0])


def test_standard_scores_have_mean_zero_and_deviation_one():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 60)
    values = rng.normal(5.0, 3.0, 60) * (1 + group)
    scores = standard_scores(values, group)
    for number in range(3):
        assert scores[group == number].mean() == pytest.approx(0.0, abs=1e-12)
        assert scores[group == number].std() == pytest.approx(1.0)
