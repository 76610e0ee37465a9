"""The evaluation as one page that needs nothing else, plots, tables and players, and as CSV.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from emoconv_jax.audio.reading import read_native
from emoconv_jax.audio.writing import write_audio
from emoconv_jax.evaluation.evaluation import AUDIO, Row, comment_of
from emoconv_jax.evaluation.plots import plots
from emoconv_jax.evaluation.rows import SUMMARY_FILE
from emoconv_jax.evaluation.subjects import Voices
from emoconv_jax.evaluation.summary import summarise
from emoconv_jax.evaluation.titles import MIXING_NAMES, SYSTEMS, table_rows, text_of
from emoconv_jax.evaluation.trials import AROUSAL
from emoconv_jax.files import write_text


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


def markdown(summary: Mapping[str, Any]) -> str:
    """Returns the tables of all systems as Markdown.

    Args:
        summary: of `summary.summarise`.
    """
    parts = []
    for title, systems in _sections(summary, ["all"]):
        (_, *names), *lines = _table(systems)
        parts += [f"{title}:", "", "| | " + " | ".join(names) + " |", "|---" * len(names) + "|---|"]
        parts += ["| " + " | ".join(line) + " |" for line in lines] + [""]
    return "\n".join(parts)


Systems = Mapping[str, Mapping[str, Any]]  # system -> figure -> `statistics.Figure` as a dict


def _sections(summary: Mapping[str, Any], corpora: Sequence[str]) -> Iterator[tuple[str, Systems]]:
    """Yields title and figures of each table: all that was done, what all systems did, corpora."""
    for corpus in corpora:
        tables = summary["systems"].items()
        systems = {name: table[corpus] for name, table in tables if corpus in table}
        yield ("all that was converted" if corpus == "all" else corpus), systems
        alone = summary["towards_arousal"]
        if corpus == "all" and alone != systems:
            yield "targets of arousal alone, where systems can be compared", alone


def _table(systems: Systems) -> list[list[str]]:
    """Returns head and rows of a table, a column per system in the order of SYSTEMS."""
    columns = {name: systems[name] for name in SYSTEMS if name in systems}
    every = [figure for figures in columns.values() for figure in figures.values()]
    most = max((figure["utterances"] for figure in every), default=0)
    lines = [["", *(name.replace("_", " ") for name in columns)]]
    for key, title, share in table_rows({key for figures in columns.values() for key in figures}):
        cells = (text_of(figures.get(key), share, most) for figures in columns.values())
        lines.append([title, *cells])
    return lines


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
    players: int = 6,
) -> None:
    """Writes the page.

    Args:
        rows: of the evaluation.
        summary: of them.
        notes: what a reader has to know.
        out: the evaluation's folder, which holds the sounds.
        path: of the page, written to a temporary name and renamed.
        players: utterances that have some.
    """
    parts = [_opening(rows, summary), *(f"<p>{html.escape(note)}</p>" for note in notes)]
    parts += [f"<figure>{picture}</figure>" for picture in plots(summary)]
    parts.append("<h2>Figures</h2>")
    corpora = list(next(iter(summary["systems"].values()), {"all": {}}))
    for place, (title, systems) in enumerate(_sections(summary, corpora)):
        shown = "<details>" if place else "<details open>"
        table = _html(_table(systems))
        parts.append(f"{shown}<summary>{html.escape(title)}</summary>{table}</details>")
    parts.append(_pairs(summary["paired"]))
    parts.append(_players(rows, out, players))
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


def _pairs(paired: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the comparisons of the model with the yardsticks as a table."""
    lines = [["model minus", "figure", "mean difference", "p", "utterances"]]
    for system, figures in paired.items():
        for name, title, share in table_rows(figures):
            one = figures[name]
            difference = text_of(one | {"value": one["difference"]}, share, digits=1 + (not share))
            cells = [difference, f"{one['p']:.2g}", str(one["utterances"])]
            title = title.replace(", median", "")  # differences have a mean
            lines.append([system.replace("_", " "), title, *cells])
    return f"<h2>Paired comparisons</h2>{_html(lines)}"


def _html(lines: Sequence[Sequence[str]]) -> str:
    """Returns a table, the first line of which is its head."""
    rows = (_cells("td" if place else "th", line) for place, line in enumerate(lines))
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _cells(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"


def _players(rows: Sequence[Row], out: pathlib.Path, most: int) -> str:
    """Returns players of the first utterances, all of whose sounds are inside the page."""
    clips: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        clips.setdefault(row.clip, []).append(row)
    parts = ["<h2>Listen</h2>"]
    for (corpus, path), own in list(clips.items())[:most]:
        parts.append(f"<h3>{html.escape(f'{corpus}/{path}')}</h3><div class='players'>")
        for row in own:
            target = row.emotion
            if row.what == AROUSAL:
                target = f"arousal {row.value:g}"
            elif row.what in MIXING_NAMES:
                target = f"{row.emotion or 'nothing'} {row.value:g} {MIXING_NAMES[row.what]}"
            name = ", ".join(part for part in (row.system, target) if part)
            sound = _sound(out / AUDIO / row.file, comment_of(row.system))
            parts.append(
                f"<label>{html.escape(name.replace('_', ' '))}"
                f'<audio controls preload="none" src="{sound}"></audio></label>'
            )
        parts.append("</div>")
    return "".join(parts)


def _sound(path: pathlib.Path, comment: str) -> str:
    """Returns a sound as an address that holds it, as OGG: a fifth of the size of the FLAC."""
    audio, rate_hz = read_native(path)
    with tempfile.TemporaryDirectory() as folder:
        small = pathlib.Path(folder) / "sound.ogg"
        write_audio(small, audio, rate_hz, comment=comment)
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
  background: #fff; white-space: normal; min-width: 22rem; }}
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
