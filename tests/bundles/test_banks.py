"""Target embeddings: who makes a bank, what lies between two levels, what is refused."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from emoconv_jax.bundles.banks import (
    BANKS_FILE,
    Banks,
    at_level,
    build,
    load_banks,
    nearest_to_level,
    save_banks,
)
from emoconv_jax.errors import EmoconvError, UsageError

WIDTH = 3


def test_the_nearest_fifth_by_label_and_prediction_is_chosen_best_first():
    """150 utterances labelled 2.6 to 3.4 and 100 labelled 6: a fifth of all is 50."""
    labels = np.concatenate([np.linspace(2.6, 3.4, 150), np.full(100, 6.0)])
    predictions = np.concatenate([np.tile([2.0, 3.0, 5.0], 50), np.full(100, 6.0)])
    chosen, weights = nearest_to_level(labels, predictions, 3.0)
    # Those predicted 3.0 (every third, from the second) are |label - 3| / 2 <= .2 away, all others
    # at least 1 / 2.
    assert set(chosen) == set(range(1, 150, 3))
    distance = (np.abs(labels[chosen] - 3) + np.abs(predictions[chosen] - 3)) / 2
    assert (np.diff(distance) >= -1e-12).all()
    tricube = (1 - (distance / distance.max()) ** 3) ** 3
    np.testing.assert_allclose(weights, tricube / tricube.sum(), atol=1e-3)


def test_at_least_twenty_are_chosen_where_a_fifth_is_fewer():
    """A fifth of 50 would be 10."""
    labels = np.linspace(1, 7, 50)
    chosen, _ = nearest_to_level(labels, labels, 7.0)
    assert set(chosen.tolist()) == set(range(30, 50))


def test_a_level_at_the_end_of_the_scale_is_no_mean_of_those_on_one_side():
    """The embedding is a straight line in the arousal: so is the bank, up to the ends, eq. 3."""
    labels = np.linspace(1.5, 6.5, 300)
    made = build(np.outer(labels, [1.0, -2.0, 0.5]), labels, labels, [""] * 300, ["x"] * 300)
    for level in range(1, 8):
        expected = level * np.array([1.0, -2.0, 0.5])
        np.testing.assert_allclose(made.vectors[f"arousal/{level}"], expected, rtol=1e-5)


def test_the_line_is_numpys_weighted_fit():
    generator = np.random.default_rng(0)
    arousal, embeddings = generator.uniform(1, 3, 40), generator.normal(size=(40, 2))
    weights = generator.uniform(0.1, 1, 40)
    found = at_level(embeddings, arousal, weights / weights.sum(), 1.0)
    for column, value in zip(embeddings.T, found, strict=True):
        line = np.polyfit(arousal, column, 1, w=np.sqrt(weights))  # it squares them
        assert value == pytest.approx(np.polyval(line, 1.0))


def test_ratings_without_a_name_make_levels_and_names_without_a_rating_make_emotions():
    """Rated and unnamed, at 1 and 7: embeddings 1 and 7. Named and unrated: embedding 100."""
    labels = np.repeat([1.0, 7.0, -1.0], 30)
    values = np.repeat([1.0, 7.0, 100.0], 30)
    names = [""] * 60 + ["sad"] * 30
    speakers = ["x"] * 60 + ["y"] * 30
    made = build(np.tile(values[:, None], (1, WIDTH)), labels, labels, names, speakers)
    assert made.emotions == ("sad",)
    assert made.arousal(1.0)[0] == 1.0
    assert made.arousal(7.0)[0] == 7.0
    assert made.emotion("sad")[0] == 100.0
    assert made.made_from["arousal/7"] == {"utterances": 20, "speakers": ["x"]}
    assert made.made_from["emotion/sad"] == {"utterances": 30, "speakers": ["y"]}
    with pytest.raises(EmoconvError, match="no utterance has an arousal"):
        build(np.ones((3, WIDTH)), np.full(3, -1.0), np.ones(3), ["sad"] * 3, ["x"] * 3)


def made() -> Banks:
    """Returns the banks of 280 utterances whose embedding is (label, index, 1)."""
    labels = np.repeat(np.arange(1.0, 8.0), 40)
    embeddings = np.stack([labels, np.arange(280.0), np.ones(280)], axis=1)
    emotions = ["calm" if label < 4 else "angry" for label in labels]
    speakers = [f"s{i % 4}" for i in range(280)]
    return build(embeddings, labels, labels, emotions, speakers)


def test_banks_of_whole_levels_are_means_over_these_and_name_their_speakers():
    banks = made()
    # A fifth of 280 is 56: all 40 of a level, and 16 of the next at the very edge, where (1) is 0.
    first = 40 * 4
    expected = [5.0, first + 19.5, 1.0]
    np.testing.assert_allclose(banks.vectors["arousal/5"], expected, rtol=1e-3)
    assert banks.made_from["arousal/5"] == {
        "utterances": 56,
        "speakers": ["s0", "s1", "s2", "s3"],
    }
    np.testing.assert_allclose(banks.emotion("calm"), [2.0, 59.5, 1.0])  # labels 1, 2, 3
    np.testing.assert_allclose(banks.emotion("angry"), [5.5, 199.5, 1.0])
    assert banks.emotions == ("angry", "calm")


def test_the_null_condition_is_what_training_drops_to():
    assert not made().emotion("null").any()


def test_arousal_is_interpolated_between_levels():
    banks = made()
    for level in (1, 4, 7):
        np.testing.assert_array_equal(
            banks.arousal(float(level)), banks.vectors[f"arousal/{level}"]
        )
    np.testing.assert_allclose(banks.arousal(2.25)[0], 2.25)
    below, above = banks.vectors["arousal/6"], banks.vectors["arousal/7"]
    np.testing.assert_allclose(banks.arousal(6.9), 0.1 * below + 0.9 * above, rtol=1e-6)
    assert banks.arousal(6.9).dtype == np.float32


@pytest.mark.parametrize("level", [0.99, 7.01, -1.0, float("nan"), float("inf")])
def test_arousal_out_of_range_is_a_usage_error(level):
    with pytest.raises(UsageError, match=r"arousal: found .*, allowed is 1\.\.7"):
        made().arousal(level)


def test_an_unknown_emotion_is_a_usage_error_that_lists_the_known():
    with pytest.raises(UsageError, match="'happy' is unknown, allowed are angry, calm"):
        made().emotion("happy")


@pytest.fixture
def folder(tmp_path):
    save_banks(tmp_path, made())
    return tmp_path


def test_banks_come_back_with_what_they_were_made_from(folder):
    saved, found = made(), load_banks(folder, WIDTH)
    assert found.made_from == saved.made_from
    assert found.emotions == saved.emotions
    for name, vector in saved.vectors.items():
        np.testing.assert_array_equal(found.vectors[name], vector)
    assert [f.name for f in folder.iterdir()] == [BANKS_FILE]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"arousal/4": None}, "tensor arousal/4 is missing"),
        ({"arousal/4": np.zeros(4, np.float32)}, r"arousal/4 is F32 \[4\], expected F32 \[3\]"),
        ({"arousal/4": np.zeros((1, 3), np.float32)}, r"arousal/4 is F32 \[1, 3\], expected"),
        ({"emotion/calm": np.zeros(3, np.float64)}, "emotion/calm is F64"),
        ({"emotion/calm": np.full(3, np.nan, np.float32)}, "emotion/calm holds NaN or infinity"),
        ({"arousal/8": np.zeros(3, np.float32)}, "unexpected tensor 'arousal/8'"),
        ({"weights": np.zeros(3, np.float32)}, "unexpected tensor 'weights'"),
        ({"emotion/source": np.zeros(3, np.float32)}, "unexpected tensor 'emotion/source'"),
        ({"emotion/reference": np.zeros(3, np.float32)}, "unexpected .* 'emotion/reference'"),
        ({"emotion/arousal 3": np.zeros(3, np.float32)}, "unexpected .* 'emotion/arousal 3'"),
    ],
)
def test_a_vector_that_does_not_fit_is_named(folder, tensors, message):
    arrays = load_file(folder / BANKS_FILE) | tensors
    save_file({n: a for n, a in arrays.items() if a is not None}, folder / BANKS_FILE)
    with pytest.raises(EmoconvError, match=message) as caught:
        load_banks(folder, WIDTH)
    assert str(caught.value).startswith(str(folder / BANKS_FILE))
    assert "\n" not in str(caught.value)


def test_absent_truncated_and_mislabelled_files_are_refused(folder, tmp_path):
    with pytest.raises(EmoconvError, match="not found; the bundle has no target embeddings"):
        load_banks(tmp_path / "elsewhere", WIDTH)
    whole = (folder / BANKS_FILE).read_bytes()
    (folder / BANKS_FILE).write_bytes(whole[:-1])
    with pytest.raises(EmoconvError, match="damaged file"):
        load_banks(folder, WIDTH)
    vectors = dict(made().vectors)
    save_file(vectors, folder / BANKS_FILE, metadata={"arousal/1": "no JSON"})
    with pytest.raises(EmoconvError, match="damaged file"):
        load_banks(folder, WIDTH)
