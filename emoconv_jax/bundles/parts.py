"""A bundle's networks by role: what each part must contain, and reading its parameters."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from emoconv_jax.bundles.format import BundleConfig, load_part, read_config
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.models.average_voice import AverageVoiceEncoder
from emoconv_jax.models.recogniser import Recogniser
from emoconv_jax.models.score_network import ScoreNetwork
from emoconv_jax.models.speaker import PARTIAL_FRAMES, SpeakerEncoder
from emoconv_jax.models.vocoder import Vocoder
from emoconv_jax.models.wav2vec2 import DimensionalRecogniser, check_wav2vec2, least_samples

ROLES = ("score_network", "average_voice", "recogniser")  # those that are trained here
PARTS = (*ROLES, "wav2vec2", "speaker", "vocoder")
Network = (
    ScoreNetwork
    | AverageVoiceEncoder
    | Recogniser
    | DimensionalRecogniser
    | SpeakerEncoder
    | Vocoder
)
FRAMES = 16  # of the example that shapes are traced with; any number gives the same parameters


def parts_of(config: BundleConfig) -> tuple[str, ...]:
    """Returns the parts whose tensors a bundle that converts must hold.

    Args:
        config: of the bundle.

    Returns:
        Some of PARTS.
    """
    roles = config.roles
    own = [name for name in ("speaker", "vocoder") if getattr(roles, name) == "bundle"]
    return ("score_network", "average_voice", roles.emotion, *own)


def network_of(role: str, config: BundleConfig) -> Network:
    """Returns the Linen module that fills a role.

    Args:
        role: one of PARTS.
        config: of the bundle.

    Returns:
        The module, without parameters.

    Raises:
        UsageError: an unknown role.
    """
    if role == "score_network":
        return ScoreNetwork(config.score_network)
    if role == "average_voice":
        return AverageVoiceEncoder(config.average_voice)
    if role == "recogniser":
        return Recogniser(config.recogniser)
    if role == "wav2vec2":
        return DimensionalRecogniser(config.wav2vec2)
    if role == "speaker":
        return SpeakerEncoder(config.speaker)
    if role == "vocoder":
        return Vocoder(config.vocoder)
    raise UsageError(f"role: found {role!r}, allowed are {', '.join(PARTS)}")


def template_of(role: str, config: BundleConfig) -> Any:
    """Returns names, shapes and types of a role's variables, without computing any.

    Args:
        role: one of PARTS.
        config: of the bundle.

    Returns:
        Nested dict {collection: ...} of `jax.ShapeDtypeStruct`.

    Raises:
        EmoconvError: sizes of which no network can be made.
    """
    network, mels = network_of(role, config), config.mel.mels
    mel, mask = jnp.zeros((1, FRAMES, mels)), jnp.ones((1, FRAMES))
    inputs: tuple = (mel, mask)
    if role == "score_network":
        sizes = config.score_network
        conditions = jnp.zeros((1, sizes.speaker)), jnp.zeros((1, sizes.emotion))
        inputs = (mel, mel, mask, jnp.zeros((1,)), *conditions)
    if role == "vocoder":
        inputs = (mel,)
    if role == "speaker":
        inputs = (jnp.zeros((1, PARTIAL_FRAMES, config.speaker.mels)),)
    try:
        if role == "wav2vec2":
            check_wav2vec2(config.wav2vec2)
            least = least_samples(config.wav2vec2)
            if least > config.wav2vec2.sample_rate_hz:
                raise EmoconvError(f"wav2vec2: one frame needs {least} samples, over a second")
            inputs = (jax.ShapeDtypeStruct((1, least), jnp.float32),) * 2
        return jax.eval_shape(network.init, jax.random.key(0), *inputs)
    except (EmoconvError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        # A foreign config.json may ask for 0 heads or 7 groups of 48 channels.
        reason = " ".join(str(error).split())[:200]
        raise EmoconvError(f"{config.name}: {role} has impossible sizes: {reason}") from None


def load_variables(folder: pathlib.Path, role: str, config: BundleConfig | None = None) -> Any:
    """Reads a role's variables from a bundle, checked against its configuration.

    Args:
        folder: of the bundle.
        role: one of PARTS.
        config: where it has been read already.

    Returns:
        Nested dict {collection: ...} of float32 arrays.

    Raises:
        EmoconvError: the bundle lacks the part or a tensor does not fit, by name.
    """
    config = config or read_config(folder)
    return load_part(folder, role, template_of(role, config))


def load_parameters(folder: pathlib.Path, role: str) -> Any:
    """Reads only the trained parameters of a role, to continue training from.

    Args:
        folder: of the bundle.
        role: one of PARTS.

    Returns:
        The collection `params`.
    """
    return load_variables(folder, role)["params"]
