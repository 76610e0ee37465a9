"""Which loss, and what else, helps: small score networks trained alike but for one setting.

    score       L_s alone                                   EmoConv-Diff's ablation
    xt          L_s + L_m(X_t)
    tweedie     L_s + lambda_t L_m(X0_hat), its proposal
    velocity    tweedie with the velocity head              ours
    style       tweedie with EmoMix's style loss

The first three, and style, have the reference's score head. Every variant is trained from several
seeds, on crops; the running average of the parameters then converts validation clips from noise to
arousal 1 to 7, without guidance and with it. A recogniser that no training has used hears the
log-mels, each at the loudness of its source, since a gain is not an emotion. Some are spoken by the
bundle's vocoder, and DNSMOS hears those: a distorted voice can also be an excited one.

Source: the losses and their ablation Prabhu et al., EmoConv-Diff (arXiv 2309.07828), who find that
reconstruction of X0_hat helps at the ends of the scale, and that of X_t harms.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from scipy.special import logsumexp

from emoconv_jax.bundles.banks import LEVELS
from emoconv_jax.bundles.format import BundleConfig, check_mel, fingerprint, read_config
from emoconv_jax.config import TrainingConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation import statistics
from emoconv_jax.evaluation.rows import collect
from emoconv_jax.evaluation.subjects import choose
from emoconv_jax.inference.batching import Job, Stretch, sample_batch
from emoconv_jax.inference.encoders import EmotionRole, VocoderRole, log_floor
from emoconv_jax.inference.request import Request
from emoconv_jax.inference.resolved import resolve
from emoconv_jax.inference.sampling import Sampler
from emoconv_jax.listeners.naturalness import DNSMOS_NEEDS, Dnsmos
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.training import selection
from emoconv_jax.training.loop import Care, train
from emoconv_jax.training.target_banks import banks_of
from emoconv_jax.training.trainees import make_trainee

STYLE_WEIGHT = 0.1
VARIANTS: dict[str, dict[str, Any]] = {
    "score": {"loss": "score"},
    "xt": {"loss": "xt"},
    "tweedie": {"loss": "tweedie"},
    "velocity": {"loss": "tweedie", "head": "velocity"},
    "style": {"loss": "tweedie", "style_weight": STYLE_WEIGHT},
}
GUIDANCES = (1.0, 2.0)
ENDS, MIDDLE = (0, 6), (2, 3, 4)  # places of the levels 1 and 7, and 3 to 5
SPOKEN = (1, 4, 7)  # levels that DNSMOS hears
FIGURES = ("l_abs", "l_mse", "l_abs_ends", "l_abs_middle", "tau", "slope", "ovrl", "clips")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every run has in common.

    Attributes:
        bundle: whose recogniser encoded the features; the style loss reads its maps, and its
            vocoder speaks.
        width: of the score network.
        frames: of a crop.
        batch: examples per step.
        steps: of training.
        learning_rate: of Adam.
        clips: validation utterances that are converted.
        spoken: the first of them, whose conversions to SPOKEN are heard by DNSMOS.
        solver_steps: of a conversion.
        seeds: runs of each variant.
    """

    bundle: str
    width: int = 24
    frames: int = 64
    batch: int = 16
    steps: int = 800
    learning_rate: float = 1e-3
    clips: int = 12
    spoken: int = 6
    solver_steps: int = 8
    seeds: int = 3


def training_of(variant: str, seed: int, settings: Settings) -> TrainingConfig:
    """Returns the configuration of a run.

    Args:
        variant: of VARIANTS.
        seed: of the run.
        settings: of all.
    """
    changed = dict(VARIANTS[variant])
    network = {
        "width": settings.width,
        "condition_width": 64,
        "head": changed.pop("head", "score"),
    }
    if "style_weight" in changed:
        changed["style_recogniser"] = settings.bundle
    return TrainingConfig(
        trainee="score_network",
        network=network,
        batch=settings.batch,
        frames=settings.frames,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        ema=0.995,
        seed=seed,
        **changed,
    )


@dataclasses.dataclass(frozen=True)
class Row:
    """What was heard of one run.

    Attributes:
        variant: of VARIANTS.
        seed: of the training.
        guidance: of the conversions.
        figures: FIGURES, means over those clips that were converted to numbers at every target, and
            how many these are; NaN where there is none, and for OVRL without DNSMOS.
    """

    variant: str
    seed: int
    guidance: float
    figures: dict[str, float]


class Listening:
    """Converts the same clips with any score network and lets the judges hear them."""

    def __init__(
        self, store: FeatureStore, judge: EmotionRole, dnsmos: Dnsmos | None, settings: Settings
    ):
        """Reads the clips.

        Args:
            store: encoded features.
            judge: hears log-mels.
            dnsmos: hears speech; None where it is not installed.
            settings: of all runs.
        """
        self.judge, self.settings, self.banks = judge, settings, banks_of(store)
        bundle = pathlib.Path(settings.bundle)
        self.dnsmos, self.vocoder = dnsmos, VocoderRole(read_config(bundle), bundle)
        self.mel = store.mel_config
        self.samplers: dict[Any, Sampler] = {}  # runs of one network share what is compiled
        speaker, emotion = store.array("speaker"), store.array("emotion")
        self.clips = [
            Stretch(
                mel=store.frames_of("mel", i).astype(np.float32),
                average_voice=store.frames_of("average_voice", i).astype(np.float32),
                speaker=np.array(speaker[i]),
                emotion=np.array(emotion[i]),
            )
            for i in choose(store, "validation", settings.clips, seed=0)
        ]

    def heard(self, network: Any, params: Any, guidance: float) -> dict[str, float]:
        """Returns FIGURES of one network.

        Args:
            network: its configuration.
            params: its parameters.
            guidance: of the conversions.
        """
        config = BundleConfig("ablation", "", mel=self.mel, score_network=network)
        if network not in self.samplers:  # on one device, which a batch of one is not divided over
            self.samplers[network] = Sampler(config, {}, devices=jax.local_devices()[:1])
        sampler = self.samplers[network]
        sampler.variables = {"params": params}
        found, qualities = np.zeros((len(self.clips), len(LEVELS))), []
        for place, level in enumerate(LEVELS):
            request = Request(
                arousal=float(level),
                latent="noise",
                guidance=guidance,
                steps=self.settings.solver_steps,
            )
            job = Job(resolve(request, config, self.banks), None, 1)
            for row, clip in enumerate(self.clips):
                (mel,) = sample_batch(sampler, [clip], job, log_floor(config))
                if not np.isfinite(mel).all():
                    found[row, place] = np.nan
                    continue
                mel = at_loudness_of(clip.mel, mel)
                found[row, place] = self.judge(mel).arousal
                if self.dnsmos and level in SPOKEN and row < self.settings.spoken:
                    speech = self.vocoder(mel)
                    qualities.append(self.dnsmos(speech, self.mel.sample_rate_hz)[1])
        return figures(found, qualities)


def at_loudness_of(source: np.ndarray, mel: np.ndarray) -> np.ndarray:
    """Returns a log-mel with the loudness of another.

    Args:
        source: log-mel.
        mel: likewise.
    """
    wanted, own = (logsumexp(one) - np.log(one.size) for one in (source, mel))
    return mel + (wanted - own)


def figures(heard: np.ndarray, qualities: Sequence[float]) -> dict[str, float]:
    """Returns FIGURES of what was heard.

    Args:
        heard: arousal of each clip at each of LEVELS, NaN where a conversion blew up.
        qualities: OVRL of what was spoken.
    """
    asked, known = np.array(LEVELS, np.float64), heard[np.isfinite(heard).all(axis=1)]
    if not len(known):
        return dict.fromkeys(FIGURES, float("nan")) | {"clips": 0.0}
    squared, absolute = statistics.arousal_errors(asked, known)
    parts = [
        statistics.arousal_errors(asked[list(places)], known[:, list(places)])[1]
        for places in (ENDS, MIDDLE)
    ]
    taus, slopes = statistics.taus(asked, known), statistics.slopes(asked, known)
    ovrl = np.mean(qualities) if len(qualities) else np.nan
    values = (absolute, squared, *parts, taus, slopes, ovrl, len(known))
    return {name: float(np.mean(one)) for name, one in zip(FIGURES, values, strict=True)}


def measure(
    store: FeatureStore,
    judge: pathlib.Path,
    out: pathlib.Path,
    settings: Settings,
    variants: Sequence[str] = tuple(VARIANTS),
    log: Callable[[str], None] = print,
) -> list[Row]:
    """Trains and measures all runs that a folder lacks.

    Args:
        store: encoded features.
        judge: bundle of a recogniser that no training has used.
        out: gets a row per run and guidance, the runs themselves and `summary.json`; an interrupted
            measurement goes on.
        settings: of all runs.
        variants: of VARIANTS.
        log: takes lines.

    Returns:
        A row per variant, seed and guidance.

    Raises:
        EmoconvError: a judge that conditions or has another mel, no maps for the style loss, no
            clip of an unseen voice in `validation`, a folder of another judge, other features or
            settings, or a training that was stopped.
    """
    bundle = pathlib.Path(settings.bundle)
    asked = dataclasses.asdict(settings)
    del asked["seeds"]  # more of them may follow
    about = asked | {
        "bundle_sha256": fingerprint(bundle),
        "judge_sha256": fingerprint(judge),
        "data": selection.fingerprint(store, np.arange(len(store.utterances))),
    }
    if about["judge_sha256"] == about["bundle_sha256"]:
        raise EmoconvError(f"{judge}: conditions the runs, so it cannot judge them")
    recogniser = EmotionRole.from_bundle(judge)
    check_mel(recogniser.mel, store.mel_config, f"{judge}: mel", "the features' mel")
    for variant in variants:
        make_trainee(training_of(variant, 0, settings))  # refuses before the first run
    listening = Listening(store, recogniser, _dnsmos(log), settings)

    @functools.lru_cache(maxsize=1)
    def trained(variant: str, seed: int) -> tuple[Any, Any]:
        config, folder = training_of(variant, seed, settings), out / "runs" / f"{variant}_{seed}"
        care = Care(listen=0, validate=0, report=max(1, settings.steps // 10))
        # so small a network gains nothing by more devices, and their number need not divide a batch
        state = train(config, store, folder, care=care, devices=jax.local_devices()[:1], log=log)
        if int(state.step) < config.steps:  # a signal ends a training without an error
            raise EmoconvError(
                f"{folder}: stopped after step {int(state.step)} of {config.steps}; the same "
                "command goes on"
            )
        network = make_trainee(config).network_config
        return network, jax.tree.map(np.asarray, state.ema_params)

    def row(variant: str, seed: int, guidance: float) -> Row:
        return Row(variant, seed, guidance, listening.heard(*trained(variant, seed), guidance))

    jobs = {
        (variant, seed, guidance): functools.partial(row, variant, seed, guidance)
        for seed in range(settings.seeds)
        for variant in variants
        for guidance in GUIDANCES
    }
    rows = collect(out, about, Row, lambda r: (r.variant, r.seed, r.guidance), jobs, "runs")
    statistics.save(out, about | {"rows": [_json_of(row) for row in rows]})
    return rows


def _json_of(row: Row) -> dict[str, Any]:
    """Returns a row with None where there is no figure."""
    known = {name: one if np.isfinite(one) else None for name, one in row.figures.items()}
    return dataclasses.asdict(row) | {"figures": known}


def _dnsmos(log: Callable[[str], None]) -> Dnsmos | None:
    """Returns DNSMOS; None, and says so, where it is not installed."""
    try:
        return Dnsmos()
    except ModuleNotFoundError as error:
        log(f"DNSMOS: absent, {error.name} is not installed; {DNSMOS_NEEDS}")
        return None


def table(rows: Sequence[Row]) -> str:
    """Returns mean and spread over seeds, and the clips of each, as a Markdown table.

    Args:
        rows: of `measure`.
    """
    lines = [
        "| variant, guidance | " + " | ".join(name.replace("_", " ") for name in FIGURES) + " |",
        "|---" * (len(FIGURES) + 1) + "|",
    ]
    groups = dict.fromkeys((row.variant, row.guidance) for row in rows)
    for variant, guidance in sorted(groups, key=lambda g: (list(VARIANTS).index(g[0]), g[1])):
        own = [r for r in rows if (r.variant, r.guidance) == (variant, guidance)]
        cells = []
        for name in FIGURES[:-1]:
            values = np.array([row.figures[name] for row in own])
            spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3f}{spread}")
        cells.append(", ".join(f"{row.figures['clips']:.0f}" for row in own))
        lines.append(f"| {variant}, {guidance:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
