"""Whisper's encoder on recordings of any length, and its frames beside those of our log-mel.

    (1) up to 30 s   the log-mel goes through the encoder at once: padded to 30 s with silence,
                     which is Whisper itself, or as long as it is, with .3 s of silence behind it
                     (faster, and a little different: the encoder was trained on 30 s)
    (2) longer       windows of 30 s, evenly spread, neighbours sharing 4 s or more; in the middle
                     of what they share, where both know most of what surrounds them, one fades into
                     the other over 1 s along a raised cosine
    (3) times        frame k is centred on k / 50 s; frame j of our log-mel on (j + 1/2) hop / rate

The log-mel is that of the whole recording, so windows do not differ in what they call loud.

Windows do not agree where they meet, since each has positions and surroundings of its own, and the
higher the state, the less: on the project's sample, said again and again, the cosine between what
two windows make of a frame is about .9 for state 4 of Whisper base and .6 for the last. The fade
makes no step of it, and is short because its frames are of neither window.
"""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from emoconv_jax.audio.resampling import resample
from emoconv_jax.audio.whisper_mel import HOP_SAMPLES, WHISPER_RATE_HZ, whisper_log_mel
from emoconv_jax.bundles.format import CONFIG_FILE
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json
from emoconv_jax.inference.importing import JSON_BYTES, float_tensors, read_safetensors
from emoconv_jax.inference.lengths import bucket
from emoconv_jax.models.whisper import (
    FRAMES_PER_SECOND,
    MEL_FRAMES,
    WhisperConfig,
    WhisperEncoder,
)
from emoconv_jax.porting.whisper import DECODER, config_of, port_whisper, read_whisper
from emoconv_jax.porting.whisper_files import MODEL, fetch_encoder
from emoconv_jax.shapes import Float, Int

TAIL_SAMPLES = 4800  # .3 s of silence, eq. 1: a word that is cut off is heard as another
SHARED, FADE = 2 / 15, 1 / 30  # of a window, eq. 2: 4 s and 1 s of 30


def load_whisper(source: pathlib.Path | None = None) -> tuple[dict[str, Any], WhisperConfig]:
    """Returns the parameters of Whisper's encoder and its sizes.

    Args:
        source: a `model.bin` of CTranslate2, a folder with one, or a Hugging Face folder with
            config.json and model.safetensors; None is the public base model, fetched if need be.

    Returns:
        The parameters of `WhisperEncoder`, float32, and its configuration.

    Raises:
        EmoconvError: no such file, one that is damaged or of another network, by name and field, or
            weights that cannot be fetched.
    """
    folder = fetch_encoder() if source is None else source
    path = folder / "model.safetensors"
    if path.is_file():
        data = read_json(folder / CONFIG_FILE, "a Hugging Face folder", most_bytes=JSON_BYTES)
        config = config_of(data, str(folder / CONFIG_FILE))
        tensors = float_tensors(read_safetensors(path, DECODER), path)
        return port_whisper(tensors, config, str(path)), config
    if folder.is_dir():
        if not (folder / MODEL).is_file():
            raise EmoconvError(f"{folder}: neither model.safetensors nor {MODEL} in it")
        folder = folder / MODEL
    return read_whisper(folder)


class WhisperStates:
    """Waveform -> hidden states of Whisper's encoder, 50 per second."""

    def __init__(
        self,
        params: dict[str, Any],
        config: WhisperConfig,
        *,
        states: Sequence[int] | None = None,
        padded: bool = False,
    ):
        """Compiles nothing yet: each of a few lengths is when it is first met.

        Args:
            params: of `WhisperEncoder(config)`.
            config: the sizes.
            states: which hidden states, 0 (before the first layer) to `config.layers` (after the
                last norm); None is all.
            padded: whether recordings below 30 s are padded to that, as Whisper does.
        """
        self.params, self.config, self.padded = params, config, padded
        network = WhisperEncoder(config, None if states is None else tuple(states))
        self._apply = jax.jit(network.apply)

    def __call__(
        self, audio: Float[np.ndarray, " n"], sample_rate_hz: int
    ) -> Float[np.ndarray, "l s c"]:
        """Returns the states asked for, side by side; as many frames as the recording has.

        Args:
            audio: mono, of any length from a frame on. Its level is heard: who does not want that
                sets it first.
            sample_rate_hz: of it.

        Raises:
            EmoconvError: less than 10 ms, or states that there are not.
        """
        speech = resample(audio, sample_rate_hz, WHISPER_RATE_HZ)
        if len(speech) < HOP_SAMPLES:
            raise EmoconvError(
                f"audio: {len(speech)} samples at 16 kHz, allowed are {HOP_SAMPLES} or more"
            )
        frames = -(-(len(speech) // HOP_SAMPLES) // MEL_FRAMES)
        mel = whisper_log_mel(speech, self.config.mels, self._padded_samples(len(speech)))
        heard = -(-len(mel) // MEL_FRAMES)
        size = self.config.positions
        if heard <= size:
            least = MEL_FRAMES * min(bucket(heard), size)
            return self._states(mel, least)[:frames]
        starts = window_starts(heard, size)
        windows = [mel[MEL_FRAMES * start : MEL_FRAMES * (start + size)] for start in starts]
        found = [self._states(window, MEL_FRAMES * size) for window in windows]
        return joined(found, starts)[:frames]

    def _padded_samples(self, samples: int) -> int:
        """Returns the length that silence brings a recording to, eq. 1."""
        window = self.config.positions * MEL_FRAMES * HOP_SAMPLES
        if self.padded:
            return window
        with_tail = samples + TAIL_SAMPLES
        return with_tail if samples > window else min(with_tail, window)

    def _states(self, mel: Float[np.ndarray, "f m"], size: int) -> Float[np.ndarray, "l s c"]:
        """Returns the states of a log-mel that is padded to `size` frames for the compiler."""
        batch = np.zeros((1, size, mel.shape[1]), np.float32)
        batch[0, : len(mel)] = mel
        mask = (np.arange(size)[None] < len(mel)).astype(np.float32)
        states, _ = self._apply({"params": self.params}, batch, mask)
        return np.asarray(states)[0, : -(-len(mel) // MEL_FRAMES)]


def window_starts(frames: int, size: int) -> list[int]:
    """Returns where the windows of a recording begin, eq. 2.

    Args:
        frames: of the recording, more than a window has.
        size: frames of a window.

    Returns:
        First frames, in order, evenly spread: the first window begins with the recording, the last
        one ends with it, and neighbours share `SHARED` of a window or more.
    """
    step = size - round(SHARED * size)
    gaps = max(1, -(-(frames - size) // step))
    return [round(i * (frames - size) / gaps) for i in range(gaps + 1)]


def joined(
    windows: Sequence[Float[np.ndarray, "_ s c"]], starts: Sequence[int]
) -> Float[np.ndarray, "l s c"]:
    """Joins the states of windows, eq. 2.

    Args:
        windows: states of windows of one size.
        starts: their first frames, of `window_starts`.

    Returns:
        The recording's states, float32.
    """
    size = len(windows[0])
    fade = max(1, round(FADE * size))
    whole = np.zeros((starts[-1] + size, *windows[0].shape[1:]), np.float32)
    # of every two neighbours: where the later one begins to be heard
    pairs = itertools.pairwise(starts)
    seams = [(before + size + after - fade) // 2 for before, after in pairs]
    for number, (window, start) in enumerate(zip(windows, starts, strict=True)):
        places = np.arange(start, start + size)
        weights = np.ones(size)
        if number:
            weights *= _risen(places, seams[number - 1], fade)
        if number < len(seams):
            weights *= 1.0 - _risen(places, seams[number], fade)
        whole[start : start + size] += weights.astype(np.float32)[:, None, None] * window
    return whole


def at_mel_frames(
    states: Float[np.ndarray, "l *s"], frames: int, mel: MelConfig
) -> Float[np.ndarray, "f *s"]:
    """Returns the states at the times of a log-mel's frames, eq. 3, between neighbours on a line.

    Args:
        states: 50 per second, as `WhisperStates` gives them.
        frames: of the log-mel of the same recording.
        mel: its settings.

    Returns:
        One state per frame of the log-mel, float32; frames after the last state have that one.
    """
    centres = (np.arange(frames) + 0.5) * mel.hop_samples / mel.sample_rate_hz
    places = np.minimum(centres * FRAMES_PER_SECOND, len(states) - 1)
    before = places.astype(int)
    after = np.minimum(before + 1, len(states) - 1)
    share = (places - before).astype(np.float32).reshape(-1, *[1] * (states.ndim - 1))
    return (1 - share) * states[before] + share * states[after]


def _risen(places: Int[np.ndarray, " l"], first: int, frames: int) -> Float[np.ndarray, " l"]:
    """Returns a raised cosine: 0 before `first`, 1 from `frames` later on."""
    share = np.clip((places - first + 0.5) / frames, 0.0, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * share)
