"""The banks of a feature store: for the bundle, and for training to see what a conversion sees."""

from collections.abc import Sequence

import numpy as np

from emoconv_jax.audio.columns import LOG2_F0, LOG_ENERGY, VOICING
from emoconv_jax.bundles.banks import LEVELS, Banks, build
from emoconv_jax.bundles.prosody_banks import Measured, prosody_banks
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.labels import LEVEL_NORMALISED
from emoconv_jax.pipeline.store import FeatureStore, array_path
from emoconv_jax.shapes import Float

BANK_SPLIT = "a"  # the recogniser's training split; never validation or test
NEPERS = np.log(10) / 20  # of a decibel
LOWEST_SHARE, HIGHEST_SHARE = 10, 90  # percentiles of F0 that its range lies between
LEAST_RANGE = 0.01  # octaves
FEWEST_VOICED = 5  # frames that a range can be told from
SPOKEN_NEPERS = 3.5  # 30 dB: what lies farther below the loudest frames is silence


def banks_of(store: FeatureStore, rule: str = "local", prosody: bool = False) -> Banks:
    """Builds the banks from the utterances of BANK_SPLIT that have an emotion or an arousal.

    Args:
        store: features encoded with the bundle's recogniser.
        rule: of `bundles.banks.RULES`.
        prosody: whether to measure the changes of prosody too, where the features hold it.

    Returns:
        The banks.

    Raises:
        EmoconvError: there is no such utterance.
        UsageError: another rule.
    """
    chosen = store.select(lambda u: u.split == BANK_SPLIT and (bool(u.emotion) or u.arousal > 0))
    if not len(chosen):
        raise EmoconvError(
            f"{store.folder}: no utterance with an emotion or an arousal in split {BANK_SPLIT}, "
            "which banks are made of"
        )
    utterances = [store.utterances[i] for i in chosen]
    banks = build(
        np.array(store.array("emotion")[chosen]),
        np.array([u.arousal for u in utterances]),
        np.array(store.array("arousal")[chosen]),
        [u.emotion for u in utterances],
        [u.speaker for u in utterances],
        rule,
    )
    if prosody and array_path(store.folder, "prosody", utterances[0].shard).is_file():
        banks.prosody = prosody_banks(measured(store, chosen.tolist()), LEVELS)
    return banks


def measured(store: FeatureStore, chosen: Sequence[int]) -> Measured:
    """Returns the prosody of utterances as four numbers each.

    Args:
        store: features that hold prosody.
        chosen: indices of the utterances.

    Returns:
        The numbers, and whose and what they are.

    Raises:
        EmoconvError: the features hold no prosody.
    """
    utterances = [store.utterances[i] for i in chosen]
    values = np.array([_numbers(store.frames_of("prosody", i)) for i in chosen])
    level = [np.nan if u.corpus in LEVEL_NORMALISED else NEPERS * u.level_db for u in utterances]
    values[:, 2] = level
    return Measured(
        values,
        [u.speaker for u in utterances],
        [u.emotion for u in utterances],
        [u.text for u in utterances],
        np.array([u.arousal for u in utterances]),
    )


def _numbers(contour: Float[np.ndarray, "f 3"]) -> list[float]:
    """Returns median F0, ln of its range, NaN, and ln of the duration without the ends' silence."""
    octaves = contour[contour[:, VOICING] > 0, LOG2_F0].astype(np.float64)
    pitch, spread = np.nan, np.nan
    if len(octaves) >= FEWEST_VOICED:
        pitch = float(np.median(octaves))
        low, high = np.percentile(octaves, [LOWEST_SHARE, HIGHEST_SHARE])
        spread = float(np.log(max(high - low, LEAST_RANGE)))
    energy = contour[:, LOG_ENERGY]
    spoken = np.flatnonzero(energy > np.percentile(energy, 95) - SPOKEN_NEPERS)
    return [pitch, spread, np.nan, float(np.log(spoken[-1] - spoken[0] + 1))]
