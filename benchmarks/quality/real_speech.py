"""What a listener hears on real acted speech: the scale that its figures on conversions need."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.quality.arithmetic import mean, slope_within
from benchmarks.quality.clips import Clip
from emoconv_jax.pipeline.labels import base_arousal

NAMED = ("happy", "angry", "sad")  # the emotions that looks ask for


def truth(clip: Clip) -> float:
    """Returns the arousal that emotion and intensity of an acted clip stand for.

    Args:
        clip: acted.
    """
    return base_arousal(clip.emotion, clip.intensity)


def figures(
    clips: Sequence[Clip], named: Sequence[str], arousal: Sequence[float]
) -> dict[str, Any]:
    """Returns what a listener hears on real clips.

    Args:
        clips: acted.
        named: the likeliest emotion of each; empty where the listener names none.
        arousal: heard in each.

    Returns:
        JSON-ready: `clips`, `voices`; `emotions_named`, the share named right; `named`, the same
        by emotion of NAMED; `r`, Pearson's with the truth; `slope`, heard on true within voices.
    """
    true, heard = np.array([truth(clip) for clip in clips]), np.array(arousal, np.float64)
    right = np.array([float(c.emotion == n) for c, n in zip(clips, named, strict=True)])
    emotion = np.array([clip.emotion for clip in clips])
    voices = [clip.voice for clip in clips]
    r = float(np.corrcoef(true, heard)[0, 1]) if np.ptp(true) and np.ptp(heard) else 0.0
    return {
        "clips": len(clips),
        "voices": len(set(voices)),
        "emotions_named": round(mean(right), 4),
        "named": {e: round(mean(right[emotion == e]), 4) for e in NAMED if e in emotion},
        "r": round(r, 4),
        "slope": round(slope_within(true, heard, voices), 4),
    }


def by_group(
    clips: Sequence[Clip], named: Sequence[str], arousal: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """Returns `figures` of each CORPUS/SPLIT.

    Args:
        clips: acted.
        named: as of `figures`.
        arousal: as of `figures`.
    """
    found = {}
    for group in sorted({group_of(clip) for clip in clips}):
        own = [i for i, clip in enumerate(clips) if group_of(clip) == group]
        found[group] = figures(
            [clips[i] for i in own], [named[i] for i in own], [arousal[i] for i in own]
        )
    return found


def group_of(clip: Clip) -> str:
    """Returns CORPUS/SPLIT.

    Args:
        clip: any.
    """
    return f"{clip.corpus}/{clip.split}"


def table(heard: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Returns what listeners hear on real clips, as Markdown.

    Args:
        heard: listener -> CORPUS/SPLIT -> `figures`.
    """
    lines = [
        "| listener | real clips of | clips | voices | emotions named, of 8 | happy, angry, sad "
        "named | arousal r | slope within voices |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for listener, groups in heard.items():
        for group, told in groups.items():
            named = ", ".join(f"{100 * told['named'].get(e, float('nan')):.0f} %" for e in NAMED)
            lines.append(
                f"| {listener} | {group} | {told['clips']} | {told['voices']} | "
                f"{100 * told['emotions_named']:.0f} % | {named} | {told['r']:.2f} | "
                f"{told['slope']:.2f} |"
            )
    return "\n".join(lines)


def groups(clips: Sequence[Clip]) -> dict[str, int]:
    """Returns how many clips each voice has.

    Args:
        clips: any.
    """
    return dict(sorted(collections.Counter(clip.voice for clip in clips).items()))
