import numpy as np
import pytest

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.average_voice import (
    PhoneHistogram,
    average_voice_target,
    count_occurrences,
)
from emoconv_jax.pipeline.phones import PHONES

AA, B, SIL = PHONES.index("AA"), PHONES.index("B"), PHONES.index("sil")


def one_bin(*values):
    return np.array(values, dtype=np.float32)[:, None]


class Collected:
    """Utterances counted first and added then, as a preparation does in two passes."""

    def __init__(self):
        self.utterances = []

    def add(self, speaker, phones, mel):
        self.utterances.append((speaker, phones, mel))

    def histogram(self, parts=1) -> PhoneHistogram:
        counts: dict[str, np.ndarray] = {}
        for speaker, phones, _ in self.utterances:
            counts.setdefault(speaker, np.zeros(len(PHONES), np.int64))
            counts[speaker] += count_occurrences(phones, len(PHONES))
        mels = self.utterances[0][2].shape[1] if self.utterances else 1
        whole, *others = [PhoneHistogram(counts, mels) for _ in range(parts)]
        for i, utterance in enumerate(self.utterances):
            ([whole, *others][i % parts]).add(*utterance)
        for other in others:
            whole.values += other.values
        return whole

    def table(self, **options) -> np.ndarray:
        return self.histogram().table(**options)


def test_a_hand_made_target():
    statistics = Collected()
    # AA: frames -1.0 -2.04 -9.0 have the median -2.04, rounded -2.0; B: median of -4.0 -4.3 is
    # -4.15, rounded -4.2 (half to even); silence -11.5.
    statistics.add(
        "x",
        np.array([AA, AA, AA, B, B, SIL]),
        one_bin(-1.0, -2.04, -9.0, -4.0, -4.3, -11.5),
    )
    # a second occurrence of AA with -2.01, rounded -2.0, and a third with -5.0: the mode is -2.0
    statistics.add("x", np.array([AA, B, AA, B]), one_bin(-2.01, -4.17, -5.0, -3.0))
    table = statistics.table(smoothing=0.0)
    assert table.shape == (len(PHONES), 1)
    assert table[AA, 0] == np.float32(-2.0)
    assert table[B, 0] == np.float32(-4.2)
    assert table[SIL, 0] == np.float32(-11.5)
    # the mean of AA: (-2.0 - 2.0 - 5.0) / 3
    assert statistics.table(mean=True)[AA, 0] == pytest.approx(-3.0)


def test_every_speaker_counts_the_same():
    statistics = Collected()
    loud = np.array([AA, B] * 8)
    statistics.add("talks much", loud, one_bin(*[-1.0, -9.0] * 8))
    for speaker in ("y", "z"):
        statistics.add(speaker, np.array([AA, B]), one_bin(-6.0, -9.0))
    # AA: 8 occurrences at -1 weigh 1 together, those of y and z at -6 weigh 2.
    assert statistics.table(smoothing=0.0)[AA, 0] == np.float32(-6.0)
    assert statistics.table(mean=True)[AA, 0] == pytest.approx((-1.0 - 6.0 - 6.0) / 3)


def test_smoothing_finds_the_bulk_instead_of_a_chance_repeat():
    rng = np.random.default_rng(0)
    statistics = Collected()
    for speaker in range(200):
        value = float(rng.normal(-4.0, 0.8))
        statistics.add(str(speaker), np.array([AA]), one_bin(value))
    # three speakers weigh the same chance value far from the bulk's centre per 0.1 bin
    for speaker in range(12):
        statistics.add(f"same {speaker}", np.array([AA]), one_bin(-1.5))
    assert statistics.table(smoothing=0.3)[AA, 0] == pytest.approx(-4.0, abs=0.4)


def test_a_phone_never_seen_has_the_row_of_all_phones_but_silence():
    statistics = Collected()
    statistics.add("x", np.array([AA, B, AA, SIL]), one_bin(-2.0, -2.0, -3.0, -11.0))
    assert statistics.table(smoothing=0.0)[PHONES.index("ZH"), 0] == np.float32(-2.0)


def test_unaligned_frames_are_left_out_and_split_occurrences():
    statistics = Collected()
    statistics.add("x", np.array([AA, -1, AA, AA], np.int8), one_bin(-2.0, -50.0, -4.0, -4.0))
    assert statistics.table(mean=True)[AA, 0] == pytest.approx((-2.0 - 4.0) / 2)


def test_bins_are_treated_apart_and_frames_take_their_phones_row():
    statistics = Collected()
    mel = np.array([[-1.0, -5.0], [-2.0, -6.0], [-1.0, -6.0]], dtype=np.float32)
    for row in mel:
        statistics.add("x", np.array([B]), row[None, :])
    table = statistics.table(smoothing=0.0)
    np.testing.assert_array_equal(table[B], np.array([-1.0, -6.0], np.float32))
    target = average_voice_target(np.array([B, -1, SIL]), table)
    np.testing.assert_array_equal(target, table[[B, SIL, SIL]])


def test_parts_of_a_corpus_add_up():
    statistics, generator = Collected(), np.random.default_rng(0)
    for i in range(12):
        phones = np.repeat(generator.integers(0, len(PHONES), 9), 3)
        mel = generator.normal(-5, 2, (len(phones), 3)).astype(np.float32)
        statistics.add(f"speaker {i % 4}", phones, mel)
    whole, parts = statistics.histogram(), statistics.histogram(parts=3)
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-12)
    np.testing.assert_array_equal(parts.table(), whole.table())


def test_every_phone_weighs_one_whoever_spoke_it():
    """Three speakers, one of which never says B: AA's weights and B's sum to one each."""
    statistics = Collected()
    for speaker, text in (("x", [AA, B, AA]), ("y", [AA, SIL]), ("z", [B, AA, B])):
        statistics.add(speaker, np.array(text), one_bin(*[-1.0] * len(text)))
    sums = statistics.histogram().values.sum(axis=(1, 2))
    assert sums[[AA, B, SIL, -1]] == pytest.approx([1, 1, 1, 1])


def test_refusals():
    with pytest.raises(EmoconvError, match="no utterance"):
        Collected().table()
    with pytest.raises(EmoconvError, match="index 40"):
        count_occurrences(np.array([40]), len(PHONES))
