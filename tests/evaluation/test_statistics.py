"""Figures of series and their intervals, by arithmetic on paper and by theory."""

import math

import numpy as np
import pytest

from emoconv_jax.evaluation import statistics

ASKED = np.arange(1.0, 8.0)


def test_a_series_by_hand():
    """Of the 10 pairs of (.1, .3, .2, .5, .4) two fall: eight in order, tau (8 - 2) / 10. Asked is
    0..4, centred -2..2: slope (-2 x .1 - .3 + .5 + 2 x .4) / (4 + 1 + 1 + 4) = .08."""
    heard = np.array([[0.1, 0.3, 0.2, 0.5, 0.4]])
    asked = np.arange(5.0)
    assert statistics.pairs_in_order(asked, heard) == pytest.approx([0.8])
    assert statistics.taus(asked, heard) == pytest.approx([0.6])
    assert statistics.slopes(asked, heard) == pytest.approx([0.08])


def test_what_no_recogniser_can_tell_apart_is_a_tie():
    """Arousals of one sound seven times differ by floating point alone; ties are not in order, and
    tau is that of a constant answer."""
    heard = 4.0 + 5e-5 * np.arange(7.0)[None]
    assert statistics.pairs_in_order(ASKED, heard).tolist() == [0.0]
    assert statistics.taus(ASKED, heard).tolist() == [0.0]
    told_apart = 4.0 + 0.01 * np.arange(7.0)[None]
    assert statistics.pairs_in_order(ASKED, told_apart).tolist() == [1.0]


def test_a_constant_answer_has_the_known_error_and_neither_order_nor_slope():
    """|1..7 - 4| / 6 averages (3 + 2 + 1 + 0 + 1 + 2 + 3) / 7 / 6 = 12 / 42, the 28.6 % of the
    papers; squared, 28 / 7 / 36 = 1 / 9."""
    heard = np.full((2, 7), 4.0)
    squared, absolute = statistics.arousal_errors(ASKED, heard)
    assert absolute == pytest.approx([12 / 42] * 2)
    assert squared == pytest.approx([1 / 9] * 2)
    assert statistics.taus(ASKED, heard).tolist() == [0.0, 0.0]
    assert statistics.slopes(ASKED, heard) == pytest.approx([0.0, 0.0])


def test_the_interval_is_that_of_the_normal_law_for_many_utterances():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = statistics.figure(values)
    assert found is not None and found.utterances == 400
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.value == pytest.approx(half, rel=0.1)
    assert found.value - found.low == pytest.approx(half, rel=0.1)


def test_what_is_not_known_is_left_out():
    found = statistics.figure(np.array([1.0, np.nan, 3.0]))
    assert found is not None and (found.value, found.utterances) == (2.0, 2)
    assert statistics.figure(np.array([np.nan])) is None
    assert statistics.paired(np.array([1.0, np.nan]), np.array([np.nan, 1.0])) is None


def test_error_rates_are_of_all_words_together():
    """1 of 10 and 4 of 5 words: 5 / 15, not the mean .45 of the two rates."""
    found = statistics.ratio_figure(np.array([[1.0, 10.0], [4.0, 5.0]]))
    assert found is not None and found.value == pytest.approx(1 / 3)
    assert found.low == pytest.approx(0.1) and found.high == pytest.approx(0.8)
    assert statistics.ratio_figure(np.array([[0.0, 0.0]])) is None


def test_a_paired_test_sees_a_shift_that_the_spread_of_utterances_hides():
    base = np.random.default_rng(2).normal(0.0, 5.0, 30)
    shift = 0.3 + np.random.default_rng(3).normal(0.0, 0.2, 30)
    found = statistics.paired(base + shift, base)
    assert found is not None and found.low > 0 and found.p < 0.01
    assert found.difference == pytest.approx(shift.mean())


@pytest.mark.parametrize(("count", "p"), [(1, 1.0), (2, 0.5), (4, 0.125)])
def test_few_utterances_prove_little(count, p):
    """Of 2^n signs two give a mean as far from 0 as n equal differences."""
    found = statistics.paired(np.ones(count), np.zeros(count))
    assert found is not None and found.p == pytest.approx(p)


@pytest.mark.parametrize("count", [6, 25])
def test_under_no_difference_p_is_uniform(count):
    generator = np.random.default_rng(4)
    pairs = [generator.normal(size=(2, count)) for _ in range(200)]
    found = [statistics.paired(*pair) for pair in pairs]
    small = sum(one is not None and one.p <= 0.1 for one in found)
    assert 8 <= small <= 33  # 20 expected, three times the binomial spread of 4.2


def test_a_hearing_that_is_missing_has_no_tau():
    heard = np.array([[1.0, np.nan, 3.0], [2.0, 2.0, 2.0]])
    found = statistics.taus(np.arange(3.0), heard)
    assert np.isnan(found[0]) and found[1] == 0.0
    in_order = statistics.pairs_in_order(np.arange(3.0), heard)
    assert np.isnan(in_order[0]) and in_order[1] == 0.0


def test_a_resampled_set_of_one_value_has_no_correlation():
    """The mean of three .1s is not .1 to the last bit: r of such a set would be 1 or -1."""
    values, others = np.array([[0.1, 0.1, 0.1]]), np.array([[0.7, 0.7, 0.7]])
    assert np.isnan(statistics._correlations(values, others)).all()
