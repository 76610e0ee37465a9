"""A conversion as a picture: source and result over one time axis, and the weights of the plan.

Colours are Okabe and Ito's, which the colour-blind can tell apart.

Source: colours, Okabe and Ito, Color Universal Design, 2008.
"""

import dataclasses
import itertools
import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emoconv_jax.audio.columns import LOG2_F0, VOICING
from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.pitch import frame_f0
from emoconv_jax.config import MelConfig
from emoconv_jax.diffusion.plan import EmotionPlan
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import replacing
from emoconv_jax.shapes import Float

FORMATS = {".png": "png", ".svg": "svg"}
MOST_SHOWN_S = 60.0
MOST_NAMED = 8  # conditions with a name in the legend
SIZE_INCHES, DOTS_PER_INCH = (10, 9.5), 110
INK, FAINT = "#1d2433", "#98a2b3"
BEFORE, AFTER, WANTED = "#56b4e9", "#d55e00", "#009e73"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
STYLES = ("-", "--", ":")
F0_TICKS_HZ = (75, 150, 300, 600)
F0_RANGE_HZ, LEVEL_RANGE_DB, MEL_RANGE = (60, 650), (-75, 0), (-11.5, 2.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """What is drawn.

    Attributes:
        title: above it.
        source: waveform before, at `settings.sample_rate_hz`.
        audio: waveform after.
        mel: log-mel after.
        plan: with as many frames as the mel, where it has frames.
        settings: of the mels.
        wanted: prosody asked for at each frame of the mel after, or None.
    """

    title: str
    source: Float[np.ndarray, " before"]
    audio: Float[np.ndarray, " n"]
    mel: Float[np.ndarray, "f m"]
    plan: EmotionPlan
    settings: MelConfig
    wanted: Float[np.ndarray, "f 3"] | None = None


def draw(picture: Picture, path: pathlib.Path, from_s: float = 0.0) -> None:
    """Draws mels, pitch, level and weights, whole or not at all.

    Args:
        picture: what to draw.
        path: of the picture, PNG or SVG by its suffix; its folder must exist.
        from_s: where it begins; at most MOST_SHOWN_S are shown.

    Raises:
        UsageError: another suffix.
        EmoconvError: the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: suffix {path.suffix!r}, allowed are {', '.join(FORMATS)}")
    settings, rate_hz = picture.settings, picture.settings.sample_rate_hz
    hop_s = settings.hop_samples / rate_hz
    first, last = round(from_s / hop_s), round((from_s + MOST_SHOWN_S) / hop_s)
    frames = slice(first, min(last, len(picture.mel)))
    before, after = (
        sound[first * settings.hop_samples : last * settings.hop_samples]
        for sound in (picture.source, picture.audio)
    )
    longest = max(len(before), len(after))  # they differ where the pace does
    span_s = (first * hop_s, first * hop_s + longest / rate_hz)
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots(5, 1, height_ratios=[2, 2, 1.2, 1.2, 1.4])
    # A title is text, not TeX: a file may be called "$x".
    figure.suptitle(picture.title, color=INK, fontsize=12, parse_math=False)
    for axis, mel, name in (
        (axes[0], log_mel(before, settings), "source"),
        (axes[1], picture.mel[frames], "conversion"),
    ):
        _draw_mel(axis, mel, (span_s[0], span_s[0] + len(mel) * hop_s))
        axis.set_ylabel(f"{name}\nmel bin", color=INK)
    for sound, colour, name in ((before, BEFORE, "source"), (after, AFTER, "conversion")):
        f0_hz = frame_f0(sound, rate_hz, settings.hop_samples)
        _draw_f0(axes[2], f0_hz, hop_s, span_s[0], color=colour, linewidth=2, label=name)
        level_db = _levels_db(sound, settings.hop_samples)
        times_s = span_s[0] + np.arange(len(level_db)) * hop_s
        axes[3].plot(times_s, level_db, color=colour, linewidth=1.2)
    if picture.wanted is not None:
        shown = picture.wanted[frames]
        f0_hz = np.where(shown[:, VOICING] > 0.5, 2.0 ** shown[:, LOG2_F0], 0.0)
        _draw_f0(axes[2], f0_hz, hop_s, span_s[0], color=WANTED, linewidth=1.2, label="asked")
    axes[2].set(yscale="log", ylim=F0_RANGE_HZ, ylabel="F0 (Hz)")
    axes[2].set_yticks(F0_TICKS_HZ, [str(tick) for tick in F0_TICKS_HZ])
    axes[2].minorticks_off()
    axes[2].legend(loc="upper right", ncols=3, fontsize=8, framealpha=0.8)
    axes[3].set(ylim=LEVEL_RANGE_DB, ylabel="level (dBFS)")
    for axis in axes[:4]:
        axis.set_xlim(span_s)
    for axis in axes[:3]:
        axis.tick_params(labelbottom=False)
    axes[3].set_xlabel("seconds")
    _draw_plan(axes[4], picture.plan, frames, span_s)
    for axis in axes[2:]:
        axis.grid(alpha=0.25)
    try:
        with replacing(path) as (partial,):
            figure.savefig(partial, dpi=DOTS_PER_INCH, format=FORMATS[path.suffix.lower()])
    except OSError as error:
        raise EmoconvError(f"{path}: cannot be written ({error.strerror})") from None


def _draw_mel(axis: Axes, mel: np.ndarray, span_s: tuple[float, float]) -> None:
    axis.imshow(
        mel.T,
        origin="lower",
        aspect="auto",
        extent=(*span_s, 0, mel.shape[1]),
        cmap="magma",
        vmin=MEL_RANGE[0],
        vmax=MEL_RANGE[1],
    )


def _draw_f0(axis: Axes, f0_hz: np.ndarray, hop_s: float, from_s: float, **look: Any) -> None:
    """Draws F0 at the middles of frames, with gaps where there is none."""
    times_s = from_s + (np.arange(len(f0_hz)) + 0.5) * hop_s
    axis.plot(times_s, np.where(f0_hz > 0, f0_hz, np.nan), **look)


def _draw_plan(axis: Axes, plan: EmotionPlan, frames: slice, span_s: tuple[float, float]) -> None:
    """Draws the weights over steps or, where they change within the utterance, over time."""
    if plan.frames is None:
        lines, where = plan.weights, np.arange(1, plan.steps + 2)
        axis.set(xlabel="solver step", xlim=(1, plan.steps + 1), ylabel="weight")
    else:
        lines = plan.weights[-1, :, frames].T  # of the last step, which decides the most
        where = np.linspace(*span_s, len(lines) + 1)
        axis.set(xlabel="seconds (weights of the last step)", xlim=span_s, ylabel="weight")
    order = np.argsort(-np.abs(lines).sum(axis=0), kind="stable")
    looks = itertools.product(STYLES, COLOURS)
    for rank, condition in enumerate(order):
        if not lines[:, condition].any():
            continue
        named = rank < MOST_NAMED
        style, colour = next(looks) if named else ("-", FAINT)
        axis.stairs(
            lines[:, condition],
            where,
            baseline=None,
            color=colour,
            linestyle=style,
            linewidth=2 if named else 1,
            label=_plain(plan.names[condition]) if named else None,
        )
    more = len(order) - MOST_NAMED
    axis.axhline(0, color=FAINT, linewidth=0.8)
    axis.margins(y=0.12)
    axis.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        fontsize=8,
        frameon=False,
        title=f"and {more} more" if more > 0 else None,
        title_fontsize=8,
    )


def _plain(name: str) -> str:
    """Returns a name as a legend takes it: no TeX, and no underscore that would hide it."""
    return name.replace("$", r"\$").removeprefix("_")


def _levels_db(audio: np.ndarray, hop_samples: int) -> np.ndarray:
    whole = audio[: max(1, len(audio) // hop_samples) * hop_samples].astype(np.float64)
    power = np.square(whole.reshape(-1, min(hop_samples, len(whole)))).mean(axis=1)
    return 10 * np.log10(power + 1e-10)
