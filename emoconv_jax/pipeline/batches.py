"""Batches as a pure function of (seed, step), the same on any number of hosts.

The order of an epoch is `permutation(seed, epoch)`; the batch at `step` is the slice
[step B, (step + 1) B) of the endless concatenation of epochs. Each host reads its own slice of
that, and each crop is drawn from the global position of its example, so nothing but the step needs
storing to resume.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from emoconv_jax.bundles.banks import Banks
from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW, EMOTIONS
from emoconv_jax.pipeline.phones import PHONES
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.shapes import Float, Int


class Batch(NamedTuple):
    """One batch of crops; fields a trainee does not read are None.

    Attributes:
        mel: log-mel, padding holds the floor's logarithm.
        mask: 1 on real frames.
        index: position of each example in the global batch.
        average_voice: the target (average-voice encoder) or Y (score network).
        speaker: d-vectors.
        emotion: embeddings of the recogniser, or of the banks.
        emotion_label: index into the vocabulary, -1 unknown.
        arousal_label: 1..7, -1 unknown.
    """

    mel: Float[np.ndarray, "b f m"]
    mask: Float[np.ndarray, "b f"]
    index: Int[np.ndarray, " b"]
    average_voice: Float[np.ndarray, "b f m"] | None = None
    speaker: Float[np.ndarray, "b d"] | None = None
    emotion: Float[np.ndarray, "b e"] | None = None
    emotion_label: Int[np.ndarray, " b"] | None = None
    arousal_label: Float[np.ndarray, " b"] | None = None


class Batches:
    """The batches of one selection of a feature store for one trainee."""

    def __init__(
        self,
        store: FeatureStore,
        selection: np.ndarray,
        trainee: str,
        *,
        batch: int,
        frames: int,
        seed: int,
        banks: Banks | None = None,
        bank_share: float = 0.0,
        host: int = 0,
        hosts: int = 1,
    ):
        """Describes the batches; nothing is read yet.

        Args:
            store: the features.
            selection: indices of the utterances to draw from.
            trainee: "recogniser", "average_voice" or "score_network"; says which fields are read.
            batch: examples in the global batch, a multiple of `hosts`.
            frames: of a crop; shorter utterances are padded and masked.
            seed: of order and crops.
            banks: what stands in for an utterance's own emotion embedding.
            bank_share: how often it does, 0 to 1.
            host: which slice this process reads.
            hosts: how many processes share a batch.
        """
        self.store, self.selection, self.trainee = store, selection, trainee
        self.batch, self.frames, self.seed = batch, frames, seed
        self.banks, self.bank_share = banks, bank_share
        self.positions = range(batch * host // hosts, batch * (host + 1) // hosts)

    def at(self, step: int) -> Batch:
        """Returns this host's part of the batch at `step`.

        Args:
            step: 0 or more.

        Returns:
            A `Batch` of float32 arrays.
        """
        first = step * self.batch
        crops = [self._example(first + offset) for offset in self.positions]
        mel = self._stack("mel", crops, pad=np.log(self.store.mel_config.floor))
        mask = np.stack([self._mask(i) for i, _ in crops])
        batch = Batch(mel=mel, mask=mask, index=np.array(self.positions, dtype=np.int32))
        indices = [i for i, _ in crops]
        if self.trainee == "recogniser":
            chosen = [self.store.utterances[i] for i in indices]
            labels = [EMOTIONS.index(u.emotion) if u.emotion else -1 for u in chosen]
            return batch._replace(
                emotion_label=np.array(labels, dtype=np.int32),
                arousal_label=np.array([u.arousal for u in chosen], dtype=np.float32),
            )
        if self.trainee == "average_voice":
            phones = self._stack("phones", crops, pad=float(PHONES.index("sil"))).astype(np.int64)
            return batch._replace(average_voice=np.array(self.store.array("targets"))[phones])
        return batch._replace(
            average_voice=self._stack("average_voice", crops, pad=0.0),
            speaker=np.array(self.store.array("speaker")[indices], dtype=np.float32),
            emotion=np.stack(
                [
                    self._emotion(i, first + offset)
                    for i, offset in zip(indices, self.positions, strict=True)
                ]
            ),
        )

    def __iter__(self) -> Iterator[Batch]:
        step = 0
        while True:
            yield self.at(step)
            step += 1

    def _example(self, position: int) -> tuple[int, int]:
        """Returns (utterance, first frame of the crop) of a global position."""
        epoch, place = divmod(position, len(self.selection))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.selection))
        index = int(self.selection[order[place]])
        room = self.store.utterances[index].frames - self.frames
        draw = np.random.default_rng([self.seed, 1, position]).random()
        return index, int(draw * (room + 1)) if room > 0 else 0

    def _emotion(self, index: int, position: int) -> np.ndarray:
        """Returns an utterance's own embedding or, drawn by position, a bank's in its place.

        Half of the banks are those of its emotion's name, if it has one, and half of its arousal.
        """
        utterance, banks = self.store.utterances[index], self.banks
        draw = np.random.default_rng([self.seed, 2, position]).random()
        if banks is not None and draw < self.bank_share:
            if utterance.emotion in banks.emotions and draw < self.bank_share / 2:
                return banks.emotion(utterance.emotion)
            if utterance.arousal >= AROUSAL_LOW:
                return banks.arousal(min(utterance.arousal, AROUSAL_HIGH))
        return np.array(self.store.array("emotion")[index], dtype=np.float32)

    def _mask(self, index: int) -> np.ndarray:
        real = min(self.store.utterances[index].frames, self.frames)
        return (np.arange(self.frames) < real).astype(np.float32)

    def _stack(self, name: str, crops: Sequence[tuple[int, int]], pad: float) -> np.ndarray:
        """Returns the crops of a per-frame array as float32, padded at the end."""
        rows = self.store.array(name)
        out = np.full((len(crops), self.frames, *rows.shape[1:]), pad, dtype=np.float32)
        for row, (i, start) in zip(out, crops, strict=True):
            utterance = self.store.utterances[i]
            stop = min(start + self.frames, utterance.frames)
            row[: stop - start] = rows[utterance.start + start : utterance.start + stop]
        return out
