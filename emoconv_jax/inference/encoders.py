"""The other roles: average voice, emotion and vocoder, each a callable on one utterance.

Lengths are padded to a few buckets, because every new shape is compiled anew; the networks are
masked, so the padding changes nothing. The emotion roles also take many utterances: those of one
bucket go through the network together.
"""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import conform
from emoconv_jax.audio.resampling import resample
from emoconv_jax.bundles.format import BundleConfig, load_tensors, read_config
from emoconv_jax.bundles.parts import load_variables, network_of, template_of
from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW
from emoconv_jax.inference.lengths import bucket
from emoconv_jax.models.pooled_recogniser import recogniser_of
from emoconv_jax.models.recogniser import recognise
from emoconv_jax.models.vocoder import Vocoder, reach_frames
from emoconv_jax.models.wav2vec2 import DIMENSIONS, least_samples
from emoconv_jax.porting.registry import fetch_weights
from emoconv_jax.shapes import Float

WINDOW_FRAMES = 1280  # that the vocoder is given at once: 15 s
SAMPLES_STEP = 320  # of a waveform, 20 ms at 16 kHz: a frame of wav2vec2
BATCH_SECONDS = 60.0  # of padded sound at most: many take the memory of the longest alone


def pad(
    mel: Float[np.ndarray, "f m"], floor: float, size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mel as a batch of one, padded, and its mask.

    Args:
        mel: log-mel.
        floor: fills the padding: the logarithm of the mel's floor.
        size: frames to pad to; None is its bucket.

    Returns:
        ([1, size, m], [1, size]).
    """
    size = size or bucket(len(mel))
    padded = np.full((1, size, mel.shape[1]), floor, np.float32)
    padded[0, : len(mel)] = mel
    return padded, (np.arange(size)[None, :] < len(mel)).astype(np.float32)


def _stacked(
    items: Sequence[np.ndarray], rows: int, size: int, fill: float
) -> tuple[Float[np.ndarray, "rows size *m"], Float[np.ndarray, "rows size"]]:
    """Returns items of any lengths up to `size` as a batch, the last one repeated, and its mask."""
    padded = np.full((rows, size, *items[0].shape[1:]), fill, np.float32)
    mask = np.zeros((rows, size), np.float32)
    for row in range(rows):
        item = items[min(row, len(items) - 1)]
        padded[row, : len(item)], mask[row, : len(item)] = item, 1.0
    return padded, mask


def log_floor(config: BundleConfig) -> float:
    """Returns the log-mel of silence.

    Args:
        config: of the bundle.

    Returns:
        ln(floor).
    """
    return float(np.log(config.mel.floor))


class AverageVoiceRole:
    """Log-mel -> average voice Y."""

    def __init__(self, config: BundleConfig, variables: dict):
        """Args: config: of the bundle. variables: of the network."""
        network = network_of("average_voice", config)
        self.variables, self.floor = variables, log_floor(config)
        self._apply = jax.jit(network.apply)

    @classmethod
    def from_bundle(cls, folder: pathlib.Path) -> "AverageVoiceRole":
        """Returns the role as the bundle in `folder` fills it."""
        config = read_config(folder)
        return cls(config, load_variables(folder, "average_voice", config))

    def __call__(
        self, mel: Float[np.ndarray, "f m"], audio: Float[np.ndarray, " n"] | None = None
    ) -> Float[np.ndarray, "f m"]:
        """Returns Y for a log-mel of any length.

        Args:
            mel: of a stretch of speech.
            audio: of it, which other average-voice roles hear.
        """
        del audio
        return np.asarray(self._apply(self.variables, *pad(mel, self.floor)))[0, : len(mel)]


@dataclasses.dataclass(frozen=True)
class Recognition:
    """What the recogniser says of an utterance.

    Arousal, dominance and valence are on 1..7; they are regressions and may lie a little outside.

    Attributes:
        embedding: [256], or [1024] of wav2vec2.
        probabilities: emotion -> 0..1; empty for wav2vec2, which has no classes.
        arousal: calm to excited.
        dominance: weak to strong; None for the recogniser, which does not tell it.
        valence: unpleasant to pleasant; None likewise.
    """

    embedding: Float[np.ndarray, " e"]
    probabilities: dict[str, float]
    arousal: float
    dominance: float | None = None
    valence: float | None = None


def _together(
    items: Sequence[np.ndarray],
    sizes: Sequence[int],
    fill: float,
    most: int,
    longest: float,
    run: Callable[[np.ndarray, np.ndarray], Sequence[Recognition]],
) -> list[Recognition]:
    """Returns what a network says of each item, in order, having run those of one size together.

    Args:
        items: mels or waveforms.
        sizes: their padded lengths.
        fill: of the padding.
        most: items in a batch.
        longest: of a batch's padded lengths together.
        run: padded items and mask -> one recognition per row.
    """
    groups: dict[int, list[int]] = collections.defaultdict(list)
    for i, size in enumerate(sizes):
        groups[size].append(i)
    found: dict[int, Recognition] = {}
    for size, members in groups.items():
        count = max(1, min(most, int(longest) // size))
        for start in range(0, len(members), count):
            batch = members[start : start + count]
            rows = 1 if len(batch) == 1 else count  # two shapes a size: compiling takes seconds
            told = run(*_stacked([items[i] for i in batch], rows, size, fill))
            found |= dict(zip(batch, told, strict=False))
    return [found[i] for i in range(len(items))]


class EmotionRole:
    """Log-mel -> emotion embedding, class probabilities and arousal."""

    def __init__(self, config: BundleConfig, variables: dict):
        """Args: config: of the bundle. variables: of the network, statistics included."""
        self.network = recogniser_of(config.recogniser)
        self.emotions, self.mel = config.recogniser.emotions, config.mel
        self.variables, self.floor = variables, log_floor(config)
        self._recognise = jax.jit(
            lambda variables, mel, mask: recognise(self.network, variables, mel, mask)
        )

    @classmethod
    def from_bundle(cls, folder: pathlib.Path) -> "EmotionRole":
        """Returns the role as the bundle in `folder` fills it."""
        config = read_config(folder)
        return cls(config, load_variables(folder, "recogniser", config))

    def __call__(self, mel: Float[np.ndarray, "f m"]) -> Recognition:
        """Returns what the recogniser says of a log-mel of any length."""
        return self.recognise([mel])[0]

    def recognise(self, mels: Sequence[np.ndarray], most: int = 1) -> list[Recognition]:
        """Returns what the recogniser says of each log-mel, in order.

        Args:
            mels: [f, m], of any lengths.
            most: how many go through the network together, 1 or more.
        """
        longest = BATCH_SECONDS * self.mel.sample_rate_hz / self.mel.hop_samples
        sizes = [bucket(len(mel)) for mel in mels]
        return _together(mels, sizes, self.floor, most, longest, self._run)

    def _run(self, padded: np.ndarray, mask: np.ndarray) -> list[Recognition]:
        output = self._recognise(self.variables, padded, mask)
        probabilities = np.asarray(jax.nn.softmax(output.logits))
        embeddings, arousal = np.asarray(output.embedding), np.asarray(output.arousal)
        return [
            Recognition(
                embedding=embeddings[row],
                probabilities=dict(zip(self.emotions, map(float, probabilities[row]), strict=True)),
                arousal=float(arousal[row]),
            )
            for row in range(len(padded))
        ]

    def prepare(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> np.ndarray:
        """Returns what `recognise` takes of a waveform: its log-mel.

        Args:
            audio: mono.
            sample_rate_hz: of it.
        """
        return log_mel(conform(audio, sample_rate_hz, self.mel.sample_rate_hz), self.mel)

    def hear(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> Recognition:
        """Returns what the recogniser says of a waveform.

        Args:
            audio: mono.
            sample_rate_hz: of it.
        """
        return self(self.prepare(audio, sample_rate_hz))

    def embed(self, mel: Float[np.ndarray, "f m"]) -> tuple[np.ndarray, float]:
        """Returns (embedding, arousal) of a log-mel."""
        found = self(mel)
        return found.embedding, found.arousal


class DimensionalRole:
    """Waveform -> emotion embedding, arousal, dominance and valence, by wav2vec2."""

    def __init__(self, config: BundleConfig, variables: dict):
        """Args: config: of the bundle. variables: of the network."""
        self.network, self.variables = network_of("wav2vec2", config), variables
        self.rate_hz, self.least = config.wav2vec2.sample_rate_hz, least_samples(config.wav2vec2)
        self._apply = jax.jit(self.network.apply)

    def hear(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> Recognition:
        """Returns what the network says of a waveform.

        Args:
            audio: mono, of any level.
            sample_rate_hz: of it.
        """
        return self.recognise([self.prepare(audio, sample_rate_hz)])[0]

    def prepare(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> np.ndarray:
        """Returns what `recognise` takes of a waveform: at 16 kHz, long enough for a frame.

        Args:
            audio: mono, of any level.
            sample_rate_hz: of it.
        """
        audio = resample(audio, sample_rate_hz, self.rate_hz)
        return np.pad(audio, (0, max(0, self.least - len(audio))))

    def recognise(self, waveforms: Sequence[np.ndarray], most: int = 1) -> list[Recognition]:
        """Returns what the network says of each waveform, in order.

        Args:
            waveforms: of `prepare`.
            most: how many go through the network together, 1 or more.
        """
        sizes = [bucket(-(-len(wave) // SAMPLES_STEP)) * SAMPLES_STEP for wave in waveforms]
        longest = BATCH_SECONDS * self.rate_hz
        return _together(waveforms, sizes, 0.0, most, longest, self._run)

    def _run(self, padded: np.ndarray, mask: np.ndarray) -> list[Recognition]:
        embeddings, dimensions = map(np.asarray, self._apply(self.variables, padded, mask))
        # the head's scale is about 0..1
        told = AROUSAL_LOW + (AROUSAL_HIGH - AROUSAL_LOW) * dimensions.astype(np.float64)
        return [
            Recognition(
                embedding=embedding,
                probabilities={},
                **dict(zip(DIMENSIONS, map(float, values), strict=True)),
            )
            for embedding, values in zip(embeddings, told, strict=True)
        ]


class VocoderRole:
    """Log-mel -> waveform, by HiFi-GAN."""

    def __init__(self, config: BundleConfig, folder: pathlib.Path):
        """Loads the weights from the bundle or, as its roles say, from the user cache.

        Args:
            config: of the bundle.
            folder: of the bundle.
        """
        network = Vocoder(config.vocoder)
        template = template_of("vocoder", config)["params"]
        if config.roles.vocoder == "bundle":
            self.params = load_variables(folder, "vocoder", config)["params"]
        else:
            path = fetch_weights("vocoder")
            self.params = load_tensors([path], template, str(path))
        self.floor, self.hop_samples = log_floor(config), config.mel.hop_samples
        self.reach = reach_frames(config.vocoder)
        self._apply = jax.jit(lambda params, mel: network.apply({"params": params}, mel))

    def __call__(self, mel: Float[np.ndarray, "f m"]) -> Float[np.ndarray, " n"]:
        """Returns the waveform of a log-mel of any length, a hop of samples per frame."""
        return np.concatenate(list(self.stream([mel])))

    def stream(self, mels: Iterable[Float[np.ndarray, "_ m"]]) -> Iterator[Float[np.ndarray, " _"]]:
        """Speaks log-mels that follow one another, as they come.

        What is spoken at once is at most WINDOW_FRAMES, and begins and ends where the vocoder hears
        no further: the waveform is that of the whole.

        Args:
            mels: of any lengths.

        Yields:
            Waveforms, which together are that of the joined log-mels.
        """
        held, told = None, 0  # frames, and how many of them have been spoken
        for mel in mels:
            held = mel if held is None else np.concatenate([held, mel])
            while len(held) >= WINDOW_FRAMES:
                stop = WINDOW_FRAMES - self.reach
                yield self._spoken(held[:WINDOW_FRAMES], told, stop)
                held, told = held[stop - self.reach :], self.reach
        if held is not None and len(held) > told:
            size = bucket(len(held) + self.reach)  # silence follows, and not the end of the world
            yield self._spoken(pad(held, self.floor, size)[0][0], told, len(held))

    def _spoken(self, mel: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Returns the samples of some frames of a log-mel."""
        audio = np.asarray(self._apply(self.params, mel[None]))[0]
        return audio[start * self.hop_samples : stop * self.hop_samples]
