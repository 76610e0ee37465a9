"""Batches as a pure function of (seed, step), the same on any number of hosts.

`pipeline.order` says which utterances a step reads and where their crops begin; here the host's
slice of them is read. Nothing but the step needs storing to resume, and every step costs the same.
`pipeline.readers` calls `Batches.at` ahead of its use.
"""

import collections
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from emoconv_jax.bundles.banks import Banks
from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW, EMOTIONS
from emoconv_jax.errors import UsageError
from emoconv_jax.pipeline.average_voice import average_voice_target
from emoconv_jax.pipeline.order import Endless, Grouped, Order, crop_starts, draws
from emoconv_jax.pipeline.phones import UNALIGNED
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.shapes import Float, Int

CROP, BANK, OTHER, WHICH = range(4)  # columns of `order.draws`


class Batch(NamedTuple):
    """One batch of crops; fields a trainee does not read are None.

    Attributes:
        mel: log-mel, padding holds the floor's logarithm.
        mask: 1 on real frames.
        index: position of each example in the global batch.
        average_voice: the target (average-voice encoder) or Y (score network).
        speaker: d-vectors, of these or of other clips of the speakers.
        emotion: embeddings of the recogniser, or of the banks.
        emotion_label: index into the vocabulary, -1 unknown.
        arousal_label: 1..7, -1 unknown.
        prosody: log2 F0, voicing and log energy, as they are stored.
        states: of Whisper's encoder, as they are stored.
        pooled: of Whisper's encoder, over the whole utterance.
        phones: index of each frame's phone or unit, -1 unknown.
    """

    mel: Float[np.ndarray, "b f m"]
    mask: Float[np.ndarray, "b f"]
    index: Int[np.ndarray, " b"]
    average_voice: Float[np.ndarray, "b f m"] | None = None
    speaker: Float[np.ndarray, "b d"] | None = None
    emotion: Float[np.ndarray, "b e"] | None = None
    emotion_label: Int[np.ndarray, " b"] | None = None
    arousal_label: Float[np.ndarray, " b"] | None = None
    prosody: Float[np.ndarray, "b f 3"] | None = None
    states: Float[np.ndarray, "b f s"] | None = None
    pooled: Float[np.ndarray, "b p"] | None = None
    phones: Int[np.ndarray, "b f"] | None = None


class Stretches(NamedTuple):
    """Which frames of which utterances a host reads.

    Attributes:
        utterances: indices into the store.
        starts: the first frame of each crop.
        stops: the frame after its last real one.
        frames: what each is padded to.
        draws: of each example, see `order.draws`.
    """

    utterances: Int[np.ndarray, " b"]
    starts: Int[np.ndarray, " b"]
    stops: Int[np.ndarray, " b"]
    frames: int
    draws: Float[np.ndarray, "b 4"]


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
        crop: str = "random",
        banks: Banks | None = None,
        bank_share: float = 0.0,
        speaker_share: float = 0.0,
        prosody: bool = False,
        target: str = "phones",
        host: int = 0,
        hosts: int = 1,
    ):
        """Describes the batches; nothing is read yet.

        Args:
            store: the features.
            selection: indices of the utterances to draw from.
            trainee: one of `config.TRAINEES`; says which fields are read.
            batch: examples in the global batch, a multiple of `hosts`.
            frames: of a crop; shorter utterances are padded and masked.
            seed: of order and crops.
            crop: "random", every example one crop of `frames`, or "whole", batches of utterances
                of similar length, of which only those beyond `frames` are cropped.
            banks: what stands in for an utterance's own emotion embedding.
            bank_share: how often it does, 0 to 1.
            speaker_share: how often an utterance sees the d-vector of another one of its speaker's
                in the selection, 0 to 1.
            prosody: whether a score network reads the prosody.
            target: of an average voice, "phones" or "parallel".
            host: which slice this process reads.
            hosts: how many processes share a batch.

        Raises:
            UsageError: a batch that the hosts cannot share evenly.
        """
        if batch % hosts:
            raise UsageError(f"batch: found {batch}, expected a multiple of the {hosts} hosts")
        self.store, self.selection, self.trainee = store, selection, trainee
        self.batch, self.seed = batch, seed
        self.banks, self.bank_share, self.speaker_share = banks, bank_share, speaker_share
        self.prosody, self.target = prosody, target
        self._clips = _by_speaker(store, selection) if speaker_share else {}
        self.part = range(batch * host // hosts, batch * (host + 1) // hosts)
        self._lengths = np.array([store.utterances[i].frames for i in selection], dtype=np.int64)
        settings = {"batch": batch, "frames": frames, "seed": seed}
        self.order: Order = (
            Grouped(self._lengths, **settings)
            if crop == "whole"
            else Endless(len(selection), **settings)
        )

    def at(self, step: int) -> Batch:
        """Returns this host's part of the batch at `step`.

        Args:
            step: 0 or more.

        Returns:
            A `Batch` of float32 arrays.

        Raises:
            EmoconvError: a file of the store is absent or of the wrong size.
        """
        return self.read(self.stretches(step))

    def stretches(self, step: int) -> Stretches:
        """Returns what this host reads at `step`; arithmetic alone.

        Args:
            step: 0 or more.

        Returns:
            Its stretches.
        """
        rows, frames = self.order.at(step, self.part)
        first = step * self.batch
        drawn = draws(self.seed, range(first + self.part.start, first + self.part.stop))
        lengths = self._lengths[rows]
        starts = crop_starts(drawn[:, CROP], lengths, frames)
        stops = np.minimum(starts + frames, lengths)
        return Stretches(self.selection[rows], starts, stops, frames, drawn)

    def read(self, stretches: Stretches) -> Batch:
        """Returns the batch of some stretches; a function of the store's files alone.

        Args:
            stretches: what to read.

        Returns:
            A `Batch` of float32 arrays.

        Raises:
            EmoconvError: as for `at`.
        """
        indices, real = stretches.utterances, stretches.stops - stretches.starts
        batch = Batch(
            mel=self._stack("mel", stretches, np.log(self.store.mel_config.floor)),
            mask=(np.arange(stretches.frames) < real[:, None]).astype(np.float32),
            index=np.arange(self.part.start, self.part.stop, dtype=np.int32),
        )
        if self.trainee in ("recogniser", "whisper_emotion"):
            batch = self._labelled(batch, indices)
            if self.trainee == "whisper_emotion":
                pooled = np.asarray(self.store.array("whisper_pooled"))[indices]
                batch = batch._replace(pooled=pooled.astype(np.float32))
            return batch
        if self.trainee in ("average_voice", "whisper_average_voice"):
            phones = self._stack("phones", stretches, UNALIGNED, np.int64)
            if self.trainee == "whisper_average_voice":
                states = self._stack("whisper", stretches, 0.0)
                batch = batch._replace(states=states, phones=phones.astype(np.int32))
            return batch._replace(average_voice=self._voices(phones, stretches))
        return batch._replace(
            average_voice=self._stack("average_voice", stretches, 0.0),
            speaker=self._speakers(indices, stretches.draws),
            emotion=self._emotions(indices, stretches.draws[:, BANK]),
            prosody=self._stack("prosody", stretches, 0.0) if self.prosody else None,
        )

    def _labelled(self, batch: Batch, indices: np.ndarray) -> Batch:
        """Returns a batch with what is known of its utterances' emotions."""
        utterances = [self.store.utterances[i] for i in indices]
        labels = [EMOTIONS.index(u.emotion) if u.emotion else -1 for u in utterances]
        return batch._replace(
            emotion_label=np.array(labels, dtype=np.int32),
            arousal_label=np.array([u.arousal for u in utterances], dtype=np.float32),
        )

    def _voices(self, phones: np.ndarray, stretches: Stretches) -> np.ndarray:
        """Returns the target of an average voice."""
        if self.target == "parallel":
            return self._stack("parallel", stretches, 0.0)
        return average_voice_target(phones, np.asarray(self.store.array("targets")))

    def __iter__(self) -> Iterator[Batch]:
        step = 0
        while True:
            yield self.at(step)
            step += 1

    def _emotions(self, indices: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Returns each utterance's own embedding or, where drawn, a bank's in its place.

        Half of the banks are those of its emotion's name, if it has one, and half of its arousal.
        """
        banks, share = self.banks, self.bank_share
        embeddings = np.asarray(self.store.array("emotion"))[indices]
        if banks is None:
            return embeddings
        for row in np.flatnonzero(drawn < share):
            utterance = self.store.utterances[indices[row]]
            if utterance.emotion in banks.emotions and drawn[row] < share / 2:
                embeddings[row] = banks.emotion(utterance.emotion)
            elif utterance.arousal >= AROUSAL_LOW:
                embeddings[row] = banks.arousal(min(utterance.arousal, AROUSAL_HIGH))
        return embeddings

    def _speakers(self, indices: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Returns each utterance's own d-vector or, where drawn, that of another of its speaker."""
        read = indices.copy()
        for row in np.flatnonzero(drawn[:, OTHER] < self.speaker_share):
            clips = self._clips[self.store.utterances[indices[row]].speaker]
            others = clips[clips != indices[row]]
            if len(others):
                read[row] = others[int(drawn[row, WHICH] * len(others))]
        return np.asarray(self.store.array("speaker"))[read]

    def _stack(
        self, name: str, stretches: Stretches, pad: float | int, dtype: type = np.float32
    ) -> np.ndarray:
        """Returns the stretches of a per-frame array, padded at the end."""
        shape = len(stretches.utterances), stretches.frames
        out = None
        triples = zip(*(a.tolist() for a in stretches[:3]), strict=True)
        for place, (index, start, stop) in enumerate(triples):
            rows = self.store.frames_of(name, index, start, stop)
            if out is None:
                out = np.empty((*shape, *rows.shape[1:]), dtype)
            out[place, : stop - start] = rows
            out[place, stop - start :] = pad
        assert out is not None  # a host reads one example at least
        return out


def _by_speaker(store: FeatureStore, selection: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the utterances of each speaker in a selection."""
    clips: dict[str, list[int]] = collections.defaultdict(list)
    for index in selection.tolist():
        clips[store.utterances[index].speaker].append(index)
    return {speaker: np.array(indices) for speaker, indices in clips.items()}
