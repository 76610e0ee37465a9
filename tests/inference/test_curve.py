"""Curves: what a table over time means at each frame, and tables that are none."""

import numpy as np
import pytest

from emoconv_jax.diffusion import plan
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference.curve import MOST_BYTES, MOST_ROWS, Curve, read_curve


@pytest.fixture
def written(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "curve.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def at(found: plan.EmotionPlan, frame: int, step: int = 0) -> dict[str, float]:
    """The weights of one step and frame that are not zero."""
    row = zip(found.names, found.weights[step, :, frame].tolist(), strict=True)
    return {name: round(weight, 5) for name, weight in row if weight}


def test_weights_run_in_straight_lines_and_stay_beyond_the_ends(written):
    curve = read_curve(written("seconds,neutral,happy\n1,1,0\n2,1,3\n4,0,0.5\n"))
    found = curve.plan(2, np.array([0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 9.0]))
    assert found.names == ("neutral", "happy")
    happy = [0, 0, 0.375, 0.75, 0.875, 1, 1]
    np.testing.assert_allclose(found.weights[0], [1 - np.array(happy), happy], atol=1e-6)
    np.testing.assert_array_equal(found.weights[0], found.weights[1])


def test_few_arousals_are_the_conditions_themselves(written):
    curve = read_curve(written("seconds,arousal\n0,2.5\n1,6\n2,2.5\n"))
    found = curve.plan(1, np.array([0.0, 0.5, 1.0, 1.25]))
    assert found.names == ("arousal 2.5", "arousal 6")
    np.testing.assert_allclose(found.weights[0, 1], [0, 0.5, 1, 0.75])


def test_many_arousals_are_mixed_from_the_whole_levels_around_them():
    times = np.linspace(0, 1, 41)
    wave = 3.9 + 1.6 * np.sin(2 * np.pi * times)  # 2.3 to 5.5
    found = Curve(times.tolist(), ["arousal"], [[x] for x in wave.tolist()]).plan(1, times)
    assert found.names == tuple(f"arousal {level}" for level in (2, 3, 4, 5, 6))
    levels = np.arange(2, 7)
    np.testing.assert_allclose(levels @ found.weights[0], wave, rtol=1e-6)  # the mean is the curve
    assert np.all(found.weights >= 0)
    assert np.all((found.weights[0] > 0).sum(axis=0) <= 2)  # of two neighbours
    assert at(found, 20) == {"arousal 3": pytest.approx(0.1), "arousal 4": pytest.approx(0.9)}


def test_seven_arousals_are_few_and_eight_are_many():
    def names(count: int) -> tuple[str, ...]:
        rows = [[1.5 + 0.5 * i] for i in range(count)]
        return Curve(range(count), ["arousal"], rows).plan(1, np.zeros(1)).names

    assert names(7) == tuple(f"arousal {x:g}" for x in np.arange(1.5, 4.6, 0.5))
    assert names(8) == tuple(f"arousal {x}" for x in range(1, 6))


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("seconds,arousal\n0,3.25\n1,3.25\n", lambda: plan.single("arousal 3.25", 6)),
        ("seconds,arousal\n5,7\n", lambda: plan.single("arousal 7", 6)),
        ("seconds,happy\n0,1\n1,5\n", lambda: plan.single("happy", 6)),
        ("seconds,happy,sad\n0,.6,.2\n1,3,1\n", lambda: plan.mix({"happy": 3, "sad": 1}, 6)),
        ("seconds,happy,calm,sad\n0,3,0,1\n", lambda: plan.mix({"happy": 3, "sad": 1}, 6)),
    ],
)
def test_a_curve_that_never_changes_is_the_plan_without_one(written, text, alone):
    found = read_curve(written(text)).plan(6, np.arange(9.0))
    assert found.names == alone().names
    np.testing.assert_array_equal(found.weights, alone().weights)
    assert found.frames is None


def test_conditions_do_not_depend_on_the_frames(written):
    curve = read_curve(
        written("seconds,neutral,happy,sad\n0,1,0,0\n1,1,0,0\n1.001,0,1,0\n1.002,1,0,0\n")
    )
    for times_s in (None, np.zeros(1), np.linspace(0, 1, 3)):
        found = curve.plan(3, times_s)
        assert found.names == ("neutral", "happy")  # sad never has a weight
    assert found.segments() == ((0, 3, (0,)),)  # no frame here meets the millisecond of happy


def test_names_may_be_those_of_conditions(written):
    text = (
        "\ufeffseconds, arousal 3.0 ,null,reference,source,very sad\n0,1,1,1,1,1\n\n2,0,0,0,0,1\n"
    )
    curve = read_curve(written(text))
    assert tuple(curve.names) == ("arousal 3", "null", "reference", "source", "very sad")
    assert at(curve.plan(1, np.zeros(1)), 0) == dict.fromkeys(curve.names, 0.2)


def test_times_beyond_the_source_are_refused(written):
    curve = read_curve(written("seconds,arousal\n0,3\n2.5,6\n"))
    curve.check_within(2.5)
    with pytest.raises(EmoconvError, match=r"curve.csv: found 2.5 seconds, .* ends at 2.499"):
        curve.check_within(2.499)


BAD = {
    "": "empty; expected is a header",
    "\n\n": "empty",
    "seconds,arousal\n": "has a header and no rows",
    "0,3\n": "line 1: found the header '0,3', expected seconds,arousal or",
    "time,arousal\n0,3\n": "line 1: found the header 'time,arousal'",
    "seconds;arousal\n0;3\n": "line 1: found the header 'seconds;arousal'",
    "seconds\n0\n": "line 1: found the header 'seconds'",
    "seconds,arousal,happy\n0,3,1\n": "line 1: found the header 'seconds,arousal,happy'",
    "seconds,happy,happy\n0,3,1\n": "line 1: found the column 'happy' twice",
    "seconds,arousal 3,arousal 3.0\n0,3,1\n": "line 1: found the column 'arousal 3' twice",
    "seconds,arousal 9\n0,3\n": "line 1: column: found 'arousal 9', allowed are arousal 1 to",
    "seconds,arousal high\n0,3\n": "line 1: column: found 'arousal high'",
    "seconds,happy,\n0,3,1\n": "line 1: found the column ''",
    "seconds,\x1b[31m\n0,3\n": r"line 1: found the column '\\x1b\[31m', expected the name",
    "seconds,arousal\n0,3\n0,4\n": "line 3: seconds: found 0 after 0, times must rise",
    "seconds,arousal\n0,3\n\n2,4\n1,5\n": "line 5: seconds: found 1 after 2",
    "seconds,arousal\n-1,3\n": "line 2: seconds: found -1.0, allowed is 0 or more",
    "seconds,arousal\nnan,3\n": "line 2: seconds: found nan",
    "seconds,arousal\ninf,3\n": "line 2: seconds: found inf",
    "seconds,arousal\n0,nan\n": "line 2: arousal: found nan, allowed is 1 to 7",
    "seconds,arousal\n0,0.9\n": "line 2: arousal: found 0.9, allowed is 1 to 7",
    "seconds,arousal\n0,7.1\n": "line 2: arousal: found 7.1",
    "seconds,happy,sad\n0,-1,2\n": "line 2: happy: found -1.0, allowed is 0 to 1e\\+06",
    "seconds,happy,sad\n0,1,inf\n": "line 2: sad: found inf",
    "seconds,happy,sad\n0,0,0\n": "line 2: found only weights of 0",
    "seconds,arousal\n0,3,4\n": "line 2: found 3 fields, expected 2",
    "seconds,arousal\n0\n": "line 2: found 1 fields, expected 2",
    "seconds,arousal\n0,3\n1,high\n": "line 3: found 'high', expected a number",
    "seconds,arousal\n0,\n": "line 2: found '', expected a number",
    "seconds,arousal\n0,1_5\n": "line 2: found '1_5', expected a number",
    'seconds,arousal\n0,"3\n': "line 2: unexpected end of data",
    "seconds,arousal\n0,3\x00\n": "line 2: found '3\\\\x00', expected a number",
    b"seconds,arousal\n0,\xff\n": "cannot be read .not UTF-8 text",
    "seconds," + ",".join(f"e{i}" for i in range(65)) + "\n": "line 1: found 65 conditions",
    "seconds,arousal\n" + "".join(f"{i},3\n" for i in range(MOST_ROWS + 1)): (
        f"line {MOST_ROWS + 2}: a row too many, allowed are {MOST_ROWS}"
    ),
    b"seconds,arousal\n" + b" " * MOST_BYTES: f"bytes, allowed are {MOST_BYTES}",
}


@pytest.mark.parametrize(("content", "message"), BAD.items(), ids=range(len(BAD)))
def test_tables_that_are_no_curve_are_refused_by_line(written, content, message):
    with pytest.raises(EmoconvError, match=message) as caught:
        read_curve(written(content))
    assert "curve.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, UsageError)  # of the file, not of the command


def test_paths_that_are_no_file_are_refused(tmp_path):
    with pytest.raises(EmoconvError, match=r"gone.csv: not found"):
        read_curve(tmp_path / "gone.csv")
    with pytest.raises(EmoconvError, match="not a regular file"):
        read_curve(tmp_path)


def test_as_many_rows_as_allowed_are_read(written):
    curve = read_curve(written("seconds,arousal\n" + "".join(f"{i},3\n" for i in range(MOST_ROWS))))
    assert len(curve.times_s) == MOST_ROWS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (([], ["arousal"], []), "curve: found 0 times and 0 rows of values"),
        (([0, 1], ["arousal"], [[3]]), "curve: found 2 times and 1 rows"),
        (([0], ["happy", "sad"], [[3]]), "curve: row 1: found 1 values, expected 2"),
        (([1, 0], ["arousal"], [[3], [4]]), "curve: row 2: seconds: found 0 after 1"),
        (([0], ["arousal"], [[float("nan")]]), "curve: row 1: arousal: found nan"),
        (([0], [], [[]]), "curve: found the header 'seconds'"),
    ],
)
def test_curves_made_in_python_are_checked_as_files_are(fields, message):
    with pytest.raises(UsageError, match=message):
        Curve(*fields)
