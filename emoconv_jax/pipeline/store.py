"""The feature store: what training reads, as flat arrays under one folder.

    index.json           one entry per utterance (see `Utterance`) and the mel's settings
    mel.f16              [total frames, 80]  log-mel
    phones.i1            [total frames]      index into `phones.PHONES`, -1 where not aligned
    speaker.f32          [utterances, 256]   d-vector
    targets.f32          [phones, 80]        the average-voice target of each phone
    average_voice.f16    [total frames, 80]  Y of the trained average-voice encoder
    emotion.f32          [utterances, 256]   embedding of the trained recogniser
    arousal.f32          [utterances]        the recogniser's arousal, 1..7

Flat files are read by memory map: a slice costs one seek, whatever the corpus's size. The last
three are added by `emoconv prepare --bundle`, when the encoders that make them are trained.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable

import numpy as np

from emoconv_jax.config import MelConfig, from_dict, to_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, replacing, write_text
from emoconv_jax.pipeline.phones import PHONES

INDEX = "index.json"
# name -> (file, dtype, one row per "frame", "utterance" or "phone", what a row holds)
ARRAYS = {
    "mel": ("mel.f16", np.float16, "frame", "mel"),
    "phones": ("phones.i1", np.int8, "frame", "number"),
    "speaker": ("speaker.f32", np.float32, "utterance", "embedding"),
    "targets": ("targets.f32", np.float32, "phone", "mel"),
    "average_voice": ("average_voice.f16", np.float16, "frame", "mel"),
    "emotion": ("emotion.f32", np.float32, "utterance", "embedding"),
    "arousal": ("arousal.f32", np.float32, "utterance", "number"),
}


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One utterance of the store.

    Attributes:
        start: first row of its frames in the flat arrays.
        frames: how many.
        split: as `pipeline.splits` names it.
        emotion: of the vocabulary, or empty.
        arousal: the label on 1..7, or -1 where there is none.
        level_db: RMS of its active frames, dBFS.
        f0_hz: median F0, 0 where nothing was voiced.
    """

    corpus: str
    path: str
    speaker: str
    gender: str
    language: str
    split: str
    emotion: str
    arousal: float
    level_db: float
    f0_hz: float
    text: str
    start: int
    frames: int


class FeatureStore:
    """Read access to a feature folder.

    Attributes:
        utterances: all entries of the index, in order.
        mel_config: the settings the mels were made with.
        frames: of all utterances together.
    """

    def __init__(self, folder: pathlib.Path):
        """Opens the folder; arrays are mapped on first use.

        Args:
            folder: what `emoconv prepare` wrote.

        Raises:
            EmoconvError: not a feature folder, or an index that cannot be read or whose entries
                do not follow one another.
        """
        self.folder = folder
        index = read_json(folder / INDEX, "`emoconv prepare` makes a feature folder")
        if not isinstance(index, dict) or not isinstance(index.get("utterances"), list):
            raise EmoconvError(f"{folder / INDEX}: expected an object with mel and utterances")
        self.mel_config = from_dict(MelConfig, index.get("mel"), f"{folder / INDEX}: mel")
        self.utterances = [
            from_dict(Utterance, entry, f"{folder / INDEX}: utterances[{i}]")
            for i, entry in enumerate(index["utterances"])
        ]
        self.frames = 0
        for i, entry in enumerate(self.utterances):
            if entry.start != self.frames or entry.frames < 1:
                raise EmoconvError(
                    f"{folder / INDEX}: utterances[{i}] has {entry.frames} frames from "
                    f"{entry.start}, expected 1 or more from {self.frames}"
                )
            self.frames += entry.frames
        self._maps: dict[str, np.ndarray] = {}

    def array(self, name: str) -> np.ndarray:
        """Returns a whole flat array, memory-mapped and read-only.

        Args:
            name: a key of ARRAYS.

        Returns:
            The array with one row per frame, utterance or phone.

        Raises:
            EmoconvError: the file is absent or its size does not match the index.
        """
        if name not in self._maps:
            self._maps[name] = self._open(name)
        return self._maps[name]

    def _open(self, name: str) -> np.ndarray:
        file, dtype, per, kind = ARRAYS[name]
        path = self.folder / file
        if not path.is_file():
            raise EmoconvError(
                f"{path}: not found; run `emoconv prepare` on {self.folder} with a bundle "
                "that has the encoder"
            )
        rows = {"frame": self.frames, "utterance": len(self.utterances), "phone": len(PHONES)}[per]
        size, item = path.stat().st_size, np.dtype(dtype).itemsize
        widths = {
            "mel": self.mel_config.mels,
            "number": 1,
            "embedding": size // item // max(rows, 1),
        }
        width = widths[kind]
        if size == 0 or size != rows * width * item:
            raise EmoconvError(
                f"{path}: {size} bytes, expected {rows} rows of {width} numbers of {item} bytes"
            )
        return np.memmap(path, dtype, "r", shape=(rows,) if kind == "number" else (rows, width))

    def frames_of(self, name: str, index: int) -> np.ndarray:
        """Returns one utterance's rows of a per-frame array.

        Args:
            name: a per-frame key of ARRAYS.
            index: of the utterance.

        Returns:
            [frames, ...] in the stored type.
        """
        utterance = self.utterances[index]
        return self.array(name)[utterance.start : utterance.start + utterance.frames]

    def select(self, wanted: Callable[[Utterance], bool]) -> np.ndarray:
        """Returns the indices of the utterances for which `wanted` is true.

        Args:
            wanted: a predicate on `Utterance`.

        Returns:
            int64 indices, ascending.
        """
        return np.array([i for i, u in enumerate(self.utterances) if wanted(u)], dtype=np.int64)


def clear(folder: pathlib.Path) -> None:
    """Takes away an earlier store, index first, so that none of it is read with what follows.

    Args:
        folder: the feature folder.
    """
    for name in (INDEX, *(file for file, *_ in ARRAYS.values())):
        (folder / name).unlink(missing_ok=True)


def write_index(folder: pathlib.Path, mel: MelConfig, utterances: list[Utterance]) -> None:
    """Writes the index last, so that a folder with an index is complete.

    Args:
        folder: the feature folder.
        mel: the settings of the mels.
        utterances: entries in the order of the flat arrays.
    """
    data = {"mel": to_dict(mel), "utterances": [to_dict(u) for u in utterances]}
    write_text(folder / INDEX, json.dumps(data, ensure_ascii=False, indent=0))


def write_array(folder: pathlib.Path, name: str, values: np.ndarray) -> None:
    """Writes a flat array, whole or not at all.

    Args:
        folder: the feature folder.
        name: a key of ARRAYS.
        values: cast to the stored type.
    """
    file, dtype, *_ = ARRAYS[name]
    with replacing(folder / file) as (partial,):
        np.ascontiguousarray(values, dtype=dtype).tofile(partial)
