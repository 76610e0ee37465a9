"""What a bundle's configuration may ask for: it is a foreign file, and its numbers become arrays.

Sizes that must equal one another are `agreement.check_agreement`'s; here each value stands alone.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from emoconv_jax.config import LATENTS, LEAST_START
from emoconv_jax.diffusion.heads import HEADS
from emoconv_jax.diffusion.plan import MOST_GUIDANCE
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.score_network import CONDITIONING
from emoconv_jax.models.score_networks import KINDS
from emoconv_jax.models.wav2vec2 import FEATURE_NORMS

NUMBERS: dict[str, tuple[float, float]] = {
    "mel.sample_rate_hz": (8000, 48000),
    "mel.fft_samples": (64, 8192),
    "mel.hop_samples": (16, 2048),
    "mel.high_hz": (1, 24000),
    "mel.floor": (1e-12, 0.1),
    "diffusion.beta_0": (1e-4, 100),
    "diffusion.beta_1": (1e-4, 1000),
    "diffusion.start": (LEAST_START, 1),
    "diffusion.guidance": (0, MOST_GUIDANCE),
    "score_network.layers": (0, 64),
    "score_network.heads": (1, 64),
    "average_voice.layers": (1, 24),
    "average_voice.prenet_layers": (0, 8),
    "average_voice.prenet_dropout": (0, 1),
    "average_voice.dropout": (0, 1),
    "speaker.layers": (1, 8),
    "speaker.mels": (40, 40),  # the front end has no other
    "wav2vec2.layers": (1, 64),
    "wav2vec2.sample_rate_hz": (16000, 16000),
    "wav2vec2.dimensions": (3, 3),
    "recogniser.frames": (2, 8192),
    "whisper_average_voice.hidden": (1, 4096),
    "whisper_average_voice.channels": (1, 4096),
    "whisper_average_voice.kernel": (1, 63),
    "whisper_average_voice.phones": (1, 1000),
    "whisper_average_voice.dropout": (0, 0.99),
    "whisper_emotion.hidden": (1, 4096),
    "whisper_emotion.pooled": (1, 65),
    "whisper_emotion.embedding": (1, 4096),
    "whisper_emotion.dropout": (0, 0.99),
    "vocoder.resblock": (1, 2),
    "diffusion.latent_noise": (0, 1),
}
OTHERS = (0, 24000)  # of every other number
WORDS = {
    "score_network.head": HEADS,
    "score_network.conditioning": CONDITIONING,
    "score_network.kind": tuple(KINDS),
    "diffusion.latent": LATENTS,
    "wav2vec2.feature_norm": FEATURE_NORMS,
    "roles.average_voice": ("average_voice", "whisper_average_voice"),
    "roles.emotion": ("recogniser", "wav2vec2", "whisper_emotion"),
    "roles.speaker": ("registry", "bundle"),
    "roles.vocoder": ("registry", "bundle"),
}
LONGEST_LIST, LONGEST_TEXT = 16, 200


def check_limits(config: Any, where: str) -> None:
    """Refuses a configuration with a value that no bundle needs.

    Args:
        config: a `BundleConfig`.
        where: its file, for messages.

    Raises:
        EmoconvError: a number out of range, an unknown word, a list or text that is too long; by
            the field's name.
    """
    for name, value in _values(config, ""):
        if isinstance(value, str):
            if name in WORDS and value not in WORDS[name]:
                allowed = ", ".join(WORDS[name])
                raise EmoconvError(f"{where}: {name} is {value!r:.40}, allowed are {allowed}")
            if len(value) > LONGEST_TEXT:
                raise EmoconvError(
                    f"{where}: {name} has {len(value)} characters, at most {LONGEST_TEXT} allowed"
                )
            if not value.isprintable():  # it is shown on terminals and written into model cards
                raise EmoconvError(f"{where}: {name} is {value!r:.80}, a line of text is needed")
        elif isinstance(value, tuple):
            if len(value) > LONGEST_LIST:
                raise EmoconvError(
                    f"{where}: {name} has {len(value)} entries, at most {LONGEST_LIST} allowed"
                )
        elif not isinstance(value, bool):
            low, high = NUMBERS.get(name.removeprefix("vocoder."), NUMBERS.get(name, OTHERS))
            if not low <= value <= high:
                shown = value if abs(value) < 1e30 else "far larger"
                raise EmoconvError(f"{where}: {name} is {shown}, allowed is {low:g} to {high:g}")
    if config.mel.fft_samples < config.mel.hop_samples:
        raise EmoconvError(
            f"{where}: mel.fft_samples is {config.mel.fft_samples}, at least mel.hop_samples, "
            f"{config.mel.hop_samples}, is needed"
        )


def _values(config: Any, above: str) -> Iterator[tuple[str, Any]]:
    """Yields every list, then its entries, and every text and number, with its dotted name."""
    for field in dataclasses.fields(config):
        yield from _value(getattr(config, field.name), above + field.name)


def _value(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(value):
        yield from _values(value, name + ".")
        return
    yield name, value
    if isinstance(value, tuple):
        for i, entry in enumerate(value):
            yield from _value(entry, f"{name}[{i}]")
