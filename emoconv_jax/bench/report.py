"""A report of sections that are measured one at a time, each with the machine that it is of."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

import jax

from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, write_text

LIBRARIES = ("jax", "jaxlib", "flax", "numpy")


def machine() -> dict[str, Any]:
    """Returns what figures are of: date, cores, device and libraries; nothing that names a host."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "device": jax.devices()[0].device_kind,
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def check_out(out: pathlib.Path | None) -> None:
    """Refuses to add to a file that is no report, before all the work.

    Args:
        out: the file; None is none.

    Raises:
        EmoconvError: it is there and no report.
    """
    if out is None or not out.exists():
        return
    if not isinstance(read_json(out, "expected a report"), dict):
        raise EmoconvError(f"{out}: no report of a benchmark")


def save_section(out: pathlib.Path | None, name: str, found: dict[str, Any]) -> None:
    """Writes a section into a report, whose other sections stay.

    Args:
        out: the file; None writes nothing.
        name: of the section.
        found: JSON-ready, without NaN.

    Raises:
        EmoconvError: the file is there and no report.
        OSError: it cannot be written.
    """
    if out is None:
        return
    check_out(out)
    report = read_json(out, "expected a report") if out.exists() else {}
    report[name] = {"machine": machine(), **found}
    write_text(out, json.dumps(report, indent=1, allow_nan=False) + "\n")
