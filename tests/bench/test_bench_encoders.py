"""The comparison of encoders: both passes of each compute the same, and the times are there."""

import sys

import numpy as np
import pytest
from tiny_bundle import WHOLE

from emoconv_jax.bench.encoders import ENCODERS, compare
from emoconv_jax.cli.main import main


@pytest.mark.parametrize("name", list(ENCODERS))
def test_both_passes_agree(name):
    ours, theirs = (one() for one in ENCODERS[name](0.3, getattr(WHOLE, name)))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())
    assert theirs.std() > 0.01 * np.abs(theirs).max()  # the comparison says something


def test_the_recogniser_takes_the_windows_of_a_long_utterance():
    """Of 431 frames begin windows of 258 at 0, 129 and 258; the last reaches the end."""
    ours, theirs = ENCODERS["recogniser"](5, WHOLE.recogniser)
    found, expected = ours(), theirs()
    sizes = WHOLE.recogniser
    assert found.shape == (3, sizes.embedding + len(sizes.emotions) + 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_times_of_every_round_are_told():
    comparison = compare("speaker", 1.6, rounds=2, threads=1)
    assert len(comparison.ours_s) == len(comparison.twin_s) == 2
    assert min(comparison.ours_s + comparison.twin_s) > 0.0
    assert comparison.ratio > 0.0
    assert comparison.difference < 1e-5 < comparison.scale


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_a_missing_library_is_named_with_what_has_it(library, monkeypatch, capsys):
    for name in ("encoders", "twins.wav2vec2"):
        monkeypatch.delitem(sys.modules, f"emoconv_jax.bench.{name}")
    monkeypatch.setitem(sys.modules, library, None)  # so Python says that it is not there
    assert main(["bench", "encoders"]) == 1
    told = capsys.readouterr().err
    assert f"{library} is not installed; `pip install -e .[bench]` has it" in told
