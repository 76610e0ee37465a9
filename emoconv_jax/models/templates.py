"""Names, shapes and types of a network's variables, traced without computing any.

What is read from a bundle or ported from a foreign checkpoint is held against them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.average_voice import AverageVoiceEncoder
from emoconv_jax.models.recogniser import Recogniser
from emoconv_jax.models.score_network import ScoreNetwork
from emoconv_jax.models.score_network_1d import ScoreNetwork1d
from emoconv_jax.models.speaker import PARTIAL_FRAMES, SpeakerEncoder
from emoconv_jax.models.vocoder import Vocoder
from emoconv_jax.models.wav2vec2 import DimensionalRecogniser, check_wav2vec2, least_samples
from emoconv_jax.models.whisper import WhisperEncoder, check_whisper
from emoconv_jax.models.whisper_heads import WhisperAverageVoiceHead, WhisperEmotionHead

FRAMES = 16  # of the example that is traced; any number gives the same variables


def template(network: nn.Module, where: str) -> Any:
    """Returns names, shapes and types of a network's variables.

    Args:
        network: one of the networks of a bundle, of sizes that a foreign file may have given.
        where: whose network it is, for messages.

    Returns:
        Nested dict {collection: ...} of `jax.ShapeDtypeStruct`.

    Raises:
        EmoconvError: sizes of which no network can be made.
    """
    try:
        return jax.eval_shape(network.init, jax.random.key(0), *_example(network))
    except (EmoconvError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        # a foreign file may ask for 0 heads or 7 groups of 48 channels
        reason = " ".join(str(error).split())[:200]
        raise EmoconvError(f"{where} has impossible sizes: {reason}") from None


def _example(network: nn.Module) -> tuple[Any, ...]:
    """Returns shapes of inputs that a network can be traced with."""

    def of(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    match network:
        case ScoreNetwork(config=sizes) | ScoreNetwork1d(config=sizes):
            mel = of(1, FRAMES, sizes.mels)
            return mel, mel, of(1, FRAMES), of(1), of(1, sizes.speaker), of(1, sizes.emotion)
        case AverageVoiceEncoder(config=sizes) | Recogniser(config=sizes):
            return of(1, FRAMES, sizes.mels), of(1, FRAMES)
        case Vocoder(config=sizes):
            return (of(1, FRAMES, sizes.mel.mels),)
        case SpeakerEncoder(config=sizes):
            return (of(1, PARTIAL_FRAMES, sizes.mels),)
        case DimensionalRecogniser(config=sizes):
            check_wav2vec2(sizes)
            least = least_samples(sizes)
            if least > sizes.sample_rate_hz:
                raise EmoconvError(f"one frame needs {least} samples, over a second")
            return of(1, least), of(1, least)
        case WhisperEncoder(config=sizes):
            check_whisper(sizes)
            return of(1, 2, sizes.mels), of(1, 2)
        case WhisperAverageVoiceHead(config=sizes):
            return of(1, FRAMES, len(sizes.states) * sizes.hidden), of(1, FRAMES)
        case WhisperEmotionHead(config=sizes):
            return (of(1, sizes.pooled * 2 * sizes.hidden),)
    raise TypeError(f"{type(network).__name__} is no network of a bundle")
