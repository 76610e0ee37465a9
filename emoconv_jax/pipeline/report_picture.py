"""The figures of a feature folder as one picture, 16:9, for a slide.

Colours are corpora, everywhere; they are Okabe and Ito's, which the colour-blind can tell apart,
and every stack is in the order of the legend. Where there are more corpora than colours, the
smallest share the last one.

Source: colours, Okabe and Ito, Color Universal Design, 2008.
"""

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from emoconv_jax.config import EMOTIONS, TRAINING_SPLITS
from emoconv_jax.pipeline.report import Distribution, Figures, Report, duration, plain_name

SIZE_INCHES, DOTS_PER_INCH = (16, 9), 120
INK, FAINT = "#1d2433", "#667085"
COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"),
    "#4d4d4d",
)
# what splits are for -> (which, how strong the corpus's colour is)
USES = {
    "training": (TRAINING_SPLITS, 1.0),
    "validation": (("validation",), 0.55),
    "test": (("test",), 0.25),
}
NAME_LETTERS = 16
F0_TICKS_HZ = (60.0, 75.0, 100.0, 150.0, 200.0, 300.0, 400.0, 600.0, 800.0)
LENGTH_TICKS_S = tuple(2.0**power for power in range(-4, 11))
ROUND = (1, 2, 2.5, 5, 10)  # steps of ticks that count
MARGIN_BINS = 3  # left empty on both sides of what a histogram holds


@dataclasses.dataclass(frozen=True)
class _Layer:
    """One colour of the stacks: a corpus, or the small ones together."""

    name: str
    colour: str
    figures: list[Figures]

    def total(self, value: Callable[[Figures], float]) -> float:
        return float(sum(value(f) for f in self.figures))


@dataclasses.dataclass(frozen=True)
class _Panel:
    """How one distribution is shown: its field of `Figures`, texts, and ticks of a log scale."""

    name: str
    title: str
    label: str
    absent: str
    note: Callable[[Figures], str]
    ticks: Sequence[float] = ()

    def of(self, figures: Figures) -> Distribution | None:
        return getattr(figures, self.name)


def _rating_note(figures: Figures) -> str:
    if figures.arousal is None:
        return ""
    return f"{figures.rated / figures.arousal.count:.0%} given by the corpus"


def _length_note(figures: Figures) -> str:
    return f"median {figures.length_s.median:.1f} s" if figures.length_s else ""


def _level_note(figures: Figures) -> str:
    deviation_db = figures.speaker_level_deviation_db
    return "" if deviation_db is None else f"± {deviation_db:.1f} dB within a speaker"


def _pitch_note(figures: Figures) -> str:
    return f"{figures.unvoiced / figures.utterances:.1%} of utterances hardly voiced"


PANELS = (
    _Panel(
        "arousal",
        "Arousal",
        "arousal label, 1 (calm) to 7 (excited)",
        "no arousal labels",
        _rating_note,
    ),
    _Panel("length_s", "Length", "length (s)", "", _length_note, LENGTH_TICKS_S),
    _Panel("level_db", "Level", "level of active speech (dBFS)", "", _level_note),
    _Panel("f0_hz", "Pitch", "median F0 (Hz)", "nothing voiced", _pitch_note, F0_TICKS_HZ),
)


def draw(report: Report, path: pathlib.Path) -> None:
    """Draws hours, emotions, arousal, length, level and pitch, stacked by corpus.

    Args:
        report: of the feature folder.
        path: of the PNG, which is overwritten.
    """
    layers, overall = _layers(report), report.overall
    picture = Picture(figsize=SIZE_INCHES, layout="constrained")
    picture.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.04)
    axes = picture.subplots(2, 3).ravel()
    picture.suptitle(_headline(report), color=INK, fontsize=19, fontweight="bold")
    _draw_hours(axes[0], layers)
    _draw_emotions(axes[1], layers, overall)
    for axis, panel in zip(axes[2:], PANELS, strict=True):
        _heading(axis, panel.title, panel.note(overall))
        _draw_histogram(axis, layers, panel, overall)
    if len(layers) > 1:
        patches = [Patch(color=layer.colour, label=layer.name) for layer in layers]
        legend = picture.legend(
            handles=patches, loc="outside lower center", ncols=8, frameon=False, fontsize=11
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box says as much
        picture.savefig(path, dpi=DOTS_PER_INCH, format="png")


def _headline(report: Report) -> str:
    figures, corpora = report.overall, len(report.corpora)
    counts = ((corpora, "corpus", "corpora"), (figures.speakers, "speaker", "speakers"))
    counts += ((figures.utterances, "utterance", "utterances"),)
    parts = [f"{n:,} {one if n == 1 else many}" for n, one, many in counts]
    return "  ·  ".join([*parts, duration(figures.hours)])


def _layers(report: Report) -> list[_Layer]:
    """Returns the corpora, largest first, the smallest together where colours run out."""
    ranked = sorted(report.corpora.items(), key=lambda item: -item[1].hours)
    own = ranked if len(ranked) <= len(COLOURS) else ranked[: len(COLOURS) - 1]
    layers = [
        _Layer(plain_name(name, NAME_LETTERS), colour, [figures])
        for (name, figures), colour in zip(own, COLOURS, strict=False)
    ]
    rest = ranked[len(own) :]
    if rest:
        layers.append(_Layer(f"{len(rest)} smaller", COLOURS[-1], [figures for _, figures in rest]))
    return layers


def _draw_hours(axis: Axes, layers: Sequence[_Layer]) -> None:
    """Draws a bar per corpus, its colour the paler the further from training."""
    rows = np.arange(len(layers))
    total = np.array([layer.total(lambda f: f.hours) for layer in layers])
    unit, sign, scale = ("hours", "h", 1) if total.max() >= 0.5 else ("minutes", "min", 60)
    colours = [layer.colour for layer in layers]
    left = np.zeros(len(layers))
    for names, strength in USES.values():
        hours = np.array([_hours_of(layer, names) for layer in layers]) * scale
        shades = [_mixed(colour, strength) for colour in colours]
        axis.barh(rows, hours, 0.7, left, color=shades, edgecolor=colours, linewidth=0.8)
        left += hours
    ends = total * scale
    axis.barh(
        rows, ends - left, 0.7, left, color="white", edgecolor=colours, linewidth=0.8, hatch="////"
    )
    for row, layer in enumerate(layers):
        voices = int(layer.total(lambda f: f.speakers))
        text = f" {ends[row]:,.2f} {sign}, {voices:,} speaker{'s' * (voices != 1)}"
        axis.text(ends[row], row, text, va="center", color=INK, fontsize=10)
    axis.set_xlim(0, ends.max() * 1.6)  # room for the text beside the longest bar
    middle, half = (len(layers) - 1) / 2, max(len(layers), 4) / 2  # no bar as high as the panel
    axis.set_ylim(middle + half, middle - half)
    axis.set_yticks(rows, [layer.name for layer in layers], parse_math=False)
    axis.set_xlabel(unit)
    _heading(axis, "Speech")
    grey = "#555555"
    patches = [
        Patch(facecolor=_mixed(grey, s), edgecolor=grey, label=n) for n, (_, s) in USES.items()
    ]
    patches.append(Patch(facecolor="white", edgecolor=grey, hatch="////", label="unused"))
    axis.legend(
        handles=patches, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4, frameon=False
    )
    _finish(axis, "x")


def _hours_of(layer: _Layer, splits: Sequence[str]) -> float:
    return layer.total(lambda f: sum(f.split_hours.get(name, 0.0) for name in splits))


def _draw_emotions(axis: Axes, layers: Sequence[_Layer], overall: Figures) -> None:
    """Draws a bar per emotion, stacked by corpus."""
    rows, left = np.arange(len(EMOTIONS)), np.zeros(len(EMOTIONS))
    labelled = sum(overall.emotions[name] for name in EMOTIONS)
    _heading(axis, "Emotions", f"{labelled / overall.utterances:.0%} of utterances labelled")
    if not labelled:
        _say_nothing(axis, "no emotion labels")
        return
    for layer in layers:
        counts = np.array([layer.total(lambda f, n=name: f.emotions[n]) for name in EMOTIONS])
        axis.barh(rows, counts, 0.75, left, color=layer.colour, edgecolor="white", linewidth=0.5)
        left += counts
    for row, count in enumerate(left):
        axis.text(count, row, f" {int(count):,}", va="center", color=INK, fontsize=10)
    axis.set_xlim(0, left.max() * 1.18)
    axis.set_ylim(len(EMOTIONS) - 0.5, -0.5)
    axis.set_yticks(rows, EMOTIONS)
    axis.set_xlabel("utterances")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=ROUND))
    _finish(axis, "x")


def _draw_histogram(axis: Axes, layers: Sequence[_Layer], panel: _Panel, overall: Figures) -> None:
    """Draws the histogram of one quantity stacked by corpus."""
    whole = panel.of(overall)
    if whole is None:
        _say_nothing(axis, panel.absent)
        return
    edges, bottom = np.array(whole.edges), np.zeros(len(whole.counts))
    for layer in layers:
        known = [d for d in map(panel.of, layer.figures) if d is not None]
        counts = np.sum([d.counts for d in known], axis=0) if known else np.zeros_like(bottom)
        at = np.flatnonzero(counts)  # every bar costs time
        axis.bar(
            edges[at],
            counts[at],
            np.diff(edges)[at],
            bottom[at],
            align="edge",
            color=layer.colour,
            edgecolor="white",
            linewidth=0.4,
        )
        bottom += counts
    low, high = 0, len(edges) - 1
    if panel.name != "arousal":  # whose whole scale is of interest
        filled = np.flatnonzero(bottom)
        low, high = max(filled[0] - MARGIN_BINS, 0), min(filled[-1] + 1 + MARGIN_BINS, high)
    if panel.ticks:
        axis.set_xscale("log")
        axis.minorticks_off()
        axis.set_xticks(panel.ticks, [f"{tick:g}" for tick in panel.ticks])
    else:
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axis.set_xlim(edges[low], edges[high])
    axis.set_xlabel(panel.label)
    axis.set_ylabel("utterances")
    axis.set_ylim(0, bottom.max() * 1.06)
    axis.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=ROUND))
    _finish(axis, "y")


def _heading(axis: Axes, title: str, note: str = "") -> None:
    axis.set_title(title, loc="left", color=INK, fontsize=14, fontweight="bold")
    axis.set_title(note, loc="right", color=FAINT, fontsize=11)


def _say_nothing(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", color=FAINT, fontsize=13)
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_color("#d8dce5")


def _finish(axis: Axes, counting: str) -> None:
    """Leaves two spines and a faint grid along the axis that counts."""
    scale = axis.xaxis if counting == "x" else axis.yaxis
    scale.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.grid(axis="x" if counting == "x" else "y", alpha=0.25)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=INK, labelsize=10.5)


def _mixed(colour: str, strength: float) -> tuple[float, float, float]:
    """Returns a colour mixed with white, `strength` of it from 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return (
        1 - strength * (1 - red),
        1 - strength * (1 - green),
        1 - strength * (1 - blue),
    )
