import json
import os
import pathlib
import re

import pytest

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.manifest import Row, read_manifest
from emoconv_jax.pipeline.splits import load_splits, split_of

SMALL = pathlib.Path(__file__).parents[2] / "data" / "splits" / "emoconv-small.json"
TRAINS = {"a", "b", "train"}


def ravdess(actor):
    return Row("ravdess", f"{actor}/03-01-05-02-01-01-{actor}.flac", actor)


def nemo(speaker, sentence):
    return Row("nemo", f"{speaker}/{speaker}_anger_{sentence}.flac", speaker)


def synthetic(number):
    return Row("synthetic", f"am_adam/am_adam_{number:03d}_a4.flac", "am_adam")


def test_actors_have_the_roles_of_the_design():
    splits = load_splits(SMALL)
    found = [split_of(splits, ravdess(f"{actor:02d}")) for actor in range(1, 25)]
    expected = ["a"] * 8 + ["b"] * 6 + ["validation"] * 2 + ["test"] * 4 + ["unused"] * 4
    assert found == expected


def test_no_test_sentence_of_nemo_trains_anything():
    splits = load_splits(SMALL)
    found = {
        speaker: {n: split_of(splits, nemo(speaker, n)) for n in range(1, 91)}
        for speaker in ("EB0", "KS0", "KD0", "WR0")
    }
    tested = {n for n, split in found["WR0"].items() if split == "test"}
    assert len(tested) == 30
    assert {found["WR0"][n] for n in range(1, 91) if n not in tested} == {"unused"}
    for speaker, role in (("EB0", "a"), ("KS0", "a"), ("KD0", "b")):
        trained = {n for n, split in found[speaker].items() if split in TRAINS}
        assert trained == set(range(1, 91)) - tested
        assert {found[speaker][n] for n in trained} == {role}
        assert {found[speaker][n] for n in tested} == {"unused"}


def test_ten_synthetic_sentences_are_held_out():
    splits = load_splits(SMALL)
    found = [split_of(splits, synthetic(n)) for n in range(100)]
    assert found.count("test") == 10
    assert found.count("train") == 90


def test_a_corpus_the_file_does_not_name_is_unused():
    assert split_of(load_splits(SMALL), Row("mine", "a.wav", "me")) == "unused"
    assert split_of(load_splits(SMALL), Row("ljspeech32", "LJ/LJ001-0001.flac", "LJ")) == "test"


def write(tmp_path, data):
    path = tmp_path / "splits.json"
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
