"""IEMOCAP: five sessions of two actors, with emotion by vote and rated arousal.

    SessionN/sentences/wav/DIALOGUE/DIALOGUE_TURN.wav
    SessionN/dialog/EmoEvaluation/DIALOGUE.txt     [start - end] TAB turn TAB emotion TAB [V, A, D]
    SessionN/dialog/transcriptions/DIALOGUE.txt    turn [start-end]: text

V, A and D are valence, activation and dominance on 1..5; on our scale, a7 = 1 + 1.5 (a5 - 1). The
speaker is the session and the letter of the turn; the letter in the dialogue's name only says who
wore the markers. `exc` counts as happy; `fru`, `oth` and `xxx` (no agreement) give no emotion, and
their ratings remain.

Source: Busso et al. 2008, and the release's own README.
"""

import pathlib
import re

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.corpora.listing import named, rating_text, read_rating, read_text
from emoconv_jax.pipeline.manifest import Row, check_path

NAME = "iemocap"
LABELS, TEXTS = "Session?/dialog/EmoEvaluation", "transcriptions"
EMOTIONS = {
    "neu": "neutral",
    "hap": "happy",
    "exc": "happy",
    "sad": "sad",
    "ang": "angry",
    "fea": "fearful",
    "dis": "disgust",
    "sur": "surprised",
    "fru": "",
    "oth": "",
    "xxx": "",
}
TURN = re.compile(
    r"\[[\d.]+ - [\d.]+\]\s+(?P<turn>(?P<dialogue>Ses\d\d[FM]_\w+)_(?P<letter>[FM])\w+)"
    r"\s+(?P<emotion>\w+)\s+\[(?P<valence>[^,\]]+),(?P<arousal>[^,\]]+),(?P<dominance>[^,\]]+)\]",
    re.ASCII,
)
TEXT = re.compile(r"(Ses\S+) \[[\d.]+-[\d.]+\]: (.*)")
NOISE = re.compile(r"\[[A-Z ]+\]")  # [LAUGHTER], [BREATHING]
# A few published means lie half a point outside of the scale; they are set to its ends.
LEAST, GREATEST = 0.5, 5.5


def recognises(folder: pathlib.Path) -> bool:
    """Tells whether a folder holds this corpus.

    Args:
        folder: a corpus folder.

    Returns:
        True if a session has a folder of evaluations.
    """
    return any(folder.glob(LABELS))


def read(folder: pathlib.Path) -> list[Row]:
    """Returns the corpus's utterances.

    Args:
        folder: holds Session1 to Session5.

    Returns:
        One row per evaluated turn, sorted by path.

    Raises:
        EmoconvError: an evaluation that is none, an unknown label or a rating outside 1..5.
    """
    rows = []
    for labels in sorted(folder.glob(f"{LABELS}/Ses*.txt")):
        place = labels.relative_to(folder)
        texts = _texts(folder, (place.parent.parent / TEXTS / labels.name).as_posix())
        evaluations = read_text(folder, place.as_posix()) or ""
        for line, content in enumerate(evaluations.splitlines(), start=1):
            # the rest are votes of single listeners and a header
            if content.lstrip().startswith("["):
                rows.append(_row(folder, labels, line, content, texts))
    return sorted(rows, key=lambda row: row.path)


def _row(
    folder: pathlib.Path, labels: pathlib.Path, line: int, content: str, texts: dict[str, str]
) -> Row:
    where = f"{labels}:{line}"
    found = TURN.fullmatch(content.strip())
    if found is None:
        raise EmoconvError(
            f"{where}: {content!r:.80} is no evaluation, expected "
            "[start - end], turn, emotion, [V, A, D], separated by tabs"
        )
    turn, session = found["turn"], labels.relative_to(folder).parts[0]
    path = f"{session}/sentences/wav/{found['dialogue']}/{turn}.wav"
    check_path(folder.resolve(), path, where)
    return Row(
        corpus=NAME,
        path=path,
        speaker=turn[:5] + found["letter"],
        gender=found["letter"],
        language="en",
        emotion=named(EMOTIONS, found["emotion"], where),
        text=texts.get(turn, ""),
        arousal=_on_seven(found["arousal"], where, "activation"),
        valence=_on_seven(found["valence"], where, "valence"),
        dominance=_on_seven(found["dominance"], where, "dominance"),
        line=line,
    )


def _on_seven(text: str, where: str, field: str) -> str:
    value = read_rating(text, LEAST, GREATEST, where, field)
    return rating_text(None if value is None else 1 + 1.5 * (min(max(value, 1), 5) - 1))


def _texts(folder: pathlib.Path, name: str) -> dict[str, str]:
    """Returns what is said by turn; nothing where there is no file."""
    content = read_text(folder, name, ("utf-8-sig", "cp1252")) or ""
    found = (TEXT.match(line) for line in content.splitlines())
    return {turn[1]: " ".join(NOISE.sub("", turn[2]).split()) for turn in found if turn}
