"""The speaker role: a waveform to its d-vector."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.audio.resampling import resample
from emoconv_jax.audio.vad import SAMPLE_RATE_HZ, raise_level, speaker_mel, trim_silence
from emoconv_jax.bundles.format import BundleConfig, load_tensors
from emoconv_jax.bundles.parts import load_variables
from emoconv_jax.config import SpeakerConfig
from emoconv_jax.models.speaker import PARTIAL_FRAMES, SpeakerEncoder, d_vector, partials
from emoconv_jax.porting.registry import fetch_weights
from emoconv_jax.shapes import Float

MOST_PARTIALS = 8  # per compiled call; fewer are padded to 1, 2 or 4, which is all that compiles


class SpeakerRole:
    """GE2E with the preprocessing it was trained with."""

    def __init__(self, config: SpeakerConfig | None = None, params: Any | None = None):
        """Takes the weights, or those in the user cache, which are fetched once.

        Args:
            config: of the network.
            params: of the network; None is the public encoder's.

        Raises:
            EmoconvError: the weights cannot be had or do not match their hash.
        """
        network = SpeakerEncoder(config or SpeakerConfig())
        if params is None:
            example = jax.ShapeDtypeStruct((1, PARTIAL_FRAMES, network.config.mels), jnp.float32)
            template = jax.eval_shape(network.init, jax.random.key(0), example)["params"]
            path = fetch_weights("speaker")
            params = load_tensors([path], template, str(path))
        self.params = params
        self._embed = jax.jit(lambda params, x: network.apply({"params": params}, x))

    @classmethod
    def from_bundle(cls, folder: pathlib.Path, config: BundleConfig) -> "SpeakerRole":
        """Returns the role as a bundle fills it.

        Args:
            folder: of the bundle.
            config: of it.
        """
        own = config.roles.speaker == "bundle"
        return cls(
            config.speaker, load_variables(folder, "speaker", config)["params"] if own else None
        )

    def __call__(
        self, audio: Float[np.ndarray, " n"], sample_rate_hz: int
    ) -> Float[np.ndarray, " d"]:
        """Returns the d-vector of an utterance.

        Args:
            audio: mono waveform.
            sample_rate_hz: of it.

        Returns:
            A unit vector.
        """
        return self.embed([self.prepare(audio, sample_rate_hz)])[0]

    def prepare(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> np.ndarray:
        """Returns what `embed` takes of an utterance: its partials, [p, 160, m].

        Args:
            audio: mono waveform.
            sample_rate_hz: of it.
        """
        audio16k = resample(audio, sample_rate_hz, SAMPLE_RATE_HZ)
        return partials(speaker_mel(trim_silence(raise_level(audio16k))))

    def embed(self, utterances: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the d-vector of each utterance, in order; partials of all go together.

        Args:
            utterances: of `prepare`, at least one.
        """
        pieces = np.concatenate(utterances)
        rows = []
        for start in range(0, len(pieces), MOST_PARTIALS):
            real = pieces[start : start + MOST_PARTIALS]
            size = 1 << (len(real) - 1).bit_length()
            block = np.zeros((size, *pieces.shape[1:]), np.float32)
            block[: len(real)] = real
            rows.append(np.asarray(self._embed(self.params, block))[: len(real)])
        ends = np.cumsum([len(own) for own in utterances])[:-1]
        return [
            np.asarray(d_vector(own), dtype=np.float32)
            for own in np.split(np.concatenate(rows), ends)
        ]
