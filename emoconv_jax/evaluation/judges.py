"""Everything that is measured of one waveform, by machines that may be absent.

    own_*       the bundle's recogniser and speaker encoder, which also condition the model
    second_*    a recogniser and a speaker encoder that no training and no choice has used
    words       Whisper's transcript against the text: errors of words and of characters
    naturalness DNSMOS P.835 and DistillMOS
    prosody     level, pitch and its range

Arousal and emotion are heard twice, as it is and after the loudness was set equal: a gain is not an
emotion. All else is heard as it is. A machine that is absent leaves its figures out and says so in
`notes`.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from emoconv_jax.audio.prosody import f0_track, level_db, set_level
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.encoders import Recognition
from emoconv_jax.listeners.naturalness import DISTILLMOS_NEEDS, DNSMOS_NEEDS, Distillmos, Dnsmos
from emoconv_jax.listeners.second_speaker import SECOND_SPEAKER_NEEDS, SecondSpeaker
from emoconv_jax.listeners.transcripts import english_normalizer, errors, words
from emoconv_jax.listeners.whisper import WHISPER_NEEDS, Whisper
from emoconv_jax.shapes import Float

EQUAL_LEVEL_DB = -26.0  # a usual speech level (ITU-T P.56 practice)

Figures = dict[str, float | int]


@runtime_checkable
class Hears(Protocol):
    """A recogniser of emotion."""

    def hear(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> Recognition:
        """Returns what it says of a waveform."""
        ...


class Judges:
    """All that listen to the outputs of one evaluation.

    Attributes:
        recognisers: by prefix of their figures, "own" first.
        speakers: speaker encoders by prefix.
        notes: what a reader of the figures has to know.
        names: of the machines that are there.
    """

    def __init__(self, converter: EmotionConverter, second: Hears | None, sha256: str = ""):
        """Loads what is installed.

        Args:
            converter: whose recogniser and speaker encoder are the own ones.
            second: the other recogniser.
            sha256: the fingerprint of its bundle.
        """
        self.notes: list[str] = []
        self.rate_hz = converter.config.mel.sample_rate_hz
        self.recognisers: dict[str, Hears] = {"own": converter.emotion}
        if second is None:
            self.notes.append("second recogniser: none was given, its columns are empty")
        else:
            self.recognisers["second"] = second
        self.speakers: dict[str, Callable[..., np.ndarray]] = {"own": converter.speaker}
        other = self._made("second speaker encoder", SECOND_SPEAKER_NEEDS, SecondSpeaker)
        if other is not None:
            self.speakers["second"] = other
        self._whisper = self._made("words", WHISPER_NEEDS, _whisper)
        self._dnsmos = self._made("DNSMOS", DNSMOS_NEEDS, Dnsmos)
        self._distillmos = self._made("DistillMOS", DISTILLMOS_NEEDS, Distillmos)
        others = {"whisper": self._whisper, "dnsmos": self._dnsmos, "distillmos": self._distillmos}
        self.names = ["own recogniser"] + ([f"second recogniser {sha256}"] if second else [])
        self.names += [f"{name} speaker encoder" for name in self.speakers]
        self.names += [name for name, one in others.items() if one is not None]

    def _made(self, name: str, needs: str, kind: Callable[[], Any]) -> Any:
        """Returns a machine; None, with a note, where package or weights cannot be had."""
        try:
            return kind()
        except ModuleNotFoundError as error:
            self.notes.append(f"{name}: absent, {error.name} is not installed; {needs}")
        except EmoconvError as error:
            self.notes.append(f"{name}: absent, {error}")
        return None

    def hear(
        self, audio: Float[np.ndarray, " n"], text: str = "", language: str = ""
    ) -> tuple[Figures, dict[str, np.ndarray]]:
        """Returns the figures of a waveform, and its speaker vectors by encoder.

        Args:
            audio: mono, at the bundle's rate.
            text: what is said; empty where nobody knows.
            language: as ISO 639-1; empty is English.
        """
        rate_hz = self.rate_hz
        equal = set_level(audio, EQUAL_LEVEL_DB, rate_hz)
        figures = self._prosody(audio)
        for prefix, recogniser in self.recognisers.items():
            for suffix, sound in (("", audio), ("_equal_level", equal)):
                told = recogniser.hear(sound, rate_hz)
                figures[f"{prefix}_arousal{suffix}"] = told.arousal
                for emotion, probability in told.probabilities.items():
                    figures[f"{prefix}_{emotion}{suffix}"] = probability
        figures |= self._words(audio, text, language or "en")
        if self._dnsmos is not None:
            figures["sig"], figures["ovrl"] = self._dnsmos(audio, rate_hz)
        if self._distillmos is not None:
            figures["distillmos"] = self._distillmos(audio, rate_hz)
        return figures, {name: one(audio, rate_hz) for name, one in self.speakers.items()}

    def _prosody(self, audio: np.ndarray) -> Figures:
        level, (_, f0_hz) = float(level_db(audio, self.rate_hz)), f0_track(audio, self.rate_hz)
        voiced = f0_hz[np.isfinite(f0_hz)]
        figures = {"level_db": level} if np.isfinite(level) else {}
        if voiced.size:
            figures["f0_hz"] = float(np.median(voiced))
            figures["f0_range_semitones"] = float(np.std(12 * np.log2(voiced)))
        return figures

    def _words(self, audio: np.ndarray, text: str, language: str) -> Figures:
        if self._whisper is None or not (wanted := words(text, language)):
            return {}
        found = words(self._whisper(audio, self.rate_hz, language), language)
        return {
            "words": len(wanted),
            "word_errors": errors(wanted, found),
            "characters": len(" ".join(wanted)),
            "character_errors": errors(" ".join(wanted), " ".join(found)),
        }


def _whisper() -> Whisper:
    """Returns Whisper, or says now that what counts its words is absent."""
    english_normalizer()
    return Whisper()
