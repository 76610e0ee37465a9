"""Unseen speakers during training, by eye and ear: pictures of mels, and sounds.

    score_network    source, average voice, and the source converted to arousal 2 and 6
    average_voice    source, target, output; whisper_average_voice likewise
    recogniser       nothing: it draws no mel; whisper_emotion likewise

The utterances are always the same, of different speakers of the validation split, and so are the
noise and the targets: what differs between two steps is the network. Its conversions take few
steps, from noise, which asks it for everything a conversion can.
"""

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emoconv_jax.audio.griffin_lim import griffin_lim
from emoconv_jax.bundles.format import BundleConfig, check_mel, read_config
from emoconv_jax.bundles.parts import network_of
from emoconv_jax.config import MelConfig, TrainingConfig
from emoconv_jax.diffusion.plan import single
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.encoders import VocoderRole
from emoconv_jax.inference.lengths import bucket
from emoconv_jax.inference.sampling import Sampler
from emoconv_jax.pipeline.batches import Batch, Batches, Stretches
from emoconv_jax.pipeline.store import FeatureStore, Utterance
from emoconv_jax.shapes import Array, Float, Int, Shaped
from emoconv_jax.training.selection import RECOGNISERS, choose
from emoconv_jax.training.target_banks import banks_of

EXAMPLES = 2
MOST_FRAMES = 256  # 3 s
AROUSALS = (2.0, 6.0)  # calm and excited, a level inside what corpora have of either
STEPS, SOLVER, SEED = 10, "maximum_likelihood", 0

DOTS_PER_INCH = 100
PANEL_INCHES, WIDTH_INCHES = 1.75, 9.0
TICKS_HZ = (250.0, 500.0, 1000.0, 2000.0, 4000.0)
INK, FAINT = "#1d2433", "#667085"
PERCENTILES = (2.0, 99.9)  # of the source, which the colours span

Vocode = Callable[[Float[np.ndarray, "f m"]], Float[np.ndarray, " n"]]


@dataclasses.dataclass(frozen=True)
class Example:
    """What one utterance looks and sounds like.

    Attributes:
        name: "listening_1", "listening_2" ..., the same utterance at every step.
        picture: its mels under each other.
        sounds: by name; a mel with NaN or infinity has none.
        sample_rate_hz: of the sounds.
    """

    name: str
    picture: Shaped[np.ndarray, "h w 3"]
    sounds: dict[str, Float[np.ndarray, " n"]]
    sample_rate_hz: int


def vocoder_of(bundle: pathlib.Path, mel: MelConfig) -> Vocode:
    """Returns the vocoder that a bundle names, as a function.

    Args:
        bundle: its folder.
        mel: what the function is to be given.

    Returns:
        Log-mel to waveform.

    Raises:
        EmoconvError: not a bundle, a vocoder of another mel, or weights that cannot be had.
    """
    config = read_config(bundle)
    check_mel(config.mel, mel, f"{bundle}: mel", "the features' mel")
    return VocoderRole(config, bundle)


class Listening:
    """The examples of one run."""

    def __init__(
        self,
        config: TrainingConfig,
        store: FeatureStore,
        network: Any,
        vocode: Vocode | None = None,
        log: Callable[[str], None] = print,
    ):
        """Chooses and reads the utterances; says so once where there is nothing to listen to.

        Args:
            config: of the run.
            store: prepared features.
            network: of the trainee; its `config` is read, and run in float32.
            vocode: log-mel to waveform; None is Griffin-Lim, which needs no weights.
            log: takes a line.

        Raises:
            EmoconvError: a file of the store is absent or of the wrong size.
        """
        self.store = store
        self.vocode: Vocode = vocode or (lambda mel: griffin_lim(mel, store.mel_config))
        self.chosen: list[int] = []
        if config.trainee in RECOGNISERS:
            return
        chosen = spread(store, choose(store, config, (config.validation,)))
        if not chosen:
            log(f"nothing to listen to: no utterance in split {config.validation}")
            return
        parts: Any = {config.trainee: network.config}
        sizes = BundleConfig("run", "", mel=store.mel_config, **parts)
        self._sampler: Sampler | None = None
        if config.trainee == "score_network":
            try:
                banks = banks_of(store, config.bank_rule)
            except EmoconvError as error:
                log(f"nothing to listen to: {error}")
                return
            self._targets = {f"arousal_{level:g}": banks.arousal(level) for level in AROUSALS}
            self._sampler = Sampler(sizes, {}, devices=jax.local_devices()[:1])
        else:
            self._apply = jax.jit(network_of(config.trainee, sizes).apply)
        self.chosen, self._batch = chosen, _read(store, config, chosen)
        mels, voices = self._batch.mel, self._batch.average_voice
        assert voices is not None
        second = "average_voice" if self._sampler else "target"
        self._given = [
            {"source": mels[row, :real], second: voices[row, :real]}
            for row, real in enumerate(self._real_frames())
        ]
        self._given_sounds: list[dict[str, np.ndarray]] = []

    def examples(self, params: Any, number: int) -> list[Example]:
        """Returns each utterance with what the network makes of it.

        Args:
            params: of the network, usually averaged; whole, on this process.
            number: steps done, for the title.

        Returns:
            The examples; none where there is nothing to listen to.
        """
        if not self.chosen:
            return []
        variables = {"params": jax.device_put(jax.device_get(params))}
        if self._sampler is None:
            states = self._batch.states  # a head on Whisper hears these, the other one the mel
            heard = self._batch.mel if states is None else states
            output = self._apply(variables, heard, self._batch.mask)
            made = {"output": getattr(output, "mel", output)}
        else:
            made = self._converted(self._sampler, variables)
        made = {name: np.asarray(mels) for name, mels in made.items()}
        if not self._given_sounds:  # of a regression, only the network's own is worth hearing
            heard = self._given if self._sampler else [{}] * len(self._given)
            self._given_sounds = [self._sounds(given) for given in heard]
        found, mel_config = [], self.store.mel_config
        for row, real in enumerate(self._real_frames()):
            drawn = {name: mels[row, :real] for name, mels in made.items()}
            heading = title(self.store.utterances[self.chosen[row]], number)
            picture = draw(self._given[row] | drawn, mel_config, heading)
            sounds = self._given_sounds[row] | self._sounds(drawn)
            found.append(
                Example(f"listening_{row + 1}", picture, sounds, mel_config.sample_rate_hz)
            )
        return found

    def _converted(self, sampler: Sampler, variables: Any) -> dict[str, Array]:
        """Returns all utterances converted to each target, name -> [b, f, m]."""
        batch, plan = self._batch, single("target", STEPS)
        sampler.variables = variables
        found = {
            name: sampler(
                batch.mel,
                batch.average_voice,
                batch.mask,
                batch.speaker,
                embedding[None],
                batch.emotion,
                plan.weights,
                jax.random.split(jax.random.key(SEED), len(self.chosen)),
                solver=SOLVER,
                segments=plan.segments(),
                prosody=batch.prosody,  # the clip's own
            )
            for name, embedding in self._targets.items()
        }
        sampler.variables = {}  # the run's memory is for the run
        return found

    def _real_frames(self) -> list[int]:
        return [int(mask.sum()) for mask in self._batch.mask]

    def _sounds(self, mels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the sound of each mel that has one."""
        return {name: self.vocode(mel) for name, mel in mels.items() if np.isfinite(mel).all()}


def spread(store: FeatureStore, selection: Int[np.ndarray, " u"]) -> list[int]:
    """Returns the utterances to listen to: always the same, each of another speaker.

    Args:
        store: prepared features.
        selection: indices to choose from.

    Returns:
        Up to EXAMPLES indices; of speakers far apart in the order of gender and name, and of each
        the longest utterance of at most MOST_FRAMES, or its shortest.
    """
    of_speaker: dict[tuple[str, str], list[int]] = {}
    for i in selection.tolist():
        utterance = store.utterances[i]
        of_speaker.setdefault((utterance.gender, utterance.speaker), []).append(i)
    speakers = sorted(of_speaker)
    places = np.linspace(0, len(speakers) - 1, min(EXAMPLES, len(speakers))).round().astype(int)

    def preference(i: int) -> tuple[bool, int]:
        frames = store.utterances[i].frames
        return frames > MOST_FRAMES, abs(frames - MOST_FRAMES)

    return [min(of_speaker[speakers[place]], key=preference) for place in places]


def _read(store: FeatureStore, config: TrainingConfig, chosen: Sequence[int]) -> Batch:
    """Returns the utterances as one batch, the middle of those that are longer than it."""
    lengths = np.array([store.utterances[i].frames for i in chosen], dtype=np.int64)
    frames = bucket(min(MOST_FRAMES, int(lengths.max())))
    starts = np.maximum(0, (lengths - frames) // 2)
    stops = np.minimum(starts + frames, lengths)
    indices = np.array(chosen, dtype=np.int64)
    settings = {"batch": len(chosen), "frames": frames, "seed": 0, "target": config.target}
    batches = Batches(store, indices, config.trainee, **settings)
    return batches.read(Stretches(indices, starts, stops, frames, np.ones((len(chosen), 4))))


def title(utterance: Utterance, number: int) -> str:
    """Returns what stands over a picture.

    Args:
        utterance: that it shows.
        number: steps done.

    Returns:
        One line.
    """
    told = [utterance.path, f"speaker {utterance.speaker}", utterance.gender, utterance.emotion]
    return "  ·  ".join([*filter(None, told), f"step {number:,}"])


def draw(
    mels: dict[str, Float[np.ndarray, "f m"]], config: MelConfig, heading: str
) -> Shaped[np.ndarray, "h w 3"]:
    """Draws mels of one length under each other, in the same colours.

    Args:
        mels: by name; the first, the source, says what the colours span.
        config: of the mels.
        heading: over all.

    Returns:
        The picture, uint8.
    """
    low, high = np.percentile(next(iter(mels.values())), PERCENTILES)
    figure = Figure(
        figsize=(WIDTH_INCHES, PANEL_INCHES * len(mels) + 0.9),
        dpi=DOTS_PER_INCH,
        layout="constrained",
    )
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(heading, color=INK, fontsize=10, parse_math=False)
    panels = figure.subplots(len(mels), 1, sharex=True, squeeze=False)[:, 0]
    image = None
    for axis, (name, mel) in zip(panels, mels.items(), strict=True):
        seconds = len(mel) * config.hop_samples / config.sample_rate_hz
        image = axis.imshow(
            mel.T,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            cmap="magma",
            vmin=low,
            vmax=high,
            extent=(0.0, seconds, -0.5, mel.shape[1] - 0.5),
        )
        _label(axis, name.replace("_", " "), bool(np.isfinite(mel).all()), config)
    panels[-1].set_xlabel("time (s)", color=INK, fontsize=9)
    assert image is not None
    bar = figure.colorbar(image, ax=panels, fraction=0.03, pad=0.01, extend="both")
    bar.set_label("log-mel (natural)", color=INK, fontsize=9)
    bar.ax.tick_params(labelsize=8, colors=INK)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box says as much
        canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _label(axis: Axes, name: str, finite: bool, config: MelConfig) -> None:
    """Names a panel and gives its mel bins their frequencies."""
    axis.set_title(name, loc="left", color=INK, fontsize=10, fontweight="bold")
    if not finite:
        axis.set_title("holds NaN or infinity", loc="right", color=FAINT, fontsize=9)
    axis.set_yticks(*_ticks(config))
    axis.set_ylabel("Hz", color=INK, fontsize=9)
    axis.tick_params(labelsize=8, colors=INK)


def _ticks(config: MelConfig) -> tuple[np.ndarray, list[str]]:
    """Returns in which bins, counted with fractions, TICKS_HZ lie, and their labels.

    Source: the mel scale of Slaney's Auditory Toolbox, 1998, as in librosa.
    """

    def mel_of(hz: np.ndarray) -> np.ndarray:
        above = 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4)
        return np.where(hz < 1000, 3 * hz / 200, above)

    low, high = mel_of(np.array([config.low_hz, config.high_hz]))
    shown = np.array([hz for hz in TICKS_HZ if config.low_hz < hz < config.high_hz])
    places = (mel_of(shown) - low) / (high - low) * (config.mels + 1) - 1
    return places, [f"{hz:g}" for hz in shown]
