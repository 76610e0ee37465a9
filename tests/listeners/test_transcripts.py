"""Word and character errors by hand."""

import pytest

from emoconv_jax.listeners.transcripts import edits, errors, words


def test_words_are_without_case_and_punctuation():
    assert words("  Stop -- 'now', she said: NO!") == ["stop", "now", "she", "said", "no"]
    assert words("The cat's “tail”.", "nl") == ["the", "cat's", "tail"]
    assert words("Zażółć gęślą jaźń.", "pl") == ["zażółć", "gęślą", "jaźń"]


@pytest.mark.parametrize(
    ("written", "understood"),
    [
        ("It's eleven o'clock.", "it's 11 o’clock"),
        ("In nineteen sixty-three", "in 1963"),
        ("She won't see Mr. Smith", "she will not see Mister Smith"),
    ],
)
def test_english_numbers_and_short_forms_are_no_errors_however_they_are_written(
    written, understood
):
    assert edits(words(written), words(understood)) == 0
    assert edits(words(written), words(understood + " no")) == 1


def test_numbers_of_other_languages_stay():
    assert words("once 11", "es") == ["once", "11"]


def test_edits_are_the_fewest():
    assert edits("kitten", "sitting") == 3  # k -> s, e -> i, + g
    assert edits(["a", "b", "c"], ["a", "c"]) == 1
    assert edits([], ["a", "b"]) == 2 and edits(["a", "b"], []) == 2


def test_nothing_is_worse_than_nothing_understood():
    """Of two words one is replaced and three are added: four edits, two errors."""
    wanted, found = ["a", "b"], ["a", "x", "y", "z", "w"]
    assert (edits(wanted, found), errors(wanted, found)) == (4, 2)
    assert errors(wanted, []) == 2 and errors(wanted, ["a", "c"]) == 1
    assert errors([], ["a"]) == 0
