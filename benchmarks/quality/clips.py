"""Clips that a look is about, chosen by rule from the corpora's manifests and the split file.

    converted   neutral clips (arousal 4 where a rule made it) of voices that no training has heard,
                evenly spread over voices and sentences
    enrolment   of every actor of RAVDESS and nEMO, evenly spread over what is left at even places
    real        emotional clips of the voices that are converted, at odd places

Places count the clips of a speaker in the order of their names. No clip is in two of the three.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.labels import emotion_name
from emoconv_jax.pipeline.manifest import Row, read_manifest
from emoconv_jax.pipeline.splits import assign_splits, load_splits

SPLITS = pathlib.Path(__file__).parents[2] / "data" / "splits" / "emoconv-small.json"
ACTED = ("ravdess", "nemo")  # whose actors compete for a voice
KOKORO, SYNTHETIC = "kokoro", "synthetic"
NEUTRAL, NEUTRAL_AROUSAL = "neutral", "4"
ENROLLED, REAL = 16, 60  # clips per speaker at most


@dataclasses.dataclass(frozen=True)
class Clip:
    """One recording.

    Attributes:
        corpus: the corpus's name.
        path: of the file.
        voice: CORPUS/SPEAKER.
        gender: F or M; empty where nobody knows.
        language: as ISO 639-1.
        split: of the split file.
        emotion: of the vocabulary; empty where none was acted.
        intensity: of acting.
        text: what is said.
        arousal: of a rule, as text; empty of recordings.
    """

    corpus: str
    path: pathlib.Path
    voice: str
    gender: str
    language: str
    split: str
    emotion: str
    intensity: str
    text: str
    arousal: str

    @property
    def is_neutral(self) -> bool:
        """Whether it can be converted."""
        return self.emotion == NEUTRAL or (not self.emotion and self.arousal == NEUTRAL_AROUSAL)

    @property
    def name(self) -> str:
        """Voice and file name, short enough for a file's name."""
        return f"{self.voice.replace('/', '-')}-{self.path.stem}"


def read_clips(
    corpora: Iterable[pathlib.Path], splits: pathlib.Path = SPLITS
) -> list[Clip]:  # fmt: skip
    """Returns the clips of some corpora, sorted by path.

    Args:
        corpora: folders with a manifest; those that are not there are left out.
        splits: the split file.

    Raises:
        EmoconvError: none of the corpora is there, a damaged manifest, or a voice of more than one
            gender.
    """
    filed, clips, folders = load_splits(splits), [], list(corpora)
    for folder in folders:
        if not folder.is_dir():
            continue
        rows = sorted(read_manifest(folder), key=lambda row: row.path)
        places = assign_splits(filed, rows)
        clips += [_clip(folder, row, split) for row, split in zip(rows, places, strict=True)]
    if not clips:
        where = ", ".join(map(str, folders))
        raise EmoconvError(f"{where}: no such folder; --corpora names the folder of the corpora")
    return clips


def _clip(folder: pathlib.Path, row: Row, split: str) -> Clip:
    emotion = emotion_name(row.emotion) if row.emotion else ""
    return Clip(
        corpus=row.corpus,
        path=folder / row.path,
        voice=f"{row.corpus}/{row.speaker}",
        gender=row.gender,
        language=row.language or "en",
        split=split,
        emotion=emotion,
        intensity=row.intensity,
        text=row.text,
        arousal=row.arousal,
    )


def to_convert(
    clips: Sequence[Clip], counts: dict[str, int], split: str, *, other: dict[str, str]
) -> list[Clip]:
    """Returns the clips that a look converts.

    Args:
        clips: of `read_clips`.
        counts: how many of each corpus.
        split: whose clips.
        other: corpus -> another split, where the corpus has no clip in `split`.

    Returns:
        Corpus by corpus; in each the voices take turns, and a voice's clips are evenly spread.

    Raises:
        EmoconvError: a corpus without any such clip.
    """
    chosen: list[Clip] = []
    for corpus, count in counts.items():
        own = [c for c in clips if c.corpus == corpus and c.is_neutral]
        fitting = [c for c in own if c.split == split]
        fitting = fitting or [c for c in own if c.split == other.get(corpus)]
        if not fitting:
            raise EmoconvError(
                f"{corpus}: no neutral clip in the split {split!r}; is the corpus where --corpora "
                "or --kokoro says?"
            )
        by_voice: dict[str, list[Clip]] = collections.defaultdict(list)
        for clip in fitting:
            by_voice[clip.voice].append(clip)
        voices = spread(_alternating(by_voice), min(count, len(by_voice)))
        shares = [len(part) for part in np.array_split(np.arange(count), len(voices))]
        for number, (voice, share) in enumerate(zip(voices, shares, strict=True)):
            chosen += spread(by_voice[voice], share, number / len(voices))
    return chosen


def _alternating(by_voice: dict[str, list[Clip]]) -> list[str]:
    """Returns the voices, both sexes in turn as far as they reach."""
    queues = collections.defaultdict(list)
    for voice in sorted(by_voice):
        queues[by_voice[voice][0].gender].append(voice)
    found: list[str] = []
    while any(queues.values()):
        found += [queues[gender].pop(0) for gender in sorted(queues) if queues[gender]]
    return found


def spread(items: Sequence, count: int, shift: float = 0.0) -> list:
    """Returns items that lie evenly among others.

    Args:
        items: to choose from.
        count: how many at most.
        shift: 0..1, of the first one within its share: voices should not all say the same.
    """
    count = min(count, len(items))
    if not count:
        return []
    step = len(items) / count
    return [items[min(int((i + shift) * step), len(items) - 1)] for i in range(count)]


def places(clips: Sequence[Clip]) -> dict[pathlib.Path, int]:
    """Returns the place of every clip among those of its voice, from 0.

    Args:
        clips: sorted by path.
    """
    seen: collections.Counter[str] = collections.Counter()
    found = {}
    for clip in clips:
        found[clip.path] = seen[clip.voice]
        seen[clip.voice] += 1
    return found


def enrolment(clips: Sequence[Clip], converted: Collection[Clip]) -> dict[str, list[Clip]]:
    """Returns the clips that every actor is known by.

    Args:
        clips: of `read_clips`.
        converted: clips that are not among them.
    """
    taken, at = {clip.path for clip in converted}, places(clips)
    by_voice: dict[str, list[Clip]] = collections.defaultdict(list)
    for clip in clips:
        if clip.corpus in ACTED and at[clip.path] % 2 == 0 and clip.path not in taken:
            by_voice[clip.voice].append(clip)
    return {voice: spread(own, ENROLLED) for voice, own in by_voice.items()}


def real(clips: Sequence[Clip], voices: Collection[str]) -> list[Clip]:
    """Returns real emotional clips of some voices.

    Args:
        clips: of `read_clips`.
        voices: CORPUS/SPEAKER.
    """
    at, found = places(clips), []
    for voice in sorted(set(voices)):
        own = [
            c for c in clips
            if c.voice == voice and c.emotion and not c.is_neutral and at[c.path] % 2
        ]  # fmt: skip
        found += spread(own, REAL)
    return found
