"""Whether the parts of a bundle fit together: sizes that must be equal, and encoders."""

import math

from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.config import SpeakerConfig, VocoderConfig
from emoconv_jax.errors import EmoconvError

WHISPER_HEADS = ("whisper_average_voice", "whisper_emotion")


def check_agreement(config: BundleConfig, where: str) -> None:
    """Refuses a bundle whose parts do not fit together: sizes that must be equal and are not.

    Args:
        config: of the bundle.
        where: its file, for messages.

    Raises:
        EmoconvError: a part's size that is not what its neighbours give it, by name, a score
            network without emotion, a public part of other sizes than its weights have, or heads
            on Whisper that do not say which one or differ in it.
    """
    mels, network = config.mel.mels, config.score_network
    if not network.emotion:
        raise EmoconvError(f"{where}: score_network.emotion is 0; it converts voices, not emotions")
    upsampled, own = math.prod(config.vocoder.upsample_rates), config.roles.emotion == "recogniser"
    voice = config.roles.average_voice
    for name, found, expected in (
        ("score_network.mels", network.mels, mels),
        (f"{voice}.mels", getattr(config, voice).mels, mels),
        ("recogniser.mels", config.recogniser.mels, mels if own else config.recogniser.mels),
        ("recogniser.bands", config.recogniser.bands, config.recogniser.mels // 2),
        ("score_network.emotion", network.emotion, config.emotion_width),
        ("score_network.speaker", network.speaker, config.speaker.embedding),
        ("product of vocoder.upsample_rates", upsampled, config.mel.hop_samples),
    ):
        if found != expected:
            raise EmoconvError(f"{where}: {name} is {found}, the other parts need {expected}")
    _check_encoders(config, where)
    for name, public in (("speaker", SpeakerConfig()), ("vocoder", VocoderConfig())):
        if getattr(config.roles, name) == "registry" and getattr(config, name) != public:
            raise EmoconvError(
                f"{where}: roles.{name} is 'registry', whose weights have other sizes or another "
                f"mel than {name}; allowed is 'bundle'"
            )


def _check_encoders(config: BundleConfig, where: str) -> None:
    """Refuses heads on Whisper that do not say which one they were trained on, or differ in it."""
    used = (config.roles.average_voice, config.roles.emotion)
    encoders = {name: getattr(config, name).encoder for name in WHISPER_HEADS if name in used}
    for name, encoder in encoders.items():
        if not encoder:
            raise EmoconvError(f"{where}: {name}.encoder is empty; it names Whisper's weights")
    if len(set(encoders.values())) > 1:
        told = " and ".join(f"{name} {encoder:.12}" for name, encoder in encoders.items())
        raise EmoconvError(f"{where}: encoder: found {told}; both heads need the same Whisper")
