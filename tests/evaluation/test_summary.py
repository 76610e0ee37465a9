"""The summary of rows made by hand: what is averaged over what, and what is left out."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_store import voice_store

from emoconv_jax.evaluation.evaluation import Row
from emoconv_jax.evaluation.subjects import Voices
from emoconv_jax.evaluation.summary import summarise

HALVES = {"": 1.0, "_equal_level": 0.5}  # at equal loudness half of the movement is left
NOTHING = {"seconds": 2.0, "source_seconds": 2.0}


def row(system="model", what="", emotion="", value=0.0, path="0", language="en", **figures) -> Row:
    place = ("made", path, "ann", language, system, what, emotion, value, "x.flac")
    return Row(*place, figures=NOTHING | figures)


def arousal_rows(system: str, path: str, gain: float) -> list[Row]:
    """Heard arousal is 4 + gain (asked - 4)."""
    return [
        row(
            system,
            "arousal",
            value=float(asked),
            path=path,
            **{f"own_arousal{k}": 4 + share * gain * (asked - 4) for k, share in HALVES.items()},
        )
        for asked in range(1, 8)
    ]


@pytest.fixture
def voices(tmp_path) -> dict[str, Voices]:
    store = voice_store(tmp_path / "features")
    return {"own": Voices(store, "test", np.array(store.array("speaker")))}


def value(summary, key, system="model", corpus="all"):
    return summary["systems"][system][corpus][key]["value"]


def test_order_slope_and_error_of_arousal(voices):
    """Gains 1 and .5 give slopes 1 and .5; errors |(gain - 1)(asked - 4)| / 6 average 0 and
    .5 x 12 / 42; at equal loudness the slopes are halved."""
    rows = arousal_rows("model", "0", 1.0) + arousal_rows("model", "1", 0.5)
    found = summarise(rows, voices)
    assert value(found, "tau_own") == 1.0
    assert value(found, "slope_own") == pytest.approx(0.75)
    assert value(found, "slope_own_equal_level") == pytest.approx(0.375)
    assert value(found, "l_abs_own") == pytest.approx(0.25 * 12 / 42)
    assert value(found, "heard_own_7") == pytest.approx((7 + 5.5) / 2)
    assert value(found, "l_abs_own_7") == pytest.approx((0 + 1.5 / 6) / 2)
    assert "tau_second" not in found["systems"]["model"]["all"]
    assert found["systems"]["model"]["all"]["tau_own"]["utterances"] == 2
    json.dumps(found, allow_nan=False)


def test_listeners_that_disagree_have_each_its_own_figures(voices):
    """The own recogniser hears what was asked for, the second the opposite: 8 - asked, which is off
    by 2 |asked - 4| and has 24 / 7 in the mean. The own encoder hears the voice, the second not."""
    rows = [
        dataclasses.replace(
            one,
            figures=one.figures
            | {"second_arousal": 8 - one.value, "second_arousal_equal_level": 8 - one.value}
            | {"own_nearest": 1.0, "second_nearest": 0.0, "own_voice": 0.9, "second_voice": 0.2},
        )
        for one in arousal_rows("model", "0", 1.0)
    ]
    sad, happy = {"own_happy": 0.4, "own_sad": 0.6}, {"own_happy": 0.7, "own_sad": 0.3}
    deaf = {"second_happy": 0.2, "second_sad": 0.5}  # sad, whatever it is
    rows += [row(what="emotions", emotion="sad", **sad, **deaf)]
    rows += [row(what="emotions", emotion="happy", **happy, **deaf)]
    unmoved = {"own_arousal_equal_level": 4.0, "second_arousal_equal_level": 4.0}
    rows += [row("source", **unmoved)]
    found = summarise(rows, {"own": voices["own"], "second": voices["own"]})
    expected = {
        **{"tau_own": 1, "slope_own": 1, "l_abs_own": 0, "heard_own_1": 1, "l_abs_own_7": 0},
        **{"tau_second": -1, "slope_second": -1, "l_abs_second": 24 / 42},
        **{"heard_second_1": 7, "l_abs_second_7": 1},
        **{"accuracy_own": 1, "accuracy_second": 0.5},
        **{"own_nearest": 1, "second_nearest": 0, "own_voice": 0.9, "second_voice": 0.2},
    }
    for name, one in expected.items():
        assert value(found, name) == pytest.approx(one), name
    # at equal loudness the own one hears half of the movement, and of the source 4: 12 / 42
    paired = found["paired"]["source"]
    assert paired["l_abs_own_equal_level"]["difference"] == pytest.approx(-6 / 42)
    assert paired["l_abs_second_equal_level"]["difference"] == pytest.approx(12 / 42)


def test_rise_of_pitch_and_level_is_from_target_1_to_target_7(voices):
    """An octave and 12 dB in one utterance; the other has no pitch at target 1, and 6 dB."""
    asked = range(1, 8)
    rows = [
        row("model", "arousal", "", float(v), f0_hz=100.0 * 2 ** ((v - 1) / 6), level_db=2.0 * v)
        for v in asked
    ]
    rows += [
        row(
            "model",
            "arousal",
            "",
            float(v),
            "1",
            level_db=float(v),
            **{"f0_hz": 90.0} if v > 1 else {},
        )
        for v in asked
    ]
    found = summarise(rows, voices)
    assert value(found, "f0_risen_semitones") == pytest.approx(12.0)
    assert found["systems"]["model"]["all"]["f0_risen_semitones"]["utterances"] == 1
    assert value(found, "level_risen_db") == pytest.approx((12 + 6) / 2)


def test_the_price_of_an_arousal_counts_no_other_target(voices):
    """Half of the words are wrong at every arousal, all of them at an emotion."""
    rows = [
        dataclasses.replace(one, figures=one.figures | {"word_errors": 1, "words": 2})
        for one in arousal_rows("model", "0", 1.0)
    ]
    rows.append(row("model", "emotions", "happy", word_errors=9, words=9))
    found = summarise(rows, voices)
    assert value(found, "wer") == pytest.approx((7 + 9) / (14 + 9))
    assert found["towards_arousal"]["model"]["wer"]["value"] == pytest.approx(0.5)


def test_what_has_no_target_answers_the_same_to_all(voices):
    found = summarise([row("source", own_arousal=4.0, own_arousal_equal_level=4.0)], voices)
    assert value(found, "l_abs_own", "source") == pytest.approx(12 / 42)
    assert value(found, "tau_own", "source") == 0.0


def test_an_utterance_without_all_targets_has_no_order(voices):
    found = summarise(arousal_rows("model", "0", 1.0)[:-1], voices)
    assert "tau_own" not in found["systems"]["model"]["all"]


def test_systems_are_compared_on_the_utterances_that_both_have(voices):
    ours = arousal_rows("model", "0", 1.0) + arousal_rows("model", "1", 1.0)
    theirs = arousal_rows("signal", "0", -1.0)
    one = summarise(ours + theirs, voices)["paired"]["signal"]["tau_own_equal_level"]
    assert (one["difference"], one["utterances"]) == (2.0, 1)


def test_emotions_count_where_the_one_asked_for_is_the_likeliest(voices):
    heard = {"happy": (0.6, 0.4), "sad": (0.7, 0.3)}  # of happy and sad, at each request
    rows = [
        row(what="emotions", emotion=asked, own_happy=happy, own_sad=sad)
        for asked, (happy, sad) in heard.items()
    ]
    assert value(summarise(rows, voices), "accuracy_own") == 0.5


@pytest.mark.parametrize(("mixing", "other"), [("mixes", "emomix"), ("emomix", "mixes")])
def test_neutral_is_strength_zero_of_every_mixed_emotion(voices, mixing, other):
    rows = [row(what=mixing, own_happy=0.2, own_sad=0.8)]
    rows += [row(what=mixing, emotion="happy", value=0.4, own_happy=0.3, own_sad=0.7)]
    rows += [row(what=mixing, emotion="sad", value=0.4, own_happy=0.4, own_sad=0.6)]
    rows += [row(what=other, own_happy=0.9), row(what=other, emotion="happy", value=0.4)]
    found = summarise(rows, voices)
    assert value(found, f"{mixing}_in_order_own") == 0.5  # happy .2 -> .3, sad .8 -> .6
    assert value(found, f"{mixing}_heard_own_0") == pytest.approx(0.5)
    assert value(found, f"{mixing}_heard_own_0.4") == pytest.approx(0.45)


def test_utterances_count_alike_however_many_conversions_they_have(voices):
    """2 and 3 average 2.5, and 2.5 and 4.5 are 3.5; paces are 2 s / 2 s and 3 s / 1.5 s."""
    rows = [row(path="0", ovrl=2.0), row(path="0", ovrl=3.0)]
    rows.append(row(path="1", ovrl=4.5, seconds=1.5, source_seconds=3.0))
    found = summarise(rows, voices)
    assert value(found, "ovrl") == 3.5
    assert value(found, "pace") == 1.5


def test_tau_is_the_median_and_a_difference_of_taus_the_mean(voices):
    """Taus 1, 1 and -1: the median is 1, the mean 1/3; the rules have -1 everywhere."""
    ours = [
        one
        for i, gain in enumerate((1.0, 1.0, -1.0))
        for one in arousal_rows("model", str(i), gain)
    ]
    theirs = [one for i in range(3) for one in arousal_rows("signal", str(i), -1.0)]
    found = summarise(ours + theirs, voices)
    assert value(found, "tau_own_equal_level") == 1.0
    difference = found["paired"]["signal"]["tau_own_equal_level"]["difference"]
    assert difference == pytest.approx(1 / 3 - -1)


def test_a_comparison_counts_targets_of_arousal_alone(voices):
    """1 of 2 words there, against 0 of 2; the emotion's 2 of 2 are of no comparison."""

    def words(rows, errors):
        said = {"word_errors": errors, "words": 2}
        return [dataclasses.replace(one, figures=one.figures | said) for one in rows]

    rows = words(arousal_rows("model", "0", 1.0), 1)
    rows += words(arousal_rows("signal", "0", 1.0), 0)
    rows += words([row("model", "emotions", "happy")], 2)
    assert summarise(rows, voices)["paired"]["signal"]["wer"]["difference"] == pytest.approx(0.5)


def test_error_rates_are_of_all_words_of_all_utterances(voices):
    """1 of 10 words and 4 of 5: 5 / 15, not the mean .45."""
    rows = [row(path="0", word_errors=1, words=10), row(path="1", word_errors=4, words=5)]
    assert value(summarise(rows, voices), "wer") == pytest.approx(1 / 3)


def test_the_nearest_voice_stands_beside_that_of_real_clips_and_of_a_guess(voices):
    """Of the store's voices Ann's real emotional clips are never the nearest to hers; she and Bea
    are the two women. The medians are those of `tests/evaluation/test_subjects.py`."""
    found = summarise([row(own_nearest=1.0)], voices)
    assert value(found, "own_nearest") == 1.0
    assert value(found, "own_nearest_real") == 0.0
    assert value(found, "own_nearest_guess") == 0.5
    own, other = voices["own"].real_medians()
    assert found["real_voices"] == {"own": {"own_median": own, "other_median": other}}


def test_word_errors_are_of_english_and_character_errors_of_each_language(voices):
    counts = {"word_errors": 1, "words": 4, "character_errors": 3, "characters": 20}
    polish = {"word_errors": 2, "words": 4, "character_errors": 10, "characters": 20}
    rows = [row(path="0", **counts), row(path="1", language="pl", **polish)]
    found = summarise(rows, voices)
    assert value(found, "wer") == 0.25
    assert value(found, "cer") == 0.15
    assert value(found, "cer_pl") == 0.5
    assert "wer_pl" not in found["systems"]["model"]["all"]
