"""What is measured of prosody in a store, and what recorded emotions do to it."""

import os
import pathlib

import numpy as np
import pytest
from tiny_store import entries

from emoconv_jax.audio.prosody import level_db, prosody
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.bundles.banks import LEVELS
from emoconv_jax.bundles.prosody_banks import changes, prosody_banks
from emoconv_jax.config import MelConfig
from emoconv_jax.pipeline.labels import arousal_labels, emotion_name
from emoconv_jax.pipeline.manifest import read_manifest
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index
from emoconv_jax.training.target_banks import banks_of, measured

VOICES = ("03", "04", "05")


def store_of(folder: pathlib.Path, contours, describe) -> FeatureStore:
    lengths = [len(contour) for contour in contours]
    write_array(folder, "prosody", np.concatenate(contours))
    write_index(folder, MelConfig(), entries(lengths, describe), [sum(lengths)])
    return FeatureStore(folder)


def contour(octaves, energy) -> np.ndarray:
    voicing = np.ones(len(octaves))
    return np.stack([octaves, voicing, energy], axis=1).astype(np.float32)


def test_four_numbers_of_an_utterance(tmp_path):
    """101 frames from 7 to 8 octaves, of which 20 and 11 at the ends lie 5 nepers lower."""
    energy = np.full(101, -3.0)
    energy[:20], energy[-11:] = -8.0, -8.0
    clips = [contour(np.linspace(7, 8, 101), energy)] * 2
    describe = lambda i: {  # noqa: E731
        "speaker": "made/x",
        "split": "a",
        "corpus": ("made", "nemo")[i],
        "level_db": -20.0,
        "text": "one",
    }
    found = measured(store_of(tmp_path, clips, describe), [0, 1])
    expected = [7.5, np.log(0.8), -20 * np.log(10) / 20, np.log(70)]
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-5)
    assert np.isnan(found.values[1, 2])  # its level was made the same for all
    assert list(found.sentences) == ["one", "one"]


def test_what_is_not_voiced_has_no_pitch(tmp_path):
    clip = contour(np.zeros(50), np.full(50, -3.0))
    clip[:, 1] = 0
    store = store_of(tmp_path, [clip], lambda i: {"speaker": "x", "split": "a"})
    found = measured(store, [0])
    assert np.isnan(found.values[0, :2]).all() and np.isfinite(found.values[0, 3])


def test_banks_of_features_without_prosody_tell_none(tmp_path):
    """Those of an older version, from which banks of embeddings are built as ever."""
    lengths = [10] * 40
    describe = lambda i: {  # noqa: E731
        "speaker": "x",
        "split": "a",
        "emotion": "neutral" if i % 2 else "sad",
        "arousal": 1 + 6 * i / 39,
    }
    write_index(tmp_path, MelConfig(), entries(lengths, describe), [400])
    write_array(tmp_path, "emotion", np.arange(80.0).reshape(40, 2))
    write_array(tmp_path, "arousal", np.linspace(1, 7, 40))
    assert not banks_of(FeatureStore(tmp_path), prosody=True).prosody
    write_array(tmp_path, "prosody", np.tile([7.0, 1.0, -3.0], (400, 1)))
    found = banks_of(FeatureStore(tmp_path), prosody=True)
    assert set(found.prosody) == set(found.vectors)
    assert not banks_of(FeatureStore(tmp_path)).prosody


@pytest.mark.corpora
@pytest.mark.slow
def test_recorded_emotions_move_prosody_as_is_known(tmp_path):
    """Three voices of RAVDESS: louder and higher with every point of arousal, by plausible steps.

    Measured on 24 voices beforehand, with another tracker: .186 octaves and .50 nepers a point.
    """
    folder = pathlib.Path(os.environ["EMOCONV_CORPORA"]) / "ravdess"
    rows = [row for row in read_manifest(folder) if row.speaker in VOICES]
    sounds = [read_audio(folder / row.path, 22050) for row in rows]
    contours = [prosody(sound, 22050, MelConfig()) for sound in sounds]
    levels = [level_db(sound) for sound in sounds]
    pitch = [float(2 ** np.median(c[c[:, 1] > 0, 0])) if c[:, 1].any() else 0.0 for c in contours]
    labels = arousal_labels(rows, levels, pitch)
    describe = lambda i: {  # noqa: E731
        "corpus": "ravdess",
        "speaker": rows[i].speaker,
        "split": "a",
        "emotion": emotion_name(rows[i].emotion),
        "arousal": float(labels[i]),
        "level_db": levels[i],
        "text": rows[i].text,
    }
    found = measured(store_of(tmp_path, contours, describe), list(range(len(rows))))
    told, moved = prosody_banks(found, LEVELS), changes(found)
    f0, _, energy, duration = np.stack([told[f"arousal/{level}"] for level in LEVELS]).T
    assert (np.diff(f0) >= 0).all() and (np.diff(energy) > 0).all()
    assert 0.1 < (f0[6] - f0[0]) / 6 < 0.3
    assert 0.3 < (energy[6] - energy[0]) / 6 < 0.7
    assert abs(duration[6] - duration[0]) / 6 < 0.1
    assert np.isfinite(moved).all()
    assert told["emotion/angry"][0] > 0.2 > told["emotion/calm"][0]
    assert told["emotion/angry"][2] > 1.0 > 0 > told["emotion/calm"][2]
