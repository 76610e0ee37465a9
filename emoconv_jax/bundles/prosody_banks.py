"""What emotions do to prosody: four numbers per bank, against the same speakers' neutral speech.

    change = (F0 in octaves, ln of F0's range, energy in nepers, ln of the duration)

An utterance's change is what it has less the mean of its speaker's neutral clips; the duration is
told from neutral clips of the same sentence alone, the energy only where a corpus has left it as it
was. What cannot be told is NaN, and is left out. Every speaker counts the same, however much of it
there is. An emotion's change is the mean over its utterances; an arousal's is the value there of a
straight line through all utterances around it, like the embeddings',

    (1)  w_i = (1 - (d_i / h)^3)^3 / n_speaker,   d_i = |arousal_i - level| < h = WIDTH

and in F0 it never falls from one level to the next: where it would, neighbours take their mean.

Source of (1): locally weighted regression, Cleveland (JASA 74(368), 1979); of the rule after it,
isotonic regression, Barlow et al., Statistical Inference under Order Restrictions, 1972.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from emoconv_jax.bundles.banks import at_level
from emoconv_jax.shapes import Bool, Float

F0, RANGE, ENERGY, DURATION = range(4)
WIDTH = 2.5  # points of arousal; enough for a line at the ends of the scale
NEUTRAL = "neutral"


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Utterances whose prosody was measured.

    Attributes:
        values: F0 in log2 Hz, ln of its range, energy in nepers, ln of the duration; NaN where it
            cannot be told.
        speakers: of each.
        emotions: of each, or empty.
        sentences: what is said, or empty.
        arousal: on 1..7, or -1.
    """

    values: Float[np.ndarray, "u 4"]
    speakers: Sequence[str]
    emotions: Sequence[str]
    sentences: Sequence[str]
    arousal: Float[np.ndarray, " u"]


def changes(measured: Measured) -> Float[np.ndarray, "u 4"]:
    """Returns the change of each utterance against its speaker's neutral clips.

    Args:
        measured: the utterances.

    Returns:
        The changes; NaN where a speaker has no neutral clip that tells.
    """
    found = np.full(measured.values.shape, np.nan)
    speakers, sentences = np.array(measured.speakers), np.array(measured.sentences)
    neutral = np.array(measured.emotions) == NEUTRAL
    for speaker in dict.fromkeys(measured.speakers):
        own = speakers == speaker
        found[own] = measured.values[own] - _mean(measured.values[own & neutral])
        found[own, DURATION] = np.nan
        for sentence in set(sentences[own & neutral]) - {""}:
            same = own & (sentences == sentence)
            spoken = measured.values[:, DURATION]
            usual = _mean(spoken[same & neutral][:, None])[0]
            found[same, DURATION] = spoken[same] - usual
    return found


def prosody_banks(measured: Measured, levels: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns the change of each level of arousal and of each emotion.

    Args:
        measured: the utterances.
        levels: of arousal.

    Returns:
        "arousal/<level>" and "emotion/<name>" -> [4]; 0 for what cannot be told.
    """
    from scipy.optimize import isotonic_regression  # slow to import, and conversions need none

    moved, speakers = changes(measured), np.array(measured.speakers)
    found = {}
    rated = measured.arousal > 0
    table = np.zeros((len(levels), moved.shape[1]))
    for column, values in enumerate(moved.T):
        told = rated & np.isfinite(values)
        for row, level in enumerate(levels):
            table[row, column] = _at(
                float(level), measured.arousal[told], values[told], speakers[told]
            )
    table[:, F0] = isotonic_regression(table[:, F0]).x
    found.update({f"arousal/{level}": row for level, row in zip(levels, table, strict=True)})
    emotions = np.array(measured.emotions)
    for name in sorted(set(measured.emotions) - {""}):
        own = emotions == name
        found[f"emotion/{name}"] = np.array(
            [
                _over_speakers(
                    values[own & np.isfinite(values)], speakers[own & np.isfinite(values)]
                )
                for values in moved.T
            ]
        )
    return {name: row.astype(np.float32) for name, row in found.items()}


def _mean(values: Float[np.ndarray, "u k"]) -> Float[np.ndarray, " k"]:
    """Returns the mean of what is told, NaN where nothing is."""
    told = np.isfinite(values)
    total = np.where(told, values, 0.0).sum(axis=0)
    return np.where(told.any(axis=0), total / np.maximum(told.sum(axis=0), 1), np.nan)


def _shares(speakers: np.ndarray) -> np.ndarray:
    """Returns weights under which every speaker counts the same."""
    _, which, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    return 1.0 / counts[which]


def _over_speakers(values: np.ndarray, speakers: np.ndarray) -> float:
    return float(np.average(values, weights=_shares(speakers))) if len(values) else 0.0


def _at(level: float, arousal: np.ndarray, values: np.ndarray, speakers: np.ndarray) -> float:
    """Returns the value of the line of (1) at a level."""
    distance = np.abs(arousal - level) / WIDTH
    near: Bool[np.ndarray, " u"] = distance < 1
    if not near.any():
        return float(_over_speakers(values, speakers))
    weights = ((1 - distance**3) ** 3)[near] * _shares(speakers)[near]
    weights = weights / weights.sum()
    return float(at_level(values[near, None], arousal[near], weights, level)[0])
