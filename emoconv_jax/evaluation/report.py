"""The evaluation as one page that needs nothing else: tables, plots and players, and as CSV.

Everything that comes from outside (file names, texts, notes) is escaped; plots are SVG drawn by
Matplotlib, and sounds are OGG inside the page, so that it can be mailed or put on a server as it
is.
"""

import base64
import csv
import html
import io
import json
import pathlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from emoconv_jax.audio.reading import read_native
from emoconv_jax.audio.writing import write_audio
from emoconv_jax.bundles.banks import LEVELS
from emoconv_jax.evaluation.evaluation import AUDIO, Row
from emoconv_jax.evaluation.rows import SUMMARY_FILE
from emoconv_jax.evaluation.subjects import Voices
from emoconv_jax.evaluation.summary import HEARERS, summarise
from emoconv_jax.evaluation.trials import AROUSAL, EMOTIONS, MIXES, MODEL, STRENGTHS
from emoconv_jax.files import write_text

SYSTEMS = {  # in the order of the tables: colour, and what it is
    MODEL: ("#c2410c", "conversions by the bundle"),
    "signal": ("#2563a8", "pitch, its range, pace and level changed by rule, without any training"),
    "level": ("#4d7c0f", "the level changed by rule, and nothing else"),
    "average_voice": ("#a16207", "what the score network starts from, through the vocoder"),
    "copy_synthesis": ("#7c3aed", "the recording's mel through the vocoder"),
    "source": ("#6b7280", "the recording"),
}
HEARER_NAMES = {"own": "the bundle's recogniser", "second": "the second recogniser"}
TITLES = {
    "tau": "Kendall's tau of arousal, median",
    "slope": "slope of heard on asked arousal",
    "l_abs": "absolute error of arousal, L_abs",
    "l_mse": "squared error of arousal, L_mse",
    "in_order": "pairs of targets in order",
    "accuracy": "emotion heard as asked",
    "mix_tau": "Kendall's tau of a mixed emotion",
    "mix_in_order": "pairs of strengths in order",
}
PERCENT = ("l_abs", "in_order", "accuracy", "mix_in_order", "wer", "cer")
OTHERS = {
    "own_voice": "cosine with the own speaker (GE2E)",
    "own_nearest": "nearest to the own speaker (GE2E)",
    "own_nearest_real": "the same of real emotional clips",
    "second_voice": "cosine with the own speaker (second encoder)",
    "second_nearest": "nearest to the own speaker (second encoder)",
    "second_nearest_real": "the same of real emotional clips",
    "wer": "word error rate, English",
    "cer": "character error rate, English",
    "cer_pl": "character error rate, Polish",
    "sig": "DNSMOS SIG",
    "ovrl": "DNSMOS OVRL",
    "distillmos": "DistillMOS",
    "level_db": "level (dBFS)",
    "f0_hz": "median F0 (Hz)",
    "f0_range_semitones": "range of F0 (semitones)",
    "f0_risen_semitones": "median F0 at arousal 7 above that at 1 (semitones)",
    "level_risen_db": "level at arousal 7 above that at 1 (dB)",
    "pace": "pace over that of the source",
    "mcd_db": "MCD to recordings of the same words in the emotion asked for, or in all (dB)",
    "f0_error_semitones": "F0 error to those recordings (semitones)",
}


def write(
    rows: Sequence[Row],
    voices: Mapping[str, Voices],
    notes: Sequence[str],
    out: pathlib.Path,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes `summary.json`, `report.csv` and `report.html`, and returns the summary.

    Args:
        rows: of the evaluation.
        voices: real ones by speaker encoder.
        notes: what a reader has to know.
        out: the evaluation's folder.
        seed: of the resampling.

    Returns:
        The summary with the notes, JSON-ready.
    """
    summary = summarise(rows, voices, seed) | {"notes": list(notes)}
    write_text(out / SUMMARY_FILE, json.dumps(summary, indent=1, allow_nan=False) + "\n")
    write_csv(rows, out / "report.csv")
    write_page(rows, summary, notes, out, out / "report.html")
    return summary


def table_rows() -> list[tuple[str, str, bool]]:
    """Returns (figure, title, whether it is a share) of every row of the tables."""
    rows = []
    for name, title in TITLES.items():
        for hearer in HEARERS:
            for loudness, said in (("", ""), ("_equal_level", ", equal loudness")):
                text = f"{title}, by {HEARER_NAMES[hearer]}{said}"
                rows.append((f"{name}_{hearer}{loudness}", text, name in PERCENT))
    shares = ("nearest", "wer", "cer")
    return rows + [(key, title, any(s in key for s in shares)) for key, title in OTHERS.items()]


def text_of(figure: Mapping[str, Any] | None, share: bool) -> str:
    """Returns a figure with its interval as text.

    Args:
        figure: of `statistics`, as a dict; None where there is none.
        share: whether it is one of 0..1, shown in per cent.
    """
    if figure is None:
        return ""
    scale, digits = (100, 0) if share else (1, 2)
    value, low, high = (scale * figure[key] for key in ("value", "low", "high"))
    digits -= not share and abs(value) >= 10
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}){' %' if share else ''}"


def markdown(summary: Mapping[str, Any], corpus: str = "all") -> str:
    """Returns the table of all systems as Markdown.

    Args:
        summary: of `summary.summarise`.
        corpus: of which utterances.
    """
    columns = _columns(summary, corpus)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for key, title, share in table_rows():
        cells = [text_of(figures.get(key), share) for figures in columns.values()]
        if any(cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _columns(summary: Mapping[str, Any], corpus: str) -> dict[str, Mapping[str, Any]]:
    """Returns the figures of each system that has some of a corpus, in the order of SYSTEMS."""
    found = summary["systems"]
    return {name: found[name][corpus] for name in SYSTEMS if corpus in found.get(name, ())}


def write_csv(rows: Sequence[Row], path: pathlib.Path) -> None:
    """Writes the rows, a column per figure.

    Args:
        rows: of an evaluation.
        path: of the file, written to a temporary name and renamed.
    """
    names = sorted({name for row in rows for name in row.figures})
    fixed = ("corpus", "path", "speaker", "language", "system", "what", "emotion", "value", "file")
    sheet = io.StringIO()
    writer = csv.writer(sheet)
    writer.writerow((*fixed, *names))
    for row in rows:
        figures = [row.figures.get(name, "") for name in names]
        writer.writerow([getattr(row, name) for name in fixed] + figures)
    write_text(path, sheet.getvalue())


def write_page(
    rows: Sequence[Row],
    summary: Mapping[str, Any],
    notes: Sequence[str],
    out: pathlib.Path,
    path: pathlib.Path,
    heard: int = 6,
) -> None:
    """Writes the page.

    Args:
        rows: of the evaluation.
        summary: of them.
        notes: what a reader has to know.
        out: the evaluation's folder, which holds the sounds.
        path: of the page, written to a temporary name and renamed.
        heard: utterances that have players.
    """
    parts = [_opening(rows, summary), *(f"<p>{html.escape(note)}</p>" for note in notes)]
    parts += [f"<figure>{picture}</figure>" for picture in _plots(summary)]
    parts.append("<h2>Figures</h2>")
    corpora = list(next(iter(summary["systems"].values()), {"all": {}}))
    for corpus in corpora:
        shown = "<details>" if corpus != "all" else "<details open>"
        parts.append(f"{shown}<summary>{html.escape(corpus)}</summary>{_table(summary, corpus)}")
        parts.append("</details>")
    parts.append(_pairs(summary["paired"]))
    parts.append(_players(rows, out, heard))
    write_text(path, PAGE.format(body="\n".join(parts)))


def _opening(rows: Sequence[Row], summary: Mapping[str, Any]) -> str:
    """Returns what the page is about: how many utterances, and which systems."""
    clips, voices = {row.clip for row in rows}, {(row.corpus, row.speaker) for row in rows}
    systems = "".join(
        f"<dt>{name.replace('_', ' ')}</dt><dd>{said}</dd>"
        for name, (_, said) in SYSTEMS.items()
        if name in summary["systems"]
    )
    return (
        f"<p>{len(clips)} utterances of {len(voices)} voices. In brackets and in the plots: 95 % "
        f"intervals over utterances. What has no target is the same for each.</p><dl>{systems}</dl>"
    )


def _table(summary: Mapping[str, Any], corpus: str) -> str:
    columns = _columns(summary, corpus)
    lines = [_cells("th", ["", *(name.replace("_", " ") for name in columns)])]
    for key, title, share in table_rows():
        cells = [text_of(figures.get(key), share) for figures in columns.values()]
        if any(cells):
            lines.append(_cells("td", [title, *cells]))
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def _pairs(paired: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the comparisons of the model with the yardsticks as a table."""
    titles = {key: title for key, title, _ in table_rows()}
    lines = [_cells("th", ["model minus", "figure", "difference", "95 %", "p", "utterances"])]
    for system, figures in paired.items():
        for name, one in figures.items():
            ends = f"{one['low']:.3f} to {one['high']:.3f}"
            cells = [f"{one['difference']:.3f}", ends, f"{one['p']:.2g}", str(one["utterances"])]
            lines.append(_cells("td", [system.replace("_", " "), titles[name], *cells]))
    return f'<h2>Paired comparisons</h2><div class="scroll"><table>{"".join(lines)}</table></div>'


def _cells(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"


def _plots(summary: Mapping[str, Any]) -> list[str]:
    """Returns the plots as SVG: heard by asked arousal, its error, its price, mixes by strength."""
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
    plots = [_svg(figure), *_prices(summary["towards_arousal"])]
    figures, key = systems.get(MODEL, {}), "mix_heard_{}_equal_level_{:g}"
    if any(key.format("own", value) in figures for value in STRENGTHS):
        figure = Figure(figsize=(5.5, 4), layout="constrained")
        axis = figure.subplots()
        for hearer, colour in zip(HEARERS, ("#c2410c", "#2563a8"), strict=True):
            keys = [key.format(hearer, value) for value in STRENGTHS]
            if all(one in figures for one in keys):
                points = [figures[one] for one in keys]
                _line(axis, STRENGTHS, points, HEARER_NAMES[hearer], colour)
        axis.set(xlabel="strength of the emotion mixed in", ylabel="its probability")
        axis.legend(fontsize=8)
        plots.append(_svg(figure))
    return plots


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


def _players(rows: Sequence[Row], out: pathlib.Path, heard: int) -> str:
    """Returns players of the first utterances, all of whose sounds are inside the page."""
    clips: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        clips.setdefault(row.clip, []).append(row)
    parts = ["<h2>Listen</h2>"]
    for (corpus, path), own in list(clips.items())[:heard]:
        parts.append(f"<h3>{html.escape(f'{corpus}/{path}')}</h3><div class='players'>")
        for row in own:
            target = {
                AROUSAL: f"arousal {row.value:g}",
                EMOTIONS: row.emotion,
                MIXES: f"neutral with {row.value:g} {row.emotion}" if row.value else "only neutral",
            }
            name = ", ".join(p for p in (row.system, target.get(row.what, "")) if p)
            sound = _sound(out / AUDIO / row.file)
            parts.append(
                f"<label>{html.escape(name.replace('_', ' '))}"
                f'<audio controls preload="none" src="{sound}"></audio></label>'
            )
        parts.append("</div>")
    return "".join(parts)


def _sound(path: pathlib.Path) -> str:
    """Returns a sound as an address that holds it, as OGG: a fifth of the size of the FLAC."""
    audio, rate_hz = read_native(path)
    with tempfile.TemporaryDirectory() as folder:
        small = pathlib.Path(folder) / "sound.ogg"
        write_audio(small, audio, rate_hz)
        content = base64.b64encode(small.read_bytes()).decode("ascii")
    return f"data:audio/ogg;base64,{content}"


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>emoconv: evaluation</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1d2433; margin: 2rem auto;
  max-width: 76rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: right; padding: .3rem .7rem; border-bottom: 1px solid #d8dce5;
  white-space: nowrap; font-variant-numeric: tabular-nums; }}
th:first-child, td:first-child {{ text-align: left; position: sticky; left: 0;
  background: #fff; }}
dt {{ float: left; clear: left; width: 9rem; font-weight: 600; }} dd {{ margin-left: 9rem; }}
.scroll {{ overflow-x: auto; }}
summary {{ font-size: 1.2rem; font-weight: 600; margin: 1rem 0 .5rem; cursor: pointer; }}
figure {{ margin: 1.5rem 0; }} svg {{ max-width: 100%; height: auto; }}
.players {{ display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }}
.players audio {{ display: block; width: 100%; }}
</style></head><body>
<h1>Evaluation</h1>
{body}
</body></html>
"""
