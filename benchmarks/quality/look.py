"""One look at a bundle: conversions, copies and real clips, each heard by the panel.

A look is resumable: its folder holds every converted clip and `rows.jsonl`, a row per waveform.
"""

import dataclasses
import hashlib
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.quality.clips import Clip
from benchmarks.quality.panel import OWN, Heard, Panel
from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.evaluation.rows import collect
from emoconv_jax.inference.converter import EmotionConverter

AROUSALS = (1, 4, 7)
EMOTIONS = ("happy", "angry", "sad")
TARGETS = (*map(str, AROUSALS), *EMOTIONS)
COPY, REAL = "copy", "real"  # rows that are no conversions
AUDIO = "clips"


@dataclasses.dataclass(frozen=True)
class Row:
    """One waveform.

    Attributes:
        clip: the name of what it was made of.
        target: of TARGETS, COPY or REAL.
        seed: of the conversion.
        voice: CORPUS/SPEAKER of the clip.
        group: CORPUS/SPLIT of it.
        seconds: of the clip.
        wall_s: that converting took; 0 of others.
        figures: of `panel.Heard`; `source_level_db` and `source_f0_hz` are the clip's own.
        named: of it.
        nearest: of it, the actor; empty where none competes.
    """

    clip: str
    target: str
    seed: int
    voice: str
    group: str
    seconds: float
    wall_s: float
    figures: dict[str, float]
    named: dict[str, str]
    nearest: str

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is a row of."""
        return self.clip, self.target, self.seed


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a look does.

    Attributes:
        converted: the clips to convert.
        real: real emotional clips.
        targets: of TARGETS.
        seeds: of the conversions.
        request: further fields of every request.
        null_emotion: whether the emotion's embedding was taken away.
    """

    converted: Sequence[Clip]
    real: Sequence[Clip]
    targets: Sequence[str] = TARGETS
    seeds: Sequence[int] = (0,)
    request: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    null_emotion: bool = False

    def settings(self, converter: EmotionConverter, judges: str) -> dict[str, Any]:
        """Returns what rows depend on, JSON-ready.

        Args:
            converter: of the bundle.
            judges: a hash of them.
        """
        names = [clip.name for clip in (*self.converted, *self.real)]
        alone = {"null_emotion": True} if self.null_emotion else {}
        return alone | {
            "bundle_sha256": converter.sha256,
            "judges_sha256": judges,
            "clips_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
            "request": dict(self.request),
        }


def fields_of(target: str) -> dict[str, Any]:
    """Returns the fields of a request for a target.

    Args:
        target: of TARGETS.
    """
    return {"arousal": float(target)} if target.isdigit() else {"mix": {target: 1.0}}


class Look:
    """Makes the rows of one look."""

    def __init__(
        self, converter: EmotionConverter, panel: Panel, asked: Asked, folder: pathlib.Path
    ):
        """Converts nothing yet.

        Args:
            converter: of the bundle.
            panel: who listens.
            asked: what to do.
            folder: gets rows and clips, and may have some.
        """
        self.converter, self.panel, self.asked, self.folder = converter, panel, asked, folder
        self.rate_hz = converter.config.mel.sample_rate_hz

    def rows(self, judges: str) -> list[Row]:
        """Returns all rows, those made earlier included.

        Args:
            judges: a hash of the judges.

        Raises:
            EmoconvError: a folder of another look, or a clip that cannot be read or converted.
        """
        (self.folder / AUDIO).mkdir(parents=True, exist_ok=True)
        jobs: dict[tuple[str, str, int], Callable[[], Row]] = {}
        for clip in self.asked.converted:
            jobs[clip.name, COPY, 0] = lambda clip=clip: self._copy(clip)
            for seed in self.asked.seeds:
                for target in self.asked.targets:
                    jobs[clip.name, target, seed] = lambda clip=clip, target=target, seed=seed: (
                        self._made(clip, target, seed)
                    )
        for clip in self.asked.real:
            jobs[clip.name, REAL, 0] = lambda clip=clip: self._real(clip)
        settings = self.asked.settings(self.converter, judges)
        return collect(self.folder, settings, Row, lambda row: row.key, jobs, "looking")

    def _made(self, clip: Clip, target: str, seed: int) -> Row:
        audio = read_audio(clip.path, self.rate_hz)
        begin = time.perf_counter()
        fields = {**fields_of(target), "seed": seed, **self.asked.request}
        made = self.converter.convert(audio, **fields)
        wall_s = time.perf_counter() - begin
        made.save(self.folder / AUDIO / f"{clip.name}-{target}-{seed}.flac", sidecar=False)
        return self._row(clip, target, seed, len(audio), wall_s, self.panel.hear(made.audio, clip))

    def _copy(self, clip: Clip) -> Row:
        """Returns the row of the clip's own mel through the vocoder."""
        audio = read_audio(clip.path, self.rate_hz)
        spoken = self.converter.vocoder(log_mel(audio, self.converter.config.mel))
        return self._row(clip, COPY, 0, len(audio), 0.0, self.panel.hear(spoken, clip))

    def _real(self, clip: Clip) -> Row:
        """Returns the row of a real clip: the judges' figures on these are known already."""
        audio = read_audio(clip.path, self.rate_hz)
        return self._row(clip, REAL, 0, len(audio), 0.0, self.panel.emotion(audio, clip, (OWN,)))

    def _row(
        self, clip: Clip, target: str, seed: int, samples: int, wall_s: float, heard: Heard
    ) -> Row:
        figures = {name: round(float(value), 6) for name, value in heard.figures.items()}
        return Row(
            clip=clip.name,
            target=target,
            seed=seed,
            voice=clip.voice,
            group=f"{clip.corpus}/{clip.split}",
            seconds=samples / self.rate_hz,
            wall_s=wall_s,
            figures=figures,
            named=heard.named,
            nearest=heard.voice,
        )


def by_target(rows: Sequence[Row], name: str, targets: Sequence[str]) -> np.ndarray:
    """Returns a figure of every clip and seed at every target, NaN where it is absent.

    Args:
        rows: of conversions.
        name: of the figure.
        targets: the columns.

    Returns:
        [clips and seeds, targets], in the order of `utterances`.
    """
    places = {key: i for i, key in enumerate(utterances(rows))}
    found = np.full((len(places), len(targets)), np.nan)
    for row in rows:
        if row.target in targets and name in row.figures:
            found[places[row.clip, row.seed], targets.index(row.target)] = row.figures[name]
    return found


def utterances(rows: Sequence[Row]) -> dict[tuple[str, int], str]:
    """Returns the voice of every clip and seed that was converted, in the order of the rows.

    Args:
        rows: of any kind.
    """
    return {(r.clip, r.seed): r.voice for r in rows if r.target not in (COPY, REAL)}
