"""Quality against steps: how far each solver is from its own limit, and what is heard of it.

    noise       the deterministic solvers from one start noise: log-mel distance to `heun` in 500
                steps from the same noise
    source      the same from the inverted source, each run with its own inversion; the reference
                has one of 500 steps
    brownian    `euler_maruyama`: distance to its own 500 steps along the same Brownian path
    posterior   `maximum_likelihood`, which has another limit and draws its own noise: mean and
                spread of every bin over many seeds

All on both spacings of the steps; `bench.distances` says what is computed.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.bench.distances import (
    BrownianPath,
    bins_over_seeds,
    distance_db,
    finite,
    spread_figures,
)
from emoconv_jax.bench.listeners import Listeners
from emoconv_jax.bench.report import check_out, save_section
from emoconv_jax.bench.solvers_table import draw, table
from emoconv_jax.bench.walking import Speech, Walk
from emoconv_jax.diffusion.grids import SPACINGS, Grid
from emoconv_jax.diffusion.solvers import DETERMINISTIC, SOLVERS
from emoconv_jax.files import read_json
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.request import Request

SECTIONS = ("noise", "source", "brownian", "posterior")
STEPS = (4, 6, 10, 20, 30, 50)
AROUSAL = 6.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        steps: of the runs, rising.
        reference_steps: of the limits.
        spacings: of the steps.
        seeds: of `posterior`.
        heard: of them, that are listened to.
        arousal: target.
        guidance: None is 1 from noise, as in the papers, and the bundle's own from the source.
        seed: of the other sections.
        listen: whether to vocode and to listen.
    """

    steps: tuple[int, ...] = STEPS
    reference_steps: int = 500
    spacings: tuple[str, ...] = SPACINGS
    seeds: int = 16
    heard: int = 2
    arousal: float = AROUSAL
    guidance: float | None = None
    seed: int = 0
    listen: bool = True


class Bench:
    """The sections, on one set of utterances."""

    def __init__(self, converter: EmotionConverter, speech: Sequence[Speech], settings: Settings):
        """Prepares.

        Args:
            converter: of the bundle.
            speech: to convert.
            settings: what to measure.
        """
        self.converter, self.speech, self.settings = converter, list(speech), settings
        self.listeners = Listeners() if settings.listen else None

    def run(self, section: str) -> dict[str, Any]:
        """Measures one section.

        Args:
            section: of SECTIONS.

        Returns:
            Its figures, JSON-ready.
        """
        ways = {"brownian": self._brownian, "posterior": self._posterior}
        with tqdm(desc=section, unit="evaluations") as bar:
            latent = "source" if section == "source" else "noise"
            guidance = self.settings.guidance
            if guidance is None and latent == "noise":
                guidance = 1.0
            target = Request(arousal=self.settings.arousal, latent=latent, guidance=guidance)
            walk = Walk(self.converter, self.speech, target, bar.update)
            bar.reset(self._evaluations(section, walk.conditions))
            found = ways.get(section, self._deterministic)(walk, latent)
        rate_hz = self.converter.config.mel.sample_rate_hz
        settings = dataclasses.asdict(self.settings) | {"guidance": walk.guidance}
        return {
            "bundle_sha256": self.converter.sha256,
            "settings": settings,
            "utterances": [
                {"name": one.name, "text": one.text, "seconds": len(one.audio) / rate_hz}
                for one in self.speech
            ],
            "notes": self.listeners.notes if self.listeners else ["nothing was listened to"],
            **found,
        }

    def baselines(self) -> dict[str, Any]:
        """Returns what is heard of the sources and of their log-mels through the vocoder."""
        mels = [log_mel(one.audio, self.converter.config.mel) for one in self.speech]
        sources = [one.audio for one in self.speech]
        return {
            "source": self._told(sources),
            "vocoder": self._told([self.converter.vocoder(mel) for mel in mels]),
        }

    def _evaluations(self, section: str, conditions: int) -> int:
        """Returns the network evaluations of a section, for the estimate of its time."""
        steps, spacings = self.settings.steps, len(self.settings.spacings)
        reference, total = self.settings.reference_steps, sum(self.settings.steps)
        if section == "posterior":
            return spacings * total * self.settings.seeds * conditions
        if section == "brownian":
            return (spacings * total + reference) * conditions
        runs = sum(SOLVERS[name].evaluations(n) for name in DETERMINISTIC for n in steps)
        inversions = 0
        if section == "source":
            asked = sum(SOLVERS[name].scores_per_step for name in DETERMINISTIC)
            inversions = spacings * total * asked + reference * SOLVERS["heun"].scores_per_step
        whole = spacings * runs + SOLVERS["heun"].evaluations(reference)
        return whole * conditions + inversions

    def _deterministic(self, walk: Walk, latent: str) -> dict[str, Any]:
        settings = self.settings
        drawn = walk.from_noise(settings.seed)[0]

        def start(grid: Grid, solver: str) -> jax.Array:
            return walk.inverted(grid, solver) if latent == "source" else drawn

        grid = walk.grid(settings.reference_steps, SPACINGS[0])
        reference = walk("heun", grid, start(grid, "heun"))
        rows = []
        for spacing in settings.spacings:
            for steps in settings.steps:
                grid = walk.grid(steps, spacing)
                for solver in DETERMINISTIC:
                    found = walk(solver, grid, start(grid, solver))
                    evaluations = SOLVERS[solver].evaluations(steps)
                    if latent == "source":
                        evaluations += SOLVERS[solver].scores_per_step * steps
                    row = self._row(solver, spacing, steps, evaluations)
                    rows.append(row | _distances(found, reference, walk) | self._heard(walk, found))
        return self._with_reference(walk, reference, rows)

    def _brownian(self, walk: Walk, _: str) -> dict[str, Any]:
        settings, name = self.settings, "euler_maruyama"
        state = walk.from_noise(settings.seed)[0]
        fine = walk.grid(settings.reference_steps, SPACINGS[0])
        grids = {
            (spacing, steps): walk.grid(steps, spacing)
            for spacing in settings.spacings
            for steps in settings.steps
        }
        path = BrownianPath(settings.seed, [fine, *grids.values()], walk.mel.shape)
        reference = walk(name, fine, state, path.noise(fine))
        rows = []
        for (spacing, steps), grid in grids.items():
            found = walk(name, grid, state, path.noise(grid))
            row = self._row(name, spacing, steps, steps)
            rows.append(row | _distances(found, reference, walk) | self._heard(walk, found))
        return self._with_reference(walk, reference, rows)

    def _posterior(self, walk: Walk, _: str) -> dict[str, Any]:
        settings, name = self.settings, "maximum_likelihood"
        rows, limit = [], None
        for spacing in settings.spacings:
            for steps in sorted(settings.steps, reverse=True):
                grid, runs = walk.grid(steps, spacing), []
                for seed in range(settings.seeds):
                    state, noise = walk.from_noise(seed)
                    runs.append(walk(name, grid, state, noise))
                means, spreads = bins_over_seeds(np.stack(runs))
                limit = means if limit is None else limit
                row = self._row(name, spacing, steps, steps)
                row |= spread_figures(means, spreads, limit, walk.mask, settings.seeds)
                rows.append(row | self._heard(walk, *runs[: settings.heard]))
        return {"baselines": self.baselines(), "rows": rows}

    def _row(self, solver: str, spacing: str, steps: int, evaluations: int) -> dict[str, Any]:
        return {"solver": solver, "spacing": spacing, "steps": steps, "evaluations": evaluations}

    def _with_reference(
        self, walk: Walk, reference: np.ndarray, rows: list[dict[str, Any]]
    ) -> dict[str, Any]:
        moved = finite(distance_db(walk.mel, reference, walk.mask).tolist())
        return {
            "baselines": self.baselines() | {"reference": self._heard(walk, reference)},
            "source_to_reference_db": moved,
            "rows": rows,
        }

    def _heard(self, walk: Walk, *runs: np.ndarray) -> dict[str, float | None]:
        """Returns what is heard of log-mels, each of all utterances."""
        if self.listeners is None:
            return {}
        if not all(np.isfinite(found).all() for found in runs):  # a run that blew up
            return {"mos": None, "wer": None}
        return self._told(
            [
                self.converter.vocoder(mel[:frames])
                for found in runs
                for mel, frames in zip(found, walk.frames, strict=True)
            ]
        )

    def _told(self, sounds: Sequence[np.ndarray]) -> dict[str, float | None]:
        """Returns mean DNSMOS and WER of sounds that are the utterances, once or several times."""
        if self.listeners is None:
            return {}
        rate_hz = self.converter.config.mel.sample_rate_hz
        texts = [self.speech[i % len(self.speech)].text for i in range(len(sounds))]
        scores = [self.listeners.mos(sound, rate_hz) for sound in sounds]
        heard = zip(sounds, texts, strict=True)
        errors = [self.listeners.word_errors(sound, rate_hz, text) for sound, text in heard]
        known = [score for score in scores if score is not None]
        counted = [one for one in errors if one is not None]
        return {
            "mos": float(np.mean(known)) if known else None,
            "wer": sum(e for e, _ in counted) / sum(n for _, n in counted) if counted else None,
        }


def _distances(found: np.ndarray, reference: np.ndarray, walk: Walk) -> dict[str, Any]:
    each = distance_db(found, reference, walk.mask)
    return {"distance_db": finite(float(np.median(each))), "each_db": finite(each.tolist())}


def measure(
    bench: Bench,
    sections: Sequence[str] = SECTIONS,
    out: pathlib.Path | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """Measures sections and draws them.

    Args:
        bench: of a bundle and some utterances.
        sections: of SECTIONS.
        out: gets the report as JSON after each section, whose other sections stay; a PNG of all its
            sections lies beside it.
        log: takes each section's table.

    Returns:
        Section -> its figures.

    Raises:
        EmoconvError: an `out` that is no report.
        OSError: it cannot be written.
    """
    check_out(out)
    found = {}
    for name in sections:
        found[name] = bench.run(name)
        save_section(out, name, found[name])
        log(table(name, found[name]))
    if out is not None:
        draw(read_json(out, "expected a report"), out.with_suffix(".png"))
    return found
