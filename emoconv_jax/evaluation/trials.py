"""What is done to each utterance: the conversions asked of the model, and the yardsticks.

arousal    to 1, 2 .. 7
emotions   to each of the bundle's emotions
mixes      neutral with an emotion mixed in on all steps at strength 0, .2, .4, .6, .8; utterances
           take turns with the emotions
emomix     the same by EmoMix's three phases
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from emoconv_jax.bundles.banks import LEVELS
from emoconv_jax.evaluation import yardsticks
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.request import NEUTRAL, Request
from emoconv_jax.shapes import Float

MODEL = "model"
AROUSAL, EMOTIONS, MIXES, EMOMIX = "arousal", "emotions", "mixes", "emomix"
MIXINGS = (MIXES, EMOMIX)
WHAT = (AROUSAL, EMOTIONS, *MIXINGS)
STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8)
MIXED_IN = ("happy", "angry", "sad")


@dataclasses.dataclass(frozen=True)
class Trial:
    """One way to treat an utterance.

    Attributes:
        system: MODEL or a yardstick.
        what: of WHAT; empty for a yardstick without target.
        emotion: asked for, or mixed in; empty at strength 0, which is neutral for all.
        value: arousal or strength; 0 where there is neither.
    """

    system: str
    what: str = ""
    emotion: str = ""
    value: float = 0.0

    @property
    def name(self) -> str:
        """What it is, short enough for a file's name."""
        value = f"{self.value:g}" if self.what in (AROUSAL, *MIXINGS) else ""
        return "_".join(part for part in (self.system, self.what, self.emotion, value) if part)


def trials(
    what: Sequence[str], emotions: Sequence[str], mixed_in: Sequence[str], systems: Sequence[str]
) -> list[Trial]:
    """Returns what is done to one utterance.

    Args:
        what: of WHAT.
        emotions: that the bundle can be asked for.
        mixed_in: those mixed into neutral for this utterance.
        systems: yardsticks of `yardsticks`.
    """
    found = [Trial(name) for name in yardsticks.UNCHANGED if name in systems]
    if AROUSAL in what:
        moved = (MODEL, *(name for name in yardsticks.BY_RULE if name in systems))
        found += [Trial(name, AROUSAL, "", float(v)) for name in moved for v in LEVELS]
    if EMOTIONS in what:
        found += [Trial(MODEL, EMOTIONS, name) for name in emotions]
    for mixing in (name for name in MIXINGS if name in what):
        found.append(Trial(MODEL, mixing, "", 0.0))
        found += [Trial(MODEL, mixing, e, v) for e in mixed_in for v in STRENGTHS if v]
    return found


def request_of(trial: Trial, fields: dict[str, Any]) -> Request:
    """Returns what a trial asks of the model.

    Args:
        trial: of MODEL.
        fields: further ones of the request, such as steps.
    """
    if trial.what == AROUSAL:
        return Request(arousal=trial.value, **fields)
    if trial.what == EMOTIONS:
        return Request(mix={trial.emotion: 1.0}, **fields)
    mix = {trial.emotion or NEUTRAL: 1.0}
    if trial.what == EMOMIX:
        return Request(mix=mix, base=NEUTRAL, strength=trial.value, **fields)
    return Request(mix=mix, intensity=trial.value, **fields)


def sound_of(
    trial: Trial,
    audio: Float[np.ndarray, " n"],
    heard: float,
    converter: EmotionConverter,
    fields: dict[str, Any],
) -> Float[np.ndarray, " m"]:
    """Returns an utterance after a trial.

    Args:
        trial: what to do.
        audio: the source at the bundle's rate.
        heard: arousal of the source by the bundle's recogniser, which the rules go by.
        converter: the model.
        fields: of the request.

    Returns:
        A waveform at the same rate.
    """
    if trial.system == MODEL:
        request = request_of(trial, fields)
        return converter.convert(audio, **dataclasses.asdict(request)).audio
    steps, rate_hz = trial.value - heard, converter.config.mel.sample_rate_hz
    if trial.system == "signal":
        return yardsticks.signal(audio, rate_hz, steps)
    if trial.system == "level":
        return yardsticks.level(audio, steps)
    return yardsticks.unchanged(trial.system, audio, converter)


def shared_out(speakers: Sequence[str], emotions: Sequence[str], each: int) -> list[list[str]]:
    """Returns which emotions are mixed into which utterance, as many of each as can be.

    Args:
        speakers: of the utterances, in order.
        emotions: to share out.
        each: emotions per utterance, 1 to all.

    Returns:
        Emotions per utterance. A speaker's utterances take turns, and speakers begin with
        different ones, so that no emotion is that of some voices only.
    """
    seen: collections.Counter[str] = collections.Counter()
    first = {name: place for place, name in enumerate(dict.fromkeys(speakers))}
    found = []
    for speaker in speakers:
        begin = first[speaker] + seen[speaker] * each
        found.append([emotions[(begin + i) % len(emotions)] for i in range(each)])
        seen[speaker] += 1
    return found
