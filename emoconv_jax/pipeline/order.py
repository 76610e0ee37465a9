"""Which utterances a step reads and where their crops begin, by arithmetic alone.

Every number comes from Philox4x64-10, a cipher of a counter: `words(key, counter)` needs nothing
that was drawn before it, so any step of any epoch costs the same. Only the cipher's raw words are
used, whose values its definition fixes; what NumPy makes of them (`Generator.permutation`,
`random`) may change between its versions. Keys are (seed, purpose); counters are

    order of an epoch's utterances    (i, epoch), one word per utterance
    order of an epoch's groups        (i, epoch), one word per group
    draws of an example               (position), four words: crop, bank, and two for the d-vector

where `position = step * batch + place` counts examples from the run's beginning.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; NumPy's policy on
streams, NEP 19.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from emoconv_jax.inference.lengths import bucket
from emoconv_jax.shapes import Float, Int

UTTERANCES, GROUPS, EXAMPLES = range(3)  # purposes
WORDS = 4  # 64-bit words that the cipher gives per counter
EPOCHS_KEPT = 4  # a batch and the ones read ahead of it lie in two, seldom more


class Rows(NamedTuple):
    """What a host reads of a batch.

    Attributes:
        rows: places in the selection of utterances.
        frames: what each example is cropped or padded to.
    """

    rows: Int[np.ndarray, " b"]
    frames: int


class Order(Protocol):
    """The order of a run."""

    def at(self, step: int, part: range) -> Rows:
        """Returns what to read for the places `part` of the batch at `step`."""
        ...


def words(seed: int, purpose: int, count: int, first: int = 0, epoch: int = 0) -> np.ndarray:
    """Returns random words, those of counters `first`, `first + 1` ... one after the other.

    Args:
        seed: of the run, 0 to 2^64 - 1.
        purpose: UTTERANCES, GROUPS or EXAMPLES.
        count: how many words.
        first: the counter's low part.
        epoch: the counter's high part.

    Returns:
        uint64 [count].
    """
    key = np.array([seed, purpose], dtype=np.uint64)
    counter = np.array([first, epoch, 0, 0], dtype=np.uint64)  # NumPy adds 1 before the first block
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def draws(seed: int, positions: range) -> Float[np.ndarray, "b 4"]:
    """Returns the four draws of each example, uniform in [0, 1).

    Args:
        seed: of the run.
        positions: of the examples, counted from the run's beginning, without gaps.

    Returns:
        Multiples of 2^-53.
    """
    raw = words(seed, EXAMPLES, WORDS * len(positions), first=positions.start)
    return (raw.reshape(-1, WORDS) >> np.uint64(11)) * 2.0**-53


def permutation(seed: int, purpose: int, epoch: int, count: int) -> Int[np.ndarray, " n"]:
    """Returns 0 .. count - 1 in random order: that of their words.

    Args:
        seed: of the run.
        purpose: of the permutation.
        epoch: from 0.
        count: how many.

    Returns:
        int64; equal words (probability count^2 / 2^65) keep their order on every platform.
    """
    order = np.argsort(words(seed, purpose, count, epoch=epoch), kind="stable")
    return order.astype(np.int64)


def crop_starts(
    draw: Float[np.ndarray, " b"], lengths: Int[np.ndarray, " b"], frames: int
) -> Int[np.ndarray, " b"]:
    """Returns the first frame of each crop, uniform over all that fit.

    Args:
        draw: in [0, 1).
        lengths: of the utterances, in frames.
        frames: of a crop; shorter utterances begin at 0.

    Returns:
        int64.
    """
    return (draw * (np.maximum(lengths - frames, 0) + 1)).astype(np.int64)


class Endless:
    """One epoch after the other; a batch is the next stretch, wherever epochs meet."""

    def __init__(self, count: int, *, batch: int, frames: int, seed: int):
        """Describes the order.

        Args:
            count: how many utterances, 1 or more.
            batch: examples in the global batch.
            frames: of every crop.
            seed: of the order.
        """
        self.count, self.batch, self.frames, self.seed = count, batch, frames, seed
        self._epoch = functools.lru_cache(EPOCHS_KEPT)(self._shuffle)

    def at(self, step: int, part: range) -> Rows:
        """Returns what to read of the batch at `step`.

        Args:
            step: 0 or more.
            part: of the batch's places, those of this host.

        Returns:
            Its rows, all of one length.
        """
        positions = step * self.batch + np.arange(part.start, part.stop, dtype=np.int64)
        epochs, places = np.divmod(positions, self.count)
        rows = np.empty(len(part), dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            rows[here] = self._epoch(int(epoch))[places[here]]
        return Rows(rows, self.frames)

    def _shuffle(self, epoch: int) -> np.ndarray:
        return permutation(self.seed, UTTERANCES, epoch, self.count)


class Grouped:
    """Batches of utterances of one bucket of lengths, each utterance at least once per epoch.

    In every epoch each bucket is shuffled and cut into groups of a batch; the last group is filled
    from the bucket's beginning; then the groups of all buckets are shuffled. The number of groups
    is the same in every epoch, so a step's epoch is a division.

    Attributes:
        epoch_steps: batches in an epoch.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, *, batch: int, frames: int, seed: int):
        """Describes the order.

        Args:
            lengths: of the utterances, in frames, one or more.
            batch: examples in the global batch.
            frames: the greatest padded length; longer utterances are cropped to it.
            seed: of the order.
        """
        self.batch, self.seed = batch, seed
        different, which = np.unique(np.asarray(lengths), return_inverse=True)
        padded = np.array([min(bucket(int(n)), frames) for n in different], dtype=np.int64)
        self._sizes, self._bucket, members = np.unique(
            padded[which], return_inverse=True, return_counts=True
        )
        self._members, self._groups = members, -(-members // batch)
        self.epoch_steps = int(self._groups.sum())
        self._epoch = functools.lru_cache(EPOCHS_KEPT)(self._shuffle)

    def at(self, step: int, part: range) -> Rows:
        """Returns what to read of the batch at `step`.

        Args:
            step: 0 or more.
            part: of the batch's places, those of this host.

        Returns:
            Its rows, all of one bucket.
        """
        epoch, place = divmod(step, self.epoch_steps)
        groups, frames = self._epoch(epoch)
        return Rows(groups[place, part.start : part.stop], int(frames[place]))

    def _shuffle(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns an epoch's groups [epoch_steps, batch] and their padded lengths."""
        order = permutation(self.seed, UTTERANCES, epoch, len(self._bucket))
        order = order[np.argsort(self._bucket[order], kind="stable")]  # by bucket, shuffled within
        members = np.split(order, np.cumsum(self._members)[:-1])
        filled = [
            np.resize(rows, (groups, self.batch))  # repeats from the beginning
            for rows, groups in zip(members, self._groups, strict=True)
        ]
        groups, frames = np.concatenate(filled), np.repeat(self._sizes, self._groups)
        shuffled = permutation(self.seed, GROUPS, epoch, self.epoch_steps)
        return groups[shuffled], frames[shuffled]
