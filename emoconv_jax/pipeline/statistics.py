"""What only the whole corpus can say: units for what has no phone times, and the targets.

Both go over the shards in chunks whose number does not depend on the workers, and add up in the
chunks' order, so that sums come out the same to the last bit.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from emoconv_jax.config import TRAINING_SPLITS
from emoconv_jax.files import write_text
from emoconv_jax.pipeline.average_voice import PhoneHistogram, count_occurrences
from emoconv_jax.pipeline.extraction import ALIGNED, FAILED
from emoconv_jax.pipeline.phones import PHONES
from emoconv_jax.pipeline.shard_runner import map_shards, tick
from emoconv_jax.pipeline.store import Utterance, array_path, shard_folder, write_array
from emoconv_jax.pipeline.units import assign_units, fit_units, sample_frames
from emoconv_jax.shapes import Float

CHUNKS = 64
UNIT_UTTERANCES = 2000  # that the clustering sees at most, evenly from the training voices
PHONES_KEY = "phones.json"


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What the first pass left, and how many processes may go through it.

    Attributes:
        folder: the feature folder.
        mels: bins of the log-mel.
        shard_frames: frames of each shard.
        workers: processes.
    """

    folder: pathlib.Path
    mels: int
    shard_frames: tuple[int, ...]
    workers: int

    def mel(self, shard: int) -> np.ndarray:
        """Returns the log-mel of a shard, memory-mapped."""
        shape = self.shard_frames[shard], self.mels
        return np.memmap(array_path(self.folder, "mel", shard), np.float16, "r", shape=shape)

    def phones(self, shard: int) -> np.ndarray:
        """Returns the phones of a shard, memory-mapped."""
        path, shape = array_path(self.folder, "phones", shard), (self.shard_frames[shard],)
        return np.memmap(path, np.int8, "r", shape=shape)


@dataclasses.dataclass(frozen=True)
class _UnitJob:
    """A shard whose phones are to be written: these spans by units, the rest as aligned."""

    corpus: Corpus
    shard: int
    spans: tuple[tuple[int, int], ...]  # first frame in the shard, frames
    centroids: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class _CountJob:
    """Utterances to count or to add up."""

    corpus: Corpus
    utterances: tuple[tuple[int, str, int, int], ...]  # shard, speaker, first frame, frames
    phones: int
    counts: dict[str, np.ndarray] | None = None


def add_units(
    corpus: Corpus, utterances: Sequence[Utterance], *, enabled: bool
) -> tuple[list[Utterance], int]:
    """Writes every shard's phones: those that were aligned, and units for what has no aligner.

    Args:
        corpus: after the first pass.
        utterances: of the whole corpus.
        enabled: False leaves what was not aligned without phones.

    Returns:
        The utterances with their `alignment` as it is now, and the number of units.
    """
    spoken = {u.language for u in utterances if u.alignment not in ("", FAILED)}
    # Where an aligner failed on a whole language, units are no second inventory.
    utterances = [
        dataclasses.replace(u, alignment="")
        if u.alignment == FAILED and u.language not in spoken
        else u
        for u in utterances
    ]
    wanting = [u for u in utterances if enabled and not u.alignment]
    centroids = None
    if wanting:
        heard = [u for u in wanting if u.split in TRAINING_SPLITS] or wanting
        step = -(-len(heard) // UNIT_UTTERANCES)
        samples = [sample_frames(corpus.mel(u.shard)[u.start :][: u.frames]) for u in heard[::step]]
        centroids = fit_units(np.concatenate(samples))
    spans: dict[int, list[tuple[int, int]]] = {}
    for u in wanting:
        spans.setdefault(u.shard, []).append((u.start, u.frames))
    jobs = [
        _UnitJob(corpus, shard, tuple(spans.get(shard, ())), centroids)
        for shard, frames in enumerate(corpus.shard_frames)
        if frames
    ]
    for _ in map_shards(_write_phones, jobs, "units", len(wanting), corpus.workers):
        pass
    ways = {FAILED: "", "": "units" if enabled else ""}
    described = [
        dataclasses.replace(u, alignment=ways.get(u.alignment, u.alignment)) for u in utterances
    ]
    return described, 0 if centroids is None else len(centroids)


def targets(
    corpus: Corpus, utterances: Sequence[Utterance], units: int, *, mean: bool, smoothing: float
) -> Float[np.ndarray, "phones m"]:
    """Returns the average-voice target of each phone and unit over the training splits.

    Args:
        corpus: with its phones.
        utterances: of the whole corpus.
        units: how many follow the phones.
        mean: the mean instead of the mode.
        smoothing: of the mode's histogram, in units of log-mel.

    Returns:
        The table.

    Raises:
        EmoconvError: no training utterance has phone times.
    """
    training = [u for u in utterances if u.split in TRAINING_SPLITS and u.alignment]
    size = max(1, -(-len(training) // CHUNKS))
    jobs = [
        _CountJob(
            corpus,
            tuple((u.shard, u.speaker, u.start, u.frames) for u in training[i : i + size]),
            len(PHONES) + units,
        )
        for i in range(0, len(training), size)
    ]
    counts: dict[str, np.ndarray] = {}
    for part in map_shards(_count, jobs, "phones", len(training), corpus.workers):
        for speaker, found in part.items():
            counts[speaker] = counts.get(speaker, 0) + found
    histogram = PhoneHistogram(counts, corpus.mels)
    jobs = [dataclasses.replace(job, counts=counts) for job in jobs]
    for values in map_shards(_add_up, jobs, "average voice", len(training), corpus.workers):
        histogram.values += values
    return histogram.table(smoothing=smoothing, mean=mean)


def _write_phones(job: _UnitJob) -> None:
    """Writes a shard's phones, unless they are there already for the same units."""
    corpus, folder = job.corpus, shard_folder(job.corpus.folder, job.shard)
    centroids = job.centroids
    content = json.dumps(job.spans).encode() + (b"" if centroids is None else centroids.tobytes())
    key = {"sha256": hashlib.sha256(content).hexdigest()}
    target, note = array_path(corpus.folder, "phones", job.shard), folder / PHONES_KEY
    known = note.read_bytes().decode(errors="replace") if note.is_file() else ""
    size = target.stat().st_size if target.is_file() else -1
    if known.strip() == json.dumps(key) and size == corpus.shard_frames[job.shard]:
        tick(len(job.spans))
        return
    note.unlink(missing_ok=True)
    phones, mel = np.fromfile(folder / ALIGNED, np.int8), corpus.mel(job.shard)
    for start, frames in job.spans:
        assert centroids is not None  # spans are given with the units to put there
        part = mel[start : start + frames].astype(np.float32)
        phones[start : start + frames] = assign_units(part, centroids)
        tick()
    write_array(corpus.folder, "phones", phones, job.shard)
    write_text(note, json.dumps(key) + "\n")


def _count(job: _CountJob) -> dict[str, np.ndarray]:
    counts: dict[str, np.ndarray] = {}
    for shard, speaker, start, frames in job.utterances:
        phones = job.corpus.phones(shard)[start : start + frames]
        counts[speaker] = counts.get(speaker, 0) + count_occurrences(phones, job.phones)
        tick()
    return counts


def _add_up(job: _CountJob) -> np.ndarray:
    histogram = PhoneHistogram(job.counts or {}, job.corpus.mels)
    for shard, speaker, start, frames in job.utterances:
        mel = job.corpus.mel(shard)[start : start + frames].astype(np.float32)
        histogram.add(speaker, job.corpus.phones(shard)[start : start + frames], mel)
        tick()
    return histogram.values
