"""The split files of data/splits: every speaker of a corpus once, and who must not be parted.

emoconv-small's are counted on the corpora that it names. What to expect follows from who speaks
what, as the corpora's authors tell it, and from the names of the files that are there.
"""

import collections
import csv
import hashlib
import itertools
import os
import pathlib

import pytest

from emoconv_jax.pipeline.manifest import Row, read_manifest
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


CORPORA = ("ravdess", "nemo", "ljspeech32", "synthetic")
RAVDESS = (
    dict.fromkeys(("01", "02", "03", "04", "05", "06", "07", "08"), "a")
    | dict.fromkeys(("09", "10", "11", "12", "13", "14"), "b")
    | dict.fromkeys(("15", "16"), "validation")
    | dict.fromkeys(("17", "18", "19", "20"), "test")
)
NEMO = {
    **{"EB0": "a", "IC0": "a", "KS0": "a", "KD0": "b", "SM0": "b"},
    **{"TP0": "validation", "WR0": "test"},
}
NEMO_EMOTIONS = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")
NEMO_KEPT = {  # for the test: a third of the 90 sentences
    *(2, 3, 6, 9, 10, 11, 13, 16, 19, 20, 25, 29, 30, 31, 36),
    *(37, 39, 47, 48, 55, 60, 69, 70, 71, 73, 76, 79, 84, 85, 86),
}
VALIDATION_VOICES = {"bf_emma", "am_michael"}  # of Kokoro, a woman and a man each
TEST_VOICES = {"af_kore", "bm_george"}
SYNTHETIC_KEPT = {24, 37, 41, 45, 55, 57, 75, 77, 81, 94}


def corpora() -> pathlib.Path:
    return pathlib.Path(os.environ["EMOCONV_CORPORA"])


def clips(corpus: str) -> set[str]:
    """Returns the audio files that are there, as SPEAKER/NAME without the ending."""
    found = (path for path in (corpora() / corpus).rglob("*") if path.suffix in (".flac", ".ogg"))
    return {path.relative_to(corpora() / corpus).with_suffix("").as_posix() for path in found}


def texts(corpus: str) -> dict[str, str]:
    """Returns what is said, by SPEAKER/NAME."""
    with (corpora() / corpus / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["path"].rpartition(".")[0]: row["text"] for row in table}


def placed(corpus: str) -> dict[str, str]:
    """Returns the splits that the file gives, by SPEAKER/NAME."""
    splits = load_splits(ROOT / "data/splits/emoconv-small.json")
    rows = read_manifest(corpora() / corpus)
    return {row.path.rpartition(".")[0]: split_of(splits, row) for row in rows}


def counted(found: dict[str, str]) -> dict[tuple[str, str], int]:
    """Returns the clips of each voice in each split."""
    return dict(collections.Counter((name.split("/")[0], to) for name, to in found.items()))


def test_the_kept_sentences_are_thirty_and_ten():
    assert len(NEMO_KEPT) == 30
    assert len(SYNTHETIC_KEPT) == 10


@pytest.mark.corpora
@pytest.mark.parametrize("corpus", CORPORA)
def test_every_clip_that_is_there_is_placed(corpus):
    assert set(placed(corpus)) == clips(corpus)


@pytest.mark.corpora
def test_one_sound_is_there_twice():
    """As data/corpora.md says; a preparation leaves the second out."""
    sounds: dict[bytes, list[str]] = collections.defaultdict(list)
    paths = (path for name in CORPORA for path in (corpora() / name).rglob("*"))
    for path in sorted(paths):
        if path.suffix in (".flac", ".ogg"):
            sounds[hashlib.sha256(path.read_bytes()).digest()].append(path.stem)
    twice = [names for names in sounds.values() if len(names) > 1]
    assert twice == [["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"]]


@pytest.mark.corpora
def test_each_actor_of_ravdess_is_in_one_split_with_all_clips():
    """Two statements, twice: 7 emotions in two intensities each, and neutral in one."""
    clips_each = 2 * 2 * (7 * 2 + 1)
    assert counted(placed("ravdess")) == dict.fromkeys(RAVDESS.items(), clips_each)


@pytest.mark.corpora
def test_each_voice_of_nemo_is_in_one_split_without_the_others_sentences():
    """Six emotions times 60 sentences, for WR0 the other 30, less what was never recorded."""
    recorded = clips("nemo")
    expected = {}
    for speaker, split in NEMO.items():
        wanted = NEMO_KEPT if split == "test" else set(range(1, 91)) - NEMO_KEPT
        names = {
            f"{speaker}/{speaker}_{emotion}_{sentence}"
            for emotion, sentence in itertools.product(NEMO_EMOTIONS, range(1, 91))
        }
        heard = {name for name in names if int(name.rpartition("_")[2]) in wanted}
        absent = names - recorded
        assert len(absent) <= 2, "a voice that was copied in part"
        expected[speaker, split] = 6 * len(wanted) - len(heard & absent)
        unused = 6 * (90 - len(wanted)) - len(absent - heard)
        expected[speaker, "unused"] = unused
    assert counted(placed("nemo")) == expected


@pytest.mark.corpora
def test_no_sentence_kept_for_the_test_is_heard_before_it():
    """By what is said, whatever the files are called."""
    for corpus, kept in (("nemo", 30), ("synthetic", 10)):
        said: dict[str, set[str]] = collections.defaultdict(set)
        words = texts(corpus)
        for name, split in placed(corpus).items():
            said[split].add(words[name])
        assert len(said["test"]) == kept
        earlier = [said[split] for split in ("a", "b", "train", "validation")]
        assert not said["test"] & set().union(*earlier)


@pytest.mark.corpora
def test_synthetic_voices_train_but_the_held_out_ones_and_none_says_a_kept_sentence():
    found, expected = placed("synthetic"), collections.Counter()
    for name in clips("synthetic"):
        voice, _, rest = name.partition("/")
        number, arousal = rest.removeprefix(f"{voice}_").split("_a")
        assert arousal in set("1234567")
        kept = int(number) in SYNTHETIC_KEPT and voice not in VALIDATION_VOICES
        trains = int(number) not in SYNTHETIC_KEPT and voice not in VALIDATION_VOICES | TEST_VOICES
        expected[voice, "test" if kept else "train" if trains else "unused"] += 1
    assert counted(found) == dict(expected)
    assert len({voice for voice, split in expected if split == "train"}) == 28 - 4
    tests = {voice for voice, split in expected if split == "test"}
    assert tests > TEST_VOICES
    assert not VALIDATION_VOICES & tests


@pytest.mark.corpora
def test_lj_speech_is_for_the_test_alone():
    assert counted(placed("ljspeech32")) == {("LJ", "test"): 32}
