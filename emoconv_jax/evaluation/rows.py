"""Rows of figures on disk, so that a long measurement goes on where it was interrupted.

A folder holds `settings.json`, `rows.jsonl` and, at the end, `summary.json`. Rows that were made
under other settings are never mixed with new ones.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from tqdm import tqdm

from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, write_text

SETTINGS_FILE = "settings.json"
ROWS_FILE = "rows.jsonl"
SUMMARY_FILE = "summary.json"

Row = TypeVar("Row")


def collect(
    out: pathlib.Path,
    settings: dict[str, Any],
    kind: type[Row],
    key: Callable[[Row], Hashable],
    jobs: Mapping[Any, Callable[[], Row]],
    label: str = "converting",
) -> list[Row]:
    """Returns the row of every job: those that a folder has, and the others measured now.

    Args:
        out: folder, made if absent; gets settings and rows, each row as soon as it is there.
        settings: under which the rows are made, JSON-ready.
        kind: dataclass of a row.
        key: of a row.
        jobs: by key.
        label: of the progress bar.

    Returns:
        The rows in the order of the jobs. Rows of other jobs stay in the file.

    Raises:
        EmoconvError: a folder of other settings, or a line that is no row.
    """
    out.mkdir(parents=True, exist_ok=True)
    _claim(out / SETTINGS_FILE, settings)
    done = {key(row): row for row in _read(out / ROWS_FILE, kind)}
    rows = []
    with (out / ROWS_FILE).open("a", encoding="utf-8") as file:
        for name, work in tqdm(jobs.items(), label):
            row = done.get(name)
            if row is None:
                row = work()
                values: Any = row
                file.write(json.dumps(dataclasses.asdict(values)) + "\n")
                file.flush()
            rows.append(row)
    return rows


def _claim(path: pathlib.Path, settings: dict) -> None:
    """Writes the settings of the rows, or refuses a folder whose rows were made with others."""
    if not path.is_file():
        if (path.parent / ROWS_FILE).is_file():
            raise EmoconvError(f"{path}: absent, so nobody knows what the rows are of; remove them")
        write_text(path, json.dumps(settings, indent=1) + "\n")
        return
    if read_json(path, "expected settings") != settings:
        raise EmoconvError(
            f"{path}: the rows beside it were made with another bundle or other settings; use a "
            "fresh folder"
        )


def _read(path: pathlib.Path, kind: type[Row]) -> list[Row]:
    """Returns the finished rows; a line cut off by a crash is taken away.

    What follows would be written onto its end otherwise.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EmoconvError(f"{path}: not UTF-8 text ({error}); use a fresh folder") from None
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            rows.append(kind(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise EmoconvError(
                f"{path}: line {number} is no row ({error}); use a fresh folder"
            ) from None
    return rows
