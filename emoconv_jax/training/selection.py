"""What a run reads of a feature store: its utterances, its batches, its normalisation.

Of many processes each reads its own slice of every batch.
"""

import dataclasses
import hashlib
from typing import Any

import jax
import numpy as np

from emoconv_jax.config import (
    ScoreNetworkConfig,
    TrainingConfig,
    WhisperEmotionConfig,
    from_dict,
)
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models import whisper_heads
from emoconv_jax.models.recogniser import measure_statistics
from emoconv_jax.pipeline.batches import Batches
from emoconv_jax.pipeline.store import FeatureStore, Utterance
from emoconv_jax.training.target_banks import banks_of

VALIDATION_SEED = 1
STATISTICS_UTTERANCES = 400
AVERAGE_VOICES = ("average_voice", "whisper_average_voice")
RECOGNISERS = ("recogniser", "whisper_emotion")


def choose(store: FeatureStore, config: TrainingConfig, splits: tuple[str, ...]) -> np.ndarray:
    """Returns the utterances of some splits that a trainee can learn from.

    Args:
        store: prepared features.
        config: names the trainee.
        splits: their names, of all corpora (`a`) or of one (`ravdess/a`).

    Returns:
        Indices into the store.

    Raises:
        EmoconvError: there is none among several splits.
    """

    def usable(utterance: Utterance) -> bool:
        if not {utterance.split, f"{utterance.corpus}/{utterance.split}"} & set(splits):
            return False
        if config.trainee in AVERAGE_VOICES:  # an utterance without a target teaches nothing
            parallel = config.target == "parallel"
            return utterance.parallel > 0 if parallel else bool(utterance.alignment)
        return config.trainee not in RECOGNISERS or bool(utterance.emotion)

    chosen = store.select(usable)
    if not len(chosen) and splits == config.splits:
        raise EmoconvError(
            f"{store.folder}: no utterances for {config.trainee} in splits {', '.join(splits)}"
        )
    return chosen


def fingerprint(store: FeatureStore, selection: np.ndarray) -> str:
    """Returns what a run reads, in words short enough for a message.

    Args:
        store: prepared features.
        selection: of it.

    Returns:
        The number of utterances and a hash of their ids, lengths and labels.
    """
    digest = hashlib.sha256()
    for i in selection:
        digest.update(f"{store.utterances[int(i)]}\n".encode())
    return f"{len(selection)} utterances ({digest.hexdigest()[:8]})"


def training_batches(config: TrainingConfig, store: FeatureStore, selection: np.ndarray) -> Batches:
    """Returns the batches of a run.

    Args:
        config: of the run; `bank_share` and `speaker_share` are of score networks.
        store: prepared features.
        selection: what to draw from.

    Returns:
        The batches.

    Raises:
        EmoconvError: banks are asked for and the store has no utterance to make them of, or
            embeddings of another width than the network's.
    """
    reads_both = config.trainee == "score_network"
    if reads_both:
        _check_width(config, store)
    bank_share = config.bank_share if reads_both else 0.0
    return Batches(
        store,
        selection,
        config.trainee,
        batch=config.batch,
        frames=config.frames,
        seed=config.seed,
        crop=config.crop,
        banks=banks_of(store, config.bank_rule) if bank_share else None,
        bank_share=bank_share,
        speaker_share=config.speaker_share if reads_both else 0.0,
        target=config.target,
        prosody=reads_both and bool(config.network.get("prosody")),
        host=jax.process_index(),
        hosts=jax.process_count(),
    )


def _check_width(config: TrainingConfig, store: FeatureStore) -> None:
    """Refuses a score network for other embeddings than the store's."""
    found, width = (
        config.network.get("emotion", ScoreNetworkConfig().emotion),
        store.array("emotion").shape[1],
    )
    if found != width:
        raise EmoconvError(
            f"network.emotion: found {found}, the embeddings of {store.folder} have {width} "
            f"numbers; set --config.network.emotion {width}"
        )


def validation_batches(config: TrainingConfig, store: FeatureStore) -> Batches | None:
    """Returns the batches that are only watched: crops of `config.validation`, always the same.

    Args:
        config: of the run.
        store: prepared features.

    Returns:
        The batches; None where the split has no utterance.
    """
    selection = choose(store, config, (config.validation,))
    if not len(selection):
        return None
    own = {"bank_share": 0.0, "speaker_share": 0.0}
    watched = dataclasses.replace(config, seed=VALIDATION_SEED, crop="random", **own)
    return training_batches(watched, store, selection)


def statistics_of(config: TrainingConfig, store: FeatureStore) -> Any | None:
    """Returns a recogniser's normalisation over its training split; None for other trainees.

    Args:
        config: of the run.
        store: prepared features.

    Returns:
        The Linen collection `statistics`.
    """
    if config.trainee not in RECOGNISERS:
        return None
    selection = choose(store, config, config.splits)
    if config.trainee == "whisper_emotion":
        network = from_dict(WhisperEmotionConfig, config.network, "network")
        pooled = store.array("whisper_pooled")[np.sort(selection)]
        return whisper_heads.measure_statistics(np.asarray(pooled, np.float32), network)
    some = np.random.default_rng(config.seed).permutation(selection)[:STATISTICS_UTTERANCES]
    mels = [np.array(store.frames_of("mel", int(i)), dtype=np.float32) for i in sorted(some)]
    if config.network.get("architecture") == "pooled":  # which takes the level away first
        mels = [mel - np.log(np.exp(mel).mean()) for mel in mels]
    return measure_statistics(mels)
