"""Emotion plans: which conditions are mixed, how strongly, at every step of a solver.

A plan is a table of weights over steps and conditions. Scores combine linearly,

    (1)  s_mix = sum_i w_i s(x_t, t, e_i),   sum_i w_i = 1,

so mixing, EmoMix's three phases, intensity, guidance and an emotion that changes within the
utterance are all tables, and a solver knows none of them. Each is one operation on two plans,

    (2)  blended(first, second, share) = (1 - share) first + share second

with a share that may differ per step or per frame. EmoMix counts its steps down, k = T..1:

    (3)  k > K_max: base,   K_max >= k > K_min: (1 - g) base + g E,   k <= K_min: E
         K_max = floor(.6 T + .5),   K_min = floor(.2 T + .5)
         where steps are not of equal length in t, k = T t / t_0: the phases are levels of noise
    (4)  guidance: s = s_neg + w (s_pos - s_neg)

Source: EmoMix (arXiv 2306.00648), section 3; guidance as in DiffEVC (arXiv 2409.03636).
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping

import numpy as np

from emoconv_jax.errors import UsageError
from emoconv_jax.shapes import Float

K_MAX_SHARE, K_MIN_SHARE = 0.6, 0.2  # EmoMix, section 3: shares of the steps left to run
MOST_WEIGHT = 1e6
MOST_GUIDANCE = 100.0  # far beyond use; rows of float32 still sum to 1
MOST_CONDITIONS = 64  # each is one more row of the network's batch

Segment = tuple[int, int, tuple[int, ...]]
"""First step, step after the last, and the conditions that have a weight in between."""

Share = float | int | Float[np.ndarray, "s"] | Float[np.ndarray, "#s f"]
"""One for all, one per step, or one per frame at every step (a first axis of 1 or of all steps)."""


@dataclasses.dataclass(frozen=True, eq=False)
class EmotionPlan:
    """Weights of named conditions at every step; rows sum to 1 and may be negative (guidance).

    `weights` is steps x conditions, or steps x conditions x frames for an emotion that changes
    within the utterance. The first row is the first step, at t = 1.
    """

    names: tuple[str, ...]
    weights: Float[np.ndarray, "s k"] | Float[np.ndarray, "s k f"]

    def __post_init__(self) -> None:
        """Checks the table: its shape, its names and the sums of its rows."""
        if self.weights.ndim not in (2, 3) or self.weights.shape[1] != len(self.names):
            raise UsageError(
                f"plan.weights: found shape {self.weights.shape}, allowed are "
                f"(steps, {len(self.names)}) and (steps, {len(self.names)}, frames)"
            )
        if self.weights.shape[0] < 1:
            raise UsageError("steps: found fewer than 1, at least 1 is needed")
        if len(self.names) > MOST_CONDITIONS:
            raise UsageError(
                f"conditions: found {len(self.names)}, allowed are at most {MOST_CONDITIONS}"
            )
        if len(set(self.names)) < len(self.names):
            raise UsageError(f"plan.names: found {self.names}, every name is allowed once")
        sums = self.weights.sum(axis=1, dtype=np.float64)
        if not np.all(np.abs(sums - 1) < 1e-3):  # also refuses NaN
            worst = sums.flat[np.argmax(np.abs(sums - 1))]
            raise UsageError(f"plan.weights: found a row with sum {worst:.4g}, allowed is 1")
        object.__setattr__(self, "weights", self.weights.astype(np.float32))

    @property
    def steps(self) -> int:
        """The number of solver steps."""
        return self.weights.shape[0]

    @property
    def frames(self) -> int | None:
        """The number of frames, or None where the weights hold for every frame."""
        return self.weights.shape[2] if self.weights.ndim == 3 else None

    def segments(self) -> tuple[Segment, ...]:
        """Returns the runs of steps that evaluate the same conditions.

        Returns:
            The segments in order, which together cover all steps; hashable, so that it can be a
            static argument.
        """
        used = (self.weights != 0).reshape(self.steps, len(self.names), -1).any(axis=2)
        active = [tuple(int(index) for index in np.flatnonzero(row)) for row in used]
        return tuple((start, stop, active[start]) for start, stop in _runs(used))

    def cost(self) -> float:
        """Returns how many conditions a step evaluates on average.

        Returns:
            The cost in units of a plan with one condition, at least 1.
        """
        return sum((stop - start) * len(a) for start, stop, a in self.segments()) / self.steps

    def summary(self) -> str:
        """Returns the weights as text, the steps counted from 1.

        Returns:
            One line, such as "steps 1-4 sad: 1; 5-8 sad: .6, happy: .4; 9-10 happy: 1"; a
            weight that changes over frames is its least and its greatest.
        """
        table = self.weights.reshape(self.steps, len(self.names), -1)
        phases = []
        for start, stop in _runs(table):
            lows, highs = (ends(axis=1).tolist() for ends in (table[start].min, table[start].max))
            row = zip(self.names, lows, highs, strict=True)
            said = ", ".join(f"{n}: {_span(low, high)}" for n, low, high in row if low or high)
            first = f"{start + 1}" if stop == start + 1 else f"{start + 1}-{stop}"
            phases.append(f"{first} {said}")
        return "steps " + "; ".join(phases)


def single(name: str, steps: int) -> EmotionPlan:
    """Returns the plan of one emotion throughout.

    Args:
        name: the emotion.
        steps: solver steps, at least 1.

    Returns:
        The plan.

    Raises:
        UsageError: fewer than one step.
    """
    return mix({name: 1.0}, steps)


def mix(weights: Mapping[str, float | int], steps: int) -> EmotionPlan:
    """Returns the plan that mixes emotions in fixed shares on all steps, equation (1).

    Args:
        weights: emotion to weight, not negative; normalised to sum to 1.
        steps: solver steps, at least 1.

    Returns:
        The plan; emotions of weight zero are left out of it.

    Raises:
        UsageError: a negative or infinite weight, no weight above zero, fewer than one step.
    """
    for name, weight in weights.items():
        if not 0 <= weight <= MOST_WEIGHT:  # also refuses NaN
            raise UsageError(f"mix.{name}: found weight {weight}, allowed is 0 to {MOST_WEIGHT:g}")
    total = math.fsum(weights.values())
    if total <= 0:
        raise UsageError(f"mix: found {dict(weights)}, at least one weight must be above 0")
    row = {name: weight / total for name, weight in weights.items() if weight}
    return EmotionPlan(tuple(row), np.tile(np.array(list(row.values())), (max(steps, 0), 1)))


def over_frames(
    names: tuple[str, ...], weights: Float[np.ndarray, "k f"], steps: int
) -> EmotionPlan:
    """Returns the plan whose weights change within the utterance, the same on all steps.

    Args:
        names: of the conditions; one without a weight stays, so that utterances of different
            lengths have the same conditions.
        weights: of each condition at each frame; every frame's sum to 1.
        steps: solver steps, at least 1.

    Returns:
        The plan.

    Raises:
        UsageError: a frame whose weights do not sum to 1, too many conditions, fewer than one
            step.
    """
    return EmotionPlan(names, np.broadcast_to(weights, (max(steps, 0), *weights.shape)))


def blended(first: EmotionPlan, second: EmotionPlan, share: Share) -> EmotionPlan:
    """Returns the plan between two others, equation (2).

    Args:
        first: of as many steps as `second`.
        second: of as many frames as `first` where both have frames.
        share: of the second plan; 0 is the first and 1 the second exactly, beyond them is
            guidance.

    Returns:
        The plan, over frames where a plan or the share is; conditions of the first come first.

    Raises:
        UsageError: plans or a share of different steps or frames.
    """
    shares = np.asarray(share, np.float64)
    if np.all(shares == 0) or np.all(shares == 1):
        return second if np.all(shares == 1) else first
    names = tuple(dict.fromkeys([*first.names, *second.names]))
    start, end = _table(first, names), _table(second, names)
    shares = shares.reshape(shares.shape + (1,) * (2 - np.ndim(share)))[:, None, :]
    if first.steps != second.steps or shares.shape[0] not in (1, first.steps):
        found = f"{first.steps}, {second.steps} and {shares.shape[0]} of the share"
        raise UsageError(f"plan.steps: found {found}, allowed is one number of steps")
    frames = {part.shape[2] for part in (start, end, shares)} - {1}
    if len(frames) > 1:
        raise UsageError(f"plan.frames: found {sorted(frames)}, allowed is one number of frames")
    weights = (1 - shares) * start + shares * end
    constant = first.frames is None and second.frames is None and np.ndim(share) < 2
    return EmotionPlan(names, weights[:, :, 0] if constant else weights)


def emomix(
    base: EmotionPlan,
    mixed_in: EmotionPlan,
    strength: float | int,
    grid: Float[np.ndarray, "n"] | None = None,
) -> EmotionPlan:
    """Returns EmoMix's plan: first the base, then both, at last the mixed-in emotion, by (3).

    The ends are pure by definition: strength 0 is the base throughout, 1 the mixed-in emotion.
    Above .8 the base is hardly heard any more (EmoMix, section 3).

    Args:
        base: the plan of the early steps.
        mixed_in: that of the last steps.
        strength: weight g of the mixed-in plan in the middle steps (one at least), 0 to 1.
        grid: falling times of the steps, one more than there are steps; None is equal ones.

    Returns:
        The plan.

    Raises:
        UsageError: a strength outside 0..1, plans of different steps or frames.
    """
    strength = _share("strength", strength)
    if strength in (0.0, 1.0):
        return blended(base, mixed_in, strength)
    steps = base.steps
    k_max = math.floor(K_MAX_SHARE * steps + 0.5)
    k_min = math.floor(K_MIN_SHARE * steps + 0.5)
    left = steps - np.arange(steps)  # k = T..1
    if grid is not None:
        left = np.round(steps * grid[:-1] / grid[0], 9)  # the same integers where it is uniform
    share = np.where(left > k_max, 0.0, np.where(left > k_min, strength, 1.0))
    if strength not in share:  # a few unequal steps may all miss the middle; the nearest stands in
        share[np.abs(left - (k_max + k_min) / 2).argmin()] = strength
    return blended(base, mixed_in, share)


def softened(plan: EmotionPlan, neutral: str, intensity: float | int) -> EmotionPlan:
    """Returns the plan at reduced intensity: mixed with neutral on all steps.

    Args:
        plan: at full intensity.
        neutral: name of the neutral condition.
        intensity: share of the plan, 0 to 1.

    Returns:
        The plan.

    Raises:
        UsageError: an intensity outside 0..1.
    """
    return blended(single(neutral, plan.steps), plan, _share("intensity", intensity))


def guided(plan: EmotionPlan, negative: str, scale: float | int) -> EmotionPlan:
    """Returns the plan pushed away from a condition, equation (4).

    Args:
        plan: the positive plan.
        negative: the condition to move away from, such as neutral or the source's own emotion.
        scale: guidance w; 1 changes nothing, DiffEVC found 1.25 best, 0 is the negative alone.

    Returns:
        The plan; its rows sum to 1 and the negative's weight is usually below zero.

    Raises:
        UsageError: a negative or infinite scale.
    """
    if not 0 <= scale <= MOST_GUIDANCE:  # also refuses NaN
        raise UsageError(f"guidance: found {scale}, allowed is 0 to {MOST_GUIDANCE:g}")
    return blended(plan, single(negative, plan.steps), 1 - scale)  # the positive's names first


def _table(plan: EmotionPlan, names: tuple[str, ...]) -> np.ndarray:
    """Returns a plan's weights in float64, over more conditions and at least one frame."""
    table = np.zeros((plan.steps, len(names), plan.frames or 1))
    columns = [names.index(name) for name in plan.names]
    table[:, columns] = plan.weights.reshape(plan.steps, len(plan.names), -1)
    return table


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Returns the runs of equal rows as (start, stop)."""
    changes = [i for i in range(1, len(rows)) if not np.array_equal(rows[i], rows[i - 1])]
    return list(itertools.pairwise([0, *changes, len(rows)]))


def _span(low: float, high: float) -> str:
    """Returns "low to high" in three digits and without leading zeros."""
    ends = [re.sub(r"^(-?)0\.", r"\1.", f"{round(e, 3) + 0.0:.3g}") for e in (low, high)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _share(field: str, share: float | int) -> float:
    if not 0 <= share <= 1:  # also refuses NaN
        raise UsageError(f"{field}: found {share}, allowed is 0 to 1")
    return float(share)
