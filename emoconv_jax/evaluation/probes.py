"""What is left of emotion and speaker in the average voice Y, by probes.

A probe is a logistic regression on mean and standard deviation of each mel bin over an utterance's
frames, the same for the source's mel and for Y. It is tested on clips that it was not trained on,
in five folds (as many as there are speakers, where they are fewer): for emotion clips of other
speakers, for speaker other clips of the same ones. What a probe finds in the mel and not in Y the
encoder has taken away; chance is the share of the largest class. All splits are probed, also those
that the encoder was trained on.

Source: the average voice is meant to carry neither (Popov et al., DiffVC, arXiv 2109.13821).
"""

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation.statistics import Figure, figure, save
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.shapes import Float

FOLDS = 5
SOURCES = ("mel", "average_voice")
Found = dict[str, dict[str, Figure | float]]


def evaluate(store: FeatureStore, out: pathlib.Path, seed: int = 0) -> dict[str, Found]:
    """Probes every corpus of a store for what its labels allow.

    Args:
        store: encoded features.
        out: gets `summary.json`, the returned figures.
        seed: of folds and resampling.

    Returns:
        Corpus -> "emotion" or "speaker" -> accuracy on "mel" and on "average_voice", "chance" and
        the number of "classes".

    Raises:
        EmoconvError: no corpus that can be probed.
    """
    found: dict[str, Found] = {}
    for corpus in sorted({u.corpus for u in store.utterances}):
        chosen = store.select(lambda u, corpus=corpus: u.corpus == corpus)
        told = _corpus(store, chosen, corpus, seed)
        if told:
            found[corpus] = told
    if not found:
        raise EmoconvError(
            f"{store.folder}: nothing to probe; needed is a corpus with two speakers of {FOLDS} "
            "clips, or with two emotions that several speakers have"
        )
    save(out, found)
    return found


def summed_up(store: FeatureStore, name: str, chosen: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns mean and standard deviation of each bin of each utterance.

    Args:
        store: encoded features.
        name: of SOURCES.
        chosen: indices into the store.
    """
    rows = []
    for i in tqdm(chosen, name.replace("_", " ")):
        frames = store.frames_of(name, int(i)).astype(np.float32)
        rows.append(np.concatenate([frames.mean(0), frames.std(0)]))
    return np.array(rows)


def accuracy(
    x: Float[np.ndarray, "n d"], labels: np.ndarray, groups: np.ndarray | None, seed: int
) -> Figure | None:
    """Returns how often a probe is right on clips that it was not trained on.

    Args:
        x: of each clip.
        labels: of each clip.
        groups: clips of one group are never on both sides; None divides each label's clips.
        seed: of the division where there are no groups, and of the resampling.
    """
    # its solver warns where it stops early, which a probe may
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    folds: Any = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    if groups is not None:
        folds = GroupKFold(min(FOLDS, len(set(groups))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        told = np.asarray(cross_val_predict(probe, x, labels, groups=groups, cv=folds))
    return figure(np.equal(told, labels).astype(np.float64), seed)


def _corpus(store: FeatureStore, chosen: np.ndarray, corpus: str, seed: int) -> Found:
    clips = [store.utterances[int(i)] for i in chosen]
    speaker = np.array([clip.speaker for clip in clips])
    emotion = np.array([clip.emotion for clip in clips])
    names, counts = np.unique(speaker, return_counts=True)
    labels: dict[str, tuple[np.ndarray, np.ndarray | None, np.ndarray]] = {}
    acted = emotion != ""
    if _can_be_told(emotion[acted], speaker[acted]):
        labels["emotion"] = emotion, speaker, acted
    often = np.isin(speaker, names[counts >= FOLDS])
    if len(set(speaker[often])) > 1:
        labels["speaker"] = speaker, None, often
    if not labels:
        return {}
    sources = {name: summed_up(store, name, chosen) for name in SOURCES}
    found: Found = {}
    for label, (values, groups, kept) in labels.items():
        _, sizes = np.unique(values[kept], return_counts=True)
        found[label] = {"chance": float(sizes.max() / sizes.sum()), "classes": float(len(sizes))}
        for name, x in sources.items():
            known = None if groups is None else groups[kept]
            told = accuracy(x[kept], values[kept], known, seed)
            if told is not None:
                found[label][name] = told
    return found


def _can_be_told(emotion: np.ndarray, speaker: np.ndarray) -> bool:
    """Tells whether two emotions are left when any fold's speakers are taken away."""
    speakers = set(speaker)
    if len(speakers) < 2:
        return False
    folds = GroupKFold(min(FOLDS, len(speakers))).split(emotion, groups=speaker)
    return all(len(set(emotion[kept])) > 1 for kept, _ in folds)
