"""A bundle's networks by role: what each part must contain, and reading its parameters."""

import pathlib
from typing import Any

from emoconv_jax.bundles.agreement import check_agreement
from emoconv_jax.bundles.banks import Banks, load_banks
from emoconv_jax.bundles.format import (
    CONFIG_FILE,
    BundleConfig,
    load_part,
    read_config,
)
from emoconv_jax.errors import UsageError
from emoconv_jax.models.average_voice import AverageVoiceEncoder
from emoconv_jax.models.pooled_recogniser import recogniser_of
from emoconv_jax.models.recogniser import Recogniser
from emoconv_jax.models.score_network import ScoreNetwork
from emoconv_jax.models.score_network_1d import ScoreNetwork1d
from emoconv_jax.models.score_networks import score_network_of
from emoconv_jax.models.speaker import SpeakerEncoder
from emoconv_jax.models.templates import template
from emoconv_jax.models.vocoder import Vocoder
from emoconv_jax.models.wav2vec2 import DimensionalRecogniser
from emoconv_jax.models.whisper_heads import WhisperAverageVoiceHead, WhisperEmotionHead

ROLES = (  # those that are trained here
    "score_network",
    "average_voice",
    "recogniser",
    "whisper_average_voice",
    "whisper_emotion",
)
PARTS = (*ROLES, "wav2vec2", "speaker", "vocoder")
Network = (
    ScoreNetwork
    | ScoreNetwork1d
    | AverageVoiceEncoder
    | Recogniser
    | DimensionalRecogniser
    | SpeakerEncoder
    | Vocoder
    | WhisperAverageVoiceHead
    | WhisperEmotionHead
)


def parts_of(config: BundleConfig) -> tuple[str, ...]:
    """Returns the parts whose tensors a bundle that converts must hold.

    Args:
        config: of the bundle.

    Returns:
        Some of PARTS.
    """
    roles = config.roles
    own = [name for name in ("speaker", "vocoder") if getattr(roles, name) == "bundle"]
    return ("score_network", roles.average_voice, roles.emotion, *own)


def open_bundle(folder: pathlib.Path) -> tuple[BundleConfig, Banks]:
    """Reads what says whether a request can be met, without the networks.

    Args:
        folder: of the bundle.

    Returns:
        Its configuration and its banks.

    Raises:
        EmoconvError: not a bundle, parts that do not fit together, or damaged banks.
    """
    config = read_config(folder)
    check_agreement(config, str(folder / CONFIG_FILE))
    return config, load_banks(folder, config.emotion_width)


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
        return score_network_of(config.score_network)
    if role == "average_voice":
        return AverageVoiceEncoder(config.average_voice)
    if role == "recogniser":
        return recogniser_of(config.recogniser)
    if role == "wav2vec2":
        return DimensionalRecogniser(config.wav2vec2)
    if role == "whisper_average_voice":
        return WhisperAverageVoiceHead(config.whisper_average_voice)
    if role == "whisper_emotion":
        return WhisperEmotionHead(config.whisper_emotion)
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
    return template(network_of(role, config), f"{config.name}: {role}")


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
