"""Who is converted and whose voices compete: utterances of speakers that no training has heard."""

import collections

import numpy as np

from emoconv_jax.config import TRAINING_SPLITS
from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation.measures import cosine, nearest_speaker
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.shapes import Float


def unseen(store: FeatureStore, split: str) -> np.ndarray:
    """Returns the utterances of a split whose speakers no training split holds.

    A split may also hold new sentences of training voices (`synthetic`); they say nothing here.

    Args:
        store: prepared features.
        split: to choose from.

    Returns:
        Indices into the store.
    """
    heard = {u.speaker for u in store.utterances if u.split in TRAINING_SPLITS}
    return store.select(lambda u: u.split == split and u.speaker not in heard)


def choose(store: FeatureStore, split: str, limit: int, seed: int) -> list[int]:
    """Returns test utterances, the same number of each speaker as far as they reach.

    Args:
        store: prepared features.
        split: to choose from.
        limit: how many at most.
        seed: of the choice.

    Returns:
        Indices into the store.

    Raises:
        EmoconvError: the split is empty.
    """
    queues: dict[str, list[int]] = collections.defaultdict(list)
    generator = np.random.default_rng(seed)
    for i in generator.permutation(unseen(store, split)):
        queues[store.utterances[i].speaker].append(int(i))
    if not queues:
        raise EmoconvError(f"{store.folder}: no utterances of unseen speakers in split {split!r}")
    chosen: list[int] = []
    while len(chosen) < limit and any(queues.values()):
        for name in sorted(queues):
            if queues[name] and len(chosen) < limit:
                chosen.append(queues[name].pop(0))
    return chosen


class Voices:
    """What one speaker encoder says of the real clips of a split's speakers.

    A centroid never contains the clip in question.
    """

    def __init__(self, store: FeatureStore, split: str, vectors: Float[np.ndarray, "u d"]):
        """Compares by the vectors of one encoder.

        Args:
            store: prepared features.
            split: whose unseen speakers compete.
            vectors: of all utterances of the store; only those of the speakers are read.
        """
        self.store, self.vectors = store, vectors
        self._rates: dict[str, float] = {}
        self.clips: dict[str, list[int]] = collections.defaultdict(list)
        self.gender: dict[str, str] = {}
        for i in unseen(store, split):
            utterance = store.utterances[i]
            self.clips[utterance.speaker].append(int(i))
            self.gender[utterance.speaker] = utterance.gender

    def similarity(self, vector: Float[np.ndarray, " d"], index: int) -> float | None:
        """Returns the cosine with the own speaker's centroid; None where there is no other clip."""
        centroids = self._centroids(index)
        own = self.store.utterances[index].speaker
        return cosine(vector, centroids[own]) if own in centroids else None

    def nearest(self, vector: Float[np.ndarray, " d"], index: int) -> str:
        """Returns the same-gender speaker nearest to a vector made from utterance `index`.

        Empty where no such speaker has another clip.
        """
        centroids = self._centroids(index)
        return nearest_speaker(vector, centroids) if centroids else ""

    def real_rate(self, speaker: str) -> float:
        """Returns how often a speaker's real emotional clips are nearest to its own centroid.

        A speaker recorded without emotions (LJ) is judged by all its clips.
        """
        if speaker not in self._rates:
            clips = self.clips[speaker]
            emotional = [i for i in clips if self._is_emotional(i)]
            hits = [
                self.nearest(self.vectors[i], i) == speaker
                for i in emotional or clips
                if len(clips) > 1  # else it has no centroid of its own
            ]
            self._rates[speaker] = float(np.mean(hits)) if hits else float("nan")
        return self._rates[speaker]

    def guess(self, speaker: str) -> float:
        """Returns how often a guess is right: among the speakers of one gender, if known."""
        gender = self.gender[speaker]
        return 1 / sum(other == gender for other in self.gender.values())

    def real_medians(self) -> tuple[float, float]:
        """Returns the median cosine of real emotional clips with two centroids.

        The first is that of the own speaker, the second that of each other speaker of the same
        gender. Where the first is not clearly greater, the encoder tells no voices apart here.
        """
        own, other = [], []
        for speaker, clips in self.clips.items():
            for i in filter(self._is_emotional, clips):
                for name, centroid in self._centroids(i).items():
                    likeness = cosine(self.vectors[i], centroid)
                    (own if name == speaker else other).append(likeness)
        middle = [float(np.median(values)) if values else float("nan") for values in (own, other)]
        return middle[0], middle[1]

    def _centroids(self, index: int) -> dict[str, Float[np.ndarray, " d"]]:
        """Returns the centroids of the speakers of one gender, without a clip."""
        gender = self.store.utterances[index].gender
        found = {}
        for name, clips in self.clips.items():
            others = [i for i in clips if i != index]
            if self.gender[name] == gender and others:
                found[name] = np.mean([self.vectors[i] for i in others], axis=0)
        return found

    def _is_emotional(self, index: int) -> bool:
        return self.store.utterances[index].emotion not in ("", "neutral")
