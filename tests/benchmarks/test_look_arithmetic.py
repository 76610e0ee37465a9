"""The arithmetic of the looks, by hand."""

import numpy as np
import pytest

from benchmarks.quality import figures, trials_table
from benchmarks.quality.arithmetic import (
    Interval,
    clustered,
    in_order,
    mean,
    nearest,
    slope,
    slope_within,
)
from benchmarks.quality.look import COPY, REAL, Row
from emoconv_jax.errors import EmoconvError


def made(clip, target, voice="ravdess/15", seed=0, wall_s=2.0, nearest="", named="", **known):
    """Returns a row of two seconds of speech."""
    group = f"{voice.split('/')[0]}/validation"
    wall_s = 0.0 if target in (COPY, REAL) else wall_s
    heard = {"own": named}
    return Row(clip, target, seed, voice, group, 2.0, wall_s, known, heard, nearest)


def test_slopes_by_hand():
    """Groups at 0 and at 100, each rising by 2: together they fall."""
    x = np.array([1.0, 2.0, 11.0, 12.0])
    y = np.array([100.0, 102.0, 0.0, 2.0])
    assert slope(np.array([1.0, 4.0, 7.0]), np.array([2.0, 3.5, 5.0])) == pytest.approx(0.5)
    assert slope(x, y) < 0
    assert slope_within(x, y, ["a", "a", "b", "b"]) == pytest.approx(2.0)
    assert np.isnan(slope(np.ones(3), np.arange(3.0)))


def test_in_order_wants_every_step_up_and_everything_heard():
    heard = np.array([[1, 2, 3], [1, 3, 2], [1, 1, 2], [1, np.nan, 2]], np.float64)
    np.testing.assert_array_equal(in_order(heard), [1, 0, 0, np.nan])
    assert mean(in_order(heard)) == pytest.approx(1 / 3)


def test_the_nearest_voice_is_by_angle():
    centroids = {"a": np.array([10.0, 0.0]), "b": np.array([1.0, 1.0])}
    assert nearest(np.array([3.0, 1.0]), centroids) == "a"
    assert nearest(np.array([1.0, 0.9]), centroids) == "b"


def test_an_interval_is_of_voices_and_not_of_clips():
    """Two voices, one at 0 and one at 1: sets of two voices have means 0, 1/2 and 1, with
    probabilities 1/4, 1/2 and 1/4. A hundred clips of each change nothing."""
    values = np.repeat([0.0, 1.0], 100)
    found = clustered(["a"] * 100 + ["b"] * 100, lambda i: mean(values[i]))
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)
    one = clustered(["a"] * 200, lambda i: mean(values[i]))
    assert (one.value, one.low, one.high) == (0.5, 0.5, 0.5)
    assert clustered([], lambda i: 0.0) is None
    assert clustered(["a"], lambda i: float("nan")) is None


def test_a_rate_of_uneven_clips_weighs_them_by_their_words():
    rows = [
        made("x", "1", words=10, word_errors=5),
        made("y", "1", voice="ravdess/16", words=2, word_errors=0),
        made("x", COPY, words=10, word_errors=1),
    ]
    found = figures.line(rows, {})
    assert found["word_errors"].value == pytest.approx(5 / 12)
    assert found["word_errors_copy"].value == pytest.approx(0.1)
    assert found["character_errors"] is None


SCALE = {"own": {"ravdess/validation": {"slope": 0.8, "named": {"happy": 0.5, "angry": 1.0}}}}


def test_the_share_is_of_the_slope_on_real_clips():
    """Slopes .2 and .4 over 1, 4, 7; real clips .8; a voice without acted clips has their scale."""
    rows = []
    for clip, voice, step in (("x", "ravdess/15", 0.2), ("y", "kokoro/af", 0.4)):
        rows += [made(clip, t, voice, own_arousal=3 + step * int(t)) for t in ("1", "4", "7")]
    found = figures.line(rows, SCALE)
    assert found["own_slope"].value == pytest.approx(0.3)
    assert found["own_real_slope"].value == pytest.approx(0.8)
    assert found["own_share"].value == pytest.approx(0.375)
    assert (found["own_share"].low, found["own_share"].high) == pytest.approx((0.25, 0.5))
    assert found["own_order"].value == 1.0


def test_emotions_are_named_beside_real_ones_of_the_same_kind():
    rows = [
        made("x", "happy", named="happy", own_happy=0.7),
        made("x", "angry", named="sad", own_angry=0.1),
        made("y", "angry", voice="ravdess/16", named="angry", own_angry=0.4),
    ]
    found = figures.line(rows, SCALE)
    assert found["own_named"].value == pytest.approx(2 / 3)
    assert found["own_real_named"].value == pytest.approx((0.5 + 1.0 + 1.0) / 3)
    assert found["own_probability"].value == pytest.approx(0.4)
    assert found["own_named_angry"].value == pytest.approx(0.5)
    assert found["own_named_sad"] is None


def test_quality_pitch_and_level_are_changes_of_the_copy_and_speed_is_a_median():
    rows = [
        made("x", COPY, ovrl=3.0, f0_hz=100.0, level_db=-20.0),
        made("x", "7", ovrl=2.5, f0_hz=200.0, level_db=-14.0, wall_s=10.0),
        made("x", "4", ovrl=3.1, level_db=-20.0, wall_s=1.0),
        made("x", "1", ovrl=2.9, f0_hz=50.0, level_db=-30.0, wall_s=1.4),
    ]
    found = figures.line(rows, {})
    assert found["ovrl_7"].value == pytest.approx(-0.5)
    assert found["ovrl_copy"].value == 3.0
    assert found["f0_7"].value == pytest.approx(12.0) and found["f0_1"].value == pytest.approx(-12)
    assert found["f0_4"] is None and found["level_7"].value == pytest.approx(6.0)
    assert found["seconds_per_second"].value == pytest.approx(0.7)


def test_the_own_voice_is_counted_where_actors_compete():
    rows = [
        made("x", "7", nearest="ravdess/15"),
        made("x", "1", nearest="ravdess/03"),
        made("y", "7", voice="kokoro/af", nearest=""),
        made("z", REAL, nearest="ravdess/15"),
    ]
    found = figures.line(rows, {})
    assert found["voice_7"].value == 1.0 and found["voice_1"].value == 0.0
    assert found["voice_all"].value == 0.5 and found["voice_real"].value == 1.0


def test_a_row_is_added_to_the_table_and_read_again(tmp_path):
    path = tmp_path / "new" / "trials.tsv"
    found = {"own_share": Interval(0.75, 0.5, 1.0), "ovrl_7": Interval(-0.25, -0.5, 0.0)}
    for number in ("first", "second\ttry"):
        cells = trials_table.row({"date": "2026-01-01", "look": "quick", "note": number}, found)
        trials_table.append(path, cells)
    first, second = trials_table.read(path)
    assert first["own_share"] == "0.75" and first["own_share_high"] == "1"
    assert second["note"] == "second try" and second["word_errors"] == ""
    text = path.with_suffix(".md").read_text()
    assert "| own share | 75 % | 75 % |" in text and "| ovrl 7 | -0.25 | -0.25 |" in text
    path.write_text("no\ttable\n")
    with pytest.raises(EmoconvError, match="no column 'date'"):
        trials_table.read(path)
