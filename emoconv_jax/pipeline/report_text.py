"""The figures of a feature folder for a terminal: aligned tables with histograms of one line each.

Rows are corpora, all of them together, and splits. A histogram's blocks are relative to the tallest
of its row; all rows of a table share the range that its head names.
"""

from collections.abc import Callable, Sequence

import numpy as np

from emoconv_jax.config import EMOTIONS
from emoconv_jax.pipeline.report import NONE, Distribution, Figures, Report, duration, plain_name
from emoconv_jax.pipeline.report_warnings import Finding

BLOCKS, PLAIN_BLOCKS = "▁▂▃▄▅▆▇█", ".:-=+*%#"
PLAIN_LETTERS = str.maketrans(BLOCKS + "·±…", PLAIN_BLOCKS + "-~.")
MOST_BLOCKS = 24  # of a histogram
NAME_LETTERS = 20
ABSENT = "-"

Row = tuple[str, Figures]
Extra = tuple[str, Callable[[Figures], str]]  # a column: its head, and its cell of a row


def report_text(report: Report, found: Sequence[Finding]) -> str:
    """Returns the report for a terminal: tables with small histograms, then the warnings.

    Args:
        report: the figures.
        found: the warnings.

    Returns:
        The lines.
    """
    corpora = [(plain_name(name, NAME_LETTERS), one) for name, one in report.corpora.items()]
    if len(corpora) > 1:
        corpora.append(("all", report.overall))
    splits = [(f"split {plain_name(name, NAME_LETTERS)}", f) for name, f in report.splits.items()]
    languages = report.overall.languages.items()
    blocks = [
        f"{duration(report.overall.hours)} of speech, {duration(report.training.hours)} of it for "
        "training; utterances by language: "
        + ", ".join(f"{plain_name(name, NAME_LETTERS)} {count:,}" for name, count in languages),
        _overview([*corpora, *splits]),
        _emotions([*corpora, *splits]),
        _distributions("arousal, 1 to 7", corpora, "arousal", "{:.1f}", ("rated", _rated)),
        _distributions("length (s)", corpora, "length_s", "{:.1f}"),
        _distributions(
            "level (dBFS)", corpora, "level_db", "{:.1f}", ("within speaker", _within_speaker)
        ),
        _distributions("peak (dBFS)", corpora, "peak_db", "{:.1f}"),
        _distributions("median F0 (Hz)", corpora, "f0_hz", "{:.0f}", ("voiced", _voiced)),
        _warnings(found),
    ]
    return "\n\n".join(blocks)


def in_plain_letters(text: str) -> str:
    """Returns the text for a terminal that knows no blocks.

    Args:
        text: from `report_text`.

    Returns:
        The same, its own signs replaced by ASCII; names stay as they are.
    """
    return text.translate(PLAIN_LETTERS)


def _overview(rows: Sequence[Row]) -> str:
    heads = ["", "hours", "utterances", "speakers", "F", "M", "other", "min/speaker", "phones"]
    cells = []
    for name, figures in rows:
        women, men = figures.genders.get("F", 0), figures.genders.get("M", 0)
        minutes = figures.speaker_minutes
        aligned = figures.utterances - figures.alignments.get(NONE, 0)
        counts = (figures.utterances, figures.speakers, women, men, figures.speakers - women - men)
        cells.append(
            [
                name,
                f"{figures.hours:,.2f}",
                *(f"{count:,}" for count in counts),
                f"{minutes.median:.1f}" if minutes else ABSENT,
                _percent(aligned, figures.utterances),
            ]
        )
    return _table(heads, cells)


def _emotions(rows: Sequence[Row]) -> str:
    names = [*EMOTIONS, NONE]
    counts = [[figures.emotions.get(name, 0) for name in names] for _, figures in rows]
    cells = [
        [name, *(f"{count:,}" if count else ABSENT for count in row)]
        for (name, _), row in zip(rows, counts, strict=True)
    ]
    return _table(["utterances by emotion", *names], cells)


def _distributions(
    title: str, rows: Sequence[Row], name: str, style: str, extra: Extra | None = None
) -> str:
    """Returns one quantity's table: quantiles and a histogram of every row."""
    known: list[Distribution | None] = [getattr(figures, name) for _, figures in rows]
    counts = [np.array(d.counts) for d in known if d is not None]
    if not counts:
        return f"{title}: none"
    filled = np.flatnonzero(np.sum(counts, axis=0))
    if name == "arousal":  # whose whole scale is of interest
        filled = np.arange(len(counts[0]))
    first, end = int(filled[0]), int(filled[-1]) + 1
    joined = -(-(end - first) // MOST_BLOCKS)  # so many bins make a block
    edges = next(d.edges for d in known if d is not None)
    end = min(first + joined * -(-(end - first) // joined), len(edges) - 1)
    spread = f"{edges[first]:.3g} to {edges[end]:.3g}"
    heads = [title, "utterances", "5%", "median", "95%", *([extra[0]] if extra else []), spread]
    cells = []
    for (row, figures), one in zip(rows, known, strict=True):
        if one is None:
            cells.append([row, "0", *[ABSENT] * (len(heads) - 3), ""])
            continue
        numbers = [style.format(value) for value in (one.p05, one.median, one.p95)]
        blocks = _histogram(np.array(one.counts[first:end]), joined)
        more = [extra[1](figures)] if extra else []
        cells.append([row, f"{one.count:,}", *numbers, *more, blocks])
    return _table(heads, cells, last_left=True)


def _histogram(counts: np.ndarray, joined: int) -> str:
    """Returns one block per `joined` bins; an empty one is a space."""
    heights = np.add.reduceat(counts, np.arange(0, len(counts), joined))
    steps = np.ceil(heights / max(heights.max(), 1) * len(BLOCKS)).astype(int)
    return "".join(" " if step == 0 else BLOCKS[step - 1] for step in steps)


def _rated(figures: Figures) -> str:
    return _percent(figures.rated, figures.arousal.count) if figures.arousal else ABSENT


def _within_speaker(figures: Figures) -> str:
    deviation_db = figures.speaker_level_deviation_db
    return ABSENT if deviation_db is None else f"±{deviation_db:.1f}"


def _voiced(figures: Figures) -> str:
    return f"{figures.voiced.mean:.0%}" if figures.voiced else ABSENT


def _warnings(found: Sequence[Finding]) -> str:
    if not found:
        return "no warnings"
    heading = f"{len(found)} warning{'s' * (len(found) != 1)}"
    lines = [
        f"  {plain_name(finding.where, NAME_LETTERS)}{': ' * bool(finding.where)}{finding.line}"
        for finding in found
    ]
    return "\n".join([heading, *lines])


def _percent(part: int, whole: int) -> str:
    """Returns a share that says 0 % and 100 % only where it is so."""
    if 0 < part < whole:
        return f"{min(max(part / whole, 0.01), 0.99):.0%}"
    return "0%" if part == 0 else "100%"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], last_left: bool = False) -> str:
    """Returns aligned columns: the first to the left, the others (but perhaps the last) right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    left = {0, len(widths) - 1} if last_left else {0}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (heads, *rows)
    )
