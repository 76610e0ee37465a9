"""Everybody who listens to a look's waveforms, all of them at one level.

own          the bundle's emotion head, by which the quick look chooses
whisper, functionals   the judges, printed and never used to choose
words        Whisper's transcript against the text: words, of Polish characters
ovrl         DNSMOS P.835, overall quality
voice        the public d-vector encoder: which same-sex actor of the corpora is nearest
level, F0    of the waveform at its own level
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from tqdm import tqdm

from benchmarks.quality.arithmetic import nearest
from benchmarks.quality.clips import Clip
from emoconv_jax.audio.prosody import level_db, median_f0_hz
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.evaluation.judges import Hears
from emoconv_jax.inference.speaker import SpeakerRole
from emoconv_jax.inference.whisper_features import level_set
from emoconv_jax.listeners.naturalness import Dnsmos
from emoconv_jax.listeners.transcripts import english_normalizer, errors, words
from emoconv_jax.listeners.whisper import Whisper
from emoconv_jax.porting.archives import cache_folder

OWN = "own"
BY_CHARACTER = ("pl",)  # languages whose words Whisper base often misspells


@dataclasses.dataclass(frozen=True)
class Heard:
    """What the panel says of one waveform.

    Attributes:
        figures: numbers by name; those that nobody has are absent.
        named: the likeliest emotion by listener.
        voice: the nearest same-sex actor; empty where there is none.
    """

    figures: dict[str, float]
    named: dict[str, str]
    voice: str


class Voices:
    """Actors by their d-vectors, which are kept in the user cache between looks."""

    def __init__(self, speaker: SpeakerRole, rate_hz: int):
        """Knows nobody yet.

        Args:
            speaker: the public encoder.
            rate_hz: at which clips are read.
        """
        self.speaker, self.rate_hz = speaker, rate_hz
        self.centroids: dict[str, dict[str, np.ndarray]] = {}
        self.gender: dict[str, str] = {}

    def enrol(self, clips: Mapping[str, Sequence[Clip]], folder: pathlib.Path | None = None) -> int:
        """Learns actors from their clips.

        Args:
            clips: by voice.
            folder: of the cache; None is the user's.

        Returns:
            How many clips were encoded now.
        """
        names = [str(clip.path) for own in clips.values() for clip in own]
        key = hashlib.sha256("\n".join(names).encode())
        path = (folder or cache_folder()) / f"look-voices-{key.hexdigest()[:16]}.npz"
        encoded = 0
        if path.is_file():
            with np.load(path, allow_pickle=False) as held:
                means = {voice: held[voice] for voice in clips}
        else:
            means = {}
            for voice, own in tqdm(clips.items(), "enrolling voices"):
                vectors = [self.vector(read_audio(clip.path, self.rate_hz)) for clip in own]
                means[voice], encoded = np.mean(vectors, axis=0), encoded + len(own)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                np.savez(file, **means)  # pyright: ignore[reportArgumentType]
        for voice, own in clips.items():
            self.gender[voice] = own[0].gender
            self.centroids.setdefault(own[0].gender, {})[voice] = means[voice]
        return encoded

    def vector(self, audio: np.ndarray) -> np.ndarray:
        """Returns the d-vector of a waveform."""
        return self.speaker(level_set(audio), self.rate_hz)

    def nearest(self, audio: np.ndarray, voice: str) -> str:
        """Returns the actor of a voice's sex who is nearest to a waveform; "" for other voices.

        Args:
            audio: mono.
            voice: whose clip it is or was made of.
        """
        if voice not in self.gender:
            return ""
        return nearest(self.vector(audio), self.centroids[self.gender[voice]])


class Panel:
    """The listeners of a look."""

    def __init__(self, ears: Mapping[str, Hears], voices: Voices, rate_hz: int):
        """Loads the listeners that are no ears.

        Args:
            ears: who hears emotion, by name.
            voices: enrolled.
            rate_hz: of all waveforms.

        Raises:
            ModuleNotFoundError: a package of the extra `evaluate` is absent.
            EmoconvError: weights that cannot be had.
        """
        english_normalizer()
        self.ears, self.voices, self.rate_hz = ears, voices, rate_hz
        self._whisper: Callable[..., str] = Whisper()
        self._dnsmos = Dnsmos()

    def hear(self, audio: np.ndarray, clip: Clip) -> Heard:
        """Returns what all say of a waveform.

        Args:
            audio: mono.
            clip: what it was made of.
        """
        emotion, sound = self.emotion(audio, clip), level_set(audio)
        figures = emotion.figures | self._words(sound, clip)
        figures["ovrl"] = self._dnsmos(sound, self.rate_hz)[1]
        figures["level_db"] = level_db(audio, self.rate_hz)
        figures["f0_hz"] = median_f0_hz(sound, self.rate_hz)
        known = {name: float(v) for name, v in figures.items() if np.isfinite(v)}
        return Heard(known, emotion.named, emotion.voice)

    def emotion(self, audio: np.ndarray, clip: Clip, ears: Sequence[str] | None = None) -> Heard:
        """Returns what is said of emotion and voice alone.

        Args:
            audio: mono.
            clip: what it is, or was made of.
            ears: who listens; None is all.
        """
        figures, named, sound = {}, {}, level_set(audio)
        for name in self.ears if ears is None else ears:
            told = self.ears[name].hear(sound, self.rate_hz)
            figures[f"{name}_arousal"] = float(told.arousal)
            shares = told.probabilities
            named[name] = max(shares, key=lambda one: shares[one]) if shares else ""
            figures |= {f"{name}_{emotion}": share for emotion, share in shares.items()}
        return Heard(figures, named, self.voices.nearest(audio, clip.voice))

    def _words(self, sound: np.ndarray, clip: Clip) -> dict[str, float]:
        language = clip.language
        wanted = words(clip.text, language)
        if not wanted:
            return {}
        found = words(self._whisper(sound, self.rate_hz, language), language)
        if language in BY_CHARACTER:
            told = " ".join(wanted), " ".join(found)
            return {"characters": len(told[0]), "character_errors": errors(*told)}
        return {"words": len(wanted), "word_errors": errors(wanted, found)}
