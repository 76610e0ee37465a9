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

ROLES = ("score_network", "average_voice", "recogniser")
FRAMES = 16  # of the example that shapes are traced with; any number gives the same parameters


def network_of(role: str, config: BundleConfig) -> ScoreNetwork | AverageVoiceEncoder | Recogniser:
    """Returns the Linen module that fills a role.

    Args:
        role: one of ROLES.
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
    raise UsageError(f"role: found {role!r}, allowed are {', '.join(ROLES)}")


def template_of(role: str, config: BundleConfig) -> Any:
    """Returns names, shapes and types of a role's variables, without computing any.

    Args:
        role: one of ROLES.
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
    try:
        return jax.eval_shape(network.init, jax.random.key(0), *inputs)
    except (EmoconvError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        # A foreign config.json may ask for 0 heads or 7 groups of 48 channels.
        reason = " ".join(str(error).split())[:200]
        raise EmoconvError(f"{config.name}: {role} has impossible sizes: {reason}") from None


def load_variables(folder: pathlib.Path, role: str, config: BundleConfig | None = None) -> Any:
    """Reads a role's variables from a bundle, checked against its configuration.

    Args:
        folder: of the bundle.
        role: one of ROLES.
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
        role: one of ROLES.

    Returns:
        The collection `params`.
    """
    return load_variables(folder, role)["params"]
