"""Times whole conversions: what a second of speech costs, and what plans, length and batches add.

    speed     conversions of one clip: every solver at several numbers of steps, from noise under
              one condition, and the bundle's own way
    plans     the sampler alone under a single emotion and under EmoMix's plan of two; the time
              that encoders and vocoder take would hide the difference
    memory    `emoconv convert` of a long file in a process of its own
    batches   eight clips as one batch against one after the other

Everything is run once to compile it, and then in turn, so that what else the machine does falls on
all alike.
"""

import dataclasses
import functools
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.writing import write_audio
from emoconv_jax.bench.report import check_out, save_section
from emoconv_jax.bench.timing import in_turn, watched
from emoconv_jax.bundles.format import read_config
from emoconv_jax.diffusion.solvers import SOLVERS
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.batching import Job, Stretch, sample_batch
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.encoders import log_floor
from emoconv_jax.inference.request import Request
from emoconv_jax.inference.resolved import resolve
from emoconv_jax.shapes import Float

SECTIONS = ("speed", "plans", "memory", "batches")
STEPS = (4, 6, 10, 30)
PLAN_STEPS = (10, 20, 30)
AROUSAL = 6.0
FROM_NOISE = {"latent": "noise", "guidance": 1.0}  # one condition, no inversion
OWN = "bundle"  # the bundle's own solver, latent and guidance
GOAL_RATIO, GOAL_BYTES = 1.45, 3e9


def tiled(
    audio: Float[np.ndarray, " n"], seconds: float | int, sample_rate_hz: int
) -> Float[np.ndarray, " _"]:
    """Returns a clip of a given length, repeated or cut.

    Args:
        audio: the clip.
        seconds: wanted.
        sample_rate_hz: of it.
    """
    samples = round(seconds * sample_rate_hz)
    return np.tile(audio, -(-samples // len(audio)))[:samples]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure on.

    Attributes:
        audio: the clip, at the bundle's sample rate.
        rounds: of measurement.
        steps: of `speed`.
        plan_steps: of `plans`.
        run_steps: of `memory` and `batches`.
        minutes: of the long file.
        clips: of `batches`.
        solvers: of `speed`.
    """

    audio: Float[np.ndarray, " n"]
    rounds: int = 3
    steps: tuple[int, ...] = STEPS
    plan_steps: tuple[int, ...] = PLAN_STEPS
    run_steps: int = 10
    minutes: float | int = 10
    clips: int = 8
    solvers: tuple[str, ...] = tuple(SOLVERS)


def measure(
    folder: str,
    settings: Settings,
    sections: Sequence[str] = SECTIONS,
    out: pathlib.Path | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """Measures conversions with a bundle.

    Args:
        folder: of the bundle.
        settings: what to measure on.
        sections: of SECTIONS.
        out: gets the report as JSON after each section; its other sections stay.
        log: takes each section's table.

    Returns:
        Section -> its figures.

    Raises:
        EmoconvError: no such bundle, a conversion that fails, or an `out` that is no report.
        OSError: `out` cannot be written.
    """
    check_out(out)
    converter = EmotionConverter.from_pretrained(folder)
    ways = {"speed": speed, "plans": plans, "batches": batches}
    found: dict[str, dict[str, Any]] = {}
    for name in sections:
        rows = long_file(folder, settings) if name == "memory" else ways[name](converter, settings)
        seconds = len(settings.audio) / converter.config.mel.sample_rate_hz
        found[name] = {
            "bundle_sha256": converter.sha256,
            "clip_s": seconds,
            "rounds": settings.rounds,
            "rows": rows,
        }
        save_section(out, name, found[name])
        log(table(name, rows))
    return found


def speed(converter: EmotionConverter, settings: Settings) -> list[dict[str, Any]]:
    """Returns seconds per second of audio, by solver and steps.

    Args:
        converter: of the bundle.
        settings: of the benchmark.

    Returns:
        One row per solver and number of steps: median, least and greatest.
    """

    def job(solver: str, steps: int) -> Callable[[], Any]:
        way = {} if solver == OWN else {"solver": solver, **FROM_NOISE}
        return lambda: converter.convert(settings.audio, arousal=AROUSAL, steps=steps, **way)

    names = [(solver, steps) for solver in (*settings.solvers, OWN) for steps in settings.steps]
    times = in_turn({name: job(*name) for name in names}, settings.rounds, "speed")
    clip_s = len(settings.audio) / converter.config.mel.sample_rate_hz
    return [
        {
            "solver": solver,
            "steps": steps,
            "runs_s": list(found.runs_s),
            "seconds_per_second": found.median_s / clip_s,
            "least": min(found.runs_s) / clip_s,
            "greatest": max(found.runs_s) / clip_s,
        }
        for (solver, steps), found in times.items()
    ]


def plans(converter: EmotionConverter, settings: Settings) -> list[dict[str, Any]]:
    """Returns what EmoMix's plan of two emotions costs over one of them, in the sampler.

    Args:
        converter: of the bundle.
        settings: of the benchmark.

    Returns:
        One row per number of steps and way (from noise under one condition; the bundle's own):
        ratio of medians, least and greatest of a round, and the ratio of network evaluations that
        the plans count.
    """
    rate_hz = converter.config.mel.sample_rate_hz
    audio, mel = settings.audio, log_mel(settings.audio, converter.config.mel)
    own = converter.emotion.hear(audio, rate_hz).embedding
    voice = converter.average_voice(mel, audio)
    stretch = Stretch(mel, voice, converter.speaker(audio, rate_hz), own)
    kinds = {
        "single": {"mix": {"happy": 1.0}},
        "emomix": {"mix": {"happy": 1.0}, "base": "neutral", "strength": 0.5},
    }
    ways = {"noise": FROM_NOISE, OWN: {}}
    jobs, counted = {}, {}
    for steps in settings.plan_steps:
        for way, fields in ways.items():
            for kind, target in kinds.items():
                request = Request(steps=steps, **target, **fields)
                resolved = resolve(request, converter.config, converter.banks)
                filled = resolved.request
                inverted = steps if filled.latent == "source" else 0
                counted[steps, way, kind] = inverted + resolved.plan().cost() * steps
                jobs[steps, way, kind] = functools.partial(
                    sample_batch,
                    converter.sampler,
                    [stretch],
                    Job(resolved, None, 1),
                    log_floor(converter.config),
                )
    times = in_turn(jobs, settings.rounds, "plans")
    rows = []
    for steps in settings.plan_steps:
        for way in ways:
            single, mixed = (steps, way, "single"), (steps, way, "emomix")
            ratio, least, greatest = times[mixed].over(times[single])
            rows.append(
                {
                    "steps": steps,
                    "way": way,
                    "single_s": list(times[single].runs_s),
                    "emomix_s": list(times[mixed].runs_s),
                    "ratio": ratio,
                    "least": least,
                    "greatest": greatest,
                    "counted": counted[mixed] / counted[single],
                }
            )
    return rows


def long_file(folder: str, settings: Settings) -> list[dict[str, Any]]:
    """Returns time and memory of `emoconv convert` for a long file.

    Args:
        folder: of the bundle.
        settings: of the benchmark.

    Returns:
        One row. The time includes the start, the loading and all compilation.

    Raises:
        EmoconvError: the command failed.
    """
    rate_hz = read_config(pathlib.Path(folder)).mel.sample_rate_hz
    with tempfile.TemporaryDirectory() as place:
        source = pathlib.Path(place) / "long.flac"
        write_audio(source, tiled(settings.audio, 60 * settings.minutes, rate_hz), rate_hz)
        words = ["convert", str(source), "--out", f"{place}/out", "--bundle", folder]
        words += ["--arousal", str(AROUSAL), "--steps", str(settings.run_steps)]
        spent_s, peak_bytes, _ = watched([sys.executable, "-m", "emoconv_jax.cli.main", *words])
    return [
        {
            "minutes": settings.minutes,
            "steps": settings.run_steps,
            "spent_s": spent_s,
            "seconds_per_second": spent_s / (60 * settings.minutes),
            "peak_bytes": peak_bytes,
        }
    ]


def batches(converter: EmotionConverter, settings: Settings) -> list[dict[str, Any]]:
    """Returns what clips cost as one batch, and one after the other.

    Args:
        converter: of the bundle.
        settings: of the benchmark.

    Returns:
        One row; its ratio is the batch's time over that of the single calls.
    """
    request = {"arousal": AROUSAL, "steps": settings.run_steps}
    clips = [settings.audio] * settings.clips

    def together() -> None:
        for _, one in converter.convert_many(clips, batch=settings.clips, **request):
            if isinstance(one, EmoconvError):
                raise one

    def apart() -> None:
        for clip in clips:
            converter.convert(clip, **request)

    times = in_turn({"batch": together, "single": apart}, settings.rounds, "batches")
    ratio, least, greatest = times["batch"].over(times["single"])
    return [
        {
            "clips": settings.clips,
            "steps": settings.run_steps,
            "batch_s": list(times["batch"].runs_s),
            "single_s": list(times["single"].runs_s),
            "ratio": ratio,
            "least": least,
            "greatest": greatest,
        }
    ]


def table(section: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a section's figures as lines of text.

    Args:
        section: its name.
        rows: its rows.
    """
    if section == "speed":
        steps = list(dict.fromkeys(row["steps"] for row in rows))
        lines = [f"{'seconds per second of audio':<28}" + "".join(f"{n:>8} steps" for n in steps)]
        for solver in dict.fromkeys(row["solver"] for row in rows):
            own = [row for row in rows if row["solver"] == solver]
            lines.append(f"{solver:<28}" + "".join(f"{r['seconds_per_second']:14.2f}" for r in own))
            spread = [f"{r['least']:.2f}..{r['greatest']:.2f}" for r in own]
            lines.append(" " * 28 + "".join(f"{text:>14}" for text in spread))
        return "\n".join(lines)
    if section == "plans":
        head = f"two emotions (EmoMix) over one, sampler only; aim: at most {GOAL_RATIO}"
        return "\n".join(
            [head]
            + [
                f"T = {r['steps']:<3} {r['way']:<8}{r['ratio']:6.2f}   "
                f"({r['least']:.2f} .. {r['greatest']:.2f}; evaluations {r['counted']:.2f})"
                for r in rows
            ]
        )
    (row,) = rows
    if section == "memory":
        return (
            f"a file of {row['minutes']:g} minutes, {row['steps']} steps: {row['spent_s']:.0f} s "
            f"({row['seconds_per_second']:.2f} s per second), peak {row['peak_bytes'] / 1e9:.2f} "
            f"GB; aim: under {GOAL_BYTES / 1e9:g} GB"
        )
    return (
        f"{row['clips']} clips, {row['steps']} steps: {statistics.median(row['batch_s']):.1f} s as "
        f"a batch, {statistics.median(row['single_s']):.1f} s one by one, ratio {row['ratio']:.2f} "
        f"({row['least']:.2f} .. {row['greatest']:.2f})"
    )
