"""The configuration of a bundle of tiny networks."""

import pytest
from tiny_bundle import CONFIG

from emoconv_jax.bundles.format import BundleConfig


@pytest.fixture
def tiny() -> BundleConfig:
    return CONFIG
