"""The plots of an evaluation: arousal heard by arousal asked for, its error and price, mixes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from emoconv_jax.bundles.banks import LEVELS
from emoconv_jax.evaluation.summary import HEARERS
from emoconv_jax.evaluation.titles import HEARER_NAMES, MIXING_NAMES, OTHERS, SYSTEMS, TITLES
from emoconv_jax.evaluation.trials import MODEL, STRENGTHS


def plots(summary: Mapping[str, Any]) -> list[str]:
    """Returns the plots as SVG: heard by asked arousal, its error, its price, mixes by strength.

    Args:
        summary: of `summary.summarise`.
    """
    systems = {name: table["all"] for name, table in summary["systems"].items()}
    figure = Figure(figsize=(11, 8), layout="constrained")
    for axes, figure_name, label in zip(
        figure.subplots(2, 2),
        ("heard", "l_abs"),
        ("heard, equal loudness", "error, L_abs"),
        strict=True,
    ):
        for axis, hearer in zip(axes, HEARERS, strict=True):
            for name, figures in systems.items():
                keys = [f"{figure_name}_{hearer}_equal_level_{value:g}" for value in LEVELS]
                if all(key in figures for key in keys):
                    _line(axis, LEVELS, [figures[key] for key in keys], name)
            if figure_name == "heard":
                axis.plot(LEVELS, LEVELS, color="#9ca3af", linewidth=1, linestyle=":")
            axis.set(xlabel="arousal asked for", ylabel=label)
            axis.set_title(HEARER_NAMES[hearer], fontsize=11)
            axis.legend(fontsize=8) if axis.get_legend_handles_labels()[0] else None
    of_arousal = [_svg(figure), *_prices(summary["towards_arousal"])]
    return of_arousal + _mixes(systems.get(MODEL, {}))


def _mixes(figures: Mapping[str, Any]) -> list[str]:
    """Returns how an emotion's probability rises with the strength that it is mixed in with."""
    keys = {
        (mixing, hearer): [f"{mixing}_heard_{hearer}_equal_level_{value:g}" for value in STRENGTHS]
        for mixing in MIXING_NAMES
        for hearer in HEARERS
    }
    shown = [
        m for m in MIXING_NAMES if any(set(keys[m, hearer]) <= set(figures) for hearer in HEARERS)
    ]
    if not shown:
        return []
    figure = Figure(figsize=(5.5 * len(shown), 4), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for axis, mixing in zip(panels, shown, strict=True):
        for hearer, colour in zip(HEARERS, ("#c2410c", "#2563a8"), strict=True):
            if set(keys[mixing, hearer]) <= set(figures):
                points = [figures[key] for key in keys[mixing, hearer]]
                _line(axis, STRENGTHS, points, HEARER_NAMES[hearer], colour)
        axis.set(xlabel="strength of the emotion mixed in", ylabel="its probability")
        axis.set_title(MIXING_NAMES[mixing], fontsize=11)
        axis.legend(fontsize=8)
    return [_svg(figure)]


def _prices(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns what an arousal costs, a point per system: its error against words and voice.

    `systems` are of the way to an arousal alone: no price of another target is counted.

    The second recogniser's error where there is one, since the model is conditioned on the first.
    """
    hearer = next(
        (h for h in reversed(HEARERS) if f"l_abs_{h}_equal_level" in systems.get(MODEL, {})), ""
    )
    x, prices = f"l_abs_{hearer}_equal_level", ("wer", "own_voice")
    shown = [y for y in prices if any({x, y} <= set(figures) for figures in systems.values())]
    if not shown:
        return []
    figure = Figure(figsize=(5.5 * len(shown), 4), layout="constrained")
    for axis, y in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for name, figures in systems.items():
            if {x, y} <= set(figures):
                ends = [
                    [[abs(figures[key][end] - figures[key]["value"])] for end in ("low", "high")]
                    for key in (x, y)
                ]
                at = figures[x]["value"], figures[y]["value"]
                colour = SYSTEMS[name][0]
                axis.errorbar(
                    *at, ends[1], ends[0], "o", color=colour, label=name.replace("_", " ")
                )
        axis.set(xlabel=f"{TITLES['l_abs']}, by {HEARER_NAMES[hearer]}", ylabel=OTHERS[y])
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8)
    return [_svg(figure)]


def _line(
    axis: Any,
    x: Sequence[float | int],
    points: Sequence[Mapping[str, float]],
    name: str,
    colour: str | None = None,
) -> None:
    colour = colour or SYSTEMS[name][0]
    middle, low, high = ([p[key] for p in points] for key in ("value", "low", "high"))
    axis.plot(x, middle, marker="o", color=colour, label=name.replace("_", " "))
    axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.grid(alpha=0.25)


def _svg(figure: Figure) -> str:
    sheet = io.StringIO()
    figure.savefig(sheet, format="svg")
    text = sheet.getvalue()
    return text[text.index("<svg") :]
