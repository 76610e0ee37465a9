"""Phone times of English speech with a known text, and phone times that came with a corpus.

Forced alignment is PocketSphinx's: a first decoding finds the words with their pauses and
pronunciations, a second one their phones. Its acoustic model reads 16 kHz in frames of 10 ms and
CMUdict's phones, so results are exact to about a frame at best.
"""

import csv
import functools
import math
import os
import pathlib
import re
from typing import Any

import numpy as np

from emoconv_jax.audio.resampling import resample
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.phones import PhoneSpan, phone_spans_from_tokens, strip_stress
from emoconv_jax.shapes import Float

ALIGNER_RATE_HZ = 16_000
PAD_S = 0.2  # silence that the aligner needs on both sides of the first and last phone
PAD_LEVEL = 1e-4  # standard deviation of the noise in it; digital silence upsets the features

# Hardly any pruning: with the usual beams 3 of 220 shouted or sobbed RAVDESS clips find no path,
# with these none, at the same speed.
BEAM = 1e-200

_FRAME_S = 0.01
# A frame analyses 25.6 ms from its start on, so what it says belongs to 7.8 ms later.
_CENTRE_S = (0.0256 - _FRAME_S) / 2
_PEAK = 0.5  # quiet recordings would lose their low bits in 16-bit samples


def align_english(audio: Float[np.ndarray, " n"], text: str) -> list[PhoneSpan]:
    """Finds when each phone of an English sentence is spoken.

    Args:
        audio: the waveform at 22 050 Hz.
        text: what is said; case and punctuation are ignored, digits must be spelt out.

    Returns:
        Spans of the inventory without stress, in order and without gaps, 0 to the audio's end.

    Raises:
        EmoconvError: no word in the text, a word that the dictionary lacks (by name), silent
            audio, or speech that does not fit the text.
    """
    decoder = _decoder()
    words = _words(text)
    for word in words:
        if decoder.lookup_word(word) is None:
            raise EmoconvError(
                f"word {word!r} of {text!r:.80}: not in the pronunciation dictionary; "
                "allowed are the words of CMUdict, numbers spelt out"
            )
    samples = _padded(audio)
    decoder.reinit_feat()  # or its features depend on the clips that went before
    decoder.set_align_text(" ".join(words))
    _decode(decoder, samples)
    if decoder.hyp() is None:
        raise EmoconvError(f"text {text!r:.80}: does not fit the audio ({_length(audio)})")
    decoder.set_alignment()
    _decode(decoder, samples)
    # One pass over words and phones: a second iterator over the same alignment crashes.
    found = [
        (phone.name, phone.start, phone.duration)
        for word in decoder.get_alignment()
        for phone in word
    ]
    return _to_spans(found, len(audio) / MelConfig().sample_rate_hz)


def read_phone_table(path: str | os.PathLike[str]) -> dict[str, list[PhoneSpan]]:
    """Reads the phone times that a corpus brings along.

    Args:
        path: a tab-separated table with the columns path, phone (a Kokoro token), start_s, end_s;
            one line per token, an utterance's tokens in order.

    Returns:
        The spans of the inventory by the utterance's path.

    Raises:
        EmoconvError: a missing table or column, a time that is no number, or an unknown token.
    """
    tokens: dict[str, list[tuple[str, float, float]]] = {}
    if not pathlib.Path(path).is_file():  # a fifo would block
        raise EmoconvError(f"{path}: not a file, expected a table of phones")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                token = (line["phone"], float(line["start_s"]), float(line["end_s"]))
                if not 0 <= token[1] <= token[2] < math.inf:  # also refuses NaN
                    raise EmoconvError(
                        f"{path}: {line['path']}: a phone from {token[1]} to {token[2]} s, times "
                        "must be finite and not fall"
                    )
                tokens.setdefault(line["path"], []).append(token)
    except OSError as error:
        raise EmoconvError(f"{path}: {error.strerror}, expected a table of phones") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise EmoconvError(f"{path}: not a UTF-8 table ({error})") from None
    except KeyError as error:
        raise EmoconvError(
            f"{path}: no column {error}, needed are path, phone, start_s, end_s"
        ) from None
    except (TypeError, ValueError):
        raise EmoconvError(f"{path}: start_s and end_s must be numbers of seconds") from None
    spans = {}
    for name, found in tokens.items():
        try:
            spans[name] = phone_spans_from_tokens(found)
        except EmoconvError as error:
            raise EmoconvError(f"{path}: {name}: {error}") from None
    return spans


@functools.lru_cache(maxsize=1)
def _decoder() -> Any:
    """Returns the process's one aligner; its acoustic model takes 0.2 s to load."""
    import pocketsphinx

    # Normalised over each clip: "live" means would settle only after several.
    return pocketsphinx.Decoder(
        samprate=ALIGNER_RATE_HZ,
        lm=None,
        bestpath=False,
        cmn="batch",
        loglevel="FATAL",
        **dict.fromkeys(("beam", "wbeam", "pbeam"), BEAM),
    )


def _words(text: str) -> list[str]:
    plain = text.lower().replace("’", "'")
    words = [word.strip("'") for word in re.findall(r"[\w']+", plain)]
    words = [word for word in words if word]
    if not words:
        raise EmoconvError(f"text {text!r:.80}: holds no word to align")
    return words


def _length(audio: Float[np.ndarray, " n"]) -> str:
    return f"{len(audio) / MelConfig().sample_rate_hz:.2f} s"


def _padded(audio: Float[np.ndarray, " n"]) -> bytes:
    """Returns 16-bit samples at 16 kHz with near-silence at both ends."""
    peak = float(np.abs(audio).max(initial=0.0))
    if peak == 0.0:
        raise EmoconvError(f"audio of {_length(audio)}: silent, there is nothing to align")
    speech = resample(audio, MelConfig().sample_rate_hz, ALIGNER_RATE_HZ) * (_PEAK / peak)
    noise = np.random.default_rng(0).normal(0.0, PAD_LEVEL, (2, int(PAD_S * ALIGNER_RATE_HZ)))
    whole = np.concatenate([noise[0], speech, noise[1]])
    return (np.clip(whole, -1.0, 1.0) * 32767).astype(np.int16).tobytes()


def _decode(decoder: Any, samples: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()


def _to_spans(found: list[tuple[str, int, int]], audio_s: float) -> list[PhoneSpan]:
    """Turns frames of the padded audio into seconds of the audio, without the padding."""
    spans = []
    for place, (name, start, duration) in enumerate(found):
        start_s = start * _FRAME_S + _CENTRE_S - PAD_S if place else 0.0
        end_s = (start + duration) * _FRAME_S + _CENTRE_S - PAD_S
        if place + 1 == len(found):
            end_s = audio_s
        start_s, end_s = (min(max(s, 0.0), audio_s) for s in (start_s, end_s))
        if end_s > start_s:
            spans.append(PhoneSpan(strip_stress(name), start_s, end_s))
    return spans
