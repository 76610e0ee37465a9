"""Emotion plans: which conditions are mixed, how strongly, at every step of a solver.

A plan is a table of weights over steps and conditions. Scores combine linearly,

    (1)  s_mix = sum_i w_i s(x_t, t, e_i),   sum_i w_i = 1,

so mixing, EmoMix's three phases, intensity and guidance are all tables, and a solver knows none
of them. Steps count down k = T..1 in EmoMix:

    (2)  k > K_max: base,   K_max >= k > K_min: (1 - g) base + g E,   k <= K_min: E
         K_max = floor(.6 T + .5),   K_min = floor(.2 T + .5)
    (3)  guidance: s = s_neg + w (s_pos - s_neg)

Source: EmoMix (arXiv 2306.00648), section 3; guidance as in DiffEVC (arXiv 2409.03636).
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from emoconv_jax.errors import UsageError
from emoconv_jax.shapes import Float

K_MAX_SHARE, K_MIN_SHARE = 0.6, 0.2  # EmoMix, section 3: shares of the steps left to run
MOST_WEIGHT = 1e6
MOST_GUIDANCE = 100.0  # far beyond use; rows of float32 still sum to 1

Segment = tuple[int, int, tuple[int, ...]]
"""First step, step after the last, and the conditions that have a weight in between."""


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
            raise UsageError("plan.weights: found 0 steps, at least 1 is needed")
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

    def segments(self) -> tuple[Segment, ...]:
        """Returns the runs of steps that evaluate the same conditions.

        Returns:
            The segments in order, which together cover all steps; hashable, so that it can be a
            static argument.
        """
        used = (self.weights != 0).reshape(self.steps, len(self.names), -1).any(axis=2)
        active = [tuple(int(index) for index in np.flatnonzero(row)) for row in used]
        starts = [i for i in range(self.steps) if i == 0 or active[i] != active[i - 1]]
        stops = [*starts[1:], self.steps]
        return tuple(
            (start, stop, active[start]) for start, stop in zip(starts, stops, strict=True)
        )

    def cost(self) -> float:
        """Returns how many conditions a step evaluates on average.

        Returns:
            The cost in units of a plan with one condition, at least 1.
        """
        return sum((stop - start) * len(a) for start, stop, a in self.segments()) / self.steps


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
    return _constant({name: 1.0}, steps)


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
    return _constant(_normalised(weights), steps)


def emomix(
    base: str, weights: Mapping[str, float | int], strength: float | int, steps: int
) -> EmotionPlan:
    """Returns EmoMix's plan: first the base, then both, at last the mixed-in emotion, by (2).

    The ends are pure by definition: strength 0 is the base throughout, 1 the mixed-in emotion.
    Above .8 the base is hardly heard any more (EmoMix, section 3).

    Args:
        base: the emotion of the early steps.
        weights: what is mixed in, emotion to weight; normalised to sum to 1.
        strength: weight g of the mixed-in emotion in the middle steps, 0 to 1.
        steps: solver steps T, at least 1.

    Returns:
        The plan.

    Raises:
        UsageError: a strength outside 0..1, a bad weight, fewer than one step.
    """
    mixed_in = _normalised(weights)
    strength = _share(strength)
    if strength in (0.0, 1.0):
        return _constant(mixed_in if strength else {base: 1.0}, steps)
    k_max = math.floor(K_MAX_SHARE * steps + 0.5)
    k_min = math.floor(K_MIN_SHARE * steps + 0.5)
    left = steps - np.arange(steps)  # k = T..1
    share = np.where(left > k_max, 0.0, np.where(left > k_min, strength, 1.0))
    return _between({base: 1.0}, mixed_in, share)


def intensity(neutral: str, target: str, strength: float | int, steps: int) -> EmotionPlan:
    """Returns the plan of an emotion at reduced intensity: mixed with neutral on all steps.

    Args:
        neutral: name of the neutral condition.
        target: the emotion.
        strength: share of the emotion, 0 to 1.
        steps: solver steps, at least 1.

    Returns:
        The plan.

    Raises:
        UsageError: a strength outside 0..1, fewer than one step.
    """
    share = np.full(max(steps, 0), _share(strength))
    return _between({neutral: 1.0}, {target: 1.0}, share)


def guided(plan: EmotionPlan, negative: str, scale: float | int) -> EmotionPlan:
    """Returns the plan pushed away from a condition, equation (3).

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
    names = plan.names if negative in plan.names else (*plan.names, negative)
    weights = np.zeros((plan.steps, len(names), *plan.weights.shape[2:]))
    weights[:, : len(plan.names)] = scale * plan.weights.astype(np.float64)
    weights[:, names.index(negative)] += 1.0 - scale
    return _compact(names, weights)


def _constant(row: Mapping[str, float], steps: int) -> EmotionPlan:
    return _compact(tuple(row), np.tile(np.array(list(row.values())), (max(steps, 0), 1)))


def _between(
    first: Mapping[str, float], second: Mapping[str, float], share: np.ndarray
) -> EmotionPlan:
    """Returns the plan (1 - share) first + share second, with one share per step."""
    names = tuple(dict.fromkeys([*first, *second]))
    start, end = (np.array([row.get(name, 0.0) for name in names]) for row in (first, second))
    return _compact(names, (1 - share[:, None]) * start + share[:, None] * end)


def _compact(names: tuple[str, ...], weights: np.ndarray) -> EmotionPlan:
    """Returns the plan without conditions that never have a weight."""
    kept = [i for i in range(len(names)) if np.any(weights[:, i] != 0)]
    if not len(weights):
        raise UsageError("steps: found fewer than 1, at least 1 is needed")
    return EmotionPlan(tuple(names[i] for i in kept), weights[:, kept].astype(np.float32))


def _normalised(weights: Mapping[str, float | int]) -> dict[str, float]:
    for name, weight in weights.items():
        if not 0 <= weight <= MOST_WEIGHT:  # also refuses NaN
            raise UsageError(f"mix.{name}: found weight {weight}, allowed is 0 to {MOST_WEIGHT:g}")
    total = math.fsum(weights.values())
    if total <= 0:
        raise UsageError(f"mix: found {dict(weights)}, at least one weight must be above 0")
    return {name: weight / total for name, weight in weights.items()}


def _share(strength: float | int) -> float:
    if not 0 <= strength <= 1:
        raise UsageError(f"strength: found {strength}, allowed is 0 to 1")
    return float(strength)
