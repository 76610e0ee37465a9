"""The prosody of a recording, and what a request asks of it, stretch by stretch."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from emoconv_jax.audio.prosody import prosody
from emoconv_jax.config import MelConfig
from emoconv_jax.inference import chunks
from emoconv_jax.inference.batching import Asked, Job, Stretch
from emoconv_jax.inference.prosody_rule import (
    asked,
    durations,
    middle_of,
    places,
    stretched,
    told,
)
from emoconv_jax.inference.resolved import Resolved
from emoconv_jax.shapes import Float

RISE_FRAMES = 172  # 2 s, over which a stretch comes to what is heard in itself


class Melody:
    """Asks for the prosody of one recording's stretches, in their order."""

    def __init__(self, audio: Float[np.ndarray, " n"], config: MelConfig):
        """Tracks the recording.

        Args:
            audio: its waveform, at the mel's sample rate.
            config: of the mel.
        """
        self.own = prosody(audio, config.sample_rate_hz, config)
        self.middle = middle_of(self.own, config.hop_samples / config.sample_rate_hz)
        self._next = 0
        self._heard: np.ndarray | None = None  # what the emotion of the last stretch does

    def ask(self, stretch: Stretch, job: Job, arousal: float) -> Stretch:
        """Returns a stretch with what the network is to be told of it, at the pace asked for.

        Args:
            stretch: of the recording, at its own pace; the one that follows the last asked for.
            job: what it is converted to.
            arousal: heard in it.
        """
        first, frames, resolved = stretch.first_frame, len(stretch.mel), job.resolved
        rows = slice(first, first + frames)
        own = self.own[rows]
        change = self._change(resolved, frames, first, resolved.heard(arousal), job)
        wanted = asked(own, change, self.middle[rows])
        if resolved.request.rate != "follow":
            return dataclasses.replace(stretch, asked=Asked(own, wanted, change))
        kept = np.zeros(frames, bool)  # where it overlaps its neighbours, so that both are alike
        kept[: chunks.OVERLAP_FRAMES] = first > 0
        if first + frames < len(self.own):
            kept[-chunks.OVERLAP_FRAMES :] = True
        at = places(durations(own, change, kept))
        begin, self._next = self._next, self._next + len(at) - chunks.OVERLAP_FRAMES
        return dataclasses.replace(
            stretch,
            mel=stretched(stretch.mel, at),
            average_voice=stretched(stretch.average_voice, at),
            first_frame=begin,
            asked=Asked(
                own=stretched(own, at),
                wanted=stretched(wanted, at),
                change=stretched(change, at),
                places=first + at,
            ),
        )

    def _change(
        self, resolved: Resolved, frames: int, first: int, heard: np.ndarray, job: Job
    ) -> Float[np.ndarray, "f 4"]:
        """Returns what is asked of a stretch; where it overlaps the last one, the same as of that.

        Two pitches would otherwise fade into each other there, as two voices.
        """
        change = resolved.changes(frames, first, heard, job.reference_change)
        before, self._heard = self._heard, heard
        if before is None:
            return change
        last = resolved.changes(frames, first, before, job.reference_change)
        rise = np.clip((np.arange(frames) - chunks.OVERLAP_FRAMES) / RISE_FRAMES, 0.0, 1.0)
        return last + rise[:, None] * (change - last)


def joined(found: Sequence[Asked]) -> Asked | None:
    """Returns what was asked of a whole recording, None where nothing was.

    Args:
        found: of its stretches, in order.
    """
    if not found:
        return None
    at = [one.places[:, None] for one in found if one.places is not None]
    return Asked(
        own=_whole([one.own for one in found]),
        wanted=_whole([one.wanted for one in found]),
        change=_whole([one.change for one in found]),
        places=_whole(at)[:, 0] if at else None,
    )


def _whole(tables: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(chunks.joined(tables)))


def reply(found: Asked, seconds: tuple[float, float]) -> dict[str, Any]:
    """Returns what was asked for, for the provenance: numbers of three digits.

    Args:
        found: of the whole recording.
        seconds: how long it was, and how long its conversion is.
    """
    numbers = told(found.own, found.change, found.wanted)
    rate = {"seconds_before": seconds[0], "seconds_after": seconds[1]}
    return {name: round(value, 3) + 0.0 for name, value in (numbers | rate).items()}
