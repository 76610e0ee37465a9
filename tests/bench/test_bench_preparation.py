"""The measurement of a preparation: what it counts, not how fast this machine is."""

import pytest
from tones import SECONDS, make_corpus

from emoconv_jax.bench.preparation import measure
from emoconv_jax.errors import EmoconvError

pytestmark = [pytest.mark.slow, pytest.mark.network]


def test_speech_is_counted_with_and_without_alignment(tmp_path):
    """Seven clips of .75 s, of which every second is taken: 7 // 3 = 2, so clips 0, 2 and 4."""
    found = measure(str(make_corpus(tmp_path / "corpus")), 3)
    assert [one.alignment for one in found] == ["auto", "given"]
    for one in found:
        assert one.utterances == 3
        frames = int(SECONDS * 22050) // 256
        assert one.speech_s == pytest.approx(3 * frames * 256 / 22050)
        assert one.aligned == 0  # no clip has a text
        assert one.core_s > 0
        assert one.hours_per_core_hour == one.speech_s / one.core_s
        assert one.peak_bytes > 1e8  # Python with JAX alone has more


def test_a_corpus_of_nothing_usable_is_an_error(tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    for path in (*corpus.glob("*.wav"), *corpus.glob("*.flac")):
        path.write_bytes(b"")
    with pytest.raises(EmoconvError, match=r"corpus: none of 2 utterances can be prepared"):
        measure(str(corpus), 2)
