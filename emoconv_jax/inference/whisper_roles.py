"""The roles on Whisper's encoder: one pass of it serves the average voice and the emotion.

    (1) states of a stretch of speech at the level of `whisper_features.LEVEL`
    (2) average voice: two of them at the log-mel's frames, through a head
    (3) emotion: mean and deviation of some over time, through another head

Whisper's weights are no part of a bundle: they are fetched once, or read from a folder that is
given. A head says which weights it was trained on, and works with no others.
"""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from emoconv_jax.audio.resampling import resample
from emoconv_jax.audio.whisper_mel import HOP_SAMPLES, WHISPER_RATE_HZ
from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.bundles.parts import network_of
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.encoders import Recognition, pad
from emoconv_jax.inference.whisper import WhisperStates, at_mel_frames, load_whisper
from emoconv_jax.inference.whisper_features import ENCODER, level_set, pooled_of
from emoconv_jax.shapes import Float

# what is found of the public base model, whose features are called ENCODER
PUBLIC = "6530d556cf8d18ab5012feaf6c25d3d941517e2a52660af1592a846959852991"
SHOWN = 12  # characters of a fingerprint, in messages


def fingerprint(params: Mapping[str, Any]) -> str:
    """Returns what tells one Whisper from another, whichever format its weights came in.

    Args:
        params: of `WhisperEncoder`.

    Returns:
        `ENCODER` for the public base model, else the SHA-256 of names, shapes and values, as
        float16: the narrowest type that they are published in.
    """
    digest = hashlib.sha256()
    for path, values in sorted(flatten_dict(dict(params)).items()):
        digest.update(f"{'/'.join(path)} {np.shape(values)}\n".encode())
        digest.update(np.asarray(values, np.float16, order="C").tobytes())
    found = digest.hexdigest()
    return ENCODER if found == PUBLIC else found


def check_features(part: str, head: Any, encoder: str, where: str) -> None:
    """Refuses stored states of another encoder than a head was trained on.

    Args:
        part: the head's name.
        head: its configuration.
        encoder: the fingerprint that they were stored with.
        where: their folder, for messages.

    Raises:
        EmoconvError: they are, or there are none.
    """
    if encoder != head.encoder or not encoder:
        raise EmoconvError(
            f"{where}: encoder: found {encoder[:SHOWN] or 'none'}, {part} was trained on "
            f"{head.encoder[:SHOWN] or 'none'}; make features by `emoconv prepare --whisper`"
        )


class WhisperEncoderRole:
    """Waveform -> all hidden states of Whisper's encoder, whatever the waveform's level.

    What was heard last is kept: the roles that share an encoder ask for the same stretch in turn.

    Attributes:
        config: its sizes.
        fingerprint: of its weights.
    """

    def __init__(self, source: pathlib.Path | None = None):
        """Loads the encoder.

        Args:
            source: as of `inference.whisper.load_whisper`.

        Raises:
            EmoconvError: weights that are not there and cannot be fetched, or are refused.
        """
        params, self.config = load_whisper(source)
        self.fingerprint = fingerprint(params)
        self._name = "Whisper base" if source is None else str(source)
        self._states = WhisperStates(params, self.config)
        self._heard: tuple[np.ndarray, int, np.ndarray] | None = None

    def __call__(
        self, audio: Float[np.ndarray, " n"], sample_rate_hz: int
    ) -> Float[np.ndarray, "l s c"]:
        """Returns the states, 50 per second.

        Args:
            audio: mono, of any level; what is shorter than 10 ms is lengthened by silence.
            sample_rate_hz: of it.
        """
        last = self._heard
        if last is None or last[1] != sample_rate_hz or not np.array_equal(last[0], audio):
            least = -(-HOP_SAMPLES * sample_rate_hz // WHISPER_RATE_HZ) + 1
            long = np.pad(audio, (0, max(0, least - len(audio))))
            states = self._states(level_set(long), sample_rate_hz)
            self._heard = last = (audio.copy(), sample_rate_hz, states)
        return last[2]

    def pooled(
        self, audio: Float[np.ndarray, " n"], sample_rate_hz: int
    ) -> Float[np.ndarray, " p"]:
        """Returns mean and deviation of every state, in the order state, mean first, channel.

        Args:
            audio: as above.
            sample_rate_hz: of it.
        """
        return pooled_of(self(audio, sample_rate_hz))

    def check(self, part: str, head: Any) -> None:
        """Refuses a head that was trained on another encoder or on states that this one lacks.

        Args:
            part: its name.
            head: its configuration.

        Raises:
            EmoconvError: it was, with what it needs and what there is.
        """
        config, which = self.config, f"{self._name} ({self.fingerprint[:SHOWN]})"
        if head.encoder != self.fingerprint:
            raise EmoconvError(
                f"{part}.encoder: found {head.encoder[:SHOWN] or 'none'}, the encoder is {which}; "
                "give the Whisper that the head was trained on, or train the head anew"
            )
        layers = getattr(head, "pooled", config.layers + 1) - 1
        if head.hidden != config.hidden or layers != config.layers:
            raise EmoconvError(
                f"{part}: found a head on {layers} layers of {head.hidden}, {which} has "
                f"{config.layers} of {config.hidden}"
            )
        if not head.states or not 0 <= min(head.states) <= max(head.states) <= config.layers:
            raise EmoconvError(
                f"{part}.states: found {head.states!r:.60}, {which} has 0 to {config.layers}"
            )


class WhisperAverageVoiceRole:
    """Stretch of speech -> average voice Y and phones."""

    def __init__(
        self, config: BundleConfig, variables: dict, whisper: WhisperEncoderRole | None = None
    ):
        """Keeps what a call needs.

        Args:
            config: of the bundle.
            variables: of the head.
            whisper: the encoder; None where only stored states are heard.

        Raises:
            EmoconvError: the head is for another encoder.
        """
        head = config.whisper_average_voice
        if whisper is not None:
            whisper.check("whisper_average_voice", head)
        self.variables, self.whisper, self.mel = variables, whisper, config.mel
        self._chosen = list(head.states)
        network = network_of("whisper_average_voice", config)
        self._apply = jax.jit(network.apply)

    def __call__(
        self, mel: Float[np.ndarray, "f m"], audio: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, "f m"]:
        """Returns Y of a stretch of speech.

        Args:
            mel: its log-mel, which says how many frames there are.
            audio: its waveform, at the mel's sample rate.
        """
        return self.of_states(self.states(mel, audio))

    def states(
        self, mel: Float[np.ndarray, "f m"], audio: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, "f s"]:
        """Returns what the head reads of a stretch of speech.

        Args:
            mel: its log-mel.
            audio: its waveform, at the mel's sample rate.
        """
        assert self.whisper is not None
        states = self.whisper(audio, self.mel.sample_rate_hz)[:, self._chosen]
        return at_mel_frames(states.reshape(len(states), -1), len(mel), self.mel)

    def of_states(self, states: Float[np.ndarray, "f s"]) -> Float[np.ndarray, "f m"]:
        """Returns Y of states at the log-mel's frames, side by side.

        Args:
            states: those that the head reads.
        """
        return self._told(states).mel[0, : len(states)]

    def phones(self, states: Float[np.ndarray, "f s"]) -> Float[np.ndarray, "f p"]:
        """Returns the probability of each phone in each frame.

        Args:
            states: those that the head reads.
        """
        return np.asarray(jax.nn.softmax(self._told(states).phones[0, : len(states)]))

    def _told(self, states: np.ndarray) -> Any:
        told = self._apply(self.variables, *pad(states.astype(np.float32), 0.0))
        return jax.tree.map(np.asarray, told)


class WhisperEmotionRole:
    """Waveform -> emotion embedding, class probabilities and arousal."""

    def __init__(
        self, config: BundleConfig, variables: dict, whisper: WhisperEncoderRole | None = None
    ):
        """Args: as of `WhisperAverageVoiceRole`, statistics included."""
        head = config.whisper_emotion
        if whisper is not None:
            whisper.check("whisper_emotion", head)
        self.variables, self.whisper, self.mel = variables, whisper, config.mel
        self.head, self.emotions = head, head.emotions
        self._apply = jax.jit(network_of("whisper_emotion", config).apply)

    def hear(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> Recognition:
        """Returns what the head says of a waveform.

        Args:
            audio: mono, of any level.
            sample_rate_hz: of it.
        """
        assert self.whisper is not None
        return self.of_pooled(self.whisper.pooled(audio, sample_rate_hz)[None])[0]

    def prepare(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> np.ndarray:
        """Returns what `recognise` takes of a waveform: the same at 16 kHz.

        Args:
            audio: mono, of any level.
            sample_rate_hz: of it.
        """
        return resample(audio, sample_rate_hz, WHISPER_RATE_HZ)

    def recognise(self, waveforms: Sequence[np.ndarray], most: int = 1) -> list[Recognition]:
        """Returns what the head says of each waveform, in order.

        Args:
            waveforms: of `prepare`.
            most: taken as every emotion role takes it: each goes through the encoder by itself.
        """
        del most
        return [self.hear(wave, WHISPER_RATE_HZ) for wave in waveforms]

    def of_pooled(self, pooled: Float[np.ndarray, "n p"]) -> list[Recognition]:
        """Returns what the head says of pooled states, in order.

        Args:
            pooled: of `WhisperEncoderRole.pooled`, one row per utterance.
        """
        found = []
        for row in np.asarray(pooled, np.float32):
            told = self._apply(self.variables, row[None])
            probabilities = np.asarray(jax.nn.softmax(told.logits))[0]
            found.append(
                Recognition(
                    embedding=np.asarray(told.embedding)[0],
                    probabilities=dict(zip(self.emotions, map(float, probabilities), strict=True)),
                    arousal=float(told.arousal[0]),
                )
            )
        return found
