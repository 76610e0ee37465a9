"""The feature store: arrays of the sizes that the index promises, or one line that says which."""

import json

import numpy as np
import pytest
from tiny_store import entries

from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.store import (
    ARRAYS,
    INDEX,
    FeatureStore,
    array_path,
    write_array,
    write_index,
)

TOTAL = 374  # frames of conftest's utterances


def test_every_array_has_a_row_per_utterance_or_phone(numbered):
    names = [name for name, (_, _, per, _) in ARRAYS.items() if per != "frame"]
    assert {name: numbered.array(name).shape for name in names} == {
        "speaker": (10, 256),
        "targets": (40, 80),
        "emotion": (10, 8),
        "arousal": (10,),
        "whisper_pooled": (10, 28),
    }
    assert numbered.array("speaker").dtype == np.float32
    assert numbered.frames == TOTAL


def test_every_array_of_frames_has_a_row_for_each(numbered):
    for i, utterance in enumerate(numbered.utterances):
        assert numbered.frames_of("mel", i).shape == (utterance.frames, 80)
        assert numbered.frames_of("phones", i).shape == (utterance.frames,)
    assert numbered.frames_of("mel", 0).dtype == np.float16
    assert numbered.frames_of("phones", 0).dtype == np.int8


def test_a_stretch_of_an_utterance(numbered):
    """The third has 47 frames."""
    assert numbered.frames_of("mel", 2, 5, 9)[:, 1].tolist() == [5, 6, 7, 8]
    assert numbered.frames_of("mel", 2, 45, 99)[:, 1].tolist() == [45, 46]


def test_utterances_of_several_shards_are_found_in_theirs(tmp_path):
    """Two shards, of 3 + 2 and of 4 frames; what lies between the utterances is nobody's."""
    places = [(0, 0, 3), (0, 3, 2), (1, 1, 2)]
    utterances = entries(
        [frames for *_, frames in places],
        lambda i: {"speaker": "x", "split": "a", "shard": places[i][0], "start": places[i][1]},
    )
    for shard, frames in enumerate((5, 4)):
        numbers = 100 * shard + np.arange(frames)
        write_array(tmp_path, "mel", np.tile(numbers[:, None], (1, 80)), shard)
    write_index(tmp_path, MelConfig(), utterances, [5, 4])
    store = FeatureStore(tmp_path)
    found = [store.frames_of("mel", i)[:, 7].tolist() for i in range(3)]
    assert found == [[0, 1, 2], [3, 4], [101, 102]]
    assert store.frames == 7


def test_frames_of_an_utterance_are_its_own(numbered):
    for i, utterance in enumerate(numbered.utterances):
        rows = numbered.frames_of("mel", i)
        assert (rows[:, 0] == i).all()
        assert rows[:, 1].tolist() == list(range(utterance.frames))


def test_arrays_cannot_be_written_to(numbered):
    with pytest.raises(ValueError, match="read-only"):
        numbered.array("speaker")[0] = 0


def test_select_returns_indices_in_order(numbered):
    assert numbered.select(lambda u: u.split == "test").tolist() == [8, 9]
    none = numbered.select(lambda u: False)
    assert none.shape == (0,)
    assert none.dtype == np.int64


def test_an_index_and_back(numbered, tmp_path):
    write_index(tmp_path, MelConfig(), numbered.utterances, [TOTAL])
    again = FeatureStore(tmp_path)
    assert again.utterances == numbered.utterances
    assert again.mel_config == MelConfig()


def test_features_without_prosody_are_told_to_be_old(numbered):
    array_path(numbered.folder, "prosody").unlink()
    with pytest.raises(EmoconvError, match=r"prosody\.f32: not found; .*prepare them afresh"):
        numbered.frames_of("prosody", 0)


@pytest.mark.parametrize("kept", [0, 1, TOTAL * 80, TOTAL * 80 * 2 - 1, TOTAL * 80 * 4])
def test_a_file_of_another_size_is_refused(numbered, kept):
    """Half of the mels would divide evenly into rows of 40 bins."""
    path = array_path(numbered.folder, "mel")
    path.write_bytes((path.read_bytes() * 2)[:kept])
    message = f"mel.f16: {kept} bytes, expected {TOTAL} rows of 80 numbers of 2 bytes"
    with pytest.raises(EmoconvError, match=message):
        FeatureStore(numbered.folder).frames_of("mel", 3)


def test_embeddings_may_have_any_width_but_no_ragged_rows(numbered):
    write_array(numbered.folder, "emotion", np.zeros((10, 1)))
    assert FeatureStore(numbered.folder).array("emotion").shape == (10, 1)
    write_array(numbered.folder, "emotion", np.zeros(11))
    with pytest.raises(EmoconvError, match=r"emotion\.f32: 44 bytes, expected 10 rows of 1"):
        FeatureStore(numbered.folder).array("emotion")


def test_absent_arrays_say_what_makes_them(numbered):
    (numbered.folder / "emotion.f32").unlink()
    with pytest.raises(EmoconvError, match=r"emotion\.f32: not found; run `emoconv prepare`"):
        FeatureStore(numbered.folder).array("emotion")


def change(index: dict, path: tuple, value: object) -> dict:
    *above, last = path
    inner = index
    for key in above:
        inner = inner[key]
    inner[last] = value
    return index


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("utterances",), None, "expected an object with mel and utterances"),
        (("utterances",), [], "expected an object with mel and utterances"),
        (("mel",), None, "mel: found NoneType, expected an object"),
        (("mel", "bins"), 3, "mel.bins: unknown field"),
        (("units",), -1, "shard_frames and units must be numbers of 0 or more"),
        (("shard_frames",), 374, "shard_frames and units must be numbers of 0 or more"),
        (
            ("shard_frames",),
            [300],
            r"utterances\[7\] has 52 frames from 257 of shard 0, .* its 300",
        ),
        (("utterances", "start", 2), -1, r"utterances\[2\] has 47 frames from -1 of shard 0"),
        (("utterances", "frames", 2), 0, r"utterances\[2\] has 0 frames"),
        (("utterances", "frames", 2), -5, r"utterances\[2\] has -5 frames"),
        (("utterances", "shard", 9), 1, r"utterances\[9\] has 35 frames from 339 of shard 1"),
        (("utterances", "shard", 9), -1, r"of shard -1"),
        (("utterances", "arousal", 1), float("nan"), r"utterances.arousal\[1\]: found float nan"),
        (("utterances", "f0_hz", 1), 10**400, r"utterances.f0_hz\[1\]: found int 1000"),
        (("utterances", "split", 1), 3, r"utterances.split\[1\]: found int 3, expected str"),
        (("utterances", "rated", 1), 1, r"utterances.rated\[1\]: found int 1, expected bool"),
        (("utterances", "split"), ["a"], r"utterances.split: expected a list of 10 values"),
        (("utterances", "split"), "aaaaaaaaaa", r"utterances.split: expected a list of 10 values"),
        (("utterances", "mood"), [], r"utterances.mood: expected are the columns corpus, path"),
    ],
)
def test_an_index_that_makes_no_sense_is_refused_by_field(numbered, path, value, message):
    file = numbered.folder / INDEX
    file.write_text(json.dumps(change(json.loads(file.read_text()), path, value)))
    with pytest.raises(EmoconvError, match=message) as caught:
        FeatureStore(numbered.folder)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_an_index_that_is_no_index_is_refused(tmp_path, content):
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(EmoconvError, match=INDEX):
        FeatureStore(tmp_path)


def test_no_folder_and_no_feature_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(EmoconvError, match=r"index\.json: "):
            FeatureStore(folder)
