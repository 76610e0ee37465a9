"""One inventory of phones for every source, and phones as one index per mel frame.

The inventory is ARPAbet without stress, 39 phones, and `sil`. Dictionaries' phones (CMUdict's
AH0, AY1) lose their stress digit. The IPA-like tokens of the Kokoro text-to-speech model are
mapped by one table. Its tokens are letters of sound, marks of stress or length, spaces and
punctuation; in time they follow each other without gaps:

    stress mark     its time belongs to the vowel after it
    length mark     its time belongs to the vowel before it
    space           up to 0.1 s it is the transition of two words and goes half to each side; from
                    0.1 s on, or beside punctuation, it is a pause: sil
    punctuation     sil
    last phone      Kokoro lets a phone before a pause of punctuation run on through the silence:
                    what exceeds 0.15 s is sil (in 111 such tokens longer than 0.3 s the first
                    quarter lies 12 dB below the utterance's mean power, the second 34 dB)
    r after schwa   one phone, ER, as in CMUdict (unless a vowel follows: AH R)
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.shapes import Int

SILENCE = "sil"
PHONES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G"),
    *("HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH"),
    *("T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH", SILENCE),
)
UNALIGNED = -1  # in the place of an index: nobody knows the frame's phone
PHONE_INDEX = {phone: index for index, phone in enumerate(PHONES)}

# Sounds that ARPAbet does not tell apart are mapped to what CMUdict writes in their place:
# the flap (better) is T, the British vowel of "lot" AA, that of "square" EH.
TOKEN_VOWELS = {
    "A": "EY", "I": "AY", "W": "AW", "O": "OW", "Q": "OW", "Y": "OY",
    "a": "AE", "æ": "AE", "ɑ": "AA", "ɒ": "AA", "ɔ": "AO", "o": "AO", "ʌ": "AH", "ə": "AH",
    "ᵊ": "AH", "ɐ": "AH", "ɛ": "EH", "e": "EH", "ɜ": "ER", "ɝ": "ER", "ɚ": "ER", "ɪ": "IH",
    "ᵻ": "IH", "i": "IY", "ʊ": "UH", "u": "UW",
}  # fmt: skip
TOKEN_CONSONANTS = {
    "b": "B", "ʧ": "CH", "d": "D", "ð": "DH", "f": "F", "ɡ": "G", "g": "G", "h": "HH", "ʤ": "JH",
    "k": "K", "l": "L", "m": "M", "n": "N", "ŋ": "NG", "p": "P", "ɹ": "R", "r": "R", "s": "S",
    "ʃ": "SH", "t": "T", "ɾ": "T", "ʔ": "T", "θ": "TH", "v": "V", "w": "W", "j": "Y", "z": "Z",
    "ʒ": "ZH",
}  # fmt: skip
STRESS_MARKS = "ˈˌ"
LENGTH_MARK = "ː"
PUNCTUATION = '.,!?;:—…"“”()'

PAUSE_S = 0.1
LAST_PHONE_S = 0.15

_SCHWAS = "əɜɚɝ"
_RHOTICS = "ɹr"
_SLACK_S = 1e-6  # times are printed to the millisecond: 0.1 must not fail on its rounding


@dataclasses.dataclass(frozen=True)
class PhoneSpan:
    """One phone from `start_s` up to `end_s`, in seconds from the start of the audio."""

    phone: str
    start_s: float
    end_s: float


def strip_stress(phone: str) -> str:
    """Returns an ARPAbet phone of the inventory for a dictionary's symbol.

    Args:
        phone: for example AH0, AH, SIL, sp or +SPN+; the silences of aligners are `sil`.

    Returns:
        A member of PHONES.

    Raises:
        EmoconvError: not a phone of the inventory.
    """
    plain = re.sub(r"\d$", "", phone.strip()).upper()
    if plain in ("SIL", "SP", "", "<SIL>"):
        return SILENCE
    if plain not in PHONE_INDEX:
        raise EmoconvError(f"phone {phone!r}: not in the inventory; allowed are {' '.join(PHONES)}")
    return plain


def phone_spans_from_tokens(tokens: Sequence[tuple[str, float, float]]) -> list[PhoneSpan]:
    """Maps Kokoro's tokens to phones, by the rules of this module's docstring.

    Args:
        tokens: (token, start, end) in order, in seconds; "sil" stands for silence.

    Returns:
        Spans of the inventory in order; neighbouring silences are joined.

    Raises:
        EmoconvError: a token that the table does not hold, by name.
    """
    merged = _merge_marks(tokens)
    paused = _mark_pauses(merged)
    spans: list[PhoneSpan] = []
    for place, (phone, start_s, end_s) in enumerate(paused):
        if phone == " ":
            continue  # a short space: its neighbours meet in its middle
        if place and paused[place - 1][0] == " ":
            start_s = _middle(paused[place - 1])
        if place + 1 < len(paused) and paused[place + 1][0] == " ":
            end_s = _middle(paused[place + 1])
        if phone == SILENCE and spans and spans[-1].phone == SILENCE:
            spans[-1] = dataclasses.replace(spans[-1], end_s=end_s)
        else:
            spans.append(PhoneSpan(phone, start_s, end_s))
    return spans


def frame_phones(
    spans: Sequence[PhoneSpan], frames: int, config: MelConfig | None = None
) -> Int[np.ndarray, " f"]:
    """Returns the phone of each mel frame.

    A span [t0, t1) covers the frames int(t0 sr) // hop up to and including int(t1 sr) // hop.
    Spans thus share a frame where they meet; the later phone has it. Frames that no span covers
    are silence.

    Args:
        spans: in order of time.
        frames: of the mel.
        config: gives the hop and the sample rate; the default is the package's mel.

    Returns:
        Indices into PHONES, int64.

    Raises:
        EmoconvError: a phone that the inventory does not hold.

    Source: the span is DiffVC's (arXiv 2109.13821, reference code); it keeps the mel outside of
        phones instead, which leaks the voice.
    """
    config = config or MelConfig()
    phones = np.full(frames, PHONE_INDEX[SILENCE], dtype=np.int64)
    for span in spans:
        if span.phone not in PHONE_INDEX:
            raise EmoconvError(f"phone {span.phone!r}: allowed are {' '.join(PHONES)}")
        first = max(0, int(span.start_s * config.sample_rate_hz) // config.hop_samples)
        last = int(span.end_s * config.sample_rate_hz) // config.hop_samples
        if span.end_s > 0:
            phones[first : last + 1] = PHONE_INDEX[span.phone]
    return phones


def _middle(token: tuple[str, float, float]) -> float:
    return (token[1] + token[2]) / 2


def _merge_marks(tokens: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Maps letters to phones, joins marks to their vowel and r to the schwa before it.

    Spaces stay " ", punctuation becomes ".".
    """
    merged: list[tuple[str, float, float]] = []
    stress_start_s: float | None = None
    for place, (token, start_s, end_s) in enumerate(tokens):
        if token and token in STRESS_MARKS:
            stress_start_s = start_s if stress_start_s is None else stress_start_s
            continue
        if token == LENGTH_MARK and merged:
            merged[-1] = (merged[-1][0], merged[-1][1], end_s)
            continue
        if token and token in _RHOTICS and _ends_schwa(tokens, place):
            merged[-1] = ("ER", merged[-1][1], end_s)
            continue
        if stress_start_s is not None:
            start_s, stress_start_s = stress_start_s, None
        merged.append((_phone_of(token), start_s, end_s))
    return merged


def _ends_schwa(tokens: Sequence[tuple[str, float, float]], place: int) -> bool:
    """Tells whether the r at `place` closes a syllable of schwa and r, with no vowel after it."""
    before = [token for token, _, _ in tokens[:place] if token != LENGTH_MARK]
    after = tokens[place + 1][0] if place + 1 < len(tokens) else ""
    vowel_follows = after in TOKEN_VOWELS or (after != "" and after in STRESS_MARKS)
    if not before or before[-1] not in tuple(_SCHWAS):
        return False
    return before[-1] != "ə" or not vowel_follows


def _phone_of(token: str) -> str:
    if token in TOKEN_VOWELS:
        return TOKEN_VOWELS[token]
    if token in TOKEN_CONSONANTS:
        return TOKEN_CONSONANTS[token]
    if token == SILENCE:
        return SILENCE
    if token == " ":
        return " "
    if token and token in PUNCTUATION:
        return "."
    known = " ".join((*TOKEN_VOWELS, *TOKEN_CONSONANTS, STRESS_MARKS, LENGTH_MARK, PUNCTUATION))
    raise EmoconvError(f"token {token!r}: not in the table; allowed are {known}, space and sil")


def _mark_pauses(
    tokens: Sequence[tuple[str, float, float]],
) -> list[tuple[str, float, float]]:
    """Turns punctuation and pauses into sil and shortens the phone before punctuation."""
    marked: list[tuple[str, float, float]] = []
    for place, (phone, start_s, end_s) in enumerate(tokens):
        after = tokens[place + 1][0] if place + 1 < len(tokens) else ""
        before = tokens[place - 1][0] if place else ""
        if phone == ".":
            marked.append((SILENCE, start_s, end_s))
        elif phone == " ":
            long = end_s - start_s >= PAUSE_S - _SLACK_S or {before, after} & {".", SILENCE, ""}
            marked.append((SILENCE if long else " ", start_s, end_s))
        elif phone != SILENCE and after == "." and end_s - start_s > LAST_PHONE_S + _SLACK_S:
            speech_end_s = start_s + LAST_PHONE_S
            marked += [(phone, start_s, speech_end_s), (SILENCE, speech_end_s, end_s)]
        else:
            marked.append((phone, start_s, end_s))
    return marked
