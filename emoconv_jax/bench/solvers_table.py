"""What was measured of solvers as lines of text and as a picture."""

import math
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from emoconv_jax.files import replacing

DISTANCES = ("noise", "source", "brownian")  # sections whose rows have a distance
FIGURES = {
    "distance_db": ("log-mel distance (dB), median", "{:.2f}"),
    "shift_db": ("distance of the mean (dB)", "{:.2f}"),
    "chance_db": ("the same by chance", "{:.2f}"),
    "spread_db": ("spread over seeds (dB)", "{:.2f}"),
    "mos": ("DNSMOS", "{:.2f}"),
    "wer": ("WER, rough", "{:.2f}"),
}
STYLES = {"uniform_t": "-", "log_snr": "--"}
ACROSS = 3  # panels of the picture
TICKS = (4, 6, 10, 20, 30, 50, 100, 200)
COLOURS = ("#1d2433", "#c2410c", "#2563a8", "#15803d", "#a21caf", "#b45309")


def table(section: str, found: Mapping[str, Any]) -> str:
    """Returns a section as lines of text: one line per solver and spacing, one column per steps.

    Args:
        section: its name.
        found: its figures, of `solvers.Bench.run`.
    """
    rows = found["rows"]
    steps = sorted({row["steps"] for row in rows})
    lines = [f"{section}: {_counted(found)}, guidance {found['settings']['guidance']:g}"]
    for key, (title, style) in FIGURES.items():
        if all(row.get(key) is None for row in rows):
            continue
        lines.append(f"{title:<38}" + "".join(f"{n:>8}" for n in steps))
        for line in dict.fromkeys((row["solver"], row["spacing"]) for row in rows):
            own = {r["steps"]: r for r in rows if (r["solver"], r["spacing"]) == line}
            cells = (_cell(own.get(n, {}).get(key), style) for n in steps)
            name = f"  {line[0]}, {line[1]}"
            lines.append(f"{name:<38}" + "".join(f"{cell:>8}" for cell in cells))
    for name, heard in found["baselines"].items():
        told = [
            f"{FIGURES[key][0]} {FIGURES[key][1].format(value)}"
            for key, value in heard.items()
            if value is not None
        ]
        lines += [f"{name}: {', '.join(told)}"] if told else []
    if "source_to_reference_db" in found:
        moved = statistics.median(found["source_to_reference_db"])
        lines.append(f"the reference is {moved:.1f} dB from the source")
    return "\n".join(lines + found["notes"])


def _counted(found: Mapping[str, Any]) -> str:
    count = len(found["utterances"])
    return f"{count} utterance{'' if count == 1 else 's'}"


def _cell(value: float | None, style: str) -> str:
    """Returns a figure; a dash where a run has blown up or nothing was heard."""
    return "-" if value is None else style.format(value)


def draw(report: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws the sections of a report that are there.

    Args:
        report: section -> its figures.
        path: of the PNG.
    """
    distances = [name for name in DISTANCES if name in report]
    panels = len(distances) + 2 * ("posterior" in report)
    if not panels:
        return
    across, down = min(panels, ACROSS), -(-panels // ACROSS)
    figure = Figure(figsize=(5.2 * across, 4.6 * down), layout="constrained")
    axes = [figure.add_subplot(down, across, number + 1) for number in range(panels)]
    for name in distances:
        axis = axes.pop(0)
        _lines(axis, report[name]["rows"], "distance_db")
        axis.set_title(f"{name} ({_counted(report[name])})")
        axis.set_ylabel("log-mel distance to the limit (dB)")
    if "posterior" in report:
        rows = report["posterior"]["rows"]
        _lines(axes[0], rows, "shift_db", name="distance of the mean")
        _lines(axes[0], rows, "spread_db", marker="s", name="spread")
        axes[0].set_title("maximum_likelihood")
        axes[0].set_ylabel("dB")
        steps = sorted({row["steps"] for row in rows})
        for row in sorted(rows, key=lambda row: (row["spacing"], row["steps"])):
            colour = colormaps["viridis"](steps.index(row["steps"]) / len(steps))
            label = f"{row['steps']} steps, {row['spacing']}"
            style = STYLES.get(row["spacing"], ":")
            bins = [math.nan if one is None else one for one in row["spread_db_by_bin"]]
            axes[1].plot(bins, style, color=colour, label=label)
        axes[1].set_title("spread over seeds by mel bin")
        axes[1].set_xlabel("mel bin")
        axes[1].set_ylabel("dB")
        legend = axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
        legend.set_in_layout(panels % ACROSS == 0)  # else there is an empty place beside it
    with replacing(path) as (partial,):
        figure.savefig(partial, dpi=110, format="png")


def _lines(
    axis: Any, rows: list[dict[str, Any]], key: str, marker: str = "o", name: str | None = None
) -> None:
    """Draws a figure over network evaluations, one line per solver and spacing."""
    solvers = list(dict.fromkeys(row["solver"] for row in rows))
    for solver, spacing in dict.fromkeys((row["solver"], row["spacing"]) for row in rows):
        own = [r for r in rows if (r["solver"], r["spacing"]) == (solver, spacing)]
        own.sort(key=lambda row: row["evaluations"])
        axis.plot(
            [row["evaluations"] for row in own],
            [row[key] or math.nan for row in own],  # none, and what a limit is from itself
            STYLES.get(spacing, ":"),
            color=COLOURS[solvers.index(solver) % len(COLOURS)],
            marker=marker,
            markersize=4,
            label=f"{name or solver}, {spacing}",
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    most = max(row["evaluations"] for row in rows)
    axis.set_xticks([tick for tick in TICKS if tick <= most], minor=False)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("network evaluations per condition")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7)
