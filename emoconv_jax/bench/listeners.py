"""Two machines that listen to conversions: how natural it sounds, and which words are understood.

    DNSMOS P.835   overall quality, 1..5, by the networks that come with `speechmos` (optional)
    WER            word errors of PocketSphinx's large-vocabulary decoder with the model that it
                   brings (the extra `train`)

The WER is rough. That decoder is old and its language model general: on clean read sentences about
a quarter of the words is wrong, so a figure says something only beside that of the source, and over
some dozens of words. A machine that is not installed is left out and named in `notes`.
"""

from typing import Any

import numpy as np

from emoconv_jax.audio.resampling import resample
from emoconv_jax.listeners.naturalness import DNSMOS_NEEDS, Dnsmos
from emoconv_jax.listeners.transcripts import english_normalizer, errors, words
from emoconv_jax.shapes import Float

RATE_HZ = 16_000
PAD_S = 0.2  # of silence around the words, which the decoder needs
PEAK = 0.5


class Listeners:
    """What is installed of the two.

    Attributes:
        notes: what a reader of the figures has to know.
    """

    def __init__(self) -> None:
        """Loads what there is."""
        self.notes: list[str] = []
        self._mos: Dnsmos | None = None
        self._decoder: Any = None
        try:
            self._mos = Dnsmos()
        except ModuleNotFoundError as error:
            self.notes.append(f"DNSMOS: absent, {error.name} is not installed; {DNSMOS_NEEDS}")
        try:
            import pocketsphinx

            english_normalizer()
            self._decoder = pocketsphinx.Decoder(samprate=RATE_HZ, cmn="batch", loglevel="FATAL")
            self.notes.append(
                "WER: rough, by PocketSphinx with a general language model; compare with that of "
                "the source"
            )
        except ModuleNotFoundError as error:
            needed = "`pip install -e .[train,bench]` has it"
            self.notes.append(f"WER: absent, {error.name} is not installed; {needed}")

    def mos(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> float | None:
        """Returns the overall DNSMOS of speech.

        Args:
            audio: mono.
            sample_rate_hz: of it.

        Returns:
            About 1..5; None where the networks are absent.
        """
        return None if self._mos is None else self._mos(audio, sample_rate_hz)[1]

    def word_errors(
        self, audio: Float[np.ndarray, " n"], sample_rate_hz: int, text: str
    ) -> tuple[int, int] | None:
        """Returns how many words are misunderstood.

        Args:
            audio: mono.
            sample_rate_hz: of it.
            text: what is said, in English.

        Returns:
            The errors and the words; None without a text or a decoder.
        """
        wanted = words(text)
        if self._decoder is None or not wanted:
            return None
        speech = resample(audio, sample_rate_hz, RATE_HZ)
        speech = np.pad(
            speech * (PEAK / max(float(np.abs(speech).max()), 1e-6)), int(PAD_S * RATE_HZ)
        )
        noise = np.random.default_rng(0).normal(0.0, 1e-4, len(speech))  # no digital silence
        self._decoder.reinit_feat()  # or it depends on what was heard before
        self._decoder.start_utt()
        samples = (np.clip(speech + noise, -1.0, 1.0) * 32767).astype(np.int16)
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return errors(wanted, words(found.hypstr if found else "")), len(wanted)
