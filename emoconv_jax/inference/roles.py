"""Which class fills a role of a bundle, as its configuration says."""

import pathlib

from emoconv_jax.bundles.agreement import WHISPER_HEADS
from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.bundles.parts import load_variables
from emoconv_jax.inference.encoders import AverageVoiceRole, DimensionalRole, EmotionRole
from emoconv_jax.inference.whisper_roles import (
    WhisperAverageVoiceRole,
    WhisperEmotionRole,
    WhisperEncoderRole,
)
from emoconv_jax.porting.registry import fetch_weights
from emoconv_jax.porting.whisper_files import fetch_encoder

Whisper = WhisperEncoderRole | pathlib.Path | None
AnyAverageVoiceRole = AverageVoiceRole | WhisperAverageVoiceRole
AnyEmotionRole = EmotionRole | DimensionalRole | WhisperEmotionRole


def fetch_public(config: BundleConfig) -> dict[str, pathlib.Path]:
    """Fetches the public weights that a bundle's roles name, into the user cache.

    Args:
        config: of the bundle.

    Returns:
        Where those of each lie: "speaker", "vocoder", "whisper".

    Raises:
        EmoconvError: weights that are not there and cannot be fetched.
    """
    named = [role for role in ("speaker", "vocoder") if getattr(config.roles, role) == "registry"]
    found = {role: fetch_weights(role) for role in named}
    if {config.roles.average_voice, config.roles.emotion} & set(WHISPER_HEADS):
        found["whisper"] = fetch_encoder()
    return found


def whisper_encoder(config: BundleConfig, whisper: Whisper = None) -> Whisper:
    """Returns the encoder that roles of a bundle share, so that it is loaded once.

    Args:
        config: of the bundle.
        whisper: the encoder, where it is loaded already, or where its weights lie; None is the
            public base model, fetched if need be.

    Returns:
        The encoder; `whisper` as it is where no role needs one.

    Raises:
        EmoconvError: weights that are not there, or are refused.
    """
    used = {config.roles.average_voice, config.roles.emotion} & set(WHISPER_HEADS)
    return _loaded(whisper) if used else whisper


def _loaded(whisper: Whisper) -> WhisperEncoderRole:
    return whisper if isinstance(whisper, WhisperEncoderRole) else WhisperEncoderRole(whisper)


def average_voice_role(
    folder: pathlib.Path, config: BundleConfig, whisper: Whisper = None
) -> AnyAverageVoiceRole:
    """Returns the average-voice role as a bundle fills it.

    Args:
        folder: of the bundle.
        config: of it.
        whisper: as of `whisper_encoder`.

    Raises:
        EmoconvError: the bundle lacks the part, or it is for another encoder.
    """
    part = config.roles.average_voice
    variables = load_variables(folder, part, config)
    if part == "average_voice":
        return AverageVoiceRole(config, variables)
    return WhisperAverageVoiceRole(config, variables, _loaded(whisper))


def emotion_role(
    folder: pathlib.Path, config: BundleConfig, whisper: Whisper = None
) -> AnyEmotionRole:
    """Returns the emotion role as a bundle fills it.

    Args:
        folder: of the bundle.
        config: of it.
        whisper: as of `whisper_encoder`.

    Raises:
        EmoconvError: the bundle lacks the part, or it is for another encoder.
    """
    part = config.roles.emotion
    variables = load_variables(folder, part, config)
    if part == "recogniser":
        return EmotionRole(config, variables)
    if part == "wav2vec2":
        return DimensionalRole(config, variables)
    return WhisperEmotionRole(config, variables, _loaded(whisper))
