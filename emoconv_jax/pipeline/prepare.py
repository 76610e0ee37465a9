"""Corpora to a feature store, in two passes.

The first, `pipeline.extraction`, reads every sound, shard by shard. The second, here, needs the
whole corpus: duplicates, arousal labels, units for what has no phone times, the average-voice
target of each phone and of each sentence. Every file is a function of `plan.json` and of the
corpora, so the result is the same byte for byte.
"""

import collections
import dataclasses
import pathlib
import re
import shutil
from collections.abc import Callable, Sequence

import numpy as np

from emoconv_jax.config import TRAINING_SPLITS
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import replacing
from emoconv_jax.inference.whisper_features import ENCODER
from emoconv_jax.pipeline import statistics
from emoconv_jax.pipeline.average_voice import SMOOTHING
from emoconv_jax.pipeline.extraction import (
    Item,
    Reject,
    Settings,
    ShardJob,
    Task,
    extract_shard,
    read_items,
    warm_up,
)
from emoconv_jax.pipeline.labels import arousal_labels, check_names, emotion_name, rating
from emoconv_jax.pipeline.manifest import Row
from emoconv_jax.pipeline.parallel_target import add_parallel
from emoconv_jax.pipeline.plan import claim, plan_tasks
from emoconv_jax.pipeline.rejects import REJECTED, missing_lines, write_rejects
from emoconv_jax.pipeline.shard_runner import for_each_shard
from emoconv_jax.pipeline.splits import CorpusSplits, assign_splits
from emoconv_jax.pipeline.store import (
    ARRAYS,
    INDEX,
    SHARDS,
    FeatureStore,
    Utterance,
    array_path,
    shard_folder,
    write_array,
    write_index,
)

FAILURES_SHOWN = 5
PARTIAL = re.compile(r"\.([0-9]{5}\.)?[0-9a-f]{16}\.part")


@dataclasses.dataclass(frozen=True)
class Target:
    """How the average voice of a phone is found; see `pipeline.average_voice`."""

    mean: bool = False
    smoothing: float = SMOOTHING


@dataclasses.dataclass(frozen=True)
class Running:
    """How the work is spread; no result depends on it.

    Attributes:
        workers: processes on this machine.
        runner: "local" or "beam".
        beam_options: of Beam's pipeline.
        share: (i, n): only every n-th shard from the i-th on, counted from 1; None is all.
        log: takes each line of progress.
    """

    workers: int = 1
    runner: str = "local"
    beam_options: tuple[str, ...] = ()
    share: tuple[int, int] | None = None
    log: Callable[[str], None] = print


def prepare(
    sources: Sequence[str],
    out: pathlib.Path,
    splits: dict[str, CorpusSplits],
    *,
    published: dict[str, CorpusSplits] | None = None,
    settings: Settings | None = None,
    target: Target | None = None,
    running: Running | None = None,
) -> tuple[FeatureStore | None, int]:
    """Builds a feature store from corpora, or goes on with one.

    Args:
        sources: see `pipeline.sources`; a folder may hold a `phones.tsv` with phone times.
        out: the feature folder; made if absent.
        splits: what `pipeline.splits.load_splits` gave.
        published: splits of corpora that have neither those nor their own.
        settings: of the first pass.
        target: of the average voice.
        running: how to spread the work.

    Returns:
        The store, and how many utterances were rejected. No store where `running.share` leaves the
        second pass to a run without it.

    Raises:
        UsageError: two corpora of one name, or a folder that holds another preparation.
        EmoconvError: a bad manifest, split or name of a label, all found before any sound is
            read; or nothing that could be used.
    """
    settings, running = settings or Settings(), running or Running()
    if settings.text_grids and not pathlib.Path(settings.text_grids).is_dir():
        raise UsageError(f"--text_grids: {settings.text_grids} is not a folder")
    tasks = plan_tasks(sources)
    rows = [task.row for task in tasks]
    for row in rows:
        check_names(row)
    if splits and not {row.corpus for row in rows} & set(splits):
        raise UsageError(
            f"--splits: names {', '.join(splits)}, none of the corpora "
            f"{', '.join(sorted({row.corpus for row in rows}))}"
        )
    chosen = assign_splits(splits, rows, published)
    if not set(chosen) & set(TRAINING_SPLITS):
        raise EmoconvError(
            f"--splits: puts no utterance of {', '.join(sources)} into "
            f"{', '.join(TRAINING_SPLITS)}; the average voice needs some"
        )
    claim(out, settings, tasks)
    size = settings.shard_utterances
    jobs = [
        ShardJob(out, number, settings, tuple(tasks[start : start + size]))
        for number, start in enumerate(range(0, len(tasks), size))
    ]
    mine = jobs if running.share is None else jobs[running.share[0] - 1 :: running.share[1]]
    warm_up(settings)
    for_each_shard(
        extract_shard,
        mine,
        "features",
        sum(len(job.tasks) for job in mine),
        workers=running.workers,
        runner=running.runner,
        beam_options=running.beam_options,
    )
    if running.share is not None:
        running.log(
            f"shards {running.share[0]}/{running.share[1]}: {len(mine)} of {len(jobs)} are there; "
            "when all jobs are done, run once more without --shard"
        )
        return None, 0
    return _finish(out, settings, target or Target(), running, tasks, chosen)


@dataclasses.dataclass(frozen=True)
class _Kept:
    """An utterance that stays: its row, what was found of it, and where its features lie."""

    row: int
    item: Item
    shard: int
    place: int  # among the shard's utterances
    start: int


def _finish(
    out: pathlib.Path,
    settings: Settings,
    target: Target,
    running: Running,
    tasks: Sequence[Task],
    splits: Sequence[str],
) -> tuple[FeatureStore, int]:
    """The second pass."""
    _sweep(out)
    rows = [task.row for task in tasks]
    kept, rejects, shard_frames = _sort_out(out, settings, rows)
    listed = [(rows[i], found.kind, found.reason) for i, found in sorted(rejects.items())]
    write_rejects(out / REJECTED, listed)
    missing = missing_lines(listed, {t.row.corpus: pathlib.Path(t.source) for t in tasks})
    if not kept:
        raise EmoconvError(
            f"{out / REJECTED}: all {len(rows)} utterances were rejected, see there"
            + "".join(f"; {line}" for line in missing)
        )
    # Index first: no part of an earlier result is read with parts of this one.
    for name in (INDEX, *(array_path(out, n).name for n in ("targets", "emotion", "arousal"))):
        (out / name).unlink(missing_ok=True)
    utterances = _describe(kept, rows, splits)
    corpus = statistics.Corpus(out, settings.mel.mels, tuple(shard_frames), running.workers)
    utterances, units = statistics.add_units(
        corpus, utterances, enabled=settings.alignment != "given"
    )
    table = statistics.targets(
        corpus, utterances, units, mean=target.mean, smoothing=target.smoothing
    )
    write_array(out, "targets", table)
    utterances = add_parallel(corpus, utterances)
    gathered = ("speaker", "whisper_pooled") if settings.whisper else ("speaker",)
    for name in gathered:
        _gather(out, name, kept)
    encoder = ENCODER if settings.whisper else ""
    write_index(out, settings.mel, utterances, shard_frames, units, encoder)
    ways = collections.Counter(utterance.alignment or "none" for utterance in utterances)
    running.log(
        f"{len(kept)} of {len(rows)} utterances kept, {len(rejects)} rejected; phone times from "
        + ", ".join(f"{name}: {count}" for name, count in sorted(ways.items()))
    )
    if parallel := sum(u.parallel > 0 for u in utterances):
        running.log(f"{parallel} of them have a target in context, the mean of other voices")
    failed = [k for k in kept if k.item.failure]
    for k in failed[:FAILURES_SHOWN]:
        running.log(f"not aligned: {_name(rows[k.row])}: {k.item.failure}")
    if len(failed) > FAILURES_SHOWN:
        running.log(f"and {len(failed) - FAILURES_SHOWN} more that could not be aligned")
    for line in missing:
        running.log(line)
    return FeatureStore(out), len(rejects)


def _sweep(out: pathlib.Path) -> None:
    """Takes away what killed runs left half-written, and nothing else."""
    for partial in [
        *out.glob(".*.part"),
        *out.glob(f"{SHARDS}/.*.part"),
        *out.glob(f"{SHARDS}/*/.*.part"),
    ]:
        if PARTIAL.fullmatch(partial.name):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


def _sort_out(
    out: pathlib.Path, settings: Settings, rows: Sequence[Row]
) -> tuple[list[_Kept], dict[int, Reject], list[int]]:
    """Returns what stays, what is rejected by row, duplicates included, and each shard's frames."""
    kept: list[_Kept] = []
    rejects: dict[int, Reject] = {}
    shard_frames: list[int] = []
    seen: dict[str, int] = {}
    size = settings.shard_utterances
    for shard in range(-(-len(rows) // size)):
        start = place = 0
        expected = min(size, len(rows) - shard * size)
        for offset, item in enumerate(read_items(out, shard, expected, settings)):
            row = shard * size + offset
            if isinstance(item, Reject):
                rejects[row] = item
                continue
            first = seen.setdefault(item.sha256, row)
            if first == row:
                kept.append(_Kept(row, item, shard, place, start))
            else:
                rejects[row] = Reject("duplicate", f"same sound as {_name(rows[first])}")
            start, place = start + item.frames, place + 1
        shard_frames.append(start)
    return kept, rejects, shard_frames


def _describe(kept: Sequence[_Kept], rows: Sequence[Row], splits: Sequence[str]) -> list[Utterance]:
    """Returns the index entries, arousal labels included."""
    chosen, items = [rows[k.row] for k in kept], [k.item for k in kept]
    arousal = arousal_labels(chosen, [i.level_db for i in items], [i.f0_hz for i in items])
    return [
        Utterance(
            corpus=row.corpus,
            path=row.path,
            speaker=f"{row.corpus}/{row.speaker}",
            gender=row.gender,
            language=row.language,
            split=splits[k.row],
            emotion=emotion_name(row.emotion) if row.emotion else "",
            intensity=row.intensity,
            arousal=float(label),
            rated=bool(row.arousal),
            valence=rating(row, "valence"),
            dominance=rating(row, "dominance"),
            level_db=k.item.level_db,
            level_spread_db=k.item.level_spread_db,
            peak_db=k.item.peak_db,
            f0_hz=k.item.f0_hz,
            f0_spread=k.item.f0_spread,
            voiced=k.item.voiced,
            alignment=k.item.alignment,
            text=row.text,
            shard=k.shard,
            start=k.start,
            frames=k.item.frames,
        )
        for k, row, label in zip(kept, chosen, arousal, strict=True)
    ]


def _gather(out: pathlib.Path, name: str, kept: Sequence[_Kept]) -> None:
    """Writes the rows of all that stays, in order, one shard in memory at a time."""
    places: dict[int, list[int]] = {}
    for k in kept:
        places.setdefault(k.shard, []).append(k.place)
    target = array_path(out, name)
    with replacing(target) as (partial,), partial.open("wb") as file:
        for shard, chosen in places.items():
            rows = np.fromfile(shard_folder(out, shard) / target.name, ARRAYS[name][1])
            count = sum(isinstance(item, Item) for item in read_items(out, shard))
            rows.reshape(count, -1)[chosen].tofile(file)


def _name(row: Row) -> str:
    return f"{row.corpus}/{row.path}"
