"""The feature store: what training reads, as flat arrays under one folder.

    index.json                     the utterances, column by column (see `Utterance`), the mel's
                                   settings, the number of units and the frames of each shard
    shards/00000/mel.f16           [frames, 80]  log-mel of one shard's utterances
    shards/00000/phones.i1         [frames]      index into `phones.PHONES`; from len(PHONES) on, a
                                                 unit of `pipeline.units`; -1 where not aligned
    shards/00000/whisper.f16       [frames, 1024]  states of Whisper's encoder at the mel's frames,
                                                 see `inference.whisper_features`
    shards/00000/parallel.f16      [frames, 80]  the sentence by other voices, in this clip's time;
                                                 zeros where `Utterance.parallel` is 0
    shards/00000/average_voice.f16 [frames, 80]  Y of the trained average-voice encoder
    shards/00000/prosody.f32       [frames, 3]   log2 of F0, voicing and log energy, as
                                                 `audio.prosody.prosody` returns them
    targets.f32                    [phones + units, 80]  the average-voice target of each
    speaker.f32                    [utterances, 256]     d-vector
    whisper_pooled.f16             [utterances, 7168]    statistics of the encoder's states
    emotion.f32                    [utterances, e]       embedding of the emotion role
    arousal.f32                    [utterances]          its arousal, 1..7

A slice of frames costs one seek and one read, whatever the corpus's size. Small arrays are mapped;
those of frames are not, because a fault of a page reads megabytes ahead for every crop once the
corpus exceeds the memory (27 crops a second instead of 9 700), and because every map holds a file
open, of which a system allows fewer than a corpus has shards. What trained encoders say (Y,
emotion, arousal) is there once `emoconv prepare --bundle` has run; Whisper's states, after
`emoconv prepare --whisper`.
"""

import dataclasses
import json
import pathlib
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emoconv_jax.config import MelConfig, from_dict, to_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, replacing, write_text
from emoconv_jax.pipeline.phones import PHONES

INDEX, SHARDS = "index.json", "shards"
# name -> (file, dtype, one row per "frame", "utterance" or "phone", what a row holds)
ARRAYS = {
    "mel": ("mel.f16", np.float16, "frame", "mel"),
    "phones": ("phones.i1", np.int8, "frame", "number"),
    "whisper": ("whisper.f16", np.float16, "frame", "embedding"),
    "whisper_pooled": ("whisper_pooled.f16", np.float16, "utterance", "embedding"),
    "parallel": ("parallel.f16", np.float16, "frame", "mel"),
    "average_voice": ("average_voice.f16", np.float16, "frame", "mel"),
    "prosody": ("prosody.f32", np.float32, "frame", "prosody"),
    "targets": ("targets.f32", np.float32, "phone", "mel"),
    "speaker": ("speaker.f32", np.float32, "utterance", "embedding"),
    "emotion": ("emotion.f32", np.float32, "utterance", "embedding"),
    "arousal": ("arousal.f32", np.float32, "utterance", "number"),
}

_WITH_STATES = "run `emoconv prepare` on the corpora with --whisper and a fresh --out"
# name -> what to do where it is not there
REMEDIES = dict.fromkeys(ARRAYS, "run `emoconv prepare` again, {} is incomplete") | {
    "prosody": "these features are of an older version; prepare them afresh",
    "whisper": _WITH_STATES,
    "whisper_pooled": _WITH_STATES,
    "parallel": "none of its utterances says what two other voices say as well",
    **dict.fromkeys(
        ("average_voice", "emotion", "arousal"),
        "run `emoconv prepare` on {} with a bundle that has the encoder",
    ),
}


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One utterance of the store.

    Attributes:
        corpus: its corpus's name.
        path: of the audio within the corpus.
        speaker: CORPUS/NAME.
        gender: F, M or empty.
        language: as ISO 639-1, or empty.
        split: as `pipeline.splits` names it.
        emotion: of the vocabulary, or empty.
        intensity: of acting; low, normal or strong, or empty.
        arousal: the label on 1..7, or -1 where there is none.
        rated: whether the corpus gave that label; listeners, one hopes.
        valence: rated, 1 (negative) to 7 (positive), or -1.
        dominance: rated, 1 (weak) to 7 (strong), or -1.
        level_db: RMS of its active frames, dBFS.
        level_spread_db: standard deviation of the level of its active frames.
        peak_db: the greatest sample, dBFS.
        f0_hz: median F0, 0 where nothing was voiced.
        f0_spread: standard deviation of F0 in semitones, 0 where nothing was voiced.
        voiced: share of frames with a pitch, 0 to 1.
        alignment: where its phones came from: "corpus", "textgrid", "pocketsphinx", "units" or "".
        text: what is said, or empty.
        shard: which holds its frames.
        start: the first of them there.
        frames: how many.
        parallel: how many other voices its average-voice target in context is the mean of, or 0
            where there is none.
    """

    corpus: str
    path: str
    speaker: str
    gender: str
    language: str
    split: str
    emotion: str
    intensity: str
    arousal: float
    rated: bool
    valence: float
    dominance: float
    level_db: float
    level_spread_db: float
    peak_db: float
    f0_hz: float
    f0_spread: float
    voiced: float
    alignment: str
    text: str
    shard: int
    start: int
    frames: int
    parallel: int = 0


class FeatureStore:
    """Read access to a feature folder.

    Attributes:
        utterances: all entries of the index, in order.
        mel_config: the settings the mels were made with.
        units: how many unsupervised units follow the phones.
        encoder: the fingerprint of Whisper's weights where its states are stored, or empty.
        frames: of all utterances together.
    """

    def __init__(self, folder: pathlib.Path):
        """Opens the folder; arrays are mapped on first use.

        Args:
            folder: what `emoconv prepare` wrote.

        Raises:
            EmoconvError: not a feature folder, or an index that cannot be read or whose entries
                lie outside their shard.
        """
        self.folder = folder
        where = folder / INDEX
        index = read_json(where, "`emoconv prepare` makes a feature folder")
        if not isinstance(index, dict) or not isinstance(index.get("utterances"), dict):
            raise EmoconvError(f"{where}: expected an object with mel and utterances")
        self.mel_config = from_dict(MelConfig, index.get("mel"), f"{where}: mel")
        shards = index.get("shard_frames"), [index.get("units")]
        if not all(
            isinstance(x, list) and all(type(n) is int and n >= 0 for n in x) for x in shards
        ):
            raise EmoconvError(f"{where}: shard_frames and units must be numbers of 0 or more")
        self.units: int = index["units"]
        self.encoder = str(index.get("encoder", ""))
        self._shard_frames: list[int] = index["shard_frames"]
        self.utterances = [Utterance(*row) for row in _rows(index["utterances"], where)]
        self.frames = sum(u.frames for u in self.utterances)
        for i, u in enumerate(self.utterances):
            room = self._shard_frames[u.shard] if 0 <= u.shard < len(self._shard_frames) else 0
            if u.frames < 1 or not 0 <= u.start <= room - u.frames:
                raise EmoconvError(
                    f"{where}: utterances[{i}] has {u.frames} frames from {u.start} of shard "
                    f"{u.shard}, expected 1 or more within its {room}"
                )
        self._maps: dict[str, np.ndarray] = {}
        self._files: dict[tuple[str, int], tuple[str, int]] = {}  # path and row's width, checked

    def array(self, name: str) -> np.ndarray:
        """Returns the array of all utterances, or of all phones, memory-mapped and read-only.

        Args:
            name: a key of ARRAYS with a row per utterance or phone.

        Returns:
            The array.

        Raises:
            EmoconvError: the file is absent or its size does not match the index.
        """
        if name not in self._maps:
            _, dtype, per, kind = ARRAYS[name]
            rows = len(self.utterances) if per == "utterance" else len(PHONES) + self.units
            path = array_path(self.folder, name)
            width = self._check(name, path, rows)
            shape = (rows,) if kind == "number" else (rows, width)
            self._maps[name] = np.memmap(path, dtype, "r", shape=shape)
        return self._maps[name]

    def frames_of(
        self, name: str, index: int, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Returns rows of one utterance of a per-frame array.

        Args:
            name: a per-frame key of ARRAYS.
            index: of the utterance.
            start: the first frame, from 0.
            stop: the frame after the last; None is the utterance's end.

        Returns:
            [frames, ...] in the stored type.

        Raises:
            EmoconvError: as for `array`.
        """
        u = self.utterances[index]
        rows = max(0, (u.frames if stop is None else min(stop, u.frames)) - start)
        if (name, u.shard) not in self._files:
            path = array_path(self.folder, name, u.shard)
            width = self._check(name, path, self._shard_frames[u.shard])
            self._files[name, u.shard] = str(path), width
        file, width = self._files[name, u.shard]
        dtype = np.dtype(ARRAYS[name][1])
        place = (u.start + start) * width * dtype.itemsize
        values = np.fromfile(file, dtype, rows * width, offset=place)
        return values if ARRAYS[name][3] == "number" else values.reshape(rows, width)

    def _check(self, name: str, path: pathlib.Path, rows: int) -> int:
        """Returns how many numbers a row of a file holds; raises as `array` says."""
        _, dtype, _, kind = ARRAYS[name]
        if not path.is_file():
            raise EmoconvError(f"{path}: not found; {REMEDIES[name].format(self.folder)}")
        size, item = path.stat().st_size, np.dtype(dtype).itemsize
        widths = {
            "mel": self.mel_config.mels,
            "number": 1,
            "prosody": 3,
            "embedding": size // item // max(rows, 1),
        }
        width = widths[kind]
        if size == 0 or size != rows * width * item:
            raise EmoconvError(
                f"{path}: {size} bytes, expected {rows} rows of {width} numbers of {item} bytes"
            )
        return width

    def select(self, wanted: Callable[[Utterance], bool]) -> np.ndarray:
        """Returns the indices of the utterances for which `wanted` is true.

        Args:
            wanted: a predicate on `Utterance`.

        Returns:
            int64 indices, ascending.
        """
        return np.array([i for i, u in enumerate(self.utterances) if wanted(u)], dtype=np.int64)


def array_path(folder: pathlib.Path, name: str, shard: int = 0) -> pathlib.Path:
    """Returns where an array lies.

    Args:
        folder: the feature folder.
        name: a key of ARRAYS.
        shard: which, for per-frame arrays.

    Returns:
        The file's path.
    """
    file, _, per, _ = ARRAYS[name]
    return (shard_folder(folder, shard) if per == "frame" else folder) / file


def shard_folder(folder: pathlib.Path, shard: int) -> pathlib.Path:
    """Returns the folder of a shard.

    Args:
        folder: the feature folder.
        shard: its number, from 0.

    Returns:
        The path.
    """
    return folder / SHARDS / f"{shard:05d}"


def write_array(folder: pathlib.Path, name: str, values: np.ndarray, shard: int = 0) -> None:
    """Writes an array, whole or not at all.

    Args:
        folder: the feature folder.
        name: a key of ARRAYS.
        values: cast to the stored type.
        shard: which, for per-frame arrays.
    """
    path = array_path(folder, name, shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as (partial,):
        np.ascontiguousarray(values, dtype=ARRAYS[name][1]).tofile(partial)


def write_index(
    folder: pathlib.Path,
    mel: MelConfig,
    utterances: Sequence[Utterance],
    shard_frames: Sequence[int],
    units: int = 0,
    encoder: str = "",
) -> None:
    """Writes the index; the last file of a preparation, so that a folder with an index is complete.

    Args:
        folder: the feature folder.
        mel: the settings of the mels.
        utterances: in the order of the per-utterance arrays.
        shard_frames: how many frames each shard holds.
        units: how many unsupervised units follow the phones.
        encoder: the fingerprint of Whisper's weights where its states are stored.
    """
    names = [field.name for field in dataclasses.fields(Utterance)]
    data = {
        "mel": to_dict(mel),
        "units": units,
        "encoder": encoder,
        "shard_frames": list(shard_frames),
        "utterances": {name: [getattr(u, name) for u in utterances] for name in names},
    }
    write_text(folder / INDEX, json.dumps(data, ensure_ascii=False, indent=0))


def _rows(columns: dict[str, Any], where: pathlib.Path) -> zip:
    """Returns the index's utterances as rows of fields, every column's length and type checked."""
    kinds = typing.get_type_hints(Utterance)
    if set(columns) != set(kinds):
        odd = sorted(set(columns) ^ set(kinds))[0]
        raise EmoconvError(
            f"{where}: utterances.{odd}: expected are the columns {', '.join(kinds)}; features of "
            "another version are to be prepared again, with a fresh --out"
        )
    count = None
    for name, kind in kinds.items():
        values = columns[name]
        count = len(values) if count is None and isinstance(values, list) else count
        if not isinstance(values, list) or len(values) != count:
            raise EmoconvError(f"{where}: utterances.{name}: expected a list of {count} values")
        allowed = {int, float} if kind is float else {kind}
        for i, value in enumerate(values):
            if type(value) not in allowed or (
                kind is float and not abs(value) <= sys.float_info.max  # NaN and infinity too
            ):
                raise EmoconvError(
                    f"{where}: utterances.{name}[{i}]: found {type(value).__name__} {value!r:.40}, "
                    f"expected {kind.__name__}"
                )
    return zip(*(columns[name] for name in kinds), strict=True)
