"""The comparison with PyTorch as lines of text and as a picture."""

import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from emoconv_jax.files import replacing

OURS, THEIRS, COMPILED = "#2563a8", "#c2410c", "#b45309"
HEAD = (
    f"{'case':<34}{'emoconv':>10}{'PyTorch':>10}{'ratio':>7}{'compiled':>10}{'ratio':>7}"
    f"{'GFLOP':>8}{'GFLOP/s':>9}{'ceiling':>9}{'start':>8}{'difference':>12}"
)


def row_text(row: Mapping[str, Any], ceiling: float) -> str:
    """Returns a case as one line under HEAD.

    Args:
        row: of `measuring.compare`.
        ceiling: FLOP/s of the device.
    """
    flop = row["flop"]
    amount = f"{flop / 1e9:.0f}" if flop else "-"
    if "ours_s" not in row:
        return f"{row['name']:<34}left out: {amount} GFLOP (see --most_tflop)"
    ours_s, theirs_s = (statistics.median(row[name]) for name in ("ours_s", "pytorch_s"))
    compiled, ratio = "-", "-"
    if row["compiled_s"]:
        compiled = f"{1e3 * statistics.median(row['compiled_s']):.1f}"
        ratio = f"{row['compiled_ratio']:.2f}"
    rate = f"{flop / ours_s / 1e9:.0f}" if flop else "-"
    share = f"{100 * flop / ours_s / ceiling:.0f} %" if flop else "-"
    return (
        f"{row['name']:<34}{1e3 * ours_s:>10.1f}{1e3 * theirs_s:>10.1f}{row['ratio']:>7.2f}"
        f"{compiled:>10}{ratio:>7}{amount:>8}{rate:>9}{share:>9}"
        f"{row['first_s']['ours'] - ours_s:>7.1f}s{row['difference'] / row['scale']:>12.1e}"
    )


def head_text(about: Mapping[str, Any]) -> str:
    """Returns what stands above the cases: how they were measured, and HEAD.

    Args:
        about: of the section `cases`.
    """
    other = "DiffVC's own code" if about["original"] else "twins"
    return (
        f"medians of {about['rounds']} alternating runs (ms), {about['compute']}; PyTorch "
        f"{about['pytorch']} ({other}, {about['pytorch_device']}); the fastest matrix product "
        f"does {about['ceiling'] / 1e9:.0f} GFLOP/s\n{HEAD}"
    )


def table(section: str, found: Mapping[str, Any]) -> str:
    """Returns a section's figures as lines of text.

    Args:
        section: its name.
        found: its figures, of `sections.measure`.
    """
    if section == "cases":
        return "\n".join(
            [head_text(found), *(row_text(r, found["ceiling"]) for r in found["rows"])]
        )
    if section == "memory":
        lines = [
            f"{'memory beyond the imports (GB)':<34}{'emoconv':>10}{'PyTorch':>10}{'ratio':>7}"
        ]
        for row in found["rows"]:
            ours, theirs = (row[side]["peak_bytes"] for side in ("ours", "pytorch"))
            lines.append(
                f"{row['name']:<34}{ours / 1e9:>10.2f}{theirs / 1e9:>10.2f}{ours / theirs:>7.2f}"
            )
        return "\n".join(lines)
    if section == "devices":
        lines = ["simulated devices of one CPU, the sampler on a batch of 8 (s)"]
        return "\n".join(
            lines
            + [f"{r['devices']:>4}{statistics.median(r['ours_s']):>9.2f}" for r in found["rows"]]
        )
    lines = ["cost (ms) and fitted exponent"]
    for axis in ("frames", "batch"):
        rows = found[axis]["rows"]
        lines.append(f"{axis:<12}" + "".join(f"{row[axis]:>9}" for row in rows))
        for side in ("ours", "pytorch"):
            cells = (f"{1e3 * statistics.median(row[f'{side}_s']):>9.1f}" for row in rows)
            power = found[axis].get(f"{side}_exponent")
            lines.append(f"  {side:<10}" + "".join(cells) + (f"   n^{power:.2f}" if power else ""))
    rows = found["conditions"]["rows"]
    lines.append(f"{'conditions':<12}" + "".join(f"{row['conditions']:>9}" for row in rows))
    cells = (f"{1e3 * statistics.median(row['ours_s']):>9.1f}" for row in rows)
    lines.append(
        f"  {'ours':<10}" + "".join(cells) + f"   n^{found['conditions']['ours_exponent']:.2f}"
    )
    return "\n".join(lines)


def draw(report: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws cases and scaling, as far as they are there.

    Args:
        report: section -> its figures.
        path: of the PNG.
    """
    wide = "cases" in report
    curves = [axis for axis in ("frames", "batch") if "scaling" in report]
    if not wide and not curves:
        return
    rows = [row for row in report["cases"]["rows"] if "ours_s" in row] if wide else []
    figure = Figure(
        figsize=(7.5 * wide + 4.2 * len(curves), max(4.2, 0.32 * len(rows) + 1.2)),
        layout="constrained",
    )
    axes = list(figure.subplots(1, wide + len(curves), squeeze=False)[0])
    if wide:
        _bars(axes.pop(0), rows)
    for name in curves:
        axis, found = axes.pop(0), report["scaling"][name]
        sizes = [row[name] for row in found["rows"]]
        for side, colour in (("ours", OURS), ("pytorch", THEIRS)):
            times = [statistics.median(row[f"{side}_s"]) for row in found["rows"]]
            label = (
                f"{'emoconv' if side == 'ours' else 'PyTorch'}, n^{found[f'{side}_exponent']:.2f}"
            )
            axis.loglog(sizes, times, "o-", color=colour, label=label, markersize=4)
        axis.set_xlabel(name)
        axis.set_ylabel("seconds of a forward pass")
        axis.set_xticks(sizes, map(str, sizes))
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.grid(alpha=0.25)
        axis.legend()
    with replacing(path) as (partial,):
        figure.savefig(partial, dpi=110, format="png")


def _bars(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Draws our time over PyTorch's for each case, with the spread of the rounds."""
    for place, row in enumerate(reversed(rows)):
        each = [a / b for a, b in zip(row["ours_s"], row["pytorch_s"], strict=True)]
        axis.barh(place, row["ratio"], color=OURS if row["ratio"] <= 1 else THEIRS, height=0.6)
        axis.plot([min(each), max(each)], [place, place], color="black", linewidth=1)
        if row["compiled_ratio"]:
            axis.plot(row["compiled_ratio"], place, "D", color=COMPILED, markersize=5)
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [row["name"] for row in reversed(rows)])
    axis.set_xlabel("time of emoconv / PyTorch (bar: eager; diamond: compiled; line: spread)")
