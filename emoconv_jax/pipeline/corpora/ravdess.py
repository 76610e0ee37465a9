"""RAVDESS: `Actor_NN/03-01-EE-II-SS-RR-AA.wav`, in any folders; songs (03-02) are passed over.

The numbers are modality, channel, emotion, intensity, statement, repetition and actor. Audio files
of another form of name are no part of the corpus and are passed over too.

Source: Livingstone & Russo 2018, and the data's own page (doi 10.5281/zenodo.1188976).
"""

import pathlib
import re

from emoconv_jax.pipeline.corpora.listing import audio_files, holds_audio, named
from emoconv_jax.pipeline.manifest import Row

NAME = "ravdess"
CLIP = re.compile(r"([0-9]{2})" + r"-([0-9]{2})" * 6 + r"\.\w+")
ACTORS = {f"{actor:02d}": "M" if actor % 2 else "F" for actor in range(1, 25)}
AUDIO_ONLY, SPEECH = "03", "01"
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
INTENSITIES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}


def recognises(folder: pathlib.Path) -> bool:
    """Tells whether a folder holds this corpus.

    Args:
        folder: a corpus folder.

    Returns:
        True if any audio file is named as RAVDESS names them.
    """
    return holds_audio(folder, CLIP)


def read(folder: pathlib.Path) -> list[Row]:
    """Returns the corpus's utterances.

    Args:
        folder: the corpus folder.

    Returns:
        One row per speech clip, sorted by path. Odd actors are men, even ones women.

    Raises:
        EmoconvError: a number that RAVDESS does not use.
    """
    rows = []
    for path in audio_files(folder):
        found = CLIP.fullmatch(path.rpartition("/")[2])
        if found is None or found[1] != AUDIO_ONLY or found[2] != SPEECH:
            continue
        where = f"{folder}: {path}"
        rows.append(
            Row(
                corpus=NAME,
                path=path,
                speaker=found[7],
                gender=named(ACTORS, found[7], where, "actor"),
                language="en",
                emotion=named(EMOTIONS, found[3], where),
                intensity=named(INTENSITIES, found[4], where, "intensity"),
                text=named(STATEMENTS, found[5], where, "statement"),
            )
        )
    return rows
