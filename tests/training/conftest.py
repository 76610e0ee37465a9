"""A feature store of random utterances, small enough to train on in a test."""

import numpy as np
import pytest
from tiny_store import entries

from emoconv_jax.config import EMOTIONS, MelConfig
from emoconv_jax.pipeline.phones import PHONES
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index

FRAMES = (20, 33, 47, 28, 64, 40, 25, 52)


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """Returns eight training and two validation utterances with every array present."""
    folder = tmp_path / "features"
    folder.mkdir()
    generator = np.random.default_rng(0)
    lengths = [*FRAMES, 30, 35]
    utterances = entries(
        lengths,
        lambda i: {
            "speaker": f"made/{i % 3}",
            "split": "a" if i < len(FRAMES) else "validation",
            "emotion": EMOTIONS[i % len(EMOTIONS)],
            "arousal": 1.0 + i % 7,
        },
    )
    total, count = sum(lengths), len(lengths)
    write_array(folder, "mel", generator.normal(-5, 2, (total, 80)))
    write_array(folder, "phones", generator.integers(0, len(PHONES), total))
    write_array(folder, "speaker", generator.normal(size=(count, 256)) / 16)
    write_array(folder, "targets", generator.normal(-5, 1, (len(PHONES), 80)))
    write_array(folder, "average_voice", generator.normal(-5, 1, (total, 80)))
    write_array(folder, "emotion", generator.normal(size=(count, 256)))
    write_array(folder, "arousal", generator.uniform(1, 7, count))
    write_index(folder, MelConfig(), utterances, [total])
    return FeatureStore(folder)
