"""What is compared with PyTorch: each case's sizes, its input, and its configuration.

Both sides get the same arrays. The score network is DiffVC's own: its width is the case's, it has
the reference block and no emotion, so that the original code can stand in for the twin. Lengths are
multiples of 4 and masks full, where the two are defined to be equal.
"""

import dataclasses

import numpy as np

from emoconv_jax.config import (
    AverageVoiceConfig,
    MelConfig,
    RecogniserConfig,
    ScoreNetworkConfig,
    SpeakerConfig,
    VocoderConfig,
    Wav2Vec2Config,
)
from emoconv_jax.errors import UsageError
from emoconv_jax.models.speaker import PARTIAL_FRAMES, STEP_FRAMES
from emoconv_jax.shapes import Float

SECONDS = 5.0  # of the utterance that encoders, vocoder and mel get
SPEAKER_HOP_S = 0.01  # of the speaker encoder's mel
WIDTHS = (64, 256)
STEPS = 30  # of the sampling
UNET = {
    "forward": ((1, 128), (1, 512), (8, 128)),
    "training": ((4, 128), (32, 128)),
    "sampling": ((4, 128),),
}
SINGLE = ("average_voice", "wav2vec2", "speaker", "recogniser", "hifigan", "mel")
KINDS = (*UNET, *SINGLE)


@dataclasses.dataclass(frozen=True)
class Case:
    """One computation.

    Attributes:
        kind: of KINDS.
        width: of the score network; 0 for what is none.
        batch: utterances at once.
        frames: of the score network's mels.
        seconds: of the utterance, for what is no score network.
        config: None is the published size.
        steps: of the sampling.
    """

    kind: str
    width: int = 0
    batch: int = 1
    frames: int = 0
    seconds: float | int = SECONDS
    config: object = None
    steps: int = STEPS

    @property
    def name(self) -> str:
        """As tables show it."""
        if self.kind in SINGLE:
            return f"{self.kind}, {self.seconds:g} s"
        return f"{self.kind}, width {self.width}, {self.batch} x {self.frames}"

    @property
    def sizes(self) -> object:
        """The configuration."""
        if self.config is not None:
            return self.config
        if self.kind in UNET:
            return ScoreNetworkConfig(
                width=self.width, emotion=0, reference_block=True, head="score"
            )
        published = {
            "average_voice": AverageVoiceConfig,
            "wav2vec2": Wav2Vec2Config,
            "speaker": SpeakerConfig,
            "recogniser": RecogniserConfig,
            "hifigan": VocoderConfig,
            "mel": MelConfig,
        }
        return published[self.kind]()


def cases(kinds: tuple[str, ...] = KINDS, widths: tuple[int, ...] = WIDTHS) -> list[Case]:
    """Returns the cases to measure.

    Args:
        kinds: of KINDS.
        widths: of the score network.

    Raises:
        UsageError: an unknown kind or an impossible width.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--cases: found {kind}, allowed are {', '.join(KINDS)}")
    for width in widths:
        if width < 8 or width % 8:
            raise UsageError(f"--widths: found {width}, allowed are multiples of 8")
    found = []
    for kind in kinds:
        if kind in SINGLE:
            found.append(Case(kind))
        else:
            found += [Case(kind, w, *shape) for w in widths for shape in UNET[kind]]
    return found


def inputs(case: Case) -> dict[str, Float[np.ndarray, "..."]]:
    """Returns the arrays that a case is computed on, the same at every call.

    Args:
        case: to compute.

    Returns:
        Float32 arrays by the name of the argument.
    """
    generator, sizes = np.random.default_rng(0), case.sizes

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    def mel(*shape: int) -> np.ndarray:
        return (-5.0 + 2.0 * generator.normal(size=shape)).astype(np.float32)

    match sizes:
        case ScoreNetworkConfig():
            image = (case.batch, case.frames, sizes.mels)
            speaker = normal(case.batch, sizes.speaker)
            return {
                "x0": mel(*image),
                "average_voice": mel(*image),
                "noise": normal(*image),
                "mask": np.ones(image[:2], np.float32),
                "t": np.linspace(0.1, 0.9, case.batch, dtype=np.float32),
                "speaker": speaker / np.linalg.norm(speaker, axis=1, keepdims=True),
                "emotion": normal(case.batch, sizes.emotion),
                "reference": mel(*image),
                "reference_voice": mel(*image),
            }
        case AverageVoiceConfig():
            frames = _frames(case.seconds)
            return {"mel": mel(1, frames, sizes.mels), "mask": np.ones((1, frames), np.float32)}
        case VocoderConfig():
            return {"mel": mel(1, _frames(case.seconds), sizes.mel.mels)}
        case RecogniserConfig():
            frames, half = _frames(case.seconds), sizes.frames // 2
            windows = max(1, -(-(frames - sizes.frames + half) // half))  # as `recognise` takes
            # even, since PyTorch's pooling drops an odd last frame
            shape = (windows, min(sizes.frames, frames) // 2 * 2, sizes.mels)
            return {"mel": mel(*shape), "mask": np.ones(shape[:2], np.float32)}
        case SpeakerConfig():
            partials = max(1, round(case.seconds / SPEAKER_HOP_S) // STEP_FRAMES - 1)
            shape = (partials, PARTIAL_FRAMES, sizes.mels)
            return {"mel": generator.exponential(size=shape).astype(np.float32)}
        case Wav2Vec2Config():
            audio = normal(1, round(case.seconds * sizes.sample_rate_hz))
            audio = (audio - audio.mean()) / audio.std()
            return {"waveform": audio, "mask": np.ones_like(audio)}
        case MelConfig():
            return {"waveform": 0.1 * normal(round(case.seconds * sizes.sample_rate_hz))}
    raise TypeError(f"{type(sizes).__name__} is no configuration of a case")


def _frames(seconds: float | int) -> int:
    """Returns the frames of the mel, a multiple of 4."""
    mel = MelConfig()
    return max(4, round(seconds * mel.sample_rate_hz / mel.hop_samples) // 4 * 4)
