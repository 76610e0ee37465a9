"""Word and character errors by hand."""

from emoconv_jax.listeners.transcripts import edits, words


def test_words_are_without_case_and_punctuation():
    assert words("  Don’t stop -- 'now', she said: NO!") == [
        "don't",
        "stop",
        "now",
        "she",
        "said",
        "no",
    ]
    assert words("The cat's “tail”, isn’t it?") == ["the", "cat's", "tail", "isn't", "it"]
    assert words("Zażółć gęślą jaźń.") == ["zażółć", "gęślą", "jaźń"]


def test_edits_are_the_fewest():
    assert edits("kitten", "sitting") == 3  # k -> s, e -> i, + g
    assert edits(["a", "b", "c"], ["a", "c"]) == 1
    assert edits([], ["a", "b"]) == 2 and edits(["a", "b"], []) == 2
