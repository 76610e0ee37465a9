"""Corpora to a feature store, in two passes.

The first reads every audio file (mel, phone times, d-vector, level, F0); the second, which needs
the whole corpus, makes the arousal labels and the average-voice target of each phone. A third,
`encode`, adds what trained encoders say of every utterance.
"""

import dataclasses
import functools
import math
import multiprocessing
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.prosody import level_db, median_f0_hz
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.config import TRAINING_SPLITS, MelConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference.speaker import SpeakerRole
from emoconv_jax.pipeline.alignment import align_english, read_phone_table
from emoconv_jax.pipeline.average_voice import PhoneStatistics
from emoconv_jax.pipeline.labels import arousal_labels, emotion_name
from emoconv_jax.pipeline.manifest import Row, read_manifest
from emoconv_jax.pipeline.phones import PhoneSpan, frame_phones
from emoconv_jax.pipeline.splits import load_splits, split_of
from emoconv_jax.pipeline.store import FeatureStore, Utterance, clear, write_array, write_index

PHONE_TABLE = "phones.tsv"
UNALIGNED = -1
QUIETEST_DB = -70.0  # the gate of `level_db`, below which it finds -inf, no number for an index


@dataclasses.dataclass(frozen=True)
class Features:
    """What the first pass finds in one utterance."""

    mel: np.ndarray
    phones: np.ndarray
    speaker: np.ndarray
    level_db: float
    f0_hz: float


def prepare(
    folders: Sequence[pathlib.Path],
    out: pathlib.Path,
    splits_path: pathlib.Path,
    *,
    workers: int = 1,
    log: Callable[[str], None] = print,
) -> FeatureStore:
    """Builds a feature store from corpus folders.

    Args:
        folders: each with a `manifest.tsv`, and a `phones.tsv` where phone times are known.
        out: the feature folder; made if absent.
        splits_path: the split of every utterance, see `pipeline.splits`.
        workers: processes that read audio.
        log: takes each line of progress.

    Returns:
        The store.

    Raises:
        UsageError: two folders of one name.
        EmoconvError: a bad manifest, split file or label, all found before any audio is read.
            Unreadable utterances are listed and left out.
    """
    splits, mel_config = load_splits(splits_path), MelConfig()
    jobs = [(folder, row) for folder in folders for row in read_manifest(folder)]
    names = [folder.resolve().name for folder in folders]
    for i, name in enumerate(names):
        if name in names[:i]:  # a corpus is called by its folder
            raise UsageError(f"{folders[i]}: a corpus named {name} was given before")
    found = {split_of(splits, row) for _, row in jobs}
    if not found & set(TRAINING_SPLITS):
        raise EmoconvError(
            f"{splits_path}: puts no utterance of {', '.join(map(str, folders))} into "
            f"{', '.join(TRAINING_SPLITS)}; the average voice needs some"
        )
    arousal_labels([row for _, row in jobs], [0.0] * len(jobs), [0.0] * len(jobs))
    tables = {
        folder: read_phone_table(folder / PHONE_TABLE)
        for folder in folders
        if (folder / PHONE_TABLE).is_file()
    }
    out.mkdir(parents=True, exist_ok=True)
    if workers > 1:
        _speaker_role()  # fetched once, not by every worker
    calls = [(f, row, tables[f].get(row.path) if f in tables else None) for f, row in jobs]
    kept: list[tuple[Row, Features]] = []
    results = _map(functools.partial(_extract, config=mel_config), calls, workers)
    for (_, row), result in zip(jobs, tqdm(results, "features", len(jobs)), strict=True):
        if isinstance(result, str):
            log(f"left out: {result}")
        else:
            kept.append((row, result))
    if not kept:
        raise EmoconvError(f"{out}: no utterance could be read")
    aligned = sum(features.phones[0] != UNALIGNED for _, features in kept)
    log(f"{len(kept)} of {len(jobs)} utterances kept, {aligned} with phone times")
    utterances = _describe([row for row, _ in kept], [f for _, f in kept], splits)
    clear(out)
    write_array(out, "mel", np.concatenate([f.mel for _, f in kept]))
    write_array(out, "phones", np.concatenate([f.phones for _, f in kept]))
    write_array(out, "speaker", np.stack([f.speaker for _, f in kept]))
    write_array(out, "targets", _targets(utterances, [f for _, f in kept]))
    write_index(out, mel_config, utterances)
    return FeatureStore(out)


def encode(
    store: FeatureStore,
    average_voice: Callable[[np.ndarray], np.ndarray],
    recognise: Callable[[np.ndarray], tuple[np.ndarray, float]],
) -> None:
    """Adds Y, the emotion embedding and the recogniser's arousal of every utterance.

    Args:
        store: made by `prepare`.
        average_voice: log-mel [f, m] -> Y [f, m].
        recognise: log-mel [f, m] -> (embedding [e], arousal).
    """
    voices, embeddings, arousal = [], [], []
    for i in tqdm(range(len(store.utterances)), "encoding"):
        mel = np.array(store.frames_of("mel", i), dtype=np.float32)
        voices.append(average_voice(mel).astype(np.float16))
        embedding, value = recognise(mel)
        embeddings.append(embedding)
        arousal.append(value)
    write_array(store.folder, "average_voice", np.concatenate(voices))
    write_array(store.folder, "emotion", np.stack(embeddings))
    write_array(store.folder, "arousal", np.array(arousal))


def _map(call: Callable, items: Sequence, workers: int) -> Iterator:
    """Maps over items in order, in this process or in several."""
    if workers <= 1:
        yield from map(call, items)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(call, items, chunksize=8)


@functools.lru_cache(maxsize=1)
def _speaker_role() -> SpeakerRole:
    return SpeakerRole()


def _extract(
    job: tuple[pathlib.Path, Row, list[PhoneSpan] | None], config: MelConfig
) -> Features | str:
    """Returns the features of one utterance, or one line that says why there are none."""
    folder, row, spans = job
    rate_hz = config.sample_rate_hz
    try:
        audio = read_audio(folder / row.path, rate_hz)
        mel = log_mel(audio, config)
    except EmoconvError as error:
        return str(error)
    if spans is None and row.language == "en" and row.text:
        try:
            spans = align_english(audio, row.text)
        except EmoconvError:
            spans = None  # counted as not aligned; everything else of the utterance is of use
    f0_hz = median_f0_hz(audio, rate_hz)
    if spans is None:
        phones = np.full(len(mel), UNALIGNED)
    else:
        phones = frame_phones(spans, len(mel), config)
    return Features(
        mel=mel.astype(np.float16),
        phones=phones.astype(np.int8),
        speaker=_speaker_role()(audio, rate_hz),
        level_db=level_db(audio, rate_hz),
        f0_hz=0.0 if math.isnan(f0_hz) else float(f0_hz),
    )


def _describe(rows: list[Row], features: list[Features], splits: dict) -> list[Utterance]:
    """Returns the index entries, arousal labels included."""
    arousal = arousal_labels(rows, [f.level_db for f in features], [f.f0_hz for f in features])
    entries, start = [], 0
    for i, (row, found) in enumerate(zip(rows, features, strict=True)):
        entries.append(
            Utterance(
                corpus=row.corpus,
                path=row.path,
                speaker=f"{row.corpus}/{row.speaker}",
                gender=row.gender,
                language=row.language,
                split=split_of(splits, row),
                emotion=emotion_name(row.emotion) if row.emotion else "",
                arousal=float(arousal[i]),
                level_db=max(found.level_db, QUIETEST_DB),
                f0_hz=found.f0_hz,
                text=row.text,
                start=start,
                frames=len(found.mel),
            )
        )
        start += len(found.mel)
    return entries


def _targets(utterances: Iterable[Utterance], features: list[Features]) -> np.ndarray:
    """Returns the average-voice target of each phone over the training splits."""
    statistics = PhoneStatistics()
    for utterance, found in zip(utterances, features, strict=True):
        if utterance.split in TRAINING_SPLITS and found.phones[0] != UNALIGNED:
            statistics.add(utterance.speaker, found.phones, found.mel.astype(np.float32))
    return statistics.table()
