"""A picture and a page of one source and its conversions, to look at and to listen to."""

import dataclasses
import html
import pathlib
import urllib.parse
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.prosody import f0_track
from emoconv_jax.config import MelConfig
from emoconv_jax.evaluation.measures import Measures, cosine
from emoconv_jax.files import replacing, write_text
from emoconv_jax.shapes import Float

F0_RANGE_HZ = (50, 600)
LEVEL_RANGE_DB = (-75, 0)
MEL_RANGE = (-11.5, 2.0)  # ln of the floor .. loud speech
INK, PITCH, LEVEL = "#1d2433", "#c2410c", "#2563a8"


@dataclasses.dataclass(frozen=True)
class Item:
    """One column of the page.

    Attributes:
        title: what it is.
        file: the audio's name in the page's folder.
        audio: its waveform.
        measures: its figures.
    """

    title: str
    file: str
    audio: Float[np.ndarray, " n"]
    measures: Measures


def figures(items: Sequence[Item]) -> list[tuple[str, str, str, str, str]]:
    """Returns title, arousal, F0, level and similarity to the first item, as text.

    Args:
        items: the source first.

    Returns:
        One row per item.
    """
    source = items[0].measures.speaker
    return [
        (
            item.title,
            f"{item.measures.arousal:.2f}",
            "unvoiced" if np.isnan(item.measures.f0_hz) else f"{item.measures.f0_hz:.0f}",
            f"{item.measures.level_db:.1f}",
            f"{cosine(item.measures.speaker, source):.2f}",
        )
        for item in items
    ]


HEADINGS = ("", "arousal (1-7)", "median F0 (Hz)", "level (dBFS)", "speaker similarity")


def draw(items: Sequence[Item], mel: MelConfig, path: pathlib.Path) -> None:
    """Draws mel, pitch and energy of every item side by side, on common scales.

    Args:
        items: the source first.
        mel: settings of the mels.
        path: of the PNG, written to a temporary name and renamed.
    """
    hop_s = mel.hop_samples / mel.sample_rate_hz
    figure = Figure(figsize=(3.2 * len(items), 6.4), layout="constrained")
    axes = figure.subplots(
        3, len(items), sharex="col", sharey="row", squeeze=False, height_ratios=[2, 1, 1]
    )
    for column, item in zip(axes.T, items, strict=True):
        image = log_mel(item.audio, mel)
        length_s = len(image) * hop_s
        column[0].imshow(
            image.T,
            origin="lower",
            aspect="auto",
            extent=(0, length_s, 0, mel.mels),
            cmap="magma",
            vmin=MEL_RANGE[0],
            vmax=MEL_RANGE[1],
        )
        # A title is text, not TeX: a file may be called "$x".
        column[0].set_title(item.title, color=INK, fontsize=11, parse_math=False)
        times_s, f0_hz = f0_track(item.audio, mel.sample_rate_hz)
        column[1].plot(times_s, f0_hz, color=PITCH, linewidth=2)
        column[1].set_yscale("log")
        column[1].set_ylim(*F0_RANGE_HZ)
        column[1].set_yticks([75, 150, 300, 600], ["75", "150", "300", "600"])
        column[1].minorticks_off()
        power = np.add.reduceat(item.audio**2, np.arange(0, len(item.audio), mel.hop_samples))
        level_db = 10 * np.log10(power / mel.hop_samples + 1e-10)
        column[2].plot(np.arange(len(level_db)) * hop_s, level_db, color=LEVEL, linewidth=1)
        column[2].set_ylim(*LEVEL_RANGE_DB)
        column[2].set_xlabel("seconds")
        column[2].set_xlim(0, length_s)
        for axis in column[1:]:
            axis.grid(alpha=0.25)
    for axis, label in zip(axes[:, 0], ("mel bin", "F0 (Hz)", "level (dBFS)"), strict=True):
        axis.set_ylabel(label)
    with replacing(path) as (partial,):
        figure.savefig(partial, dpi=110, format="png")


def write_page(items: Sequence[Item], picture: str, note: str, path: pathlib.Path) -> None:
    """Writes an HTML page with players, figures and the picture; every text is escaped.

    Args:
        items: the source first; their files lie beside the page.
        picture: file name of the PNG.
        note: a paragraph above the table.
        path: of the page, written to a temporary name and renamed.
    """
    heads = "".join(f"<th>{html.escape(h)}</th>" for h in (*HEADINGS, "listen"))
    rows = []
    for item, row in zip(items, figures(items), strict=True):
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        player = f'<td><audio controls preload="none" src="{_address(item.file)}"></audio></td>'
        rows.append(f"<tr>{cells}{player}</tr>")
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>emoconv</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: {INK}; margin: 2rem auto; max-width: 72rem;
  padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: right; padding: .4rem .7rem; border-bottom: 1px solid #d8dce5; }}
th:first-child, td:first-child {{ text-align: left; font-weight: 600; }}
.scroll {{ overflow-x: auto; }}
img {{ max-width: 100%; height: auto; margin-top: 1.5rem; }}
</style></head><body>
<h1>emoconv</h1>
<p>{html.escape(note)}</p>
<div class="scroll"><table><thead><tr>{heads}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>
<img src="{_address(picture)}" alt="Mel, pitch and energy of each version">
</body></html>
"""
    write_text(path, page)


def _address(file: str) -> str:
    """Returns a file's name as an attribute: never a scheme, a query or the end of the quotes."""
    return html.escape(urllib.parse.quote(file, safe=""), quote=True)
