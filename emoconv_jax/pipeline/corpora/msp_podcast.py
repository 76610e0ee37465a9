"""MSP-Podcast: `Labels/labels_consensus.csv`, `Audios/*.wav` and, where there, `Transcripts/*.txt`.

Arousal, valence and dominance are rated on 1..7 and taken as they are. The published sets have no
speaker in common: Train becomes split a, Development validation and the test sets test.

A clip whose speaker is unknown cannot be kept apart from the other sets, nor be normalised by its
speaker, and one made-up speaker of many voices would spoil what is measured per speaker: such clips
have the speaker "unknown" and the split "unused", whatever their set.

Source: Lotfian & Busso 2019, and the readme of release 1.11.
"""

import pathlib

from emoconv_jax.pipeline.corpora.listing import (
    file_name,
    label_table,
    named,
    rating_text,
    read_rating,
    read_text,
)
from emoconv_jax.pipeline.manifest import Row, check_path
from emoconv_jax.pipeline.splits import UNUSED

NAME = "msp_podcast"
LABELS = ("Labels/labels_consensus.csv", "labels_consensus.csv")
AUDIO = ("Audios", "Audio")
TEXTS = "Transcripts"
COLUMNS = (
    *("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom"),
    *("SpkrID", "Gender", "Split_Set"),
)
EMOTIONS = {
    "N": "neutral",
    "H": "happy",
    "S": "sad",
    "A": "angry",
    "F": "fearful",
    "D": "disgust",
    "U": "surprised",
    "C": "",  # contempt
    "O": "",  # another
    "X": "",  # no agreement
    "": "",
}
GENDERS = {"Female": "F", "Male": "M", "Unknown": "", "": ""}
SPLITS = {
    "Train": "a",
    "Development": "validation",
    "Validation": "validation",  # as releases up to 1.6 call it
    "Test": "test",
    "Test1": "test",
    "Test2": "test",
    "Test3": "test",
}
UNKNOWN = "unknown"


def recognises(folder: pathlib.Path) -> bool:
    """Tells whether a folder holds this corpus.

    Args:
        folder: a corpus folder.

    Returns:
        True if `labels_consensus.csv` is there, in `Labels` or not.
    """
    return any((folder / name).is_file() for name in LABELS)


def read(folder: pathlib.Path) -> list[Row]:
    """Returns the corpus's utterances.

    Args:
        folder: the corpus folder.

    Returns:
        One row per line of the labels, sorted by path; whether the audio is there is for its
        reader to say.

    Raises:
        EmoconvError: a missing column, an unknown label, a rating outside 1..7, or a file name
            that is none.
    """
    labels = next(name for name in LABELS if (folder / name).is_file())
    audio = next((name for name in AUDIO if (folder / name).is_dir()), AUDIO[0])
    rows = [
        _row(folder, audio, where, line, given)
        for where, line, given in label_table(folder, labels, COLUMNS)
    ]
    return sorted(rows, key=lambda row: row.path)


def _row(folder: pathlib.Path, audio: str, where: str, line: int, given: dict[str, str]) -> Row:
    path = f"{audio}/{file_name(given['FileName'], where, 'FileName')}"
    check_path(folder.resolve(), path, where)
    text = read_text(folder, f"{TEXTS}/{pathlib.PurePosixPath(path).stem}.txt") or ""
    split = named(SPLITS, given["Split_Set"], where, "Split_Set")
    unknown = given["SpkrID"].lower() in ("", UNKNOWN)
    return Row(
        corpus=NAME,
        path=path,
        speaker=UNKNOWN if unknown else given["SpkrID"],
        gender=named(GENDERS, given["Gender"], where, "Gender"),
        language="en",
        emotion=named(EMOTIONS, given["EmoClass"], where),
        text=" ".join(text.split()),
        arousal=rating_text(read_rating(given["EmoAct"], 1.0, 7.0, where, "EmoAct")),
        valence=rating_text(read_rating(given["EmoVal"], 1.0, 7.0, where, "EmoVal")),
        dominance=rating_text(read_rating(given["EmoDom"], 1.0, 7.0, where, "EmoDom")),
        split=UNUSED if unknown else split,
        line=line,
    )
