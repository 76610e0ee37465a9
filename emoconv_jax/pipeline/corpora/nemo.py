"""nEMO: `data.tsv` and `samples/{speaker}_{emotion}_{sentence}.wav`; Polish, six emotions.

Source: Christop 2024, and data.tsv of github.com/amu-cai/nEMO, whose speaker_id has blanks before
it.
"""

import pathlib

from emoconv_jax.pipeline.corpora.listing import named
from emoconv_jax.pipeline.manifest import Row, check_path, read_table

NAME = "nemo"
LABELS, AUDIO = "data.tsv", "samples"
COLUMNS = ("file_id", "emotion", "raw_text", "speaker_id", "gender")
EMOTIONS = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "surprised": "surprised",
}
GENDERS = {"female": "F", "male": "M"}


def recognises(folder: pathlib.Path) -> bool:
    """Tells whether a folder holds this corpus.

    Args:
        folder: a corpus folder.

    Returns:
        True if `data.tsv` and `samples` are there.
    """
    return (folder / LABELS).is_file() and (folder / AUDIO).is_dir()


def read(folder: pathlib.Path) -> list[Row]:
    """Returns the corpus's utterances.

    Args:
        folder: the corpus folder.

    Returns:
        One row per line of `data.tsv`, sorted by path.

    Raises:
        EmoconvError: a missing column, an unknown label, or a file name that leaves the folder.
    """
    root, rows = folder.resolve(), []
    for line, fields in read_table(folder / LABELS, COLUMNS):
        where = f"{folder / LABELS}:{line}"
        given = {column: (fields[column] or "").strip() for column in COLUMNS}
        path = f"{AUDIO}/{given['file_id']}"
        check_path(root, path, where)
        rows.append(
            Row(
                corpus=NAME,
                path=path,
                speaker=given["speaker_id"],
                gender=named(GENDERS, given["gender"], where, "gender"),
                language="pl",
                emotion=named(EMOTIONS, given["emotion"], where),
                text=given["raw_text"],
                line=line,
            )
        )
    return sorted(rows, key=lambda row: row.path)
