"""The evaluation's tables and plots, of rows made by hand."""

import dataclasses

import pytest

from emoconv_jax.evaluation import report
from emoconv_jax.evaluation.evaluation import Row
from emoconv_jax.evaluation.plots import plots
from emoconv_jax.evaluation.summary import summarise
from emoconv_jax.evaluation.titles import text_of
from emoconv_jax.evaluation.trials import STRENGTHS


def row(system, what="", emotion="", value=0.0, **figures):
    """Returns a row of one clip."""
    clip = {"corpus": "own", "path": "a.wav", "speaker": "ann", "language": "en"}
    asked = {"system": system, "what": what, "emotion": emotion, "value": value}
    lasting = {"seconds": 2.0, "source_seconds": 2.0}
    return Row(**clip, **asked, file="a.flac", figures=lasting | figures)


def mixes(what):
    """Returns neutral and the strengths of happiness, heard by the bundle's recogniser."""
    return [
        row("model", what, "happy" if g else "", g, own_happy_equal_level=0.2 + g / 2)
        for g in STRENGTHS
    ]


def test_the_model_is_the_first_column_though_yardsticks_are_measured_first():
    rows = [row("source", ovrl=3.0), row("level", "arousal", value=1.0, ovrl=2.5)]
    rows.append(row("model", "arousal", value=1.0, ovrl=2.0))
    lines = report.markdown(summarise(rows, {})).splitlines()
    assert lines[2] == "| | model | level | source |"
    (line,) = [one for one in lines if one.startswith("| DNSMOS OVRL ")]
    assert [cell.split()[0] for cell in line.split("|")[2:5]] == ["2.00", "2.50", "3.00"]


@pytest.mark.parametrize(
    ("value", "share", "text"),
    [(0.256, False, "0.26"), (-31.54, False, "-31.5"), (0.256, True, "26")],
)
def test_a_figure_has_as_many_digits_as_one_can_read(value, share, text):
    figure = {"value": value, "low": value, "high": value, "utterances": 3}
    assert text_of(figure, share) == f"{text} ({text} to {text})" + (" %" if share else "")


def test_a_figure_of_fewer_clips_says_so():
    figure = {"value": 0.5, "low": 0.0, "high": 1.0, "utterances": 3}
    assert text_of(figure, True, 4) == "50 (0 to 100, 3 clips) %"


def test_a_table_of_arousal_alone_follows_where_more_was_asked():
    """OVRL 2 there, 2 and 1 with an emotion."""
    rows = [row("model", "arousal", value=1.0, ovrl=2.0), row("signal", "arousal", ovrl=3.0)]
    assert report.markdown(summarise(rows, {})).count("DNSMOS OVRL") == 1
    rows.append(row("model", "emotions", "happy", ovrl=1.0))
    every, alone = report.markdown(summarise(rows, {})).split("targets of arousal alone")
    assert "| DNSMOS OVRL | 1.50 " in every and "| DNSMOS OVRL | 2.00 " in alone


def test_rows_are_of_the_hearer_that_they_name_and_of_every_language():
    rows = [
        row("model", "arousal", "", float(v), own_arousal=float(v), second_arousal=4.0)
        for v in range(1, 8)
    ]
    rows.append(
        dataclasses.replace(
            row("model", character_errors=1, characters=4), path="b.wav", language="de"
        )
    )
    lines = report.markdown(summarise(rows, {})).splitlines()
    slopes = {"the bundle's": "1.00", "the second": "0.00"}
    for hearer, slope in slopes.items():
        (line,) = [
            one
            for one in lines
            if f"slope of heard on asked arousal, by {hearer} recogniser |" in one
        ]
        assert f"| {slope} (" in line
    assert any("| character error rate, de |" in one for one in lines)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [(("mixes",), [True, False]), (("emomix",), [False, True]), (("mixes", "emomix"), [True] * 2)],
)
def test_each_way_to_mix_that_was_asked_for_has_a_plot(asked, shown):
    rows = [one for what in asked for one in mixes(what)]
    pictures = "".join(plots(summarise(rows, {})))
    assert ["mixed on all steps" in pictures, "EmoMix's phases" in pictures] == shown
