"""ESD: `<speaker>/<Emotion>/[train|test|evaluation/]<speaker>_<6 digits>.wav`, `<speaker>.txt`.

Twenty speakers: 0001 to 0010 Chinese, 0011 to 0020 English. The corpus's train, test and
evaluation sets share all speakers, so they are not used; data/splits/esd.json divides the speakers.

`<speaker>/<speaker>.txt` holds id, text and emotion, separated by tabs. As published, some of these
files are UTF-16, some GB 2312 and some Latin-1, and some lines lack a field: their clips have no
text. Audio elsewhere, or of another form of name, is passed over.

Source: Zhou et al. 2021 and the corpus's ReadMe (languages, genders).
"""

import pathlib
import re

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.corpora.listing import audio_files, named, read_text
from emoconv_jax.pipeline.manifest import Row

NAME = "esd"
SPEAKER = re.compile(r"00(0[1-9]|1[0-9]|20)")
CLIP = re.compile(
    r"(?P<speaker>[0-9]{4})/(?P<emotion>[^/]+)/(?:[^/]+/)?(?P<id>[0-9]{4}_[0-9]{6})\.\w+"
)
EMOTIONS = {
    "Neutral": "neutral",
    "Happy": "happy",
    "Sad": "sad",
    "Angry": "angry",
    "Surprise": "surprised",
}
MEN = ("0004", "0005", "0006", "0008", "0010", "0011", "0012", "0013", "0014", "0020")
LAST_CHINESE = "0010"
# Latin-1 fits every file, so it comes last, and only where no Chinese text is expected
ENCODINGS = {"zh": ("utf-8-sig", "gb18030"), "en": ("utf-8-sig", "cp1252", "latin-1")}


def recognises(folder: pathlib.Path) -> bool:
    """Tells whether a folder holds this corpus.

    Args:
        folder: a corpus folder.

    Returns:
        True if any of the speakers has a folder for one of the emotions.
    """
    return any(
        SPEAKER.fullmatch(speaker.name) and any((speaker / name).is_dir() for name in EMOTIONS)
        for speaker in folder.iterdir()
    )


def read(folder: pathlib.Path) -> list[Row]:
    """Returns the corpus's utterances.

    Args:
        folder: holds the speakers' folders.

    Returns:
        One row per clip, sorted by path.

    Raises:
        EmoconvError: a folder that is no emotion of ESD, a clip in another speaker's folder, or a
            text file in none of the encodings.
    """
    texts: dict[str, dict[str, tuple[int, str]]] = {}
    rows = []
    for path in audio_files(folder):
        found = CLIP.fullmatch(path)
        if found is None or not SPEAKER.fullmatch(found["speaker"]):
            continue
        where, speaker = f"{folder}: {path}", found["speaker"]
        if not found["id"].startswith(speaker):
            raise EmoconvError(f"{where}: a clip of {found['id'][:4]} in the folder of {speaker}")
        language = "zh" if speaker <= LAST_CHINESE else "en"
        if speaker not in texts:
            texts[speaker] = _texts(folder, speaker, language)
        line, text = texts[speaker].get(found["id"], (0, ""))
        rows.append(
            Row(
                corpus=NAME,
                path=path,
                speaker=speaker,
                gender="M" if speaker in MEN else "F",
                language=language,
                emotion=named(EMOTIONS, found["emotion"], where),
                text=text,
                line=line,
            )
        )
    return rows


def _texts(folder: pathlib.Path, speaker: str, language: str) -> dict[str, tuple[int, str]]:
    """Returns (line, text) by clip; nothing where there is no file."""
    texts = {}
    whole = read_text(folder, f"{speaker}/{speaker}.txt", ENCODINGS[language]) or ""
    for line, content in enumerate(whole.splitlines(), start=1):
        fields = [field.strip() for field in content.split("\t")]
        if len(fields) >= 3 and not any(fields[3:]):  # some lines end in a tab
            texts[fields[0]] = (line, fields[1])
    return texts
