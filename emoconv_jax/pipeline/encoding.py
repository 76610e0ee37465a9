"""What trained encoders say of every utterance: average voice, emotion embedding, arousal.

A shard's folder gets, beside `average_voice.f16`,

    emotion.f32     [utterances, 256]  embeddings of all the shard's utterances
    arousal.f32     [utterances]       the recogniser's arousal
    encoded.json    which encoders made them

and the feature folder the embeddings and arousals of those utterances that the index lists.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from emoconv_jax.bundles.format import check_mel, part_files, read_config
from emoconv_jax.config import MelConfig, to_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import replacing, write_text
from emoconv_jax.inference.encoders import AverageVoiceRole, EmotionRole
from emoconv_jax.pipeline.extraction import Item, read_items
from emoconv_jax.pipeline.shard_runner import for_each_shard, tick
from emoconv_jax.pipeline.store import FeatureStore, array_path, shard_folder, write_array

NOTE = "encoded.json"
ROLES = ("average_voice", "recogniser")


@dataclasses.dataclass(frozen=True)
class _EncodeJob:
    folder: pathlib.Path
    shard: int
    bundle: pathlib.Path
    sha256: str


def encode(
    store: FeatureStore,
    bundle: pathlib.Path,
    *,
    workers: int = 1,
    runner: str = "local",
    beam_options: Sequence[str] = (),
) -> None:
    """Adds what a bundle's average-voice encoder and recogniser say of every utterance.

    Shards that these encoders have been through already are left as they are.

    Args:
        store: made by `prepare`.
        bundle: the bundle's folder.
        workers: processes.
        runner: "local" or "beam".
        beam_options: of Beam's pipeline.

    Raises:
        EmoconvError: the bundle's mel is not the store's, or the bundle lacks an encoder.
    """
    folder, sha256 = store.folder, check_bundle(bundle, store.mel_config)
    for name in ("emotion", "arousal"):  # so that no mixture of two bundles is ever read
        array_path(folder, name).unlink(missing_ok=True)
    shards = sorted({u.shard for u in store.utterances})
    for_each_shard(
        _encode_shard,
        [_EncodeJob(folder, shard, bundle, sha256) for shard in shards],
        "encoding",
        len(store.utterances),
        workers=workers,
        runner=runner,
        beam_options=beam_options,
    )
    for name in ("emotion", "arousal"):
        _gather(store, name, shards)


def _gather(store: FeatureStore, name: str, shards: Sequence[int]) -> None:
    """Writes the rows of those utterances that the index lists, which may leave some out."""
    starts: dict[int, list[int]] = {}
    for utterance in store.utterances:
        starts.setdefault(utterance.shard, []).append(utterance.start)
    with replacing(array_path(store.folder, name)) as (partial,), partial.open("wb") as file:
        for shard in shards:
            frames = [item.frames for item in _items(store.folder, shard)]
            first = np.cumsum([0, *frames[:-1]])  # of every utterance that was encoded
            rows = np.fromfile(_shard_file(store.folder, name, shard), np.float32)
            listed = np.isin(first, starts[shard])
            rows.reshape(len(frames), -1)[listed].tofile(file)


def _items(folder: pathlib.Path, shard: int) -> list[Item]:
    return [item for item in read_items(folder, shard) if isinstance(item, Item)]


def _shard_file(folder: pathlib.Path, name: str, shard: int) -> pathlib.Path:
    return shard_folder(folder, shard) / array_path(folder, name).name


def check_bundle(bundle: pathlib.Path, mel: MelConfig | None = None) -> str:
    """Refuses a bundle that cannot encode.

    Args:
        bundle: its folder.
        mel: of the features; the package's own where None.

    Returns:
        The SHA-256 of all that the encoders' answers depend on.

    Raises:
        EmoconvError: no bundle, another mel, or a missing encoder.
    """
    bundled = read_config(bundle)
    check_mel(bundled.mel, mel or MelConfig(), f"{bundle}: mel", "the features' mel")
    if bundled.roles.emotion != "recogniser":
        raise EmoconvError(
            f"{bundle}: roles.emotion is {bundled.roles.emotion!r}, which hears waveforms; "
            "features hold mels, which only a 'recogniser' reads"
        )
    if bundled.roles.speaker != "registry":
        raise EmoconvError(
            f"{bundle}: roles.speaker is {bundled.roles.speaker!r}, but the features' d-vectors "
            "are of the 'registry' encoder"
        )
    config = to_dict(bundled)
    digest = hashlib.sha256(json.dumps({r: config[r] for r in (*ROLES, "mel")}).encode())
    for role in ROLES:
        files = part_files(bundle, role)
        if not files:
            raise EmoconvError(f"{bundle}: holds no {role}, which encoding needs")
        for path in files:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_encoded(job: _EncodeJob, items: Sequence[Item]) -> bool:
    """Tells whether a shard has all that these encoders say; anything odd is to be made anew."""
    try:
        note = (shard_folder(job.folder, job.shard) / NOTE).read_bytes()
        voices = array_path(job.folder, "average_voice", job.shard).stat().st_size
        mels = array_path(job.folder, "mel", job.shard).stat().st_size
        arousal = _shard_file(job.folder, "arousal", job.shard).stat().st_size
        emotion = _shard_file(job.folder, "emotion", job.shard).stat().st_size
    except OSError:
        return False
    whole = voices == mels and arousal == 4 * len(items) and emotion % arousal == 0 < emotion
    return whole and note.decode(errors="replace").strip() == json.dumps({"sha256": job.sha256})


@functools.lru_cache(maxsize=1)
def _roles(bundle: pathlib.Path, sha256: str) -> tuple[AverageVoiceRole, EmotionRole]:
    del sha256  # other weights in the same folder are another pair
    return AverageVoiceRole.from_bundle(bundle), EmotionRole.from_bundle(bundle)


def _encode_shard(job: _EncodeJob) -> None:
    note = shard_folder(job.folder, job.shard) / NOTE
    items = _items(job.folder, job.shard)
    if _is_encoded(job, items):
        tick(len(items))
        return
    note.unlink(missing_ok=True)
    average_voice, emotion = _roles(job.bundle, job.sha256)
    total = sum(item.frames for item in items)
    path = array_path(job.folder, "mel", job.shard)
    mels = np.memmap(path, np.float16, "r").reshape(total, -1)
    voices, embeddings, arousal, start = [], [], [], 0
    for item in items:
        mel = mels[start : start + item.frames].astype(np.float32)
        voices.append(average_voice(mel).astype(np.float16))
        embedding, value = emotion.embed(mel)
        embeddings.append(embedding)
        arousal.append(value)
        start += item.frames
        tick()
    write_array(job.folder, "average_voice", np.concatenate(voices), job.shard)
    for name, values in (("emotion", embeddings), ("arousal", arousal)):
        with replacing(_shard_file(job.folder, name, job.shard)) as (partial,):
            np.array(values, np.float32).tofile(partial)
    write_text(note, json.dumps({"sha256": job.sha256}) + "\n")
