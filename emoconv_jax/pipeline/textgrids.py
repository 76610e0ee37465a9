"""Phone times of English speech from the Montreal Forced Aligner: one TextGrid per utterance.

Its English dictionaries write ARPAbet (`english_us_arpa`) or IPA (`english_mfa` and its dialects);
both are mapped to the one inventory. Its other languages share symbols with the table below that
stand for other sounds there, so only English may be read here.

Source: the table holds every phone that the English IPA dictionaries 2.0.0 to 3.1.0 list
(github.com/MontrealCorpusTools/mfa-models). Its values were checked on the words that the American
and the British dictionary share with CMUdict at the same number of phones: almost every symbol
stands for the phone below in most of its occurrences, consonants in .9 and more. Where a dialect
has another sound in a word, the sound decides: British "bath" (CMUdict AE) is AA, Nigerian "strut"
(AH) AO, "nurse" (ER) AA; a flap is T, as for other sources.
"""

import math
import os
import pathlib
import re
import unicodedata

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.phones import SILENCE, PhoneSpan, strip_stress

SUFFIX = ".TextGrid"
TIER = "phones"
UNKNOWN_WORD = "spn"  # spoken noise: what the aligner puts for a word that its dictionary lacks
MOST_BYTES = 4 * 2**20  # twice what ten minutes of fast speech take in UTF-16
MOST_INTERVALS = 30_000
MOST_TIERS = 1000  # the parser's time grows with their square

_IPA_OF = {
    "AA": "ɑ ɑː aː", "AE": "æ a", "AH": "ə ɐ", "AO": "ɒ ɒː ɔ", "AW": "aw", "AY": "aj",
    "B": "b bʲ ɡb", "CH": "tʃ", "D": "d dʲ ɖ", "DH": "ð d̪", "EH": "ɛ ɛː", "ER": "ɝ ɚ ɜ ɜː",
    "EY": "ej e eː", "F": "f fʲ fʷ", "G": "ɡ ɡʷ ɟ ɟʷ", "HH": "h ç", "IH": "ɪ", "IY": "i iː",
    "JH": "dʒ", "K": "k kʰ kʷ c cʰ cʷ", "L": "l ɫ ɫ̩ ʎ", "M": "m mʲ m̩ ɱ", "N": "n n̩ ɲ ɾ̃",
    "NG": "ŋ", "OW": "ow əw o oː", "OY": "ɔj", "P": "p pʰ pʲ pʷ kp", "R": "ɹ", "S": "s",
    "SH": "ʃ", "T": "t tʰ tʲ tʷ ʈ ʈʲ ʈʷ ɾ ɾʲ ʔ", "TH": "θ t̪", "UH": "ʊ", "UW": "ʉ ʉː u uː",
    "V": "v vʲ vʷ ʋ", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
IPA_PHONES = {
    unicodedata.normalize("NFC", symbol): phone
    for phone, symbols in _IPA_OF.items()
    for symbol in symbols.split()
}

_ROUNDING_S = 0.02  # by which the last phone may miss the tier's end


def read_text_grid(path: str | os.PathLike[str]) -> list[PhoneSpan]:
    """Reads the phone times of one utterance.

    Args:
        path: a Praat TextGrid, long or short, UTF-8 or UTF-16, with an interval tier `phones`.

    Returns:
        Spans of the inventory, in order. Empty intervals are silence.

    Raises:
        EmoconvError: the utterance holds a word that the aligner did not know (`spn`), which a
            caller counts as not aligned; or a file that is absent, damaged, cut off, larger than
            4 MiB, of more than 1000 tiers or 30 000 phones, without that tier, with a phone that
            is neither ARPAbet nor English IPA, with times that overlap, or without speech. Names
            the file.
    """
    intervals = _read_tier(pathlib.Path(path))
    spans, last_s = [], 0.0
    for start_s, end_s, label in intervals:
        if not last_s <= start_s < end_s < math.inf:  # also refuses NaN
            raise EmoconvError(
                f"{path}: a phone from {start_s} to {end_s} s after {last_s} s; times must be "
                "finite and rise"
            )
        last_s = end_s
        try:
            spans.append(PhoneSpan(_phone_of(label), start_s, end_s))
        except EmoconvError as error:
            raise EmoconvError(f"{path}: at {start_s} s: {error}") from None
    if all(span.phone == SILENCE for span in spans):
        raise EmoconvError(f"{path}: tier {TIER} holds no phone but silence, one is needed")
    return spans


def find_text_grid(folder: pathlib.Path, speaker: str, path: str) -> pathlib.Path | None:
    """Returns the TextGrid of an utterance.

    Looks where the aligner puts it: at the audio's own path, which is beside the audio if `folder`
    is the corpus folder, then in a folder named as the speaker.

    Args:
        folder: of TextGrids; the search does not leave it, links followed.
        speaker: the corpus's own name for it.
        path: of the audio, relative to the corpus folder.

    Returns:
        The file; None if there is none inside `folder`.
    """
    name = pathlib.PurePath(path)
    try:
        root = folder.resolve()
        places = (name.with_suffix(SUFFIX), pathlib.PurePath(speaker, name.stem + SUFFIX))
        for place in places:
            found = (root / place).resolve()
            if found.is_relative_to(root) and found.is_file():
                return found
    except (OSError, ValueError, RuntimeError):  # no name of a file, too long, a loop of links
        pass
    return None


def _read_tier(path: pathlib.Path) -> list[tuple[float, float, str]]:
    """Returns the intervals of the tier `phones`, sorted, not yet checked."""
    from praatio import textgrid
    from praatio.utilities.errors import PraatioException

    try:
        if not path.is_file():
            raise EmoconvError(f"{path}: not a file, expected a TextGrid")
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise EmoconvError(f"{path}: {size} bytes, allowed are up to {MOST_BYTES}")
        _check_kind(path, path.read_bytes().replace(b"\0", b""))  # UTF-16's zeros
        # Empty intervals are wanted: where they begin, the phone before them ends.
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="silence")
    except OSError as error:
        raise EmoconvError(f"{path}: {error.strerror}, expected a TextGrid") from None
    except (PraatioException, ValueError, LookupError, AttributeError, TypeError) as error:
        found = " ".join(str(error).split())
        raise EmoconvError(f"{path}: damaged TextGrid ({found:.80})") from None
    if TIER not in grid.tierNames:
        raise EmoconvError(
            f"{path}: no tier {TIER!r}; found {', '.join(grid.tierNames):.80} (the TextGrid of "
            "several speakers has to be split first)"
        )
    tier = grid.getTier(TIER)
    if not isinstance(tier, textgrid.IntervalTier) or not tier.entries:
        raise EmoconvError(f"{path}: tier {TIER} holds no interval, one is needed")
    intervals = [(float(entry[0]), float(entry[1]), str(entry[-1])) for entry in tier.entries]
    if len(intervals) > MOST_INTERVALS:
        raise EmoconvError(
            f"{path}: {len(intervals)} intervals, allowed are up to {MOST_INTERVALS}"
        )
    if not abs(tier.maxTimestamp - intervals[-1][1]) <= _ROUNDING_S:
        # The parser stops without a word where a short TextGrid does.
        raise EmoconvError(
            f"{path}: tier {TIER} ends at {intervals[-1][1]} of {tier.maxTimestamp} s; cut off?"
        )
    return intervals


def _check_kind(path: pathlib.Path, letters: bytes) -> None:
    """Refuses what the parser would take for another format, or take long for."""
    if not re.match(rb'[^\w]{0,3}File type = "ooTextFile', letters):  # marks of byte order
        raise EmoconvError(f"{path}: not a TextGrid in Praat's text format")
    tiers = max(letters.count(b"Tier"), letters.count(b"item"))  # short form, long form
    if tiers > MOST_TIERS:
        raise EmoconvError(f"{path}: {tiers} tiers, allowed are up to {MOST_TIERS}")


def _phone_of(label: str) -> str:
    symbol = unicodedata.normalize("NFC", label.strip())
    if symbol.lower() == UNKNOWN_WORD:
        raise EmoconvError(f"{UNKNOWN_WORD}, a word that the aligner's dictionary lacks")
    return IPA_PHONES.get(symbol) or strip_stress(symbol)
