import itertools

import numpy as np
import pytest

from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.phones import (
    PHONES,
    PhoneSpan,
    frame_phones,
    phone_spans_from_tokens,
    strip_stress,
)

# Every token that the Kokoro voices of the synthetic corpus use.
CORPUS_TOKENS = [*"!e?ʒ,YoɾQɒʊᵻaθWɡŋɜʤʃʧjOɔhɑuAIvæmˌbfɛzʌpwi.kldsðɪtnɹəˈ ", "sil"]


def timed(*tokens):
    """(token, duration in ms) one after the other, as (token, start, end) in seconds."""
    ends = np.cumsum([ms for _, ms in tokens]) / 1000
    starts = np.concatenate([[0.0], ends[:-1]])
    return [
        (token, float(start), float(end))
        for (token, _), start, end in zip(tokens, starts, ends, strict=True)
    ]


def found(*tokens):
    spans = phone_spans_from_tokens(timed(*tokens))
    return [(s.phone, round(1000 * s.start_s), round(1000 * s.end_s)) for s in spans]


def test_the_inventory_is_arpabet_without_stress_and_silence():
    assert len(PHONES) == len(set(PHONES)) == 40
    assert PHONES[-1] == "sil"


@pytest.mark.parametrize("token", CORPUS_TOKENS)
def test_every_token_of_the_corpus_maps_into_the_inventory(token):
    spans = phone_spans_from_tokens(timed(("sil", 100), (token, 50), ("t", 50)))
    assert {span.phone for span in spans} <= set(PHONES)


def test_stress_and_length_belong_to_their_vowel_and_diphthongs_stay_whole():
    assert found(("k", 50), ("ˈ", 60), ("I", 100), ("ː", 40), ("t", 50)) == [
        ("K", 0, 50),
        ("AY", 50, 250),
        ("T", 250, 300),
    ]


def test_a_short_space_is_shared_and_a_long_one_is_a_pause():
    assert found(("t", 50), (" ", 60), ("n", 50)) == [("T", 0, 80), ("N", 80, 160)]
    assert found(("t", 50), (" ", 100), ("n", 50)) == [
        ("T", 0, 50),
        ("sil", 50, 150),
        ("N", 150, 200),
    ]


def test_punctuation_is_one_silence_with_its_space_and_takes_the_run_on_of_a_last_phone():
    assert found(("i", 100), (",", 50), (" ", 50), ("z", 400), (".", 200), ("sil", 100)) == [
        ("IY", 0, 100),
        ("sil", 100, 200),
        ("Z", 200, 350),  # 0.15 s of 0.4 s
        ("sil", 350, 900),
    ]


def test_schwa_and_r_are_one_phone_unless_a_vowel_follows():
    assert found(("ə", 50), ("ɹ", 50), ("f", 50))[0] == ("ER", 0, 100)
    assert [phone for phone, _, _ in found(("ə", 50), ("ɹ", 50), ("ˈ", 50), ("W", 50))] == [
        "AH",
        "R",
        "AW",
    ]
    assert [phone for phone, _, _ in found(("w", 50), ("ɜ", 50), ("ɹ", 50), ("d", 50))] == [
        "W",
        "ER",
        "D",
    ]


def test_spans_of_a_sentence_leave_no_gap_and_keep_its_length():
    tokens = timed(("sil", 300), *[(token, 75) for token in CORPUS_TOKENS], ("sil", 100))
    spans = phone_spans_from_tokens(tokens)
    assert spans[0].start_s == 0.0
    assert spans[-1].end_s == tokens[-1][2]
    for before, after in itertools.pairwise(spans):
        assert before.end_s == pytest.approx(after.start_s)
        assert after.end_s > after.start_s


def test_an_unknown_token_is_named():
    with pytest.raises(EmoconvError, match="'ж'"):
        phone_spans_from_tokens(timed(("ж", 50)))


def test_frames_of_a_span_are_the_reference_codes():
    # 0.1 s = 2205 samples = frame 8; 0.2 s = 4410 samples = frame 17; 0.3 s = 6615 = frame 25.
    spans = [PhoneSpan("K", 0.1, 0.2), PhoneSpan("AY", 0.2, 0.3)]
    phones = frame_phones(spans, 30, MelConfig())
    expected = ["sil"] * 8 + ["K"] * 9 + ["AY"] * 9 + ["sil"] * 4  # AY has the shared frame 17
    assert [PHONES[index] for index in phones] == expected


def test_frames_beyond_the_mel_are_cut():
    assert [PHONES[i] for i in frame_phones([PhoneSpan("S", 0.0, 9.0)], 3)] == ["S"] * 3


def test_stress_is_stripped_and_silences_are_one():
    assert [strip_stress(p) for p in ("AH0", "AY1", "T", "SIL", "sp")] == [
        "AH",
        "AY",
        "T",
        "sil",
        "sil",
    ]
    with pytest.raises(EmoconvError, match="SPN"):
        strip_stress("+SPN+")
