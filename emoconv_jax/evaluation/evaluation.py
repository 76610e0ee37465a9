"""The evaluation: utterances x trials -> outputs, one row of figures each, a summary, a report.

Everything lies in one folder, and an interrupted run goes on where it was:

    settings.json   what was asked for; a folder of other settings is refused
    rows.jsonl      one line per utterance and trial, as soon as it is there
    audio/          the outputs
    voices.npz      speaker vectors of the real clips that voices are compared with
    summary.json    figures with intervals, by system and corpus
    report.csv, report.html
"""

import dataclasses
import functools
import hashlib
import pathlib
import zipfile
from typing import Any

import numpy as np
from tqdm import tqdm

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.audio.writing import write_audio
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.evaluation.judges import Figures, Judges
from emoconv_jax.evaluation.parallel import Parallels
from emoconv_jax.evaluation.rows import collect
from emoconv_jax.evaluation.subjects import Voices, choose, unseen
from emoconv_jax.evaluation.trials import (
    EMOTIONS,
    MIXED_IN,
    MIXINGS,
    MODEL,
    WHAT,
    Trial,
    request_of,
    shared_out,
    sound_of,
    trials,
)
from emoconv_jax.evaluation.yardsticks import BY_RULE, SOURCE, UNCHANGED
from emoconv_jax.files import replacing
from emoconv_jax.inference.conversion import CAUTION
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.request import NEUTRAL
from emoconv_jax.inference.resolved import resolve
from emoconv_jax.pipeline.store import FeatureStore, Utterance
from emoconv_jax.training import selection

AUDIO, VOICES = "audio", "voices.npz"


@dataclasses.dataclass(frozen=True)
class Row:
    """One utterance after one trial.

    Attributes:
        corpus: of the source.
        path: of it.
        speaker: of it.
        language: of it.
        system: as of `Trial`.
        what: likewise.
        emotion: likewise.
        value: likewise.
        file: of the output, in the folder `audio`.
        figures: by name, see `judges` and `parallel`; those that could not be measured are absent.
    """

    corpus: str
    path: str
    speaker: str
    language: str
    system: str
    what: str
    emotion: str
    value: float
    file: str
    figures: Figures

    @property
    def clip(self) -> tuple[str, str]:
        """Which utterance it is of."""
        return self.corpus, self.path


@dataclasses.dataclass(frozen=True)
class Asked:
    """What an evaluation asks for.

    Attributes:
        what: of `trials.WHAT`.
        systems: yardsticks.
        split: what is converted.
        limit: utterances at most.
        mixed_in: emotions to mix in.
        each: of them per utterance.
        seed: of choice and noise.
        request: further fields of the request, such as steps.
    """

    what: tuple[str, ...]
    systems: tuple[str, ...]
    split: str = "test"
    limit: int = 40
    mixed_in: tuple[str, ...] = MIXED_IN
    each: int = 1
    seed: int = 0
    request: dict[str, Any] = dataclasses.field(default_factory=dict)


class Evaluation:
    """One evaluation of one bundle."""

    def __init__(
        self,
        converter: EmotionConverter,
        store: FeatureStore,
        corpora: pathlib.Path,
        out: pathlib.Path,
        judges: Judges,
        asked: Asked,
    ):
        """Checks what is asked for.

        Args:
            converter: of the bundle.
            store: prepared features, which say who is unseen and what was said.
            corpora: folder that holds the corpus folders.
            out: of all results.
            judges: who listen.
            asked: for what.

        Raises:
            UsageError: a request that makes no sense, or a trial, yardstick or emotion that is not
                known.
            EmoconvError: no utterances of unseen speakers.
        """
        self.converter, self.store, self.corpora, self.out = converter, store, corpora, out
        self.judges, self.asked = judges, asked
        known = tuple(converter.banks.emotions)
        _check(asked, known)
        self.emotions = known if EMOTIONS in asked.what else ()
        self.fields = {"seed": asked.seed} | asked.request
        self._settings()  # refuses what no request can mean
        self.chosen = choose(store, asked.split, asked.limit, asked.seed)
        self.parallels = Parallels(store.utterances, converter.config.mel, self._source)
        self._last: tuple[int, np.ndarray, float] | None = None

    def run(self) -> list[Row]:
        """Returns the rows, measuring those that the folder lacks.

        Raises:
            EmoconvError: a source that cannot be read, or a folder of other settings.
        """
        speakers = [self.store.utterances[i].speaker for i in self.chosen]
        shares = shared_out(speakers, self.asked.mixed_in, self.asked.each)
        jobs = {}
        for index, mixed_in in zip(self.chosen, shares, strict=True):
            clip = self.store.utterances[index].corpus, self.store.utterances[index].path
            for trial in trials(self.asked.what, self.emotions, mixed_in, self.asked.systems):
                jobs[(*clip, trial)] = functools.partial(self._row, index, trial)
        return collect(self.out, self._settings(), Row, _key, jobs)

    @functools.cached_property
    def voices(self) -> dict[str, Voices]:
        """The real voices of the split, by speaker encoder."""
        indices, voices = unseen(self.store, self.asked.split), {}
        for name, found in self._vectors(indices).items():
            vectors = np.zeros((len(self.store.utterances), found.shape[1]), np.float32)
            vectors[indices] = found
            voices[name] = Voices(self.store, self.asked.split, vectors)
        return voices

    def _settings(self) -> dict[str, Any]:
        filled = {
            trial.name: dataclasses.asdict(
                resolve(
                    request_of(trial, self.fields), self.converter.config, self.converter.banks
                ).request
            )
            for trial in trials(
                self.asked.what, self.emotions, self.asked.mixed_in, self.asked.systems
            )
            if trial.system == MODEL
        }
        return {
            "bundle": self.converter.config.name,
            "bundle_sha256": self.converter.sha256,
            "split": self.asked.split,
            "seed": self.asked.seed,
            "judges": self.judges.names,
            "data": selection.fingerprint(self.store, np.arange(len(self.store.utterances))),
            "requests": filled,
        }

    def _source(self, utterance: Utterance) -> np.ndarray:
        path = self.corpora / utterance.corpus / utterance.path
        return read_audio(path, self.converter.config.mel.sample_rate_hz)

    def _heard(self, index: int) -> tuple[np.ndarray, float]:
        """Returns an utterance's sound and its arousal; its trials follow one another."""
        if self._last is None or self._last[0] != index:
            audio = self._source(self.store.utterances[index])
            told = self.converter.emotion.hear(audio, self.converter.config.mel.sample_rate_hz)
            self._last = index, audio, told.arousal
        return self._last[1:]

    def _row(self, index: int, trial: Trial) -> Row:
        """Returns the row of an utterance after a trial; its sound is kept."""
        utterance, rate_hz = self.store.utterances[index], self.converter.config.mel.sample_rate_hz
        audio, arousal = self._heard(index)
        sound = sound_of(trial, audio, arousal, self.converter, self.fields)
        clip = hashlib.sha256(f"{utterance.corpus}/{utterance.path}".encode()).hexdigest()[:12]
        file = f"{clip}_{trial.name}.flac"
        (self.out / AUDIO).mkdir(exist_ok=True)
        write_audio(self.out / AUDIO / file, sound, rate_hz, comment=comment_of(trial.system))
        figures, vectors = self.judges.hear(sound, utterance.text, utterance.language)
        figures["seconds"], figures["source_seconds"] = (
            len(one) / rate_hz for one in (sound, audio)
        )
        figures |= self.parallels.figures(sound, index, self._compared_with(trial))
        for name, vector in vectors.items():
            voices = self.voices[name]
            similarity = voices.similarity(vector, index)
            if similarity is not None:
                nearest = voices.nearest(vector, index)
                figures[f"{name}_voice"] = similarity
                figures[f"{name}_nearest"] = float(nearest == utterance.speaker)
        return Row(
            utterance.corpus,
            utterance.path,
            utterance.speaker,
            utterance.language,
            trial.system,
            trial.what,
            trial.emotion,
            trial.value,
            file,
            figures,
        )

    def _compared_with(self, trial: Trial) -> tuple[str, ...]:
        """Returns the emotions whose recordings an output is compared with.

        A yardstick that asks for nothing is compared with all of them.
        """
        if trial.what == EMOTIONS:
            return (trial.emotion,)
        return () if trial.what else self.emotions

    def _vectors(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what each speaker encoder says of real clips, from the folder if it is there."""
        path, names = self.out / VOICES, list(self.judges.speakers)
        utterances = [self.store.utterances[index] for index in indices.tolist()]
        clips = np.array([f"{one.corpus}/{one.path}" for one in utterances])
        if path.is_file():
            try:
                with np.load(path, allow_pickle=False) as file:
                    held = {name: file[name] for name in file.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise EmoconvError(f"{path}: cannot be read ({error}); remove it") from None
            if set(held) == {"clips", *names} and np.array_equal(held["clips"], clips):
                return {name: held[name] for name in names}
        found: dict[str, list[np.ndarray]] = {name: [] for name in names}
        rate_hz = self.converter.config.mel.sample_rate_hz
        for utterance in tqdm(utterances, "real voices"):
            audio = self._source(utterance)
            for name, encoder in self.judges.speakers.items():
                found[name].append(encoder(audio, rate_hz))
        vectors: dict[str, Any] = {n: np.array(rows, np.float32) for n, rows in found.items()}
        self.out.mkdir(parents=True, exist_ok=True)
        with replacing(path) as (partial,), open(partial, "wb") as file:
            np.savez(file, clips=clips, **vectors)
        return vectors


def comment_of(system: str) -> str:
    """Returns what the file of a system's sound says of itself.

    Args:
        system: as of `Trial`.
    """
    return "" if system == SOURCE else CAUTION


def _check(asked: Asked, known: tuple[str, ...]) -> None:
    """Refuses what asks for nothing, or for a mix that is none."""
    if not asked.what:
        raise UsageError("trials: found none, at least one is needed")
    for name, found, allowed in (
        ("trials", asked.what, WHAT),
        ("yardsticks", asked.systems, (*UNCHANGED, *BY_RULE)),
    ):
        if not set(found) <= set(allowed):
            raise UsageError(f"{name}: found {', '.join(found)}, allowed are {', '.join(allowed)}")
    if not set(MIXINGS) & set(asked.what):
        return
    allowed = [name for name in known if name != NEUTRAL]
    found = ", ".join(asked.mixed_in)
    if not asked.mixed_in or not set(asked.mixed_in) <= set(allowed):
        raise UsageError(f"mixed_in: found {found or 'none'}, allowed are {', '.join(allowed)}")
    if len(set(asked.mixed_in)) < len(asked.mixed_in):
        raise UsageError(f"mixed_in: found {found}, allowed is each of them once")
    if not 1 <= asked.each <= len(asked.mixed_in):
        raise UsageError(f"each: found {asked.each}, allowed is 1..{len(asked.mixed_in)}")


def _key(row: Row) -> tuple[str, str, Trial]:
    return *row.clip, Trial(row.system, row.what, row.emotion, row.value)
