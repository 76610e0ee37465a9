"""The banks of a feature store: for the bundle, and for training to see what a conversion sees."""

import numpy as np

from emoconv_jax.bundles.banks import Banks, build
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.store import FeatureStore

BANK_SPLIT = "a"  # the recogniser's training split; never validation or test


def banks_of(store: FeatureStore) -> Banks:
    """Builds the banks from the utterances of BANK_SPLIT that have an emotion or an arousal.

    Args:
        store: features encoded with the bundle's recogniser.

    Returns:
        The banks.

    Raises:
        EmoconvError: there is no such utterance.
    """
    chosen = store.select(lambda u: u.split == BANK_SPLIT and (bool(u.emotion) or u.arousal > 0))
    if not len(chosen):
        raise EmoconvError(
            f"{store.folder}: no utterance with an emotion or an arousal in split {BANK_SPLIT}, "
            "which banks are made of"
        )
    utterances = [store.utterances[i] for i in chosen]
    return build(
        np.array(store.array("emotion")[chosen]),
        np.array([u.arousal for u in utterances]),
        np.array(store.array("arousal")[chosen]),
        [u.emotion for u in utterances],
        [u.speaker for u in utterances],
    )
