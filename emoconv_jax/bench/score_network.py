"""The score network beside its PyTorch twin: same weights, same input, alternating runs."""

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin as Twin
from emoconv_jax.config import MelConfig, ScoreNetworkConfig
from emoconv_jax.inference.encoders import bucket
from emoconv_jax.models.score_network import ScoreNetwork
from emoconv_jax.porting.diffvc import port_score_network


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Times of one forward pass, alternating; the first of each is left out as warm-up.

    Attributes:
        frames: of the utterance.
        padded_frames: what our network computes, as `emoconv convert` pads it.
        ours_s: seconds of each round.
        twin_s: seconds of each round.
        difference: greatest absolute difference of the outputs over real frames.
    """

    frames: int
    padded_frames: int
    ours_s: list[float]
    twin_s: list[float]
    difference: float

    @property
    def ratio(self) -> float:
        """Our median time over the twin's."""
        return statistics.median(self.ours_s) / statistics.median(self.twin_s)


def compare(config: ScoreNetworkConfig, seconds: float, rounds: int, threads: int) -> Comparison:
    """Times one evaluation of the score network on an utterance.

    Ours runs at the bucket that conversion pads to; the twin only at the next multiple of 4, which
    is what the reference does.

    Args:
        config: sizes of the network.
        seconds: length of the utterance.
        rounds: of alternating measurements.
        threads: of PyTorch; XLA takes all cores.

    Returns:
        The times.
    """
    mel = MelConfig()
    frames = round(seconds * mel.sample_rate_hz / mel.hop_samples) // 4 * 4
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    xt, voice = normal(1, frames, mel.mels), normal(1, frames, mel.mels)
    speaker, emotion = normal(1, config.speaker), normal(1, config.emotion)
    t, mask = np.full(1, 0.5, np.float32), np.ones((1, frames), np.float32)
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    twin = Twin(config).eval()
    twin.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    tensors = {name: tensor.numpy() for name, tensor in twin.state_dict().items()}
    params = port_score_network(tensors, config)
    extra = bucket(frames) - frames
    padded = [np.pad(a, [(0, 0), (0, extra)] + [(0, 0)] * (a.ndim - 2)) for a in (xt, voice, mask)]
    apply = jax.jit(ScoreNetwork(config).apply)
    arguments = [jnp.asarray(a) for a in (*padded, t, speaker, emotion)]
    tensors_in = [torch.from_numpy(a) for a in (xt, voice, mask, t, speaker, emotion)]

    def ours() -> np.ndarray:
        return np.asarray(apply({"params": params}, *arguments))

    def theirs() -> np.ndarray:
        with torch.inference_mode():
            return twin(*tensors_in).numpy()

    difference = float(np.abs(ours()[:, :frames] - theirs()).max())
    ours_s, twin_s = [], []
    for _ in range(rounds):
        ours_s.append(_timed(ours))
        twin_s.append(_timed(theirs))
    return Comparison(frames, frames + extra, ours_s, twin_s, difference)


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
