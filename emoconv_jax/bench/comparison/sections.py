"""The comparison with PyTorch, section by section.

cases     every case beside PyTorch: time, ratio, rate, compile time, difference of the outputs
memory    the most memory that either side holds, alone in a process, for training and sampling
scaling   cost against frames, batch and number of conditions
devices   the sampler on simulated devices of one CPU
"""

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from emoconv_jax.bench.comparison import theirs
from emoconv_jax.bench.comparison.alone import peak_of
from emoconv_jax.bench.comparison.cases import KINDS, WIDTHS, Case, cases
from emoconv_jax.bench.comparison.measuring import (
    Settings,
    apart,
    compare,
    measured_ceiling,
    torch_device,
)
from emoconv_jax.bench.comparison.scaling import growth, simulated
from emoconv_jax.bench.comparison.table import draw, head_text, row_text, table
from emoconv_jax.bench.report import check_out, save_section
from emoconv_jax.files import read_json

SECTIONS = ("cases", "memory", "scaling", "devices")
REMEMBERED = (("training", 4), ("sampling", 4))  # kinds and batches of `memory`


def measure(
    settings: Settings,
    sections: Sequence[str] = SECTIONS,
    kinds: tuple[str, ...] = KINDS,
    widths: tuple[int, ...] = WIDTHS,
    folder: str | None = None,
    out: pathlib.Path | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """Measures sections, one after the other.

    Args:
        settings: how to compare.
        sections: of SECTIONS.
        kinds: of the cases.
        widths: of the score network; scaling and devices take the first.
        folder: of DiffVC's original code, where it stands in for the twin.
        out: gets the report as JSON after each section, whose other sections stay; a PNG of it lies
            beside it.
        log: takes tables.

    Returns:
        Section -> its figures.

    Raises:
        UsageError: unknown kinds or impossible widths.
        EmoconvError: an `out` that is no report, sides that differ, or a process that failed.
        OSError: it cannot be written.
    """
    check_out(out)
    chosen, device = cases(kinds, widths), torch_device()
    about = {
        "pytorch": importlib.metadata.version("torch"),
        "pytorch_device": device,
        "original": folder is not None,
        "compute": settings.compute,
        "rounds": settings.rounds,
    }
    found: dict[str, dict[str, Any]] = {}
    for name in sections:
        if name == "cases":
            figures: dict[str, Any] = {"ceiling": apart(measured_ceiling, settings.compute)}
            figures["rows"] = []
            log(head_text(about | figures))

            def told(row: dict[str, Any], figures: dict[str, Any] = figures) -> None:
                log(row_text(row, figures["ceiling"]))
                figures["rows"].append(row)
                save_section(out, "cases", about | figures)  # an hour's rows are not lost

            compare(chosen, settings, told)
        elif name == "memory":
            figures = {"rows": _memory(chosen, settings, folder)}
        elif name == "scaling":
            plain = dataclasses.replace(settings, compile=False)
            figures = growth(widths[0], plain)
        else:
            figures = {"rows": simulated(widths[0], settings.rounds)}
        found[name] = about | figures
        save_section(out, name, found[name])
        if name != "cases":  # whose rows are logged as they come
            log(table(name, found[name]))
    if out is not None:
        draw(read_json(out, "expected a report"), out.with_suffix(".png"))
    return found


def _memory(chosen: list[Case], settings: Settings, folder: str | None) -> list[dict[str, Any]]:
    rows = []
    for case in chosen:
        flop = theirs.flop_of(case, settings.estimator) or 0.0
        if (case.kind, case.batch) in REMEMBERED and flop <= settings.most_tflop * 1e12:
            row: dict[str, Any] = {"name": case.name}
            for side in ("ours", "pytorch"):
                row[side] = peak_of(side, case, settings.compute, folder)
            rows.append(row)
    return rows
