"""A feature store of random utterances, small enough to train on in a test."""

import pytest
from runs import make_store

from emoconv_jax.pipeline.store import FeatureStore


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """Returns eight training and two validation utterances with every array present."""
    return make_store(tmp_path / "features")
