"""Our side of the comparison: a case as a function that runs it once and returns its figures.

The computations are those that the package runs: networks of `models`, the solver of `diffusion`,
the loss of training. A training step here has no running average of the parameters, since the other
side has none.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.bench.comparison.cases import Case, inputs
from emoconv_jax.config import (
    AverageVoiceConfig,
    MelConfig,
    RecogniserConfig,
    ScoreNetworkConfig,
    SpeakerConfig,
    TrainingConfig,
    VocoderConfig,
    Wav2Vec2Config,
)
from emoconv_jax.diffusion import losses, solvers
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.models.average_voice import AverageVoiceEncoder
from emoconv_jax.models.recogniser import Recogniser, RecogniserOutput
from emoconv_jax.models.score_network import ScoreNetwork
from emoconv_jax.models.speaker import SpeakerEncoder
from emoconv_jax.models.templates import template
from emoconv_jax.models.vocoder import Vocoder
from emoconv_jax.models.wav2vec2 import DimensionalRecogniser
from emoconv_jax.porting.diffvc import port_average_voice, port_score_network
from emoconv_jax.porting.recogniser import port_recogniser
from emoconv_jax.porting.speaker import port_speaker
from emoconv_jax.porting.vocoder import port_vocoder
from emoconv_jax.porting.wav2vec2 import port_wav2vec2
from emoconv_jax.shapes import Float
from emoconv_jax.training.parallel import CPU_OPTIONS
from emoconv_jax.training.state import make_optimizer

ADAM = TrainingConfig(  # at DiffVC's rate, which here does not fall within a measurement
    trainee="score_network", learning_rate=1e-4, warmup=0, clip=1.0, steps=10**9
)
SOLVER = "probability_flow"  # draws nothing, so that both sides end at the same mel

Run = Callable[[], list[np.ndarray]]
Tensors = Mapping[str, np.ndarray]


def run_of(case: Case, tensors: Tensors | None, compute: str = "float32") -> Run:
    """Returns a case, ready to run.

    Args:
        case: what to compute.
        tensors: weights under PyTorch's names; None is random ones.
        compute: "float32", or "bfloat16" inside the score network.

    Returns:
        A function that runs it once, waits for it and returns its results: the output, or loss and
        norm of the gradient of a training step.
    """
    dtype, sizes = (jnp.bfloat16 if compute == "bfloat16" else None), case.sizes
    arrays = inputs(case)
    match sizes:
        case MelConfig():
            from emoconv_jax.audio.mel import log_mel  # librosa may be absent beside a GPU

            return lambda: [log_mel(arrays["waveform"], sizes)]
        case ScoreNetworkConfig():
            network: Any = ScoreNetwork(sizes, dtype)
            port: Any = port_score_network
        case AverageVoiceConfig():
            network, port = AverageVoiceEncoder(sizes), port_average_voice
        case Wav2Vec2Config():
            network, port = DimensionalRecogniser(sizes), port_wav2vec2
        case SpeakerConfig():
            network, port = SpeakerEncoder(sizes), port_speaker
        case RecogniserConfig():
            network, port = Recogniser(sizes), port_recogniser
        case VocoderConfig():
            network, port = Vocoder(sizes), port_vocoder
        case _:
            raise TypeError(f"{type(sizes).__name__} is no configuration of a case")
    if tensors is None:
        variables = _drawn(network)
    else:
        ported = port(tensors, sizes)
        variables = ported if "params" in ported else {"params": ported}
    variables = jax.tree.map(jnp.asarray, variables)
    given = {name: jnp.asarray(array) for name, array in arrays.items()}
    if case.kind == "training":
        return _training(network, variables["params"], given)
    function = {"forward": _forward, "sampling": _sampling}.get(case.kind, _encoding)
    apply = jax.jit(lambda v, a: function(network, v, a, case))
    return lambda: [np.asarray(found, np.float32) for found in apply(variables, given)]


def random_variables(case: Case) -> Any:
    """Returns random variables of a case's score network.

    Args:
        case: of the score network.
    """
    assert isinstance(case.sizes, ScoreNetworkConfig)
    return _drawn(ScoreNetwork(case.sizes))


def _drawn(network: Any) -> Any:
    """Returns random variables; an initialisation would run the network, and compile it."""
    generator = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.asarray(0.02 * generator.standard_normal(leaf.shape, np.float32))

    return jax.tree.map(draw, template(network, "network"))


def _encoding(network: Any, variables: Any, given: dict, _: Case) -> list[jax.Array]:
    order = [name for name in ("mel", "waveform", "mask") if name in given]  # jit sorts a dict
    found = network.apply(variables, *(given[name] for name in order))
    if isinstance(found, RecogniserOutput):
        return [found.embedding, found.logits, found.arousal]
    return [found[0] if isinstance(found, tuple) else found]


def _score(network: Any, variables: Any, given: dict, xt: jax.Array, t: jax.Array) -> jax.Array:
    """Returns the network's output, its reference diffused to the same time."""
    mean, _ = MeanRevertingSDE().marginal(given["reference"], given["reference_voice"], t)
    condition = given["speaker"], given["emotion"], mean, given["mask"]
    return network.apply(variables, xt, given["average_voice"], given["mask"], t, *condition)


def _noisy(given: dict) -> jax.Array:
    sde, t = MeanRevertingSDE(), given["t"]
    return losses.perturb(sde, given["x0"], given["average_voice"], given["noise"], t)


def _forward(network: Any, variables: Any, given: dict, _: Case) -> list[jax.Array]:
    return [_score(network, variables, given, _noisy(given), given["t"])]


def _sampling(network: Any, variables: Any, given: dict, case: Case) -> list[jax.Array]:
    voice, batch = given["average_voice"], case.batch

    def score_of(xt: jax.Array, t: jax.Array, _: tuple[int, ...]) -> jax.Array:
        return _score(network, variables, given, xt, jnp.broadcast_to(t, (batch,)))[None]

    found = solvers.sample(
        SOLVER,
        MeanRevertingSDE(),
        score_of,
        ((0, case.steps, (0,)),),
        jnp.ones((case.steps, 1)),
        voice + given["noise"],
        voice,
        given["mask"],
        keys=None,
        grid=solvers.time_grid(case.steps),
    )
    return [found]


def _training(network: Any, params: Any, given: dict) -> Run:
    """Returns a step of Adam on the score loss, which changes the weights it has."""
    optimizer = make_optimizer(ADAM)

    def loss_of(params: Any) -> Float[jax.Array, ""]:
        output = _score(network, {"params": params}, given, _noisy(given), given["t"])
        told = given["x0"], given["average_voice"], given["noise"], given["t"], given["mask"]
        total, count = losses.score_loss("score", MeanRevertingSDE(), output, *told)
        return total / count

    def step(params: Any, opt_state: Any) -> tuple[Any, ...]:
        loss, gradient = jax.value_and_grad(loss_of)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)))
        return jax.tree.map(jnp.add, params, updates), opt_state, loss, norm

    options = CPU_OPTIONS if jax.default_backend() == "cpu" else {}
    compiled = jax.jit(step, donate_argnums=(0, 1), compiler_options=options)
    state = [params, optimizer.init(params)]

    def run() -> list[np.ndarray]:
        *state[:], loss, norm = compiled(*state)
        jax.block_until_ready(state)
        return [np.asarray(loss), np.asarray(norm)]

    return run


def ceiling(compute: str, size: int) -> Run:
    """Returns a product of two square matrices, the fastest that the device can do.

    Args:
        compute: type of the matrices.
        size: rows and columns.
    """
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.dtype(compute))
    product = jax.jit(jnp.matmul)

    def run() -> list[np.ndarray]:
        return [np.asarray(product(a, b)[0, 0])]

    return run
