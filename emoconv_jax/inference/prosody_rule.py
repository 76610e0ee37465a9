"""Prosody by rule: what a target asks of a source's pitch, energy and pace.

With a change (pitch in octaves, ln of its range, energy in nepers, ln of the duration) per frame,

    (1)  pitch'  = m + exp(range) (pitch - m) + octaves,   put out within 50 to 600 Hz
    (2)  energy' = energy + w min(max(nepers, -8 dB), +6 dB),   and no louder than LOUDEST

with m the median of what is voiced within seconds around the frame, so that a voice stays where it
is among others, and w 1 for speech and 0 for pauses. A frame lasts

    (3)  r = 1 + (exp(duration) - 1) g,   exp(duration) within .8 to 1.25

times as long, with g greater where a voice is heard than in pauses and 1 in the mean.
"""

import numpy as np

from emoconv_jax.audio.columns import LOG2_F0, LOG_ENERGY, VOICING
from emoconv_jax.bundles.prosody_banks import DURATION, ENERGY, F0, RANGE
from emoconv_jax.shapes import Bool, Float

LOWEST_HZ, HIGHEST_HZ = 50.0, 600.0
NEPERS = float(np.log(10) / 20)  # of a decibel
MOST_LOUDER_DB, MOST_SOFTER_DB = 6.0, 8.0
LOUDEST = float(np.log(0.35))  # of a frame's RMS: above it, peaks meet full scale
MOST_RANGE = 1.0  # of ln of the ratio of ranges
FASTEST, SLOWEST = 0.8, 1.25  # ratio of durations
PAUSE_SHARE = 0.4  # of a change of pace, against what is voiced
MOST_GAIN = 1.6  # of g in (3)
MEDIAN_S = 10.0  # that the middle of a voice is taken over
FEWEST_VOICED = 20  # frames of them that give one
SPEECH_NEPERS = (5.0, 3.0)  # below the loud frames: where w is 0, and from where it is 1
LOUD_PERCENT = 95
SMOOTHED_FRAMES = 9


def middle_of(own: Float[np.ndarray, "f 3"], frame_s: float) -> Float[np.ndarray, " f"]:
    """Returns the middle of the voice around each frame, in log2 Hz.

    Args:
        own: prosody of a recording.
        frame_s: from frame to frame.

    Returns:
        The median over the voiced frames of MEDIAN_S around; of all of them where these are few;
        zeros where nothing is voiced.
    """
    voiced = np.flatnonzero(own[:, VOICING] > 0)
    if not voiced.size:
        return np.zeros(len(own))
    pitch = own[voiced, LOG2_F0].astype(np.float64)
    half = round(MEDIAN_S / 2 / frame_s)
    places = np.arange(0, len(own) + half, max(half // 5, 1))
    medians = []
    for place in places:
        first, last = np.searchsorted(voiced, [place - half, place + half + 1])
        around = pitch[first:last] if last - first >= FEWEST_VOICED else pitch
        medians.append(np.median(around))
    return np.interp(np.arange(len(own)), places, medians)


def asked(
    own: Float[np.ndarray, "f 3"],
    change: Float[np.ndarray, "f 4"],
    middle: Float[np.ndarray, " f"],
) -> Float[np.ndarray, "f 3"]:
    """Returns the prosody that a change asks for, equations (1) and (2).

    Args:
        own: prosody of the source.
        change: at each frame.
        middle: of the voice, as `middle_of` returns it.

    Returns:
        The prosody, in the columns of `own`; where nothing is voiced, its pitch stays as it is.
    """
    found = own.astype(np.float64)
    if (own[:, VOICING] > 0).any():
        ratio = np.exp(np.clip(change[:, RANGE], -MOST_RANGE, MOST_RANGE))
        pitch = middle + ratio * (found[:, LOG2_F0] - middle) + change[:, F0]
        moved = (change[:, RANGE] != 0) | (change[:, F0] != 0)
        within = np.clip(pitch, np.log2(LOWEST_HZ), np.log2(HIGHEST_HZ))
        found[:, LOG2_F0] = np.where(moved, within, found[:, LOG2_F0])
    found[:, LOG_ENERGY] += speech_share(own) * limited(own, change[:, ENERGY])
    return found.astype(np.float32)


def limited(
    own: Float[np.ndarray, "f 3"], nepers: Float[np.ndarray, " f"]
) -> Float[np.ndarray, " f"]:
    """Returns a change of energy within the limits of (2).

    Args:
        own: prosody of the source.
        nepers: the change at each frame.
    """
    room = max(LOUDEST - float(own[:, LOG_ENERGY].max(initial=-np.inf)), 0.0)
    return np.clip(nepers, -MOST_SOFTER_DB * NEPERS, min(MOST_LOUDER_DB * NEPERS, room))


def speech_share(own: Float[np.ndarray, "f 3"]) -> Float[np.ndarray, " f"]:
    """Returns 1 for speech, 0 for pauses, and what lies between by its energy.

    Args:
        own: prosody of the source.
    """
    if not len(own):
        return np.zeros(0)
    energy = own[:, LOG_ENERGY].astype(np.float64)
    quiet, loud = np.percentile(energy, LOUD_PERCENT) - np.array(SPEECH_NEPERS)
    return np.clip((energy - quiet) / (loud - quiet), 0.0, 1.0)


def durations(
    own: Float[np.ndarray, "f 3"],
    change: Float[np.ndarray, "f 4"],
    kept: Bool[np.ndarray, " f"],
) -> Float[np.ndarray, " f"]:
    """Returns how long each frame is to last, in frames, equation (3).

    Args:
        own: prosody of the source.
        change: at each frame.
        kept: frames that stay as they are, where a stretch overlaps its neighbour.

    Returns:
        The durations; 1 for what is kept.
    """
    ratio = np.clip(np.exp(change[:, DURATION]), FASTEST, SLOWEST)
    weights = np.where(own[:, VOICING] > 0, 1.0, PAUSE_SHARE)
    edges = np.pad(weights, SMOOTHED_FRAMES // 2, mode="edge")
    weights = np.convolve(edges, np.full(SMOOTHED_FRAMES, 1 / SMOOTHED_FRAMES), "valid")
    free = ~kept
    if not free.any():
        return np.ones(len(own))
    gain = np.minimum(weights / weights[free].mean(), MOST_GAIN)
    return np.where(free, 1 + (ratio - 1) * gain, 1.0)


def places(durations: Float[np.ndarray, " f"]) -> Float[np.ndarray, " g"]:
    """Returns where in the source the middle of each frame of the stretched speech lies.

    Args:
        durations: of the source's frames, in frames.

    Returns:
        Places in frames, 0 the middle of the first; as many as the durations sum to, rounded.
    """
    ends = np.concatenate([[0.0], np.cumsum(durations)])
    frames = max(1, round(float(ends[-1])))
    middles = (np.arange(frames) + 0.5) * (ends[-1] / frames)
    return np.interp(middles, ends, np.arange(len(ends))) - 0.5


def stretched(
    table: Float[np.ndarray, "f c"], places: Float[np.ndarray, " g"]
) -> Float[np.ndarray, "g c"]:
    """Returns the rows of a table at places between them, on straight lines.

    Args:
        table: a row per frame.
        places: in frames, as `places` returns them.
    """
    at = np.clip(places, 0, len(table) - 1)
    low = np.minimum(at.astype(int), max(len(table) - 2, 0))
    part = (at - low)[:, None].astype(table.dtype)
    high = np.minimum(low + 1, len(table) - 1)
    return (1 - part) * table[low] + part * table[high]


def told(
    own: Float[np.ndarray, "f 3"],
    change: Float[np.ndarray, "f 4"],
    wanted: Float[np.ndarray, "f 3"],
) -> dict[str, float]:
    """Returns what was asked for in a few numbers, JSON-ready.

    Args:
        own: prosody of the source.
        change: at each of its frames, before the limits.
        wanted: what `asked` made of it.

    Returns:
        `f0_octaves`, the mean over voiced frames; `range_ratio`; `level_db`, of speech; and
        `level_unlimited_db`, what it would be without the limits.
    """
    voiced, speech = own[:, VOICING] > 0, speech_share(own)
    moved = (wanted.astype(np.float64) - own)[:, LOG2_F0][voiced]
    share = speech / max(float(speech.sum()), 1e-9)
    ranges = np.clip(change[:, RANGE][voiced], -MOST_RANGE, MOST_RANGE)
    return {
        "f0_octaves": float(moved.mean()) if moved.size else 0.0,
        "range_ratio": float(np.exp(ranges.mean())) if moved.size else 1.0,
        "level_db": float(share @ limited(own, change[:, ENERGY]) / NEPERS),
        "level_unlimited_db": float(share @ change[:, ENERGY] / NEPERS),
    }
