"""The encoders beside their PyTorch twins: same weights, same input, alternating runs.

Of wav2vec2 the twin is Hugging Face's own network, of the speaker encoder PyTorch's LSTM, of the
average voice DiffVC's network, of the recogniser an ACRNN of PyTorch's layers.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from emoconv_jax.bench.twins.average_voice import AverageVoiceTwin
from emoconv_jax.bench.twins.recogniser import RecogniserTwin
from emoconv_jax.bench.twins.speaker import SpeakerEncoderTwin
from emoconv_jax.bench.twins.wav2vec2 import DimensionalTwin
from emoconv_jax.config import (
    AverageVoiceConfig,
    MelConfig,
    RecogniserConfig,
    SpeakerConfig,
    Wav2Vec2Config,
)
from emoconv_jax.models.average_voice import AverageVoiceEncoder
from emoconv_jax.models.recogniser import Recogniser, RecogniserOutput
from emoconv_jax.models.speaker import PARTIAL_FRAMES, STEP_FRAMES, SpeakerEncoder
from emoconv_jax.models.wav2vec2 import DimensionalRecogniser
from emoconv_jax.porting.diffvc import port_average_voice
from emoconv_jax.porting.recogniser import port_recogniser
from emoconv_jax.porting.speaker import port_speaker
from emoconv_jax.porting.wav2vec2 import port_wav2vec2

SPEAKER_HOP_S = 0.01  # of the speaker encoder's mel


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Times of one forward pass, alternating; the first of each is left out as warm-up.

    Attributes:
        ours_s: seconds of each round.
        twin_s: seconds of each round.
        difference: greatest absolute difference of the outputs.
        scale: greatest absolute output of the twin.
    """

    ours_s: list[float]
    twin_s: list[float]
    difference: float
    scale: float

    @property
    def ratio(self) -> float:
        """Our median time over the twin's."""
        return statistics.median(self.ours_s) / statistics.median(self.twin_s)


Passes = tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]


def compare(name: str, seconds: float | int, rounds: int, threads: int) -> Comparison:
    """Times an encoder of the published size, with random weights, on one utterance of noise.

    Args:
        name: a key of `ENCODERS`.
        seconds: length of the utterance.
        rounds: of alternating measurements.
        threads: of PyTorch; XLA takes all cores.

    Returns:
        The times.
    """
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    ours, theirs = ENCODERS[name](seconds)
    found, expected = ours(), theirs()
    ours_s, twin_s = [], []
    for _ in range(rounds):
        ours_s.append(_timed(ours))
        twin_s.append(_timed(theirs))
    difference = float(np.abs(found - expected).max())
    return Comparison(ours_s, twin_s, difference, float(np.abs(expected).max()))


def wav2vec2(seconds: float | int, config: Wav2Vec2Config | None = None) -> Passes:
    """Returns a pass of the dimensional recogniser, ours and the twin's, to the embedding.

    Args:
        seconds: length of the waveform.
        config: the sizes; None is the public recogniser.
    """
    config = config or Wav2Vec2Config()
    twin = DimensionalTwin(config).eval()
    variables = {"params": port_wav2vec2(_tensors(twin), config)}
    noise = np.random.default_rng(0).normal(size=(1, round(seconds * config.sample_rate_hz)))
    waveform = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    network = DimensionalRecogniser(config)
    mask = np.ones_like(waveform)
    return _passes(
        lambda *a: network.apply(*a)[0], variables, (waveform, mask), lambda x, _: twin(x)[0]
    )


def speaker(seconds: float | int, config: SpeakerConfig | None = None) -> Passes:
    """Returns a pass of the speaker encoder over an utterance's partials, ours and the twin's.

    Args:
        seconds: length of the utterance.
        config: the sizes; None is the public encoder.
    """
    config = config or SpeakerConfig()
    twin = SpeakerEncoderTwin(config).eval()
    variables = {"params": port_speaker(_tensors(twin), config)}
    partials = max(1, round(seconds / SPEAKER_HOP_S) // STEP_FRAMES - 1)
    shape = (partials, PARTIAL_FRAMES, config.mels)
    mel = np.random.default_rng(0).exponential(size=shape).astype(np.float32)
    return _passes(SpeakerEncoder(config).apply, variables, (mel,), twin)


def average_voice(seconds: float | int, config: AverageVoiceConfig | None = None) -> Passes:
    """Returns a pass of the average-voice encoder, ours and the twin's.

    Args:
        seconds: length of the utterance.
        config: the sizes; None is DiffVC's.
    """
    config, mel = config or AverageVoiceConfig(), MelConfig()
    twin = AverageVoiceTwin(config).eval()
    variables = {"params": port_average_voice(_tensors(twin), config)}
    frames = round(seconds * mel.sample_rate_hz / mel.hop_samples)
    shape = (1, frames, config.mels)
    image = np.random.default_rng(0).normal(-5.0, 2.0, shape).astype(np.float32)
    mask = np.ones((1, frames), np.float32)
    return _passes(AverageVoiceEncoder(config).apply, variables, (image, mask), twin)


def recogniser(seconds: float | int, config: RecogniserConfig | None = None) -> Passes:
    """Returns a pass of the emotion recogniser over an utterance's windows, ours and the twin's.

    Args:
        seconds: length of the utterance.
        config: the sizes; None is EmoMix's.
    """
    config, mel = config or RecogniserConfig(), MelConfig()
    twin = RecogniserTwin(config).eval()
    for conv in twin.convs:  # PyTorch's own start would leave little but biases of six layers
        torch.nn.init.kaiming_normal_(conv.get_parameter("weight"))
    variables = port_recogniser(_tensors(twin), config)
    frames = round(seconds * mel.sample_rate_hz / mel.hop_samples)
    half = config.frames // 2
    windows = max(1, -(-(frames - config.frames + half) // half))  # as many as `recognise` takes
    # even, since PyTorch's pooling drops an odd last frame
    shape = (windows, min(config.frames, frames) // 2 * 2, config.mels)
    image = np.random.default_rng(0).normal(-5.0, 2.0, shape).astype(np.float32)
    network = Recogniser(config)

    def ours(*arguments: Any) -> jax.Array:
        found = network.apply(*arguments)
        assert isinstance(found, RecogniserOutput)
        return jnp.concatenate([found.embedding, found.logits, found.arousal[:, None]], 1)

    def theirs(mel: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        embedding, logits, arousal, _ = twin(mel)
        return torch.cat([embedding, logits, arousal[:, None]], 1)

    return _passes(ours, variables, (image, np.ones(shape[:2], np.float32)), theirs)


ENCODERS: dict[str, Callable[[float | int], Passes]] = {
    "wav2vec2": wav2vec2,
    "speaker": speaker,
    "average_voice": average_voice,
    "recogniser": recogniser,
}


def _tensors(twin: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in twin.state_dict().items()}


def _passes(
    network: Callable, variables: dict, inputs: tuple[np.ndarray, ...], twin: Callable
) -> Passes:
    """Returns both passes; inputs and parameters are where they are needed before the first."""
    variables = jax.tree.map(jnp.asarray, variables)
    apply, arguments = jax.jit(network), [jnp.asarray(array) for array in inputs]
    tensors = [torch.from_numpy(array) for array in inputs]

    def ours() -> np.ndarray:
        return np.asarray(apply(variables, *arguments))

    def theirs() -> np.ndarray:
        with torch.inference_mode():
            return twin(*tensors).numpy()

    return ours, theirs


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
