"""The split files of data/splits: every speaker of a corpus once, and who must not be parted."""

import pathlib

import pytest

from emoconv_jax.pipeline.manifest import Row
from emoconv_jax.pipeline.splits import SPLITS, load_splits, split_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLISHED = {
    "esd": [f"{speaker:04d}" for speaker in range(1, 21)],
    "iemocap": [f"Ses0{session}{letter}" for session in range(1, 6) for letter in "FM"],
    "crema_d": [str(speaker) for speaker in range(1001, 1092)],
}


@pytest.mark.parametrize("corpus", PUBLISHED)
def test_published_splits_place_every_speaker_once(corpus):
    splits = load_splits(ROOT / "data" / "splits" / f"{corpus}.json")
    found = {s: split_of(splits, Row(corpus, "x.wav", s)) for s in PUBLISHED[corpus]}
    assert set(found.values()) == {"a", "b", "validation", "test"}
    assert sum(len(c.speakers or ()) for c in splits[corpus].splits.values()) == len(found)


def test_esd_splits_hold_both_genders_and_languages():
    chinese = {"0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010"}
    men = {"0004", "0005", "0006", "0008", "0010", "0011", "0012", "0013", "0014", "0020"}
    for conditions in load_splits(ROOT / "data/splits/esd.json")["esd"].splits.values():
        speakers = conditions.speakers or ()
        assert len({(speaker in men, speaker in chinese) for speaker in speakers}) == 4


def test_iemocap_splits_keep_the_two_of_a_session_together():
    splits = load_splits(ROOT / "data/splits/iemocap.json")
    for session in range(1, 6):
        placed = {split_of(splits, Row("iemocap", "x", f"Ses0{session}{g}")) for g in "FM"}
        assert len(placed) == 1


def test_vctk_splits_are_disjoint_and_known():
    splits = load_splits(ROOT / "data/splits/vctk.json")["vctk"].splits
    speakers = [s for conditions in splits.values() for s in conditions.speakers or ()]
    assert len(speakers) == len(set(speakers)) == 110
    assert set(splits) <= set(SPLITS)
