"""CREMA-D: `AudioWAV/1001_DFA_ANG_XX.wav` = actor, sentence, emotion, level of acting.

The folder is the repository's, or `AudioWAV` itself. Where the repository's `VideoDemographics.csv`
is there, it gives the actors' gender. Audio files of another form of name are passed over.

Source: Cao et al. 2014, and the README of github.com/CheyneyComputerScience/CREMA-D.
"""

import pathlib
import re

from emoconv_jax.pipeline.corpora.listing import audio_files, holds_audio, label_table, named
from emoconv_jax.pipeline.manifest import Row

NAME = "crema_d"
CLIP = re.compile(r"(1[0-9]{3})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})\.\w+")
AUDIO, ACTORS = "AudioWAV", "VideoDemographics.csv"
EMOTIONS = {
    "NEU": "neutral",
    "HAP": "happy",
    "SAD": "sad",
    "ANG": "angry",
    "FEA": "fearful",
    "DIS": "disgust",
}
# X stands for XX in one published name, 1040_ITH_SAD_X.wav
INTENSITIES = {"LO": "low", "MD": "normal", "HI": "strong", "XX": "", "X": ""}
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
GENDERS = {"Female": "F", "Male": "M"}


def recognises(folder: pathlib.Path) -> bool:
    """Tells whether a folder holds this corpus.

    Args:
        folder: a corpus folder.

    Returns:
        True if any audio file is named as CREMA-D names them.
    """
    return holds_audio(folder, CLIP)


def read(folder: pathlib.Path) -> list[Row]:
    """Returns the corpus's utterances.

    Args:
        folder: the corpus folder.

    Returns:
        One row per clip, sorted by path.

    Raises:
        EmoconvError: a code that CREMA-D does not use.
    """
    genders, rows = _genders(folder), []
    for path in audio_files(folder, AUDIO if (folder / AUDIO).is_dir() else ""):
        found = CLIP.fullmatch(path.rpartition("/")[2])
        if found is None:
            continue
        where = f"{folder}: {path}"
        rows.append(
            Row(
                corpus=NAME,
                path=path,
                speaker=found[1],
                gender=genders.get(found[1], ""),
                language="en",
                emotion=named(EMOTIONS, found[3], where),
                intensity=named(INTENSITIES, found[4], where, "level"),
                text=named(SENTENCES, found[2], where, "sentence"),
            )
        )
    return rows


def _genders(folder: pathlib.Path) -> dict[str, str]:
    return {
        given["ActorID"]: named(GENDERS, given["Sex"], where, "Sex")
        for where, _, given in label_table(folder, ACTORS, ("ActorID", "Sex"))
    }
