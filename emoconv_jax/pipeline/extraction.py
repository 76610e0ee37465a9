"""The first pass of a preparation: a shard of utterances to features, or to reasons against them.

What a shard's folder holds then, beside what `pipeline.store` describes:

    items.json          one entry per row of the shard, in order: an `Item`, or a `Reject`
    aligned.i1          [frames]            phone of each frame by given times or an aligner, or -1
    speaker.f32         [utterances, 256]   d-vectors
    prosody.f32         [frames, 3]         as `audio.prosody.prosody` returns it
    whisper_pooled.f16  [utterances, 7168]  beside whisper.f16, where `Settings.whisper` is true

A shard depends on its rows and on the settings, on nothing else of the corpus.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import secrets
import shutil
from typing import Any

import numpy as np

from emoconv_jax.audio.columns import LOG2_F0, VOICING
from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.prosody import level_db, level_spread_db, prosody
from emoconv_jax.audio.reading import SILENCE_PEAK, conform
from emoconv_jax.audio.vad import speaker_mel
from emoconv_jax.config import MelConfig, from_dict, to_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json
from emoconv_jax.inference.speaker import SpeakerRole
from emoconv_jax.inference.whisper_features import WhisperFeatures
from emoconv_jax.pipeline.alignment import align_english
from emoconv_jax.pipeline.labels import rating
from emoconv_jax.pipeline.manifest import Row
from emoconv_jax.pipeline.phones import UNALIGNED, PhoneSpan, frame_phones
from emoconv_jax.pipeline.rejects import UNREADABLE
from emoconv_jax.pipeline.shard_runner import tick
from emoconv_jax.pipeline.sources import is_folder, read_row
from emoconv_jax.pipeline.store import ARRAYS, shard_folder
from emoconv_jax.pipeline.textgrids import find_text_grid, read_text_grid
from emoconv_jax.porting.registry import fetch_weights
from emoconv_jax.porting.whisper_files import fetch_whisper
from emoconv_jax.shapes import Float

ITEMS, ALIGNED, SPEAKER = "items.json", "aligned.i1", "speaker.f32"
FAILED = "failed"  # the alignment of an utterance whose aligner found none
SHORTEST_S = 0.5
# Of 3 358 clips of RAVDESS and nEMO, loud anger included, the worst has .015 % of its samples at
# full scale, and none has two neighbours there; overdriven recordings have per cents.
FULL_SCALE, MOST_CLIPPED = 0.999, 1e-3
QUIETEST_DB = -70.0  # the gate of `level_db`, below which it finds -inf, no number for an index


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the first pass depends on besides the corpora.

    Attributes:
        mel: of all features.
        alignment: "auto", phone times of the corpus, else pocketsphinx, else units; "given", of the
            corpus alone; "units", of the corpus, else units.
        text_grids: a folder of Montreal TextGrids; empty, those beside the audio.
        max_seconds: longer utterances are rejected.
        shard_utterances: how many rows make a shard, the unit of work and of resuming.
        whisper: whether to store the states of Whisper's encoder, 2 kB a frame.
    """

    mel: MelConfig = dataclasses.field(default_factory=MelConfig)
    alignment: str = "auto"
    text_grids: str = ""
    max_seconds: float = 60.0
    shard_utterances: int = 128
    whisper: bool = False


@dataclasses.dataclass(frozen=True)
class Item:
    """What the first pass finds of one utterance; fields as in `store.Utterance`.

    Attributes:
        failure: why it could not be aligned, or empty.
        sha256: of the sound, by which duplicates are found.
    """

    frames: int
    level_db: float
    level_spread_db: float
    peak_db: float
    f0_hz: float
    f0_spread: float
    voiced: float
    alignment: str
    failure: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Reject:
    """Why an utterance is left out.

    Attributes:
        kind: missing, unreadable, empty, silent, too short, too long, clipped, wrong label or
            duplicate.
        reason: what was found.
    """

    kind: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Task:
    """One utterance to extract.

    Attributes:
        source: it is from, see `pipeline.sources`.
        number: of its row there.
        row: that row.
        spans: its phone times where the corpus brings them as a table.
    """

    source: str
    number: int
    row: Row
    spans: tuple[PhoneSpan, ...] | None = None


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """One shard to extract into the feature folder."""

    folder: pathlib.Path
    number: int
    settings: Settings
    tasks: tuple[Task, ...]


def extract_shard(job: ShardJob) -> None:
    """Writes a shard's folder, whole or not at all; one that is there already is left as it is.

    Args:
        job: the shard.
    """
    target = shard_folder(job.folder, job.number)
    if (target / ITEMS).is_file():
        tick(len(job.tasks))
        return
    entries: list[dict[str, Any]] = []
    found_of: dict[str, list[np.ndarray]] = {name: [] for name in shard_files(job.settings)}
    for task in job.tasks:
        found = extract(task, job.settings)
        if isinstance(found, Reject):
            entries.append(to_dict(found))
        else:
            item, arrays = found
            entries.append(to_dict(item))
            for name, array in arrays.items():
                found_of[name].append(array)
        tick()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    partial.mkdir()
    try:
        for name, arrays in found_of.items():
            with (partial / name).open("wb") as file:
                for array in arrays:
                    np.ascontiguousarray(array).tofile(file)
        text = json.dumps(entries, ensure_ascii=False, indent=0)
        (partial / ITEMS).write_text(text, encoding="utf-8")
        os.replace(partial, target)
    except OSError:
        if not (target / ITEMS).is_file():  # another process made the same shard meanwhile
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def shard_files(settings: Settings) -> dict[str, tuple[Any, str]]:
    """Returns what the first pass puts into a shard's folder beside `items.json`.

    Args:
        settings: of the pass.

    Returns:
        File name -> type of its numbers, and what it has a row per: "frame" or "utterance".
    """
    names = ("mel", "prosody", *(("whisper", "whisper_pooled") if settings.whisper else ()))
    stored = {ARRAYS[name][0]: ARRAYS[name][1:3] for name in names}
    return {ALIGNED: (np.int8, "frame"), SPEAKER: (np.float32, "utterance")} | stored


def read_items(
    folder: pathlib.Path,
    shard: int,
    rows: int | None = None,
    settings: Settings | None = None,
) -> list[Item | Reject]:
    """Returns what the first pass found of a shard's rows, in order.

    Args:
        folder: the feature folder.
        shard: its number.
        rows: how many there must be, where that is known.
        settings: of the pass; None checks the files that there always are.

    Returns:
        One entry per row.

    Raises:
        EmoconvError: the shard is absent or damaged.
    """
    place = shard_folder(folder, shard)
    path = place / ITEMS
    entries = read_json(path, "its shard has not been prepared")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise EmoconvError(f"{path}: damaged, expected a list of objects; delete {place}")
    found = [
        from_dict(Reject if "kind" in entry else Item, entry, f"{path}: [{i}]")
        for i, entry in enumerate(entries)
    ]
    items = [item for item in found if isinstance(item, Item)]
    if not (place / ARRAYS["prosody"][0]).is_file():
        raise EmoconvError(
            f"{place}: prosody.f32 not found, it was prepared before features held prosody; use a "
            "fresh --out, or delete that folder and run the preparation again"
        )
    rows_per = {"frame": sum(item.frames for item in items), "utterance": len(items)}
    sound = (
        all(item.frames > 0 for item in items)
        and (rows is None or len(found) == rows)
        and all(
            _is_whole(place / name, rows_per[per], dtype)
            for name, (dtype, per) in shard_files(settings or Settings()).items()
        )
        and (place / ALIGNED).stat().st_size == rows_per["frame"]
        and (place / "prosody.f32").stat().st_size == 12 * rows_per["frame"]
    )
    if not sound:
        raise EmoconvError(
            f"{place}: damaged, its files do not hold what {ITEMS} says; delete that folder and "
            "run the preparation again"
        )
    return found


def _is_whole(path: pathlib.Path, rows: int, dtype: Any) -> bool:
    """Tells whether a file may hold that many rows."""
    size = path.stat().st_size if path.is_file() else 0
    return size % max(np.dtype(dtype).itemsize * rows, 1) == 0 and (size > 0) == (rows > 0)


def extract(task: Task, settings: Settings) -> tuple[Item, dict[str, np.ndarray]] | Reject:
    """Returns the features of one utterance, or why there are none.

    Args:
        task: the utterance.
        settings: of the pass.

    Returns:
        What was found of it, and its rows of each of `shard_files`.
    """
    row = task.row
    try:
        for name in ("arousal", "valence", "dominance"):
            rating(row, name)
    except EmoconvError as error:
        return Reject("wrong label", str(error))
    try:
        native, native_rate_hz = read_row(task.source, task.number, row, settings.max_seconds)
    except EmoconvError as error:
        return Reject(error.kind or UNREADABLE, str(error))
    fault = _fault(native, native_rate_hz, settings)
    if fault is not None:
        return fault
    rate_hz = settings.mel.sample_rate_hz
    audio = conform(native, native_rate_hz, rate_hz)
    mel = log_mel(audio, settings.mel).astype(np.float16)
    spans, alignment, failure = _spans(task, audio, settings)
    phones = frame_phones(spans, len(mel), settings.mel) if spans else np.full(len(mel), UNALIGNED)
    contour = prosody(audio, rate_hz, settings.mel)
    item = Item(
        frames=len(mel),
        level_db=max(level_db(audio, rate_hz), QUIETEST_DB),
        level_spread_db=level_spread_db(audio, rate_hz),
        peak_db=float(20 * np.log10(np.abs(native).max())),
        **_pitch(contour),
        alignment=alignment,
        failure=failure,
        sha256=sound_sha256(native, native_rate_hz),
    )
    arrays = {
        "mel.f16": mel,
        "prosody.f32": contour,
        ALIGNED: phones.astype(np.int8),
        SPEAKER: _speaker_role()(audio, rate_hz).astype(np.float32),
    }
    if settings.whisper:
        heard = _whisper()(audio, rate_hz, len(mel), settings.mel)
        for name, values in (("whisper", heard.frames), ("whisper_pooled", heard.pooled)):
            arrays[ARRAYS[name][0]] = values.astype(ARRAYS[name][1])
    return item, arrays


def sound_sha256(audio: Float[np.ndarray, " n"], rate_hz: int) -> str:
    """Returns what tells a sound from others.

    Args:
        audio: as it was read.
        rate_hz: its own.
    """
    return hashlib.sha256(audio.tobytes() + str(rate_hz).encode()).hexdigest()


def warm_up(settings: Settings | None = None) -> None:
    """Does once what every worker would do at the same time.

    Fetches the weights of the encoders, and fills the cache of librosa's compiled functions:
    processes that fill it together can damage it, and every later run of that environment crashes.

    Args:
        settings: of the pass.
    """
    fetch_weights("speaker")
    if settings is not None and settings.whisper:
        fetch_whisper()
    noise = np.random.default_rng(0).normal(0.0, 0.1, MelConfig().sample_rate_hz)
    log_mel(noise.astype(np.float32), MelConfig())
    speaker_mel(noise.astype(np.float32))


def _fault(audio: Float[np.ndarray, " n"], rate_hz: int, settings: Settings) -> Reject | None:
    """Returns what makes a sound useless, if anything does."""
    seconds, peak = len(audio) / rate_hz, float(np.abs(audio).max())
    if peak < SILENCE_PEAK:
        return Reject("silent", f"peak {peak:.1e}, needed is {SILENCE_PEAK:g} (-80 dBFS)")
    if seconds < SHORTEST_S:
        return Reject("too short", f"{seconds:.2f} s, needed are {SHORTEST_S:g} s")
    clipped = float(np.mean(np.abs(audio) >= FULL_SCALE))
    if clipped > MOST_CLIPPED:
        return Reject(
            "clipped", f"{clipped:.2%} of samples at full scale, allowed are {MOST_CLIPPED:.1%}"
        )
    return None


def _spans(
    task: Task, audio: Float[np.ndarray, " n"], settings: Settings
) -> tuple[list[PhoneSpan], str, str]:
    """Returns an utterance's phone times and where they came from, or why there are none.

    What cannot be aligned is of use all the same, so a failure is no fault of the utterance. It
    gets no units either, which would put another inventory among its language's phones.
    """
    row, folder = task.row, settings.text_grids or (task.source if is_folder(task.source) else "")
    failure = ""
    # the symbols of TextGrids mean other sounds in other languages
    if folder and row.language in ("", "en"):
        try:
            grid = find_text_grid(pathlib.Path(folder), row.speaker, row.path)
            if grid is not None:
                return read_text_grid(grid), "textgrid", ""
        except EmoconvError as error:
            failure = str(error)
    if task.spans and task.spans[0].start_s < len(audio) / settings.mel.sample_rate_hz:
        return list(task.spans), "corpus", ""
    if task.spans:
        failure = f"its first phone begins at {task.spans[0].start_s:g} s, beyond the sound"
    if settings.alignment == "auto" and row.language == "en" and row.text:
        try:
            return align_english(audio, row.text), "pocketsphinx", ""
        except EmoconvError as error:
            failure = str(error)
    return [], FAILED if failure else "", failure


def _pitch(contour: Float[np.ndarray, "f 3"]) -> dict[str, Any]:
    """Returns the statistics of F0 that `Item` holds."""
    voiced = contour[:, VOICING] > 0
    if not voiced.any():
        return {"f0_hz": 0.0, "f0_spread": 0.0, "voiced": 0.0}
    octaves = contour[voiced, LOG2_F0].astype(np.float64)
    return {
        "f0_hz": float(2 ** np.median(octaves)),
        "f0_spread": float(12 * np.std(octaves)),
        "voiced": float(voiced.mean()),
    }


@functools.lru_cache(maxsize=1)
def _speaker_role() -> SpeakerRole:
    return SpeakerRole()


@functools.lru_cache(maxsize=1)
def _whisper() -> WhisperFeatures:
    return WhisperFeatures()
