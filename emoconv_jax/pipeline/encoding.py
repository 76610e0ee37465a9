"""What a bundle's encoders say of every utterance: average voice, emotion embedding, arousal.

A shard's folder gets, beside `average_voice.f16`,

    emotion.f32     [utterances, e]  embeddings of all the shard's utterances, as wide as the role's
    arousal.f32     [utterances]     the emotion role's arousal
    encoded.json    which encoders made them

and the feature folder the embeddings and arousals of those utterances that the index lists.

What an encoder hears is what the features hold of it, log-mels or Whisper's states, or else the
sound itself (`WAVEFORMS`): then the sources that the features were prepared from are read again.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from emoconv_jax.audio.reading import conform
from emoconv_jax.bundles.agreement import WHISPER_HEADS
from emoconv_jax.bundles.format import BundleConfig, check_mel, part_files, read_config
from emoconv_jax.bundles.parts import load_variables
from emoconv_jax.config import MelConfig, to_dict
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import replacing, write_text
from emoconv_jax.inference.encoders import AverageVoiceRole, Recognition
from emoconv_jax.inference.roles import emotion_role
from emoconv_jax.inference.whisper_features import FRAME_STATES
from emoconv_jax.inference.whisper_roles import (
    WhisperAverageVoiceRole,
    WhisperEmotionRole,
    check_features,
)
from emoconv_jax.pipeline.extraction import Item, Settings, Task, read_items, sound_sha256
from emoconv_jax.pipeline.plan import tasks_of
from emoconv_jax.pipeline.shard_runner import for_each_shard, tick
from emoconv_jax.pipeline.sources import read_row
from emoconv_jax.pipeline.store import (
    ARRAYS,
    FeatureStore,
    array_path,
    shard_folder,
    write_array,
)

NOTE = "encoded.json"
WAVEFORMS = ("wav2vec2",)  # roles that hear neither log-mels nor Whisper's states


@dataclasses.dataclass(frozen=True)
class _EncodeJob:
    """A shard to encode; the tasks of its rows where the sound is needed."""

    folder: pathlib.Path
    shard: int
    bundle: pathlib.Path
    sha256: str
    tasks: tuple[Task, ...] = ()
    max_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Clip:
    """An utterance of a shard, and what the features hold of it."""

    job: _EncodeJob
    item: Item
    row: int  # of the shard
    place: int  # among the shard's utterances
    start: int  # its first frame there
    shard_rows: dict[str, int]  # per "frame" and per "utterance"

    def frames(self, name: str) -> np.ndarray:
        """Returns its rows of an array of frames, float32."""
        file = array_path(self.job.folder, name, self.job.shard)
        return self._rows(file, name)[self.start : self.start + self.item.frames].astype(np.float32)

    def statistics(self, name: str) -> np.ndarray:
        """Returns its row of an array of utterances, float32."""
        file = _shard_file(self.job.folder, name, self.job.shard)
        return self._rows(file, name)[self.place].astype(np.float32)

    def sound(self, rate_hz: int) -> np.ndarray:
        """Returns its waveform, which must be the one that the features are of."""
        task = self.job.tasks[self.row]
        native, native_rate_hz = read_row(task.source, task.number, task.row, self.job.max_seconds)
        if sound_sha256(native, native_rate_hz) != self.item.sha256:
            raise EmoconvError(
                f"{task.source}: {task.row.path}: its sound is not the one that "
                f"{self.job.folder} was prepared from; prepare again, with a fresh --out"
            )
        return conform(native, native_rate_hz, rate_hz)

    def _rows(self, file: pathlib.Path, name: str) -> np.ndarray:
        _, dtype, per, _ = ARRAYS[name]
        return np.memmap(file, dtype, "r").reshape(self.shard_rows[per], -1)


@dataclasses.dataclass(frozen=True)
class _Encoders:
    """What fills a bundle's roles, as functions of a clip."""

    average_voice: Callable[[_Clip], np.ndarray]
    emotion: Callable[[_Clip], Recognition]


def encode(
    store: FeatureStore,
    bundle: pathlib.Path,
    *,
    sources: Sequence[str] = (),
    workers: int = 1,
    runner: str = "local",
    beam_options: Sequence[str] = (),
) -> None:
    """Adds what a bundle's encoders of average voice and emotion say of every utterance.

    Shards that these encoders have been through already are left as they are.

    Args:
        store: made by `prepare`.
        bundle: the bundle's folder.
        sources: what the store was prepared from, for an encoder that hears waveforms.
        workers: processes.
        runner: "local" or "beam".
        beam_options: of Beam's pipeline.

    Raises:
        EmoconvError: the bundle's mel is not the store's, the bundle lacks an encoder or has one
            for other states than the store's, or a sound changed.
        UsageError: sources that are missing or not those of the store.
    """
    folder = store.folder
    sha256 = check_bundle(bundle, store.mel_config, encoder=store.encoder, sources=bool(sources))
    tasks, settings = tasks_of(folder, sources) if _hears_waveforms(bundle) else ([], Settings())
    size = settings.shard_utterances
    for name in ("emotion", "arousal"):  # so that no mixture of two bundles is ever read
        array_path(folder, name).unlink(missing_ok=True)
    shards = sorted({u.shard for u in store.utterances})
    jobs = [
        _EncodeJob(
            folder,
            shard,
            bundle,
            sha256,
            tuple(tasks[shard * size : (shard + 1) * size]),
            settings.max_seconds,
        )
        for shard in shards
    ]
    for_each_shard(
        _encode_shard,
        jobs,
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


def check_bundle(
    bundle: pathlib.Path,
    mel: MelConfig | None = None,
    *,
    encoder: str = "",
    sources: bool = False,
) -> str:
    """Refuses a bundle that cannot encode.

    Args:
        bundle: its folder.
        mel: of the features; the package's own where None.
        encoder: the fingerprint of the Whisper whose states they hold, or empty.
        sources: whether the corpora are at hand, to hear their sound.

    Returns:
        The SHA-256 of all that the encoders' answers depend on.

    Raises:
        EmoconvError: no bundle, another mel, other states, or a missing encoder.
        UsageError: an encoder that hears waveforms, and no corpora.
    """
    bundled = read_config(bundle)
    check_mel(bundled.mel, mel or MelConfig(), f"{bundle}: mel", "the features' mel")
    if bundled.roles.emotion in WAVEFORMS and not sources:
        raise UsageError(
            f"{bundle}: roles.emotion is {bundled.roles.emotion!r}, which hears waveforms; give "
            "the corpora that the features were prepared from as well"
        )
    if bundled.roles.speaker != "registry":
        raise EmoconvError(
            f"{bundle}: roles.speaker is {bundled.roles.speaker!r}, but the features' d-vectors "
            "are of the 'registry' encoder"
        )
    config, parts = to_dict(bundled), _parts(bundled)
    for part in set(parts) & set(WHISPER_HEADS):
        check_features(part, getattr(bundled, part), encoder, f"{bundle}: the features")
    states = bundled.whisper_average_voice.states
    if "whisper_average_voice" in parts and states != FRAME_STATES:
        raise EmoconvError(
            f"{bundle}: whisper_average_voice.states: found {list(states)!r:.60}, the features "
            f"hold {list(FRAME_STATES)}; train it anew"
        )
    digest = hashlib.sha256(json.dumps({r: config[r] for r in (*parts, "mel")}).encode())
    for part in parts:
        files = part_files(bundle, part)
        if not files:
            raise EmoconvError(f"{bundle}: holds no {part}, which encoding needs")
        for path in files:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _parts(config: BundleConfig) -> tuple[str, str]:
    """Returns the parts that encode: those that fill the average voice and the emotion."""
    return config.roles.average_voice, config.roles.emotion


def _hears_waveforms(bundle: pathlib.Path) -> bool:
    return read_config(bundle).roles.emotion in WAVEFORMS


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
def _encoders(bundle: pathlib.Path, sha256: str) -> _Encoders:
    """Returns a bundle's encoders."""
    del sha256  # other weights in the same folder are others
    config = read_config(bundle)
    return _Encoders(_voice_of(bundle, config), _emotion_of(bundle, config))


def _voice_of(bundle: pathlib.Path, config: BundleConfig) -> Callable[[_Clip], np.ndarray]:
    part = config.roles.average_voice
    variables = load_variables(bundle, part, config)
    if part == "whisper_average_voice":
        head = WhisperAverageVoiceRole(config, variables)
        return lambda clip: head.of_states(clip.frames("whisper"))
    voice = AverageVoiceRole(config, variables)
    return lambda clip: voice(clip.frames("mel"))


def _emotion_of(bundle: pathlib.Path, config: BundleConfig) -> Callable[[_Clip], Recognition]:
    part, rate_hz = config.roles.emotion, config.mel.sample_rate_hz
    if part == "whisper_emotion":
        head = WhisperEmotionRole(config, load_variables(bundle, part, config))
        return lambda clip: head.of_pooled(clip.statistics("whisper_pooled")[None])[0]
    emotion = emotion_role(bundle, config)
    if part == "recogniser":
        return lambda clip: emotion.recognise([clip.frames("mel")])[0]
    return lambda clip: emotion.hear(clip.sound(rate_hz), rate_hz)


def _encode_shard(job: _EncodeJob) -> None:
    note = shard_folder(job.folder, job.shard) / NOTE
    found = read_items(job.folder, job.shard)
    items = [item for item in found if isinstance(item, Item)]
    if _is_encoded(job, items):
        tick(len(items))
        return
    note.unlink(missing_ok=True)
    encoders = _encoders(job.bundle, job.sha256)
    voices, embeddings, arousal, start = [], [], [], 0
    rows = {"frame": sum(item.frames for item in items), "utterance": len(items)}
    for row, item in enumerate(found):
        if not isinstance(item, Item):
            continue
        clip = _Clip(job, item, row, len(voices), start, rows)
        voices.append(encoders.average_voice(clip).astype(np.float16))
        told = encoders.emotion(clip)
        embeddings.append(told.embedding)
        arousal.append(told.arousal)
        start += item.frames
        tick()
    write_array(job.folder, "average_voice", np.concatenate(voices), job.shard)
    for name, values in (("emotion", embeddings), ("arousal", arousal)):
        with replacing(_shard_file(job.folder, name, job.shard)) as (partial,):
            np.array(values, np.float32).tofile(partial)
    write_text(note, json.dumps({"sha256": job.sha256}) + "\n")
