"""Who says what in the Kokoro corpus, counted, and how its clips fall into the published splits."""

import collections
import csv
import itertools
import os
import pathlib
import re
import sys

import pytest

from emoconv_jax.pipeline.manifest import Row
from emoconv_jax.pipeline.splits import load_splits, split_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "data" / "kokoro"))

import kokoro_plan  # noqa: E402

SENTENCES = kokoro_plan.read_sentences()
PLAN = kokoro_plan.make_plan(SENTENCES)
TRAIN = [clip for clip in PLAN if clip.sentence.split == "train"]
HELD_OUT_VOICES = {"bf_emma", "am_michael", "af_kore", "bm_george"}


def by_sentence(plan):
    """Returns lists of clips by number; the plan holds a sentence's clips side by side."""
    groups = itertools.groupby(plan, key=lambda clip: clip.sentence.number)
    listed = [(number, list(clips)) for number, clips in groups]
    assert len({number for number, _ in listed}) == len(listed)
    return dict(listed)


def words(text):
    return re.findall(r"[a-z']+", text.lower())


def test_the_sentences_are_numbered_clean_and_short():
    assert collections.Counter(s.split for s in SENTENCES) == {
        "train": 660,
        "validation": 10,
        "test": 10,
    }
    assert len({s.number for s in SENTENCES}) == len({s.text for s in SENTENCES}) == 680
    for sentence in SENTENCES:
        assert re.fullmatch(r"\d{4}", sentence.number)
        assert re.fullmatch(r"[A-Z][A-Za-z', ]*[a-z][.!?]", sentence.text), sentence
        assert 5 <= len(words(sentence.text)) <= 16
    endings = collections.Counter(s.text[-1] for s in SENTENCES)
    assert endings["?"] > 50
    assert endings["!"] > 30


def test_each_training_sentence_is_said_by_seven_voices_of_both_sexes():
    groups = by_sentence(TRAIN)
    assert len(groups) == 660
    for clips in groups.values():
        assert len({clip.voice for clip in clips}) == len(clips) == 7
        assert sorted(collections.Counter(c.gender for c in clips).values()) == [3, 4]
        neutral = collections.Counter(c.gender for c in clips if c.arousal == 4)
        assert neutral == {"F": 2, "M": 2}
        others = [c.arousal for c in clips if c.arousal != 4]
        assert len(set(others)) == 3
        assert set(others) <= {1, 2, 3, 5, 6, 7}


def test_voices_sexes_and_arousals_are_dealt_evenly():
    counts = collections.Counter(clip.voice for clip in TRAIN)
    assert set(counts) == set(kokoro_plan.training_voices())
    assert max(counts.values()) < 1.2 * min(counts.values())
    sexes = collections.Counter(clip.gender for clip in TRAIN)
    assert sexes["F"] == sexes["M"] == 660 * 7 // 2
    arousals = collections.Counter(clip.arousal for clip in TRAIN)
    assert arousals.pop(4) == 660 * 4
    assert set(arousals.values()) == {660 * 3 // 6}


def test_held_out_voices_train_nothing_and_are_in_no_blend():
    assert {v for voices in kokoro_plan.HELD_OUT.values() for v in voices} == HELD_OUT_VOICES
    for voice in kokoro_plan.training_voices():
        parts = kokoro_plan.parts_of(voice)
        assert not set(parts) & HELD_OUT_VOICES
        assert set(parts) <= set(kokoro_plan.VOICES)
        assert len({part[:2] for part in parts}) == 1  # one accent, one sex
        assert len(set(parts)) == len(parts)
    said = [clip for clip in PLAN if clip.sentence.split != "train"]
    assert {clip.voice for clip in said} == HELD_OUT_VOICES
    assert len(said) == 20 * 4 * 3  # sentences, voices, arousal 1, 4 and 7


def test_names_are_paths_and_unlike():
    paths = [clip.path for clip in PLAN]
    assert len(set(paths)) == len(paths) == 660 * 7 + 240
    for path in paths:
        assert re.fullmatch(r"([a-z_-]+)/\1_\d{4}_a[1-7]\.flac", path)


def test_the_plan_is_always_the_same_and_another_for_another_seed():
    assert kokoro_plan.make_plan(SENTENCES) == PLAN
    other = kokoro_plan.make_plan(SENTENCES, seed=1)
    assert other != PLAN
    assert len(other) == len(PLAN)


def test_a_beginning_of_the_plan_is_a_corpus_too():
    """After a tenth of the clips: all held-out voices, nearly all others, every arousal."""
    first = PLAN[: len(PLAN) // 10]
    assert {clip.voice for clip in first} >= HELD_OUT_VOICES
    assert len({clip.voice for clip in first}) > 0.9 * (len(kokoro_plan.training_voices()) + 4)
    assert {clip.arousal for clip in first} == set(range(1, 8))
    assert {clip.sentence.split for clip in first} == {"train", "validation"}


def test_the_published_splits_keep_voices_and_sentences_apart():
    splits = load_splits(ROOT / "data" / "splits" / "emoconv-small.json")
    voices, texts = collections.defaultdict(set), collections.defaultdict(set)
    counts = collections.Counter()
    for clip in PLAN:
        split = split_of(splits, Row("kokoro", clip.path, clip.voice))
        counts[split] += 1
        voices[split].add(clip.voice)
        texts[split].add(clip.sentence.text)
    assert counts == {"train": 4620, "validation": 60, "test": 60, "unused": 120}
    assert voices["validation"] == {"bf_emma", "am_michael"}
    assert voices["test"] == {"af_kore", "bm_george"}
    for one, other in itertools.combinations(("train", "validation", "test"), 2):
        assert not voices[one] & voices[other]
        assert not texts[one] & texts[other]


@pytest.mark.corpora
def test_the_sentences_overlap_no_other_english_corpus_but_the_ten_kept_ones():
    """No sentence is part of one of LJ Speech's texts, nor six of its words in a row."""
    corpora = pathlib.Path(os.environ["EMOCONV_CORPORA"])
    said = {}
    for corpus in ("ljspeech32", "synthetic", "ravdess"):
        with open(corpora / corpus / "manifest.tsv", encoding="utf-8", newline="") as file:
            said[corpus] = {row["text"] for row in csv.DictReader(file, delimiter="\t")}
    assert {s.text for s in SENTENCES if s.split == "test"} <= said["synthetic"]
    runs = {
        tuple(spoken[i : i + 6])
        for text in set().union(*said.values())
        for spoken in [words(text)]
        for i in range(len(spoken) - 5)
    }
    for sentence in SENTENCES:
        if sentence.split != "test":
            spoken = words(sentence.text)
            assert not runs & {tuple(spoken[i : i + 6]) for i in range(len(spoken) - 5)}
            assert sentence.text not in said["synthetic"]
