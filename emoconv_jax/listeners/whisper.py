"""What Whisper understands: its base model, as `faster-whisper` runs it.

Where nothing is said it answers nothing. The model alone fills silence with words, sometimes with
the same ones without end, so: digital silence is not decoded, segments that the model takes for no
speech or that repeat themselves are dropped, and the number of tokens is limited by the duration.

The weights are those that `porting.whisper_files` fetches.

Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision (arXiv
2212.04356); MIT licence.
"""

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from emoconv_jax.audio.reading import SILENCE_PEAK
from emoconv_jax.audio.resampling import resample
from emoconv_jax.porting.whisper_files import fetch_whisper
from emoconv_jax.shapes import Float

WHISPER_NEEDS = "`pip install faster-whisper transformers` has it"
RATE_HZ = 16_000
LEVEL = 0.1  # RMS that a clip is brought to: how loud it is should not decide what is understood
# A segment is no speech where both hold; the model's own rule and figures (Whisper, section 4.5).
NO_SPEECH_PROBABILITY, LEAST_LOG_PROBABILITY = 0.6, -1.0
MOST_COMPRESSION = 2.4  # of a segment's text by zlib, beyond which it repeats itself; same source
LOOP = re.compile(r"\b(\w.*?)(?:\W+\1\b){3,}", re.IGNORECASE)  # anything, four times in a row
# Six words a second are fast speech; two tokens a word is more than English and Polish take.
TOKENS_PER_S, TOKENS_MORE = 12, 8
WINDOW_S = 30.0  # that the model hears at once


class Whisper:
    """Speech to text."""

    def __init__(self, folder: Path | None = None):
        """Loads the model, fetching it if need be.

        Args:
            folder: where its files lie; None is in the user cache.

        Raises:
            ModuleNotFoundError: `faster-whisper` is absent.
            EmoconvError: the weights cannot be had.
        """
        import faster_whisper

        folder = fetch_whisper(folder)
        threads = os.cpu_count() or 1
        kind: Any = faster_whisper.WhisperModel
        self._model = kind(str(folder), "cpu", compute_type="int8", cpu_threads=threads)

    def __call__(
        self, audio: Float[np.ndarray, " n"], sample_rate_hz: int, language: str = "en"
    ) -> str:
        """Returns what is said.

        Args:
            audio: mono.
            sample_rate_hz: of it.
            language: as ISO 639-1.

        Returns:
            The words, of at most `most_tokens` tokens in each 30 s; empty where nothing is said.
        """
        speech = resample(audio, sample_rate_hz, RATE_HZ)
        if np.abs(audio).max(initial=0.0) < SILENCE_PEAK:
            return ""
        rms = float(np.sqrt(np.square(speech).mean()))
        speech = np.clip(speech * (LEVEL / max(rms, 1e-6)), -1.0, 1.0)
        # temperature 0 and no earlier text: the same clip always gives the same words
        found, _ = self._model.transcribe(
            speech,
            language=language,
            temperature=0.0,
            condition_on_previous_text=False,
            no_speech_threshold=NO_SPEECH_PROBABILITY,
            log_prob_threshold=LEAST_LOG_PROBABILITY,
            max_new_tokens=most_tokens(len(speech) / RATE_HZ),
        )
        return " ".join(
            segment.text.strip()
            for segment in found
            if segment.compression_ratio <= MOST_COMPRESSION and not repeats_itself(segment.text)
        )


def most_tokens(seconds: float) -> int:
    """Returns how many tokens an answer about speech of some length may have.

    Args:
        seconds: of the speech; the model hears 30 at once.
    """
    return math.ceil(TOKENS_PER_S * min(seconds, WINDOW_S)) + TOKENS_MORE


def repeats_itself(text: str) -> bool:
    """Tells whether a text says the same thing four times in a row, as a decoder in a loop does.

    Args:
        text: of a segment.

    Returns:
        True also where only a part of it does.
    """
    return LOOP.search(text) is not None
