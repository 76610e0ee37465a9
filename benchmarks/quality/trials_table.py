"""The table of trials: one row per look, in a TSV file and, to be read, in Markdown beside it."""

import csv
import datetime
import io
import pathlib
import subprocess
from collections.abc import Mapping, Sequence

from benchmarks.quality.arithmetic import Interval
from benchmarks.quality.look import AROUSALS, TARGETS
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import write_text
from emoconv_jax.pipeline.manifest import read_table

ABOUT = ("date", "look", "bundle", "note", "commit", "hours", "crops", "request", "clips")
LISTENERS = ("own", "whisper", "functionals")
OF_LISTENER = (
    "slope",
    "real_slope",
    "share",
    "order",
    "named",
    "real_named",
    "probability",
    *(f"named_{e}" for e in TARGETS[len(AROUSALS) :]),
)
FIGURES = (
    *(f"{listener}_{name}" for listener in LISTENERS for name in OF_LISTENER),
    *("word_errors", "word_errors_copy", "character_errors", "character_errors_copy"),
    *("ovrl_copy", *(f"ovrl_{t}" for t in TARGETS)),
    *("voice_real", "voice_copy", "voice_all", *(f"voice_{t}" for t in TARGETS)),
    *(f"level_{t}" for t in TARGETS),
    *(f"f0_{t}" for t in TARGETS),
    "seconds_per_second",
)
COLUMNS = (*ABOUT, *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")))
RATES = ("share", "order", "named", "errors", "voice")  # shown as percentages
SHOWN = ("date", "look", "bundle", "note", "commit", "hours", "crops", "request")


def row(about: Mapping[str, str], found: Mapping[str, Interval | None]) -> dict[str, str]:
    """Returns a row of the table.

    Args:
        about: of ABOUT.
        found: of `figures.line`.
    """
    cells = {name: about.get(name, "") for name in ABOUT}
    for name in FIGURES:
        figure = found.get(name)
        values = ("", "", "") if figure is None else (figure.value, figure.low, figure.high)
        for end, value in zip(("", "_low", "_high"), values, strict=True):
            cells[f"{name}{end}"] = f"{value:.4g}" if value != "" else ""
    return cells


def append(path: pathlib.Path, cells: Mapping[str, str]) -> None:
    """Adds a row to the table and writes its Markdown anew.

    Args:
        path: of the TSV file, made if absent.
        cells: of `row`.

    Raises:
        EmoconvError: no such table, or a file that cannot be written.
    """
    rows = [*read(path), {name: _plain(cells.get(name, "")) for name in COLUMNS}]
    text = io.StringIO()
    writer = csv.DictWriter(
        text, COLUMNS, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None
    )
    writer.writeheader()
    writer.writerows(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text.getvalue())
        write_text(path.with_suffix(".md"), markdown(rows))
    except OSError as error:
        raise EmoconvError(f"{path}: cannot be written ({error.strerror})") from None


def read(path: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a table; none where it is absent.

    Args:
        path: of the TSV file.

    Raises:
        EmoconvError: a damaged file.
    """
    if not path.exists():
        return []
    return [
        {name: fields.get(name) or "" for name in COLUMNS}
        for _, fields in read_table(path, ABOUT)
    ]  # fmt: skip


def commit_of(folder: pathlib.Path) -> str:
    """Returns the short hash of the commit that a folder's checkout is at; "" outside of one.

    Args:
        folder: within the checkout.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def today() -> str:
    """Returns the date, as ISO 8601."""
    return datetime.date.today().isoformat()


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns the table to be read: a trial per column, as there are more figures than trials.

    Args:
        rows: of the table.
    """
    title = (
        "# Trials\n\nWritten by `benchmarks/quality/trials_table.py`; intervals: the TSV file.\n"
    )
    lines = [title, "| | " + " | ".join(str(i + 1) for i in range(len(rows))) + " |"]
    lines.append("|---" * (len(rows) + 1) + "|")
    for name in (*SHOWN, *FIGURES):
        cells = [_shown(r, name) for r in rows]
        if any(cells):
            lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _shown(cells: Mapping[str, str], name: str) -> str:
    value = cells[name]
    if not value or name in ABOUT:
        return value.replace("|", "/")
    number = float(value)
    is_rate = any(part in RATES for part in name.split("_"))
    return f"{100 * number:.0f} %" if is_rate else f"{number:.2f}"


def _plain(text: str) -> str:
    """Returns text that a table of tabs can hold."""
    return " ".join(str(text).split())
