"""The average-voice target: what each phone sounds like over all speakers.

    (1) v = round(median over the frames of one occurrence of a phone, 1 decimal), per mel bin
    (2) target[phone, bin] = the mode of v over the corpus
    (3) Y[frame] = target[phone of the frame]

Every speaker counts the same in (2): an occurrence weighs 1 / (its speaker's occurrences of the
phone). The mode of a histogram with bins of 0.1 is ragged unless thousands of speakers fill it, so
the histogram is smoothed by a Gaussian first; width 0 is the published rule. Measured on the
synthetic corpus, 14 voices against 14 others: the two tables differ by .85 (width 0), .55 (0.3),
.45 (0.5), .29 (1.0), and one predicts the other half's frames with a mean absolute error of 1.29,
1.25, 1.24, 1.22 (the plain mean: 1.28).

Source: DiffVC, arXiv 2109.13821, section 3; balance, smoothing and the fallback are ours.
"""

from collections.abc import Mapping

import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.phones import PHONE_INDEX, SILENCE
from emoconv_jax.shapes import Float, Int, Shaped

TENTHS = 10  # values per unit of log-mel after rounding to one decimal
# of log-mel in tenths: its floor is ln(1e-5) = -11.5, full scale stays below +7
LOWEST, HIGHEST = -130, 70
SMOOTHING = 1.0  # standard deviation in units of log-mel, see above

_SILENCE = PHONE_INDEX[SILENCE]


def count_occurrences(phones: Int[np.ndarray, " f"], count: int) -> Int[np.ndarray, " phones"]:
    """Returns how often each phone occurs; a run of one phone is one occurrence.

    Args:
        phones: index of each frame, -1 where unknown.
        count: of phones and units.

    Returns:
        Occurrences by index.

    Raises:
        EmoconvError: an index beyond the inventory.
    """
    if len(phones) and not -1 <= phones.min() <= phones.max() < count:
        raise EmoconvError(f"phones: index {phones.max()}, allowed are -1 to {count - 1}")
    starts, _ = _runs(phones)
    return np.bincount(phones[starts].astype(np.int64), minlength=count)


class PhoneHistogram:
    """What every phone looks like: a histogram of (1) per phone and mel bin, balanced by speaker.

    How much an occurrence weighs depends on all of its speaker's, so these are counted first. The
    `values` of parts of a corpus add up. The last row of `weights` and `values` stands for all
    phones but silence.
    """

    def __init__(self, counts: Mapping[str, Int[np.ndarray, " phones"]], mels: int):
        """Starts empty.

        Args:
            counts: each speaker's occurrences over the whole corpus, see `count_occurrences`.
            mels: bins of the log-mel.

        Raises:
            EmoconvError: there is no occurrence at all.
        """
        table = np.stack(list(counts.values())) if counts else np.zeros((0, 1), np.int64)
        if not table.sum():
            raise EmoconvError("average voice: no utterance with phone times, one is needed")
        spoken = table.sum(axis=1, keepdims=True) - table[:, [_SILENCE]]
        table = np.concatenate([table, spoken], axis=1)
        speakers = np.maximum((table > 0).sum(axis=0), 1)
        weights = 1.0 / (np.maximum(table, 1) * speakers)
        self.weights = dict(zip(counts, weights, strict=True))
        self.values = np.zeros((table.shape[1], mels, HIGHEST - LOWEST + 1))

    def add(
        self, speaker: str, phones: Int[np.ndarray, " f"], mel: Float[np.ndarray, "f m"]
    ) -> None:
        """Adds one utterance.

        Args:
            speaker: one of those that were counted.
            phones: index of each frame, -1 where unknown.
            mel: the log-mel.
        """
        starts, lengths = _runs(phones)
        medians = np.round(_medians(mel, starts, lengths) * TENTHS).astype(np.int64)
        cells = np.clip(medians, LOWEST, HIGHEST) - LOWEST
        phone, weights = phones[starts].astype(np.int64), self.weights[speaker]
        bins = np.arange(mel.shape[1])[None, :]
        np.add.at(self.values, (phone[:, None], bins, cells), weights[phone][:, None])
        spoken = phone != _SILENCE
        np.add.at(self.values[-1], (bins, cells[spoken]), weights[-1])

    def table(
        self, *, smoothing: float = SMOOTHING, mean: bool = False
    ) -> Float[np.ndarray, "phones m"]:
        """Returns the target of every phone and unit.

        Args:
            smoothing: standard deviation of the Gaussian over the histogram, in units of log-mel
                (natural logarithm); 0 is the published rule, with ties going to the lower value.
            mean: the mean instead of the mode.

        Returns:
            float32. A phone that never occurred has the row that all phones but silence have
            together (that of silence, where nothing else occurs).
        """
        seen = self.values.sum(axis=(1, 2)) > 0
        rows = self.values[:-1].copy()
        rows[~seen[:-1]] = self.values[-1] if seen[-1] else self.values[_SILENCE]
        tenths = np.arange(LOWEST, HIGHEST + 1)
        if mean:
            found = rows @ tenths / rows.sum(axis=-1)
        else:
            if smoothing > 0:
                offset = tenths[:, None] - tenths[None, :]
                rows = rows @ np.exp(-0.5 * (offset / (smoothing * TENTHS)) ** 2)
            # Rounded, so that sums of the same weights in another order stay a tie.
            found = tenths[np.round(rows, 9).argmax(axis=-1)]
        return (found / TENTHS).astype(np.float32)


def average_voice_target(
    phones: Int[np.ndarray, "*b f"], table: Shaped[np.ndarray, "phones m"]
) -> Shaped[np.ndarray, "*b f m"]:
    """Returns the average-voice log-mel of a sequence of phones, equation (3).

    Args:
        phones: index of each frame; -1, unknown, counts as silence.
        table: what `PhoneHistogram.table` gave.

    Returns:
        One row of the table per frame.
    """
    return table[np.where(phones < 0, PHONE_INDEX[SILENCE], phones)]


def _runs(
    phones: Int[np.ndarray, " f"],
) -> tuple[Int[np.ndarray, " occurrences"], Int[np.ndarray, " occurrences"]]:
    """Returns the first frame and the length of every occurrence of a known phone."""
    if len(phones) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    starts = np.flatnonzero(np.diff(phones, prepend=phones[0] - 1))
    lengths = np.diff(starts, append=len(phones))
    known = phones[starts] >= 0
    return starts[known], lengths[known]


def _medians(
    mel: Float[np.ndarray, "f m"],
    starts: Int[np.ndarray, " occurrences"],
    lengths: Int[np.ndarray, " occurrences"],
) -> Float[np.ndarray, "occurrences m"]:
    """Returns the per-bin median of each run of frames, all runs of one length at once."""
    out = np.empty((len(starts), mel.shape[1]), dtype=np.float64)
    for length in np.unique(lengths):
        runs = np.flatnonzero(lengths == length)
        frames = starts[runs][:, None] + np.arange(length)[None, :]
        out[runs] = np.median(mel[frames], axis=1)
    return out
