"""PyTorch's side of the comparison: the same cases with the twins, or with DiffVC's original code.

It gets what it is best at: no gradients where there are none, images channels last where that is
faster, as many threads as cores, and `torch.compile` where there is a compiler.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from emoconv_jax.bench.comparison.cases import Case, inputs
from emoconv_jax.bench.twins.average_voice import AverageVoiceTwin
from emoconv_jax.bench.twins.recogniser import RecogniserTwin
from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin
from emoconv_jax.bench.twins.shaken import shaken
from emoconv_jax.bench.twins.speaker import SpeakerEncoderTwin
from emoconv_jax.bench.twins.vocoder import VocoderTwin
from emoconv_jax.bench.twins.wav2vec2 import DimensionalTwin
from emoconv_jax.config import MelConfig

VARIANTS = ("eager", "channels_last", "compiled")
LEARNING_RATE, CLIP = 1e-4, 1.0  # DiffVC's
BETA_0, BETA_1 = 0.05, 20.0

Run = Callable[[], list[np.ndarray]]
Estimator = Callable[[Any], torch.nn.Module]
TWINS: dict[str, Callable[[Any], torch.nn.Module]] = {
    "average_voice": AverageVoiceTwin,
    "wav2vec2": DimensionalTwin,
    "speaker": SpeakerEncoderTwin,
    "recogniser": RecogniserTwin,
    "hifigan": VocoderTwin,
}


def network_of(case: Case, estimator: Estimator = ScoreNetworkTwin) -> torch.nn.Module | None:
    """Returns the network of a case with random weights, the same at every call; None for the mel.

    Args:
        case: what is to be computed.
        estimator: makes the score network.
    """
    if case.kind == "mel":
        return None
    torch.manual_seed(0)
    twin = TWINS.get(case.kind, estimator)(case.sizes)
    if case.kind == "recogniser":  # PyTorch's own start would leave little but biases
        for name, weight in twin.named_parameters():
            if name.startswith("convs") and weight.ndim == 4:
                torch.nn.init.kaiming_normal_(weight)
    return shaken(twin)


def run_of(
    case: Case,
    variant: str = "eager",
    compute: str = "float32",
    device: str = "cpu",
    estimator: Estimator = ScoreNetworkTwin,
) -> Run:
    """Returns a case, ready to run.

    Args:
        case: what to compute.
        variant: of VARIANTS.
        compute: "float32", or "bfloat16" by PyTorch's autocast.
        device: PyTorch's name of it.
        estimator: makes the score network.

    Returns:
        A function that runs it once, waits for it and returns what `ours.run_of` returns.
    """
    network = network_of(case, estimator)
    if network is None:
        waveform, sizes = inputs(case)["waveform"], case.sizes
        assert isinstance(sizes, MelConfig)
        return lambda: [_librosa(waveform, sizes)]
    for part in network.modules():
        if hasattr(part, "weight_g"):  # the generator's, which nobody keeps for inference
            torch.nn.utils.remove_weight_norm(part)
    network = network.to(device)
    if variant != "eager":
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    given = {name: torch.from_numpy(array).to(device) for name, array in inputs(case).items()}
    call: Any = torch.compile(network) if variant == "compiled" else network
    autocast = torch.autocast(device, torch.bfloat16, enabled=compute == "bfloat16")
    if case.kind == "training":
        return _training(network, call, given, autocast)
    function = {"forward": _forward, "sampling": _sampling}.get(case.kind, _encoding)

    def run() -> list[np.ndarray]:
        with torch.inference_mode(), autocast:
            return [found.float().cpu().numpy() for found in function(call, given, case)]

    return run


def flop_of(case: Case, estimator: Estimator = ScoreNetworkTwin) -> float | None:
    """Returns the floating-point operations of products and convolutions of one run.

    Args:
        case: what is computed.
        estimator: makes the score network.

    Returns:
        PyTorch's own count of the twin; None where it has none: the mel, and LSTMs.
    """
    network = network_of(case, estimator)
    if network is None or any(isinstance(part, torch.nn.LSTM) for part in network.modules()):
        return None
    steps = case.steps if case.kind == "sampling" else 1
    network = network.to("meta")  # shapes alone: nothing is computed
    given = {name: torch.from_numpy(array).to("meta") for name, array in inputs(case).items()}
    with FlopCounterMode(display=False) as counter:
        if case.kind == "training":
            _loss(given, _forward(network, given, case)[0]).backward()
        elif case.kind in ("forward", "sampling"):
            _forward(network, given, case)
        else:
            _encoding(network, given, case)
    return float(counter.get_total_flops() * steps)


def _encoding(network: Any, given: dict, case: Case) -> list[torch.Tensor]:
    match case.kind:
        case "wav2vec2":
            return [network(given["waveform"])[0]]
        case "recogniser":
            return list(network(given["mel"])[:3])
        case "average_voice":
            return [network(given["mel"], given["mask"])]
    return [network(given["mel"])]


def _alpha(t: torch.Tensor) -> torch.Tensor:
    """Returns the share of the data at time t, shaped to multiply mels."""
    return torch.exp(-0.5 * t * (BETA_0 + 0.5 * t * (BETA_1 - BETA_0)))[:, None, None]


def _score(network: Any, given: dict, xt: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    alpha = _alpha(t)
    mean = given["reference"] * alpha + given["reference_voice"] * (1.0 - alpha)
    condition = given["speaker"], given["emotion"], mean, given["mask"]
    return network(xt, given["average_voice"], given["mask"], t, *condition)


def _noisy(given: dict) -> torch.Tensor:
    alpha = _alpha(given["t"])
    mean = given["x0"] * alpha + given["average_voice"] * (1.0 - alpha)
    return mean + given["noise"] * torch.sqrt(1.0 - alpha**2)


def _forward(network: Any, given: dict, _: Case) -> list[torch.Tensor]:
    return [_score(network, given, _noisy(given), given["t"])]


def _sampling(network: Any, given: dict, case: Case) -> list[torch.Tensor]:
    """Euler's steps on the probability flow, as DiffVC's `reverse_diffusion` takes them."""
    voice, h = given["average_voice"], 1.0 / case.steps
    xt = voice + given["noise"]
    for step in range(case.steps):
        t = 1.0 - step * h
        score = _score(network, given, xt, torch.full_like(given["t"], t))
        xt = xt - 0.5 * (voice - xt - score) * ((BETA_0 + (BETA_1 - BETA_0) * t) * h)
    return [xt]


def _training(network: torch.nn.Module, call: Any, given: dict, autocast: Any) -> Run:
    """Returns a step of Adam on the score loss, which changes the weights it has."""
    parameters = list(network.train().parameters())
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)

    def run() -> list[np.ndarray]:
        optimizer.zero_grad()
        with autocast:
            found = _score(call, given, _noisy(given), given["t"])
        loss = _loss(given, found.float())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        if given["t"].is_cuda:
            torch.cuda.synchronize()
        return [loss.detach().cpu().numpy(), norm.detach().cpu().numpy()]

    return run


def _loss(given: dict, score: torch.Tensor) -> torch.Tensor:
    """Returns DiffVC's weighted score loss."""
    error = score * torch.sqrt(1.0 - _alpha(given["t"]) ** 2) + given["noise"]
    return (error**2).sum() / (given["mask"].sum() * score.shape[-1])


def _librosa(waveform: np.ndarray, config: MelConfig) -> np.ndarray:
    """Returns the log-mel by librosa, which has no 1e-9 in its magnitude."""
    import librosa  # may be absent beside a GPU

    from emoconv_jax.audio.mel import periodic_hann

    whole = waveform[: len(waveform) // config.hop_samples * config.hop_samples]
    padded = np.pad(whole, (config.fft_samples - config.hop_samples) // 2, mode="reflect")
    mel = librosa.feature.melspectrogram(
        y=padded,
        sr=config.sample_rate_hz,
        n_fft=config.fft_samples,
        hop_length=config.hop_samples,
        window=periodic_hann(config.fft_samples),
        center=False,
        power=1.0,
        n_mels=config.mels,
        fmin=config.low_hz,
        fmax=config.high_hz,
    )
    return np.log(np.maximum(mel, config.floor)).T


def ceiling(compute: str, size: int, device: str) -> Run:
    """Returns a product of two square matrices, the fastest that the device can do.

    Args:
        compute: type of the matrices.
        size: rows and columns.
        device: PyTorch's name of it.
    """
    a, b = torch.randn(2, size, size, dtype=getattr(torch, compute), device=device)

    def run() -> list[np.ndarray]:
        return [torch.matmul(a, b)[0, 0].float().cpu().numpy()]

    return run
