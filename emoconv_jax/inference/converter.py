"""The public face: a bundle as a converter of speech.

Source mel -> average voice Y and d-vector S; the emotion comes from the bundle's banks under a
plan; the score network samples the target mel; the vocoder makes the waveform.
"""

import dataclasses
import json
import math
import os
import pathlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import emoconv_jax
from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import SHORTEST_S, SILENCE_PEAK, read_audio
from emoconv_jax.audio.writing import write_audio
from emoconv_jax.bundles.banks import NULL, Banks, load_banks
from emoconv_jax.bundles.format import CONFIG_FILE, BundleConfig, check_agreement, read_config
from emoconv_jax.bundles.parts import load_variables
from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW
from emoconv_jax.diffusion import plan as plans
from emoconv_jax.diffusion.solvers import SOLVERS
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference.encoders import (
    AverageVoiceRole,
    EmotionRole,
    VocoderRole,
    log_floor,
    pad,
)
from emoconv_jax.inference.sampling import Sampler
from emoconv_jax.inference.speaker import SpeakerRole
from emoconv_jax.shapes import Float

DEFAULT_STEPS = 30  # DiffVC's ML-30, its best MOS
MOST_STEPS = 1000
SEEDS = 2**32
MOST_SECONDS = 60.0  # of one utterance; memory grows by about 30 MB per second
STRONGEST = 0.8  # above it the base emotion vanishes (EmoMix, section 2.2)
AROUSAL_PREFIX = "arousal "
CAUTION = "synthetic speech: converted by emoconv, not spoken by the person it sounds like"


@dataclasses.dataclass(frozen=True)
class Request:
    """What to convert to. Give `arousal`, or `mix` with or without `base` and `strength`.

    Attributes:
        arousal: 1 (calm) to 7 (excited), any real number.
        mix: emotion -> weight; non-negative, normalised to sum to one.
        base: the emotion that the early steps follow (EmoMix).
        strength: share of the mix against the base in the middle steps, 0..1.
        solver: of `diffusion.solvers`.
        steps: of the solver.
        guidance: w of s_null + w (s - s_null); 1 is no guidance.
        start: diffusion time from which the source is converted, above 0 and at most 1: the lower,
            the more of its voice and melody stays. None is the bundle's own.
        seed: of start state and solver noise.
    """

    arousal: float | int | None = None
    mix: Mapping[str, float | int] | None = None
    base: str | None = None
    strength: float | int | None = None
    solver: str = "maximum_likelihood"
    steps: int = DEFAULT_STEPS
    guidance: float | int = 1.0
    start: float | int | None = None
    seed: int = 0

    def plan(self) -> plans.EmotionPlan:
        """Returns the emotion plan of the request.

        Raises:
            UsageError: fields that contradict each other or are out of range, by name.
        """
        if self.solver not in SOLVERS:
            raise UsageError(f"solver: found {self.solver!r}, allowed are {', '.join(SOLVERS)}")
        if not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"steps: found {self.steps}, allowed is 1..{MOST_STEPS}")
        if not np.isfinite(self.guidance):
            raise UsageError(f"guidance: found {self.guidance}, a finite number is needed")
        if self.start is not None and not 0 < self.start <= 1:
            raise UsageError(f"start: found {self.start}, allowed is above 0 and up to 1")
        if (self.arousal is None) == (self.mix is None):
            raise UsageError("give arousal or mix, one of the two")
        if not 0 <= self.seed < SEEDS:
            raise UsageError(f"seed: found {self.seed}, allowed is 0..{SEEDS - 1}")
        if self.arousal is not None and not AROUSAL_LOW <= self.arousal <= AROUSAL_HIGH:
            raise UsageError(
                f"arousal: found {self.arousal}, allowed is {AROUSAL_LOW:g}..{AROUSAL_HIGH:g}"
            )
        if self.arousal is not None and (self.base is not None or self.strength is not None):
            raise UsageError("base and strength belong to a mix, not to an arousal")
        if self.strength is not None and self.base is None:
            raise UsageError("strength: needs a base emotion to be the strength against")
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise UsageError(f"strength: found {self.strength}, allowed is 0..1")
        chosen = self._unguided()
        return chosen if self.guidance == 1 else plans.guided(chosen, NULL, self.guidance)

    def _unguided(self) -> plans.EmotionPlan:
        if self.arousal is not None:
            return plans.single(f"{AROUSAL_PREFIX}{self.arousal:g}", self.steps)
        assert self.mix is not None
        if self.base is None:
            return plans.mix(dict(self.mix), self.steps)
        strength = 0.5 if self.strength is None else self.strength
        return plans.emomix(self.base, dict(self.mix), strength, self.steps)

    def notes(self) -> list[str]:
        """Returns what a user should be told of the request before it runs."""
        found = []
        if self.mix is not None and sum(self.mix.values()) > 0:
            total = sum(self.mix.values())
            if abs(total - 1) > 1e-6:
                shares = ", ".join(f"{n} {w / total:.3g}" for n, w in self.mix.items())
                found.append(f"mix weights sum to {total:g}; normalised to {shares}")
        if self.strength is not None and self.strength > STRONGEST:
            found.append(f"strength {self.strength:g} is above {STRONGEST}: the base may vanish")
        return found


@dataclasses.dataclass(frozen=True)
class Conversion:
    """One converted utterance.

    Attributes:
        audio: mono waveform in [-1, 1].
        sample_rate_hz: of it.
        mel: the sampled log-mel.
        provenance: what made it, JSON-ready.
    """

    audio: Float[np.ndarray, " n"]
    sample_rate_hz: int
    mel: Float[np.ndarray, "f m"]
    provenance: dict[str, Any]

    @property
    def sample_rate(self) -> int:
        """The sample rate in Hz, under the name other audio libraries use."""
        return self.sample_rate_hz

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the audio (WAV or FLAC by suffix) and, beside it, `<path>.json` with provenance.

        Args:
            path: of the audio; its folder must exist.

        Raises:
            UsageError: a suffix other than .wav and .flac.
            EmoconvError: one of the two files cannot be written; then neither is left.
        """
        target = pathlib.Path(path)
        beside = target.with_name(target.name + ".json")
        partial = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            partial.write_text(json.dumps(self.provenance, indent=1) + "\n", encoding="utf-8")
            os.replace(partial, beside)
        except OSError as error:
            raise EmoconvError(f"{beside}: cannot be written ({error.strerror})") from None
        finally:
            partial.unlink(missing_ok=True)
        try:
            write_audio(target, self.audio, self.sample_rate_hz)
        except EmoconvError:
            beside.unlink()
            raise


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
    return config, load_banks(folder, config.recogniser.embedding)


def resolve(request: Request, banks: Banks) -> tuple[plans.EmotionPlan, Float[np.ndarray, "k e"]]:
    """Returns the plan of a request and the embedding of each of its conditions.

    Args:
        request: what to convert to.
        banks: of the bundle.

    Returns:
        The plan and [conditions, embedding].

    Raises:
        UsageError: an emotion the bundle does not know, or an arousal out of range.
    """
    plan = request.plan()
    vectors = [
        banks.arousal(float(request.arousal))
        if request.arousal is not None and name.startswith(AROUSAL_PREFIX)
        else banks.emotion(name)
        for name in plan.names
    ]
    return plan, np.stack(vectors)


class EmotionConverter:
    """Converts speech to another emotion with the networks of one bundle.

    Attributes:
        config: of the bundle.
        banks: its target embeddings.
    """

    def __init__(self, folder: pathlib.Path, config: BundleConfig, banks: Banks):
        """Loads every role. Use `from_pretrained`.

        Args:
            folder: of the bundle.
            config: of the bundle.
            banks: of the bundle.
        """
        self.config, self.banks = config, banks
        self.sampler = Sampler(config, load_variables(folder, "score_network", config))
        self.average_voice = AverageVoiceRole(
            config, load_variables(folder, "average_voice", config)
        )
        self.emotion = EmotionRole(config, load_variables(folder, "recogniser", config))
        self.speaker = SpeakerRole(config.speaker)
        self.vocoder = VocoderRole(config)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> "EmotionConverter":
        """Loads a bundle.

        Args:
            path: the bundle's folder.

        Returns:
            The converter.

        Raises:
            EmoconvError: not a bundle, or a part that does not fit its configuration.
        """
        folder = pathlib.Path(path)
        return cls(folder, *open_bundle(folder))

    def convert(
        self,
        source: str | os.PathLike[str] | Float[np.ndarray, " n"],
        *,
        on_step: Callable[[Any], None] | None = None,
        **request: Any,
    ) -> Conversion:
        """Converts one utterance.

        Args:
            source: an audio file, or a mono waveform at the bundle's sample rate, full scale 1.
            on_step: called with the number of each finished solver step.
            **request: the fields of `Request`.

        Returns:
            The conversion; its audio is as long as the source.

        Raises:
            UsageError: a request that makes no sense.
            EmoconvError: a source that cannot be read, or is no speech of 0.1 to 60 s.
        """
        wanted = Request(**request)
        plan, embeddings = self.resolve(wanted)
        start = self.config.diffusion.start if wanted.start is None else float(wanted.start)
        wanted = dataclasses.replace(wanted, start=start)
        rate_hz = self.config.mel.sample_rate_hz
        if isinstance(source, np.ndarray):
            audio, name = _checked(source, rate_hz), "waveform"
        else:
            audio = read_audio(source, rate_hz, max_seconds=MOST_SECONDS)
            name = pathlib.Path(source).name
        mel = self._sample(audio, plan, embeddings, wanted, start, on_step)
        converted = self.vocoder(mel)
        fitted = np.zeros(len(audio), np.float32)  # the mel drops the last samples of a hop
        fitted[: min(len(audio), len(converted))] = converted[: len(audio)]
        return Conversion(fitted, rate_hz, mel, self._provenance(name, wanted, plan))

    def resolve(self, request: Request) -> tuple[plans.EmotionPlan, Float[np.ndarray, "k e"]]:
        """Returns the plan of a request and the embedding of each of its conditions.

        Args:
            request: what to convert to.

        Returns:
            The plan and [conditions, embedding].

        Raises:
            UsageError: an emotion the bundle does not know, or an arousal out of range.
        """
        return resolve(request, self.banks)

    def _sample(
        self,
        audio: np.ndarray,
        plan: plans.EmotionPlan,
        embeddings: np.ndarray,
        request: Request,
        start: float,
        on_step: Callable[[Any], None] | None,
    ) -> np.ndarray:
        """Returns the converted log-mel of a waveform."""
        floor = log_floor(self.config)
        source = log_mel(audio, self.config.mel)
        mel, mask = pad(source, floor)
        voice, _ = pad(self.average_voice(source), 0.0)
        speaker = self.speaker(audio, self.config.mel.sample_rate_hz)
        keys = jax.random.split(jax.random.key(request.seed), 1)
        sampled = self.sampler(
            mel,
            voice,
            mask,
            speaker[None],
            embeddings,
            plan.weights,
            keys,
            solver=request.solver,
            segments=plan.segments(),
            start=start,
            on_step=on_step,
        )
        found = np.asarray(sampled)[0, : len(source)]
        if on_step is not None:
            jax.effects_barrier()  # all steps are told before the utterance is
        return found

    def _provenance(self, name: str, request: Request, plan: plans.EmotionPlan) -> dict[str, Any]:
        return {
            "notice": CAUTION,
            "software": f"emoconv {emoconv_jax.__version__}",
            "bundle": self.config.name,
            "licence": self.config.licence,
            "source": name,
            "request": dataclasses.asdict(request),
            "conditions": list(plan.names),
        }


def _checked(audio: np.ndarray, rate_hz: int) -> np.ndarray:
    """Returns a caller's waveform as float32, or refuses what a file would be refused for."""
    shortest, longest = SHORTEST_S * rate_hz, MOST_SECONDS * rate_hz
    if audio.ndim != 1 or not shortest <= len(audio) <= longest:
        raise EmoconvError(
            f"waveform: found shape {audio.shape}, allowed is one channel of "
            f"{math.ceil(shortest)} to {math.floor(longest)} samples"
        )
    peak = float(np.abs(audio, dtype=np.float64).max())
    if not SILENCE_PEAK <= peak <= 1.0:  # also refuses NaN
        raise EmoconvError(f"waveform: found peak {peak}, allowed is {SILENCE_PEAK:g} to 1")
    return audio.astype(np.float32)
