"""nEMO: `data.tsv` and `samples/{speaker}_{emotion}_{sentence}.wav`; Polish, six emotions.

Source: Christop 2024, and data.tsv of github.com/amu-cai/nEMO, whose speaker_id has blanks before
it.
"""

import pathlib

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.corpora.listing import file_name, label_table, named
from emoconv_jax.pipeline.manifest import Row, check_path

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
        EmoconvError: a missing column, an unknown label, a file name that is none, or no speaker.
    """
    root, rows = folder.resolve(), []
    for where, line, given in label_table(folder, LABELS, COLUMNS):
        path = f"{AUDIO}/{file_name(given['file_id'], where, 'file_id')}"
        check_path(root, path, where)
        if not given["speaker_id"]:
            raise EmoconvError(f"{where}: speaker_id is empty, a value is needed")
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
