"""The feature store: arrays of the sizes that the index promises, or one line that says which."""

import json

import numpy as np
import pytest

from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.store import ARRAYS, INDEX, FeatureStore, clear, write_array, write_index

TOTAL = 374  # frames of conftest's utterances


def test_every_array_has_a_row_per_frame_utterance_or_phone(numbered):
    shapes = {name: numbered.array(name).shape for name in ARRAYS}
    assert shapes == {
        "mel": (TOTAL, 80),
        "phones": (TOTAL,),
        "speaker": (10, 256),
        "targets": (40, 80),
        "average_voice": (TOTAL, 80),
        "emotion": (10, 8),
        "arousal": (10,),
    }
    assert numbered.frames == TOTAL
    assert {name: numbered.array(name).dtype for name in ("mel", "phones", "speaker")} == {
        "mel": np.float16,
        "phones": np.int8,
        "speaker": np.float32,
    }


def test_frames_of_an_utterance_are_its_own(numbered):
    for i, utterance in enumerate(numbered.utterances):
        rows = numbered.frames_of("mel", i)
        assert (rows[:, 0] == i).all()
        assert rows[:, 1].tolist() == list(range(utterance.frames))


def test_arrays_cannot_be_written_to(numbered):
    with pytest.raises(ValueError, match="read-only"):
        numbered.array("mel")[0] = 0


def test_select_returns_indices_in_order(numbered):
    assert numbered.select(lambda u: u.split == "test").tolist() == [8, 9]
    none = numbered.select(lambda u: False)
    assert none.shape == (0,)
    assert none.dtype == np.int64


def test_an_index_and_back(numbered, tmp_path):
    write_index(tmp_path, MelConfig(), numbered.utterances)
    again = FeatureStore(tmp_path)
    assert again.utterances == numbered.utterances
    assert again.mel_config == MelConfig()


@pytest.mark.parametrize("kept", [0, 1, TOTAL * 80, TOTAL * 80 * 2 - 1, TOTAL * 80 * 4])
def test_a_file_of_another_size_is_refused(numbered, kept):
    """Half of the mels would divide evenly into rows of 40 bins."""
    path = numbered.folder / "mel.f16"
    path.write_bytes((path.read_bytes() * 2)[:kept])
    message = f"mel.f16: {kept} bytes, expected {TOTAL} rows of 80 numbers of 2 bytes"
    with pytest.raises(EmoconvError, match=message):
        FeatureStore(numbered.folder).array("mel")


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
        (("mel",), None, "mel: found NoneType, expected an object"),
        (("mel", "bins"), 3, "mel.bins: unknown field"),
        (("utterances", 2, "start"), 54, r"utterances\[2\] has 47 frames from 54, expected .* 53"),
        (("utterances", 2, "frames"), 0, r"utterances\[2\] has 0 frames"),
        (("utterances", 2, "frames"), -5, r"utterances\[2\] has -5 frames"),
        (("utterances", 1, "arousal"), float("nan"), r"utterances\[1\].arousal: found nan"),
        (("utterances", 1, "split"), 3, r"utterances\[1\].split: found int 3, expected str"),
        (("utterances", 1), {}, r"utterances\[1\].corpus: missing"),
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


def test_clearing_takes_away_the_store_and_nothing_else(numbered):
    (numbered.folder / "notes.txt").write_text("mine")
    clear(numbered.folder)
    assert [path.name for path in numbered.folder.iterdir()] == ["notes.txt"]
