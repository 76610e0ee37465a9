"""How far an output is from a recording of the same words, voice and emotion, where there is one.

    (1)  MCD        (10 / ln 10) sqrt(2 sum_{k=1..13} (c_k - c'_k)^2)  in dB, mean over a path
    (2)  F0 error   root mean square of the difference in semitones, over frames of the path that
                    are voiced on both sides

c_k are the coefficients of `audio/cepstra.py`, without the level. The path is that of dynamic time
warping between them, since two recordings never run at the same pace.

Source: (1) Kubichek (IEEE Pacific Rim 1993), in the form that voice conversion uses.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from emoconv_jax.audio.cepstra import cepstra, warping_path
from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.prosody import f0_track
from emoconv_jax.config import EMOTIONS, MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.store import Utterance
from emoconv_jax.shapes import Float

DECIBELS = 10 / math.log(10) * math.sqrt(2)


def counterparts(utterances: Sequence[Utterance], index: int) -> dict[str, int]:
    """Returns recordings of the same words by the same voice, one for each emotion.

    Args:
        utterances: of a store.
        index: of the one in question.

    Returns:
        Emotion -> index, never that of the utterance itself; of several the first that was acted
        as strongly. Nothing where the words are not known.
    """
    own, found = utterances[index], {}
    for i, other in enumerate(utterances):
        same = (other.speaker, other.text) == (own.speaker, own.text)
        if not same or not own.text or not other.emotion or i == index:
            continue
        held = found.get(other.emotion)
        closer = held is not None and utterances[held].intensity != own.intensity
        if held is None or (closer and other.intensity == own.intensity):
            found[other.emotion] = i
    return found


class Parallels:
    """The recordings that outputs of a store's utterances are compared with."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        mel: MelConfig,
        read: Callable[[Utterance], np.ndarray],
    ):
        """Reads nothing yet.

        Args:
            utterances: of a store.
            mel: how sounds are analysed.
            read: returns the sound of an utterance at the mel's sample rate.
        """
        self.utterances, self.mel = utterances, mel
        analysed = functools.partial(self._analysed, read)
        self._recording = functools.lru_cache(maxsize=len(EMOTIONS))(analysed)
        self._counterparts = functools.lru_cache(maxsize=1)(
            functools.partial(counterparts, utterances)
        )

    def figures(
        self, audio: Float[np.ndarray, " n"], index: int, emotions: Sequence[str]
    ) -> dict[str, float]:
        """Returns (1) and (2), averaged over the recordings of some emotions.

        Args:
            audio: made of an utterance.
            index: of that utterance.
            emotions: it is compared with; those without a recording are passed over.

        Returns:
            "mcd_db" and "f0_error_semitones", as far as they are known.
        """
        references = self._counterparts(index)
        known = [references[emotion] for emotion in emotions if emotion in references]
        if not known:
            return {}
        found = analyse(audio, self.mel)
        told = [distances(found, self._recording(reference)) for reference in known]
        return {
            name: float(np.mean([one[name] for one in told if name in one]))
            for name in ("mcd_db", "f0_error_semitones")
            if any(name in one for one in told)
        }

    def _analysed(self, read: Callable[[Utterance], np.ndarray], index: int) -> "Recording":
        utterance = self.utterances[index]
        try:
            return analyse(read(utterance), self.mel)
        except EmoconvError as error:
            raise EmoconvError(f"{utterance.corpus}/{utterance.path}: {error}") from None


@dataclasses.dataclass(frozen=True)
class Recording:
    """A waveform as it is compared.

    Attributes:
        cepstra: c_1 .. c_13 of each frame.
        f0_hz: of each frame, NaN where unvoiced.
    """

    cepstra: Float[np.ndarray, "f k"]
    f0_hz: Float[np.ndarray, " f"]


def analyse(audio: Float[np.ndarray, " n"], mel: MelConfig) -> Recording:
    """Returns what is compared of a waveform.

    Args:
        audio: mono, at the mel's sample rate.
        mel: how it is analysed.
    """
    spectra = log_mel(audio, mel)
    times, f0_hz = f0_track(audio, mel.sample_rate_hz)
    frames = (np.arange(len(spectra)) + 0.5) * mel.hop_samples / mel.sample_rate_hz  # middles
    return Recording(cepstra(spectra), f0_hz[np.abs(times[:, None] - frames[None]).argmin(axis=0)])


def distances(found: Recording, reference: Recording) -> dict[str, float]:
    """Returns (1) and (2), the latter only where frames of a path are voiced on both sides.

    Args:
        found: the output.
        reference: the recording.

    Returns:
        "mcd_db" and "f0_error_semitones".
    """
    path = warping_path(found.cepstra, reference.cepstra)
    differences = found.cepstra[path[:, 0]] - reference.cepstra[path[:, 1]]
    told = {"mcd_db": float(DECIBELS * np.sqrt(np.square(differences).sum(axis=1)).mean())}
    octaves = np.log2(found.f0_hz[path[:, 0]] / reference.f0_hz[path[:, 1]])
    octaves = octaves[np.isfinite(octaves)]
    if octaves.size:
        told["f0_error_semitones"] = float(12 * np.sqrt(np.square(octaves).mean()))
    return told
