"""What is prepared into a feature folder: every utterance of the sources, written down as a plan.

`plan.json` says it, so that a run that was killed, or the jobs of an array, go on with the same,
and a run that comes back for the sound finds the one that the features are of.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from emoconv_jax.config import from_dict, to_dict
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import read_json, write_text
from emoconv_jax.inference.whisper_features import ENCODER
from emoconv_jax.pipeline.alignment import read_phone_table
from emoconv_jax.pipeline.extraction import Settings, Task
from emoconv_jax.pipeline.sources import is_folder, rows_of
from emoconv_jax.pipeline.store import INDEX, SHARDS

PLAN, PHONE_TABLE = "plan.json", "phones.tsv"


def plan_tasks(sources: Sequence[str]) -> list[Task]:
    """Returns every utterance of the sources, with the phone times that came along.

    Args:
        sources: see `pipeline.sources`.

    Returns:
        Tasks in the sources' order.

    Raises:
        UsageError: two corpora of one name.
        EmoconvError: a source that cannot be read.
    """
    tasks: list[Task] = []
    corpora: set[str] = set()
    for source in sources:
        rows = rows_of(source)
        own = {row.corpus for row in rows}
        if own & corpora:
            raise UsageError(f"{source}: a corpus named {min(own & corpora)} was given before")
        corpora |= own
        table = pathlib.Path(source) / PHONE_TABLE
        spans = read_phone_table(table) if is_folder(source) and table.exists() else {}
        if spans and not any(row.path in spans for row in rows):
            raise EmoconvError(f"{table}: names no path of the corpus, for example {min(spans)!r}")
        for number, row in enumerate(rows):
            found = spans.get(row.path)
            tasks.append(Task(source, number, row, tuple(found) if found else None))
    return tasks


def claim(out: pathlib.Path, settings: Settings, tasks: Sequence[Task]) -> None:
    """Writes down what is prepared here, or refuses a folder that holds something else.

    Args:
        out: the feature folder; made if absent.
        settings: of the first pass.
        tasks: every utterance.

    Raises:
        UsageError: the folder holds another preparation, or features of none.
    """
    plan = {
        "settings": to_dict(settings),
        "encoder": ENCODER if settings.whisper else "",
        "utterances": len(tasks),
        "rows_sha256": _rows_sha256(tasks),
    }
    path = out / PLAN
    if path.is_file():
        found = read_json(path, "")
        wrong = _difference(found, plan)
        if wrong:
            raise UsageError(f"{path}: {wrong}; use a fresh --out, or delete that folder")
    elif (out / INDEX).exists() or (out / SHARDS).exists():
        raise UsageError(f"{out}: holds features of no known plan; use a fresh --out")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(plan, indent=1) + "\n")


def tasks_of(folder: pathlib.Path, sources: Sequence[str]) -> tuple[list[Task], Settings]:
    """Returns the utterances of a feature folder, to read their sound again.

    Args:
        folder: the feature folder.
        sources: those that it was prepared from, in the same order.

    Returns:
        Its tasks, and the settings that it was prepared with.

    Raises:
        UsageError: other sources, or others in them.
        EmoconvError: a source that cannot be read, or no plan of a preparation.
    """
    path, tasks = folder / PLAN, plan_tasks(sources)
    plan = read_json(path, "`emoconv prepare` writes it")
    if not isinstance(plan, dict) or plan.get("rows_sha256") != _rows_sha256(tasks):
        raise UsageError(
            f"{path}: {', '.join(sources)}: the corpora's rows, their order or their phone times "
            "are not those of the features; give the sources that these were prepared from"
        )
    return tasks, from_dict(Settings, plan.get("settings"), f"{path}: settings")


def _rows_sha256(tasks: Sequence[Task]) -> str:
    rows = [(dataclasses.astuple(task.row), _times(task)) for task in tasks]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def _times(task: Task) -> list[tuple[str, float, float]]:
    return [(span.phone, span.start_s, span.end_s) for span in task.spans or ()]


def _difference(found: Any, plan: dict[str, Any]) -> str:
    """Returns what another plan has otherwise, empty if nothing."""
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        return "no plan of a preparation"
    for name, value in plan["settings"].items():
        if found["settings"].get(name) != value:
            return f"{name} is {found['settings'].get(name)!r}, this run has {value!r}"
    for name, words in (("encoder", "encoder is"), ("utterances", "utterances are")):
        if found.get(name) != plan[name]:
            return f"{words} {found.get(name)}, this run has {plan[name]}"
    if found.get("rows_sha256") != plan["rows_sha256"]:
        return "the corpora's rows, their order or their phone times are not those of this run"
    return ""
