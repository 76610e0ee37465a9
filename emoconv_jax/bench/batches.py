"""How fast batches are read: crops per second, and seconds to the first batch of any step.

Measured are the score network's fields, whose crops read the most: log-mel, Y, d-vector and
embedding. A cold round comes first, for which the system is asked to forget the arrays: that is how
a store larger than the memory is read.
"""

import contextlib
import dataclasses
import os
import pathlib
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from emoconv_jax.config import READERS, MelConfig
from emoconv_jax.pipeline import readers
from emoconv_jax.pipeline.batches import Batches
from emoconv_jax.pipeline.store import FeatureStore, Utterance, array_path, write_index

SHARD_UTTERANCES = 2000  # of a made-up store
WIDTH = 256  # of its d-vectors and embeddings
SECONDS = 3.0  # that reading is measured for, in each round
ROUNDS = 3
LATE_STEP = 1_000_000


@dataclasses.dataclass(frozen=True)
class Figures:
    """One reader's.

    Attributes:
        start_s: seconds to the first batch of all, imports and opening of files included.
        first_s: seconds to the batch of step 0 of a new run.
        late_s: the same at LATE_STEP.
        cold_crops_per_s: crops per second from files that are not in memory.
        crops_per_s: crops per second in the median of the rounds after that.
    """

    start_s: float
    first_s: float
    late_s: float
    cold_crops_per_s: float
    crops_per_s: float


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was measured of a feature folder.

    Attributes:
        utterances: in the folder.
        frames: of all of them.
        batch: crops in a batch.
        crop_frames: of a crop, or of the longest utterance in a batch.
        open_s: seconds to open the folder.
        readers: each reader's figures.
    """

    utterances: int
    frames: int
    batch: int
    crop_frames: int
    open_s: float
    readers: dict[str, Figures]

    def table(self) -> str:
        """Returns the figures as lines of text."""
        lines = [
            f"{self.utterances} utterances, {self.frames} frames: opened in {self.open_s:.2f} s",
            f"batches of {self.batch} x {self.crop_frames} frames, seconds to the first batch:",
            f"{'reader':<12}{'crops/s':>9}{'cold':>9}{'start':>9}{'step 0':>9}{LATE_STEP:>9}",
        ]
        lines += [
            f"{name:<12}{f.crops_per_s:9.0f}{f.cold_crops_per_s:9.0f}"
            f"{f.start_s:9.3f}{f.first_s:9.3f}{f.late_s:9.3f}"
            for name, f in self.readers.items()
        ]
        return "\n".join(lines)


def measure(
    folder: pathlib.Path,
    names: Sequence[str] = READERS,
    *,
    batch: int = 32,
    frames: int = 128,
    crop: str = "random",
    threads: int = readers.THREADS,
    seconds: float = SECONDS,
) -> Measurement:
    """Measures readers on a feature folder, in alternating rounds.

    Args:
        folder: with log-mels, Y, d-vectors and embeddings.
        names: of the readers.
        batch: crops in a batch.
        frames: of a crop.
        crop: "random" or "whole".
        threads: of a reader.
        seconds: of each of three rounds.

    Returns:
        The figures.

    Raises:
        EmoconvError: a folder or file that cannot be read.
    """
    settings: dict[str, Any] = {"batch": batch, "frames": frames, "crop": crop, "seed": 0}

    def batches(store: FeatureStore) -> Batches:
        return Batches(store, np.arange(len(store.utterances)), "score_network", **settings)

    def first_batch(name: str, step: int) -> float:
        begin = time.perf_counter()
        reader = readers.READERS[name](batches(store), step, step + 1, threads=threads)
        with contextlib.closing(reader):
            next(reader)
        return time.perf_counter() - begin

    def rate(name: str, store: FeatureStore, start: int) -> float:
        reader = readers.READERS[name](batches(store), start, LATE_STEP, threads=threads)
        with contextlib.closing(reader):
            next(reader)
            read, begin = 0, time.perf_counter()
            while (spent := time.perf_counter() - begin) < seconds:
                read += len(next(reader).mel)
        return read / spent

    begin = time.perf_counter()
    store = FeatureStore(folder)
    open_s = time.perf_counter() - begin
    start_s = {name: first_batch(name, 0) for name in names}
    cold = {}
    for name in names:
        forget(folder)
        cold[name] = rate(name, FeatureStore(folder), 0)
    rounds = [{name: rate(name, store, 0) for name in names} for _ in range(ROUNDS)]
    figures = {
        name: Figures(
            start_s=start_s[name],
            first_s=first_batch(name, 0),
            late_s=first_batch(name, LATE_STEP),
            cold_crops_per_s=cold[name],
            crops_per_s=statistics.median(one[name] for one in rounds),
        )
        for name in names
    }
    return Measurement(len(store.utterances), store.frames, batch, frames, open_s, figures)


def forget(folder: pathlib.Path) -> None:
    """Asks the system to drop a store's per-frame arrays from its memory, where it can be asked.

    Args:
        folder: of the features.
    """
    if not hasattr(os, "posix_fadvise"):  # other than Linux: the cold figures are warm ones
        return
    for path in folder.rglob("*.f16"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def make_up(folder: pathlib.Path, utterances: int, frames: int = 350, empty: bool = False) -> None:
    """Writes a store of noise, for machines without a corpus.

    Args:
        folder: gets the files; exists.
        utterances: how many, 1 or more.
        frames: of one on average: lengths are uniform within half of it more or less.
        empty: whether files are only as long as they have to be, without content: for an index of
            a size whose arrays the disk would not hold.
    """
    generator = np.random.default_rng(0)
    lengths = generator.integers(frames // 2, frames * 3 // 2 + 1, utterances)
    noise = generator.normal(-5.0, 2.0, (frames * 2, MelConfig().mels)).astype(np.float16)
    entries, shard_frames = [], []
    for shard, first in enumerate(range(0, utterances, SHARD_UTTERANCES)):
        start = 0
        for i in range(first, min(first + SHARD_UTTERANCES, utterances)):
            entries.append(_entry(i, shard, start, int(lengths[i])))
            start += int(lengths[i])
        shard_frames.append(start)
        for name in ("mel", "average_voice"):
            _write(array_path(folder, name, shard), noise, start, empty)
    for name in ("speaker", "emotion"):
        rows = generator.normal(size=(1000, WIDTH)).astype(np.float32)
        _write(array_path(folder, name), rows, utterances, empty)
    write_index(folder, MelConfig(), entries, shard_frames)


def _write(path: pathlib.Path, pattern: np.ndarray, rows: int, empty: bool) -> None:
    """Writes `rows` rows, the pattern again and again, or nothing but the size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, 0 if empty else rows, len(pattern)):
            file.write(pattern[: rows - start].tobytes())
        file.truncate(rows * pattern[:1].nbytes)
        os.fsync(file.fileno())  # what is not on the disk yet cannot be forgotten


def _entry(number: int, shard: int, start: int, frames: int) -> Utterance:
    return Utterance(
        corpus="made-up",
        path=f"{number}.wav",
        speaker=f"made-up/{number % 100}",
        gender="",
        language="",
        split="train",
        emotion="neutral",
        intensity="",
        arousal=4.0,
        rated=False,
        valence=-1.0,
        dominance=-1.0,
        level_db=-25.0,
        level_spread_db=6.0,
        peak_db=-6.0,
        f0_hz=150.0,
        f0_spread=2.0,
        voiced=0.5,
        alignment="",
        text="",
        shard=shard,
        start=start,
        frames=frames,
    )
