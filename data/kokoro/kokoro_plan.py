"""Who says what in the Kokoro corpus, derived from the sentences' file and one seed.

    training sentence    7 voices, 4 of one sex and 3 of the other: 2 women and 2 men at arousal 4,
                         the other three at three of 1, 2, 3, 5, 6, 7
    held-out sentence    the four held-out voices, each at arousal 1, 4 and 7

A voice is one of Kokoro's English ones or a blend of two, `FIRST-SECOND`, of one sex and accent.
Held-out voices say no training sentence and are in no blend. Voices and arousals are dealt like
cards, so that all are heard equally often. The order is that of the sentences, each with all its
voices; a held-out sentence stands after every fifth other until there are none left. So the first
clips of the plan are a small corpus of the same kind.
"""

import csv
import dataclasses
import itertools
import pathlib
import random
from collections.abc import Iterator, Sequence

SENTENCES = pathlib.Path(__file__).resolve().with_name("sentences.tsv")
SEED = 25
NEUTRAL = 4
OTHERS = (1, 2, 3, 5, 6, 7)
HELD_OUT_AROUSALS = (1, NEUTRAL, 7)
VOICES = (
    *("af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole"),
    *("af_nova", "af_river", "af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir"),
    *("am_liam", "am_michael", "am_onyx", "am_puck", "am_santa", "bf_alice", "bf_emma"),
    *("bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george", "bm_lewis"),
)
HELD_OUT = {
    "validation": ("bf_emma", "am_michael"),
    "test": ("af_kore", "bm_george"),
}
UNBLENDED = ("af_nicole", "am_santa")  # a whisper and a hoarse voice, which spoil what they join
BLENDS_EACH = 20  # of one sex and accent, or all pairs where there are fewer
HELD_OUT_EVERY = 5


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A line of the sentences' file: `split` is train, validation or test."""

    number: str
    split: str
    source: str
    text: str


@dataclasses.dataclass(frozen=True)
class Clip:
    """One sentence of one voice at one arousal."""

    sentence: Sentence
    voice: str
    arousal: int

    @property
    def path(self) -> str:
        """Returns the path below the corpus folder."""
        return f"{self.voice}/{self.voice}_{self.sentence.number}_a{self.arousal}.flac"

    @property
    def gender(self) -> str:
        """Returns F or M, from the voice's name."""
        return self.voice[1].upper()

    @property
    def british(self) -> bool:
        """Tells whether the voice has a British accent."""
        return self.voice[0] == "b"


def read_sentences(path: pathlib.Path = SENTENCES) -> list[Sentence]:
    """Returns the sentences in their order.

    Args:
        path: a table with the columns number, split, source, text.
    """
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Sentence(**row) for row in rows]


def parts_of(voice: str) -> list[str]:
    """Returns the Kokoro voices that a voice is made of, one or two.

    Args:
        voice: `NAME` or `FIRST-SECOND`.
    """
    return voice.split("-")


def training_voices(seed: int = SEED) -> list[str]:
    """Returns the voices and blends that training hears.

    Args:
        seed: of the choice of blends.
    """
    held_out = {voice for voices in HELD_OUT.values() for voice in voices}
    single = [voice for voice in VOICES if voice not in held_out]
    voices = list(single)
    for kind in sorted({voice[:2] for voice in single}):
        joined = [v for v in single if v.startswith(kind) and v not in UNBLENDED]
        pairs = list(itertools.combinations(joined, 2))
        random.Random(f"{seed} blends {kind}").shuffle(pairs)
        voices += sorted(f"{first}-{second}" for first, second in pairs[:BLENDS_EACH])
    return voices


def make_plan(sentences: Sequence[Sentence], seed: int = SEED) -> list[Clip]:
    """Returns every clip of the corpus, in the order of its making.

    Args:
        sentences: of the corpus.
        seed: of every choice.

    Returns:
        The clips, sentence by sentence.
    """
    train = [sentence for sentence in sentences if sentence.split == "train"]
    others = iter([sentence for sentence in sentences if sentence.split != "train"])
    voices = training_voices(seed)
    decks = {
        sex: _deal([v for v in voices if v[1] == sex], random.Random(f"{seed} {sex}"))
        for sex in "fm"
    }
    arousals = _deal(OTHERS, random.Random(f"{seed} arousal"))
    plan: list[Clip] = []
    for place, sentence in enumerate(train, start=1):
        women = 4 - place % 2
        chosen = {sex: _distinct(decks[sex], n) for sex, n in (("f", women), ("m", 7 - women))}
        plan += [Clip(sentence, voice, NEUTRAL) for sex in "fm" for voice in chosen[sex][:2]]
        rest = chosen["f"][2:] + chosen["m"][2:]
        plan += [
            Clip(sentence, voice, arousal)
            for voice, arousal in zip(rest, _distinct(arousals, 3), strict=True)
        ]
        if place % HELD_OUT_EVERY == 0:
            plan += _held_out(next(others, None))
    for sentence in others:
        plan += _held_out(sentence)
    return plan


def _held_out(sentence: Sentence | None) -> list[Clip]:
    if sentence is None:
        return []
    voices = [voice for voices in HELD_OUT.values() for voice in voices]
    return [Clip(sentence, voice, a) for a in HELD_OUT_AROUSALS for voice in voices]


def _deal(cards: Sequence, rng: random.Random) -> Iterator:
    """Yields the cards of a shuffled deck, then those of the next, without end."""
    while True:
        deck = list(cards)
        rng.shuffle(deck)
        yield from deck


def _distinct(deck: Iterator, count: int) -> list:
    """Takes so many different cards; one that comes again meanwhile is passed over."""
    taken: list = []
    while len(taken) < count:
        card = next(deck)
        if card not in taken:
            taken.append(card)
    return taken
