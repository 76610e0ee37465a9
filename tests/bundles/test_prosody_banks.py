"""What emotions do to prosody, by arithmetic on made utterances and on recorded ones."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from emoconv_jax.bundles.banks import (
    BANKS_FILE,
    LEVELS,
    Banks,
    build,
    load_banks,
    nearest_labels,
    save_banks,
)
from emoconv_jax.bundles.prosody_banks import Measured, changes, prosody_banks
from emoconv_jax.errors import EmoconvError, UsageError

NAN = float("nan")


def measured(rows) -> Measured:
    """Rows of speaker, emotion, sentence, arousal and the four numbers."""
    return Measured(
        np.array([row[4:] for row in rows], np.float64),
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        np.array([row[3] for row in rows], np.float64),
    )


CLIPS = [
    ("ann", "neutral", "one", 3.0, 7.8, -1.0, -3.0, 4.0),
    ("ann", "neutral", "two", 3.0, 8.2, -1.4, -3.2, 5.0),
    ("ann", "angry", "one", 6.0, 8.5, -0.8, -1.1, 3.9),
    ("ann", "angry", "three", 6.5, 8.7, -0.6, -0.9, 7.0),
    ("bob", "neutral", "", 3.0, 7.0, NAN, NAN, 4.0),
    ("bob", "angry", "", 5.0, 7.2, -1.0, NAN, 4.5),
    ("cy", "angry", "one", 5.0, 9.0, -1.0, -2.0, 4.0),
]


def test_a_change_is_against_the_speakers_own_neutral_and_the_same_sentence():
    """Ann's neutral: F0 8, range -1.2, energy -3.1; her "one" lasts 4. Cy has no neutral clip."""
    found = changes(measured(CLIPS))
    np.testing.assert_allclose(found[2], [0.5, 0.4, 2.0, -0.1], atol=1e-12)
    np.testing.assert_allclose(found[3], [0.7, 0.6, 2.2, NAN], atol=1e-12)
    np.testing.assert_allclose(found[5], [0.2, NAN, NAN, NAN], atol=1e-12)
    assert np.isnan(found[6]).all()


def test_every_speaker_counts_the_same_in_an_emotion():
    """Ann's two angry clips are .6 octaves up in the mean, Bob's one .2."""
    found = prosody_banks(measured(CLIPS), LEVELS)
    np.testing.assert_allclose(found["emotion/angry"], [0.4, 0.5, 2.1, -0.1], rtol=1e-6)
    np.testing.assert_allclose(found["emotion/neutral"], 0, atol=1e-7)


def test_an_arousal_is_on_the_line_up_to_the_ends_of_the_scale():
    """Changes of .2 octaves, .1, .5 nepers and -.04 per point, from 1.4 to 6.6; neutral is 3."""
    arousal = np.linspace(1.4, 6.6, 131)
    slopes = np.array([0.2, 0.1, 0.5, -0.04])
    rows = [
        ("ann", "neutral" if abs(a - 3) < 1e-9 else "", "one", a, *(a * slopes)) for a in arousal
    ]
    found = prosody_banks(measured(rows), LEVELS)
    for level in LEVELS:
        np.testing.assert_allclose(found[f"arousal/{level}"], (level - 3) * slopes, atol=1e-5)


def test_what_nobody_tells_is_no_change():
    rows = [("ann", "neutral", "", 3.0, NAN, NAN, NAN, NAN), ("ann", "sad", "", 2.0, *[NAN] * 4)]
    for change in prosody_banks(measured(rows), LEVELS).values():
        np.testing.assert_array_equal(change, 0)


def test_pitch_never_falls_from_one_level_to_the_next():
    generator = np.random.default_rng(0)
    arousal = generator.uniform(1, 7, 200)
    rows = [
        (f"s{i % 5}", "neutral" if i < 10 else "", "", a, *generator.normal(size=4))
        for i, a in enumerate(arousal)
    ]
    found = prosody_banks(measured(rows), LEVELS)
    assert (np.diff([found[f"arousal/{level}"][0] for level in LEVELS]) >= 0).all()


def test_the_papers_rule_is_the_mean_of_the_nearest_fifth_of_all():
    """100 labels from 1 to 7: the fifth nearest to 7 are the last 20, to 4 the middle 20."""
    labels = np.linspace(1, 7, 100)
    assert set(nearest_labels(labels, 7.0)) == set(range(80, 100))
    assert set(nearest_labels(labels, 4.0)) == set(range(40, 60))
    embeddings = np.random.default_rng(0).normal(size=(100, 3))
    predictions = labels[::-1].copy()  # which do not count
    made = build(embeddings, labels, predictions, [""] * 100, ["x"] * 100, "paper")
    np.testing.assert_allclose(made.arousal(7.0), embeddings[80:].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(made.arousal(4.0), embeddings[40:60].mean(axis=0), rtol=1e-5)
    with pytest.raises(UsageError, match="rule: found 'best', allowed are local, paper"):
        build(embeddings, labels, labels, [""] * 100, ["x"] * 100, "best")


def made(prosody: bool = True) -> Banks:
    labels = np.repeat(np.arange(1.0, 8.0), 20)
    emotions = ["sad" if label < 4 else "angry" for label in labels]
    banks = build(np.outer(labels, [1.0, 2.0, 3.0]), labels, labels, emotions, ["x"] * 140)
    if prosody:
        banks.prosody = {
            f"arousal/{level}": np.array([0.2, 0.1, 0.5, -0.04], np.float32) * (level - 3)
            for level in LEVELS
        } | {
            "emotion/sad": np.full(4, -0.1, np.float32),
            "emotion/angry": np.full(4, 0.5, np.float32),
        }
    return banks


def test_changes_come_back_beside_the_embeddings(tmp_path):
    save_banks(tmp_path, made())
    found = load_banks(tmp_path, 3)
    np.testing.assert_allclose(found.change("arousal 4.5"), [0.3, 0.15, 0.75, -0.06], rtol=1e-6)
    np.testing.assert_array_equal(found.change("angry"), np.full(4, 0.5, np.float32))
    np.testing.assert_array_equal(found.change("null"), np.zeros(4))


def test_banks_of_an_older_version_change_nothing(tmp_path):
    save_banks(tmp_path, made(prosody=False))
    found = load_banks(tmp_path, 3)
    assert not found.prosody
    for name in ("arousal 7", "angry", "null"):
        np.testing.assert_array_equal(found.change(name), np.zeros(4))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"prosody/arousal/4": None}, "'arousal/4' has no change of prosody"),
        ({"prosody/emotion/happy": np.zeros(4, np.float32)}, "'emotion/happy' has no embedding"),
        ({"prosody/arousal/4": np.zeros(3, np.float32)}, r"is F32 \[3\], expected F32 \[4\]"),
        ({"prosody/arousal/4": np.full(4, NAN, np.float32)}, "prosody/arousal/4 holds NaN"),
        ({"prosody/speed": np.zeros(4, np.float32)}, "unexpected tensor 'prosody/speed'"),
    ],
)
def test_changes_that_do_not_fit_are_named(tmp_path, tensors, message):
    save_banks(tmp_path, made())
    arrays = load_file(tmp_path / BANKS_FILE) | tensors
    save_file({n: a for n, a in arrays.items() if a is not None}, tmp_path / BANKS_FILE)
    with pytest.raises(EmoconvError, match=message):
        load_banks(tmp_path, 3)
