"""Emotion names of corpora in the package's vocabulary, and arousal labels where nobody rated.

Arousal is on the papers' scale, 1 (calm) to 7 (excited). A corpus that brings ratings (the
manifest's column `arousal`) keeps them. For acted speech without ratings the label is

    (1) label = base(emotion, intensity) + 0.7 z,  clipped to 1..7

where z is the standard score, within one speaker's clips of one emotion and intensity, of
z(level in dB) + z(log F0); of log F0 alone where the corpus has normalised its level. Louder and
higher than the speaker's usual way of acting an emotion thus counts as more excited.

Source: ours. The order of the bases follows an open rating study of acted emotions (happiness and
anger high, sadness and neutral low); level and F0, z-scored per speaker, correlate about .76 with
human ratings.
"""

from collections.abc import Sequence

import numpy as np

from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW, EMOTIONS
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.manifest import Row
from emoconv_jax.shapes import Float, Int

UNLABELLED = -1.0
SPREAD = 0.7  # arousal points per standard deviation
LEVEL_NORMALISED = frozenset({"nemo"})  # corpora whose level says nothing

# Names of RAVDESS, nEMO, MSP-Podcast, IEMOCAP, ESD and CREMA-D (also as codes in file names).
CORPUS_NAMES = {
    "neutrality": "neutral", "neu": "neutral",
    "calmness": "calm",
    "happiness": "happy", "joy": "happy", "hap": "happy", "exc": "happy", "excited": "happy",
    "sadness": "sad",
    "anger": "angry", "ang": "angry",
    "fear": "fearful", "fea": "fearful",
    "disgusted": "disgust", "dis": "disgust",
    "surprise": "surprised", "sur": "surprised",
}  # fmt: skip

# (normal, strong) acting; a clip of unstated intensity has the mean of the two, a low one half a
# step on the other side of normal.
BASE_AROUSAL = {
    "calm": (2.0, 1.7),
    "sad": (2.5, 3.5),
    "neutral": (3.0, 3.0),
    "disgust": (3.8, 4.6),
    "surprised": (4.8, 5.6),
    "fearful": (4.6, 6.0),
    "happy": (5.0, 6.2),
    "angry": (5.2, 6.8),
}
INTENSITIES = ("low", "normal", "strong")


def emotion_name(name: str) -> str:
    """Returns the vocabulary's name of a corpus's emotion.

    Args:
        name: as the corpus writes it, in any case.

    Returns:
        A member of EMOTIONS.

    Raises:
        EmoconvError: an unknown name.
    """
    plain = name.strip().lower()
    plain = CORPUS_NAMES.get(plain, plain)
    if plain not in EMOTIONS:
        raise EmoconvError(
            f"emotion {name!r}: unknown, allowed are {', '.join((*EMOTIONS, *CORPUS_NAMES))}"
        )
    return plain


def base_arousal(emotion: str, intensity: str = "") -> float:
    """Returns the arousal of a typical clip of an acted emotion, 1..7.

    Args:
        emotion: a name that `emotion_name` knows.
        intensity: low, normal or strong; empty, the mean of the last two.

    Returns:
        The base of equation (1).

    Raises:
        EmoconvError: an unknown emotion or intensity.
    """
    normal, strong = BASE_AROUSAL[emotion_name(emotion)]
    if not intensity:
        return (normal + strong) / 2
    if intensity not in INTENSITIES:
        raise EmoconvError(
            f"intensity {intensity!r}: allowed are {', '.join(INTENSITIES)} or nothing"
        )
    levels = (normal - (strong - normal) / 2, normal, strong)
    return levels[INTENSITIES.index(intensity)]


def arousal_labels(
    rows: Sequence[Row], level_db: Sequence[float], f0_hz: Sequence[float]
) -> Float[np.ndarray, " n"]:
    """Returns an arousal label for every utterance, equation (1) where nobody rated.

    Args:
        rows: the utterances' corpus, speaker, emotion, intensity and rating.
        level_db: of each, in dBFS; a value that is not finite counts as the group's mean.
        f0_hz: median F0 of each; NaN, 0 or less (nothing voiced) counts as the group's mean.

    Returns:
        Labels on 1..7 in the order of the rows; -1 where there is neither rating nor emotion.

    Raises:
        EmoconvError: an unknown emotion or intensity, or a rating outside 1..7, with the path.
    """
    labels = np.array([_known(row) for row in rows], dtype=np.float64)
    acted = [i for i, row in enumerate(rows) if not row.arousal and row.emotion]
    if not acted:
        return labels
    classes: dict[tuple[str, str, str, str], int] = {}
    group = np.array([classes.setdefault(_class_of(rows[i]), len(classes)) for i in acted])
    level = np.array(level_db, dtype=np.float64)[acted]
    f0 = np.array(f0_hz, dtype=np.float64)[acted]
    level[[rows[i].corpus in LEVEL_NORMALISED for i in acted]] = np.nan
    log_f0 = np.log(np.where(f0 > 0, f0, np.nan))
    score = standard_scores(
        standard_scores(level, group) + standard_scores(log_f0, group),
        group,
    )
    labels[acted] = np.clip(labels[acted] + SPREAD * score, AROUSAL_LOW, AROUSAL_HIGH)
    return labels


def standard_scores(
    values: Float[np.ndarray, " n"], group: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Returns (value - mean) / standard deviation within each group.

    Args:
        values: any; those that are not finite are left out of mean and deviation.
        group: a number from 0 for each value.

    Returns:
        The scores; 0 for values that are not finite and in groups without spread.
    """
    finite = np.isfinite(values)
    known = np.where(finite, values, 0.0)
    count = np.maximum(np.bincount(group, weights=finite), 1)
    centred = np.where(finite, known - (np.bincount(group, weights=known) / count)[group], 0.0)
    deviation = np.sqrt(np.bincount(group, weights=centred**2) / count)[group]
    spread = deviation > 1e-9
    return np.where(spread, centred / np.where(spread, deviation, 1.0), 0.0)


def _class_of(row: Row) -> tuple[str, str, str, str]:
    return row.corpus, row.speaker, emotion_name(row.emotion), row.intensity


def rating(row: Row, name: str) -> float:
    """Returns what listeners said of an utterance.

    Args:
        row: the utterance.
        name: arousal, valence or dominance.

    Returns:
        1 to 7; -1 where nobody rated.

    Raises:
        EmoconvError: no number of that range.
    """
    text = getattr(row, name)
    if not text:
        return UNLABELLED
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not AROUSAL_LOW <= value <= AROUSAL_HIGH:
        raise EmoconvError(
            f"{row.corpus}/{row.path}: {name} {text!r}, allowed are {AROUSAL_LOW:g} to "
            f"{AROUSAL_HIGH:g}"
        )
    return value


def check_names(row: Row) -> None:
    """Refuses an emotion or an intensity that has no meaning here.

    Args:
        row: an utterance.

    Raises:
        EmoconvError: an unknown name, with the utterance.
    """
    _base(row)


def _base(row: Row) -> float:
    try:
        return base_arousal(row.emotion, row.intensity) if row.emotion else UNLABELLED
    except EmoconvError as error:
        raise EmoconvError(f"{row.corpus}/{row.path}: {error}") from None


def _known(row: Row) -> float:
    """Returns the rating, else the base, else UNLABELLED; all of them are checked."""
    base = _base(row)
    return rating(row, "arousal") if row.arousal else base
