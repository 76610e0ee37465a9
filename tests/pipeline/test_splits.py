import hashlib
import json
import os
import pathlib
import re

import pytest

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.manifest import Row, read_manifest
from emoconv_jax.pipeline.splits import assign_splits, load_splits, split_by_speaker, split_of

SMALL = pathlib.Path(__file__).parents[2] / "data" / "splits" / "emoconv-small.json"
TRAINS = {"a", "b", "train"}


def ravdess(actor):
    return Row("ravdess", f"{actor}/03-01-05-02-01-01-{actor}.flac", actor)


def nemo(speaker, sentence, ending):
    return Row("nemo", f"{speaker}/{speaker}_anger_{sentence}.{ending}", speaker)


def synthetic(number, ending):
    return Row("synthetic", f"am_adam/am_adam_{number:03d}_a4.{ending}", "am_adam")


ENDINGS = ("flac", "ogg", "wav")  # of one clip in whatever coding


def test_actors_have_the_roles_of_the_design():
    splits = load_splits(SMALL)
    found = [split_of(splits, ravdess(f"{actor:02d}")) for actor in range(1, 25)]
    expected = ["a"] * 8 + ["b"] * 6 + ["validation"] * 2 + ["test"] * 4 + ["unused"] * 4
    assert found == expected


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_test_sentence_of_nemo_trains_anything(ending):
    splits = load_splits(SMALL)
    roles = {"EB0": "a", "IC0": "a", "KS0": "a", "KD0": "b", "SM0": "b", "TP0": "validation"}
    found = {
        speaker: {n: split_of(splits, nemo(speaker, n, ending)) for n in range(1, 91)}
        for speaker in (*roles, "WR0")
    }
    tested = {n for n, split in found["WR0"].items() if split == "test"}
    assert len(tested) == 30
    assert {found["WR0"][n] for n in range(1, 91) if n not in tested} == {"unused"}
    for speaker, role in roles.items():
        heard = {n for n, split in found[speaker].items() if split != "unused"}
        assert heard == set(range(1, 91)) - tested
        assert {found[speaker][n] for n in heard} == {role}
        assert {found[speaker][n] for n in tested} == {"unused"}


@pytest.mark.parametrize("ending", ENDINGS)
def test_ten_synthetic_sentences_are_held_out(ending):
    splits = load_splits(SMALL)
    found = [split_of(splits, synthetic(n, ending)) for n in range(100)]
    assert found.count("test") == 10
    assert found.count("train") == 90


def test_a_corpus_the_file_does_not_name_is_unused():
    assert split_of(load_splits(SMALL), Row("mine", "a.wav", "me")) == "unused"
    assert split_of(load_splits(SMALL), Row("ljspeech32", "LJ/LJ001-0001.flac", "LJ")) == "test"


def write(tmp_path, data, name="splits.json"):
    path = tmp_path / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("{", "not JSON"),
        ([], "list"),
        ({"x": {}}, "x: expected an object with the field splits"),
        ({"x": {"splits": {"c": {}}}}, r"x\.c: no split"),
        ({"x": {"splits": {"a": {"actors": []}}}}, r"x\.a\.actors: unknown field"),
        ({"x": {"splits": {"a": {"sentences": ["1"]}}}}, "the field sentence is missing"),
        ({"x": {"sentence": "(", "splits": {}}}, "no regular expression"),
        ({"x": {"sentence": "_", "splits": {}}}, "0 groups"),
        ({"x": {"sentences": "_", "splits": {}}}, r"x\.sentences: unknown"),
    ],
)
def test_a_damaged_split_file_is_refused_by_name(tmp_path, data, named):
    with pytest.raises(EmoconvError, match=named):
        load_splits(write(tmp_path, data))


def test_a_row_in_two_splits_or_without_a_sentence_is_refused(tmp_path):
    data = {"x": {"sentence": r"_(\d+)", "splits": {"a": {"speakers": ["s"]}, "test": {}}}}
    splits = load_splits(write(tmp_path, data))
    with pytest.raises(EmoconvError, match=re.escape("x/s_1.wav: in the splits a and test")):
        split_of(splits, Row("x", "s_1.wav", "s"))
    with pytest.raises(EmoconvError, match="no sentence id"):
        split_of(splits, Row("x", "s.wav", "t"))
    assert split_of(splits, Row("x", "t_1.wav", "t")) == "test"


@pytest.mark.corpora
def test_no_speaker_of_acted_speech_is_in_two_of_training_validation_and_test():
    splits = load_splits(SMALL)
    for corpus in ("ravdess", "nemo", "ljspeech32"):
        roles: dict[str, set[str]] = {}
        sentences: dict[str, set[str]] = {}
        for row in read_manifest(pathlib.Path(os.environ["EMOCONV_CORPORA"]) / corpus):
            split = split_of(splits, row)
            if split != "unused":
                roles.setdefault(row.speaker, set()).add("train" if split in TRAINS else split)
                sentences.setdefault(split, set()).add(row.text)
        assert roles
        assert all(len(found) == 1 for found in roles.values())
        if corpus == "nemo":
            assert not sentences["test"] & (sentences["a"] | sentences["b"])


@pytest.mark.corpora
def test_held_out_synthetic_sentences_are_never_trained():
    splits = load_splits(SMALL)
    spoken: dict[str, set[str]] = {}
    for row in read_manifest(pathlib.Path(os.environ["EMOCONV_CORPORA"]) / "synthetic"):
        spoken.setdefault(split_of(splits, row), set()).add(row.text)
    assert len(spoken["test"]) == 10
    assert not spoken["test"] & spoken["train"]


def test_a_folder_of_split_files_is_all_of_them(tmp_path):
    for corpus in ("one", "two"):
        write(tmp_path, {corpus: {"splits": {"a": {"speakers": [corpus]}}}}, f"{corpus}.json")
    splits = load_splits(tmp_path)
    assert split_of(splits, Row("one", "1.wav", "one")) == "a"
    assert split_of(splits, Row("two", "1.wav", "one")) == "unused"
    write(tmp_path, {"two": {"splits": {}}}, "zzz.json")
    with pytest.raises(EmoconvError, match=r"zzz\.json: two is in another file of"):
        load_splits(tmp_path)


def test_published_splits_do_not_share_speakers():
    """For every corpus and each two of its splits that name their speakers.

    Those of `synthetic` share them, since new sentences of known voices are a test too: what they
    do not share are sentences.
    """
    for corpus, entry in load_splits(SMALL.parent).items():
        named = {name: split.speakers for name, split in entry.splits.items() if split.speakers}
        everyone = [speaker for speakers in named.values() for speaker in speakers]
        if corpus == "synthetic":
            assert entry.splits["train"].without_sentences == entry.splits["test"].sentences
        else:
            assert len(set(everyone)) == len(everyone), corpus


def test_a_corpus_has_its_file_s_split_else_its_own_else_one_by_speaker(tmp_path):
    splits = load_splits(write(tmp_path, {"filed": {"splits": {"test": {}}}}))
    published = load_splits(
        write(tmp_path, {name: {"splits": {"b": {}}} for name in ("own", "filed", "published")})
    )
    own = [Row("own", f"{i}.wav", "s", split=name) for i, name in enumerate(OWN)]
    chance = [Row("chance", f"{i}.wav", f"s{i % 20}") for i in range(60)]
    filed = [Row("filed", "1.wav", "s", split="a"), Row("published", "1.wav", "s")]
    found = assign_splits(splits, [*filed, *own, *chance], published)
    assert found[:2] == ["test", "b"]
    assert found[2 : len(OWN) + 2] == list(OWN.values())
    rest = found[len(OWN) + 2 :]
    assert {name: rest.count(name) for name in ("a", "validation", "test")} == {
        "a": 48,  # 16 speakers of 3 clips
        "validation": 6,
        "test": 6,
    }
    by_speaker = {}
    for row, name in zip(chance, rest, strict=True):
        assert by_speaker.setdefault(row.speaker, name) == name


OWN = {
    "Train": "a",
    "b": "b",
    "dev": "validation",
    "Validation": "validation",
    "eval": "test",
    "": "unused",
}


def test_a_split_of_no_known_name_is_refused():
    with pytest.raises(EmoconvError, match=r"own/1\.wav: split 'fold3', allowed are a, b, train"):
        assign_splits({}, [Row("own", "1.wav", "s", split="fold3")])


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 0), (3, 1), (10, 1), (29, 2), (300, 30)])
def test_a_tenth_of_the_speakers_is_held_out_twice(count, held):
    names = [f"speaker {i}" for i in range(count)]
    found = split_by_speaker("corpus", names)
    assert sorted(found) == sorted(names)
    places = list(found.values())
    assert places.count("validation") == places.count("test") == held
    assert places.count("a") == count - 2 * held
    assert split_by_speaker("corpus", names[::-1]) == found


def test_who_is_held_out_follows_from_the_names_hashes():
    """SHA-256 of c/x, c/y and c/z begin with the bytes that the order is by."""
    order = sorted("xyz", key=lambda name: hashlib.sha256(f"c/{name}".encode()).hexdigest())
    found = split_by_speaker("c", "xyz")
    assert [found[name] for name in order] == ["validation", "test", "a"]
