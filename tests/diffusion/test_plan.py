"""Plans against EmoMix's published schedule and the arithmetic of mixing."""

import numpy as np
import pytest

from emoconv_jax.diffusion import plan
from emoconv_jax.diffusion.grids import time_grid
from emoconv_jax.errors import UsageError


def emomix(base: str, mixed_in: dict, strength: float, steps: int) -> plan.EmotionPlan:
    return plan.emomix(plan.single(base, steps), plan.mix(mixed_in, steps), strength)


def intensity(neutral: str, target: str, share: float, steps: int) -> plan.EmotionPlan:
    return plan.softened(plan.single(target, steps), neutral, share)


def test_emomix_rows_at_ten_steps() -> None:
    found = emomix("happy", {"surprised": 1.0}, 0.4, 10)
    assert found.names == ("happy", "surprised")
    rows = [[1, 0]] * 4 + [[0.6, 0.4]] * 4 + [[0, 1]] * 2
    np.testing.assert_array_equal(found.weights, np.array(rows, np.float32))
    assert found.segments() == ((0, 4, (0,)), (4, 8, (0, 1)), (8, 10, (1,)))
    assert found.cost() == pytest.approx(1.40)


@pytest.mark.parametrize("steps", [1, 2, 3, 6, 25, 30, 100])
def test_emomix_phases_follow_the_rounding_rule(steps: int) -> None:
    found = emomix("happy", {"sad": 1.0}, 0.5, steps)
    k_max, k_min = int(0.6 * steps + 0.5), int(0.2 * steps + 0.5)
    for i, k in enumerate(range(steps, 0, -1)):
        phase = {"happy": 1.0} if k > k_max else {"sad": 1.0} if k <= k_min else None
        expected = phase or {"happy": 0.5, "sad": 0.5}
        row = dict(zip(found.names, found.weights[i].tolist(), strict=True))
        assert {name: w for name, w in row.items() if w} == expected


def test_emomix_mixes_several_emotions_in() -> None:
    found = emomix("neutral", {"happy": 3, "surprised": 1}, 0.8, 10)
    np.testing.assert_allclose(found.weights[5], [0.2, 0.6, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found.weights[9], [0, 0.75, 0.25], rtol=1e-6)


def test_emomix_base_that_is_also_mixed_in_stays_one_condition() -> None:
    found = emomix("happy", {"happy": 1, "sad": 1}, 0.5, 10)
    assert found.names == ("happy", "sad")
    np.testing.assert_allclose(found.weights[5], [0.75, 0.25])


@pytest.mark.parametrize(("strength", "name"), [(0.0, "neutral"), (1.0, "happy")])
def test_ends_are_the_pure_emotions(strength: float, name: str) -> None:
    pure = plan.single(name, 10)
    for found in (
        emomix("neutral", {"happy": 1.0}, strength, 10),
        intensity("neutral", "happy", strength, 10),
        plan.guided(plan.single("happy", 10), "neutral", strength),
    ):
        assert found.names == pure.names
        np.testing.assert_array_equal(found.weights, pure.weights)
        assert found.segments() == ((0, 10, (0,)),)


def test_mix_normalises_and_drops_zeros() -> None:
    found = plan.mix({"happy": 3.0, "calm": 0.0, "sad": 1.0}, 5)
    assert found.names == ("happy", "sad")
    np.testing.assert_allclose(found.weights, [[0.75, 0.25]] * 5)
    assert found.segments() == ((0, 5, (0, 1)),)


def test_intensity_is_a_constant_mix() -> None:
    found = intensity("neutral", "angry", 0.3, 4)
    np.testing.assert_allclose(found.weights, [[0.7, 0.3]] * 4, rtol=1e-6)


def test_guidance_moves_away_from_the_negative() -> None:
    found = plan.guided(emomix("happy", {"sad": 1.0}, 0.5, 10), "neutral", 1.25)
    assert found.names == ("happy", "sad", "neutral")
    np.testing.assert_allclose(found.weights[0], [1.25, 0, -0.25])
    np.testing.assert_allclose(found.weights[5], [0.625, 0.625, -0.25])
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)


def test_guidance_by_a_condition_of_the_plan_merges_with_it() -> None:
    found = plan.guided(intensity("neutral", "happy", 0.8, 3), "neutral", 1.5)
    assert found.names == ("neutral", "happy")
    np.testing.assert_allclose(found.weights, [[-0.2, 1.2]] * 3, rtol=1e-5)


def test_guidance_of_one_changes_nothing() -> None:
    before = plan.mix({"happy": 1, "sad": 2}, 3)
    after = plan.guided(before, "neutral", 1.0)
    assert after.names == before.names
    np.testing.assert_array_equal(after.weights, before.weights)


@pytest.mark.parametrize(
    "share", [0.3, np.full(4, 0.3), np.full((1, 3), 0.3), np.full((4, 3), 0.3)]
)
def test_a_share_per_step_or_frame_that_never_changes_is_the_same_share(share) -> None:
    found = plan.blended(plan.single("sad", 4), plan.mix({"happy": 1, "calm": 1}, 4), share)
    assert found.names == ("sad", "happy", "calm")
    assert found.frames == (3 if np.ndim(share) == 2 else None)
    table = found.weights.reshape(4, 3, -1)
    np.testing.assert_allclose(table, np.broadcast_to([[[0.7], [0.15], [0.15]]], table.shape))


def test_a_share_per_step_and_frame_weighs_each() -> None:
    share = np.array([[0, 0.5, 1], [1, 0.25, 0]])
    found = plan.blended(plan.single("sad", 2), plan.single("happy", 2), share)
    np.testing.assert_array_equal(found.weights, np.stack([1 - share, share], axis=1))
    assert found.segments() == ((0, 2, (0, 1)),)


def test_steps_and_frames_must_agree() -> None:
    two, three = plan.single("sad", 2), plan.single("happy", 3)
    with pytest.raises(UsageError, match=r"plan.steps: found 2, 3"):
        plan.blended(two, three, 0.5)
    with pytest.raises(UsageError, match=r"plan.steps: found 2, 2 and 3"):
        plan.blended(two, plan.single("happy", 2), np.array([0.1, 0.2, 0.3]))
    four = plan.over_frames(("a", "b"), np.full((2, 4), 0.5), 2)
    five = plan.over_frames(("a", "c"), np.full((2, 5), 0.5), 2)
    with pytest.raises(UsageError, match=r"plan.frames: found \[4, 5\]"):
        plan.blended(four, five, 0.5)


def test_weights_over_frames_count_as_active_where_any_frame_is() -> None:
    weights = np.zeros((2, 2, 3), np.float32)
    weights[:, 0] = 1
    weights[1, :, 2] = [0.25, 0.75]
    found = plan.EmotionPlan(("sad", "happy"), weights)
    assert found.segments() == ((0, 1, (0,)), (1, 2, (0, 1)))
    guided = plan.guided(found, "neutral", 2.0)
    np.testing.assert_allclose(guided.weights[1, :, 2], [0.5, 1.5, -1])


def test_emomix_of_a_target_over_frames_keeps_its_phases() -> None:
    share = np.array([[0.0, 0.5, 1.0]])
    target = plan.over_frames(("sad", "happy"), np.concatenate([1 - share, share]), 10)
    found = plan.emomix(plan.single("neutral", 10), target, 0.4)
    assert found.names == ("neutral", "sad", "happy")
    assert found.segments() == ((0, 4, (0,)), (4, 8, (0, 1, 2)), (8, 10, (1, 2)))
    np.testing.assert_allclose(found.weights[5, :, 1], [0.6, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-6)


def test_a_condition_without_weight_is_never_evaluated() -> None:
    found = plan.over_frames(("sad", "happy"), np.array([[1.0, 1.0], [0.0, 0.0]]), 3)
    assert found.names == ("sad", "happy")  # the same for every length of an utterance
    assert found.segments() == ((0, 3, (0,)),)
    assert found.cost() == 1


def test_the_summary_tells_every_phase_and_weight() -> None:
    found = emomix("neutral", {"happy": 0.6, "surprised": 0.4}, 0.7, 30)
    assert found.summary() == (
        "steps 1-12 neutral: 1; 13-24 neutral: .3, happy: .42, surprised: .28; "
        "25-30 happy: .6, surprised: .4"
    )
    guided = plan.guided(plan.single("happy", 1), "null", 11.5)
    assert guided.summary() == "steps 1 happy: 11.5, null: -10.5"
    framed = plan.over_frames(("sad", "happy"), np.array([[1, 0.75], [0, 0.25]]), 2)
    assert framed.summary() == "steps 1-2 sad: .75 to 1, happy: 0 to .25"


def test_up_to_64_conditions_are_allowed() -> None:
    found = plan.mix({f"e{i}": 1 for i in range(64)}, 2)
    np.testing.assert_array_equal(found.weights, np.full((2, 64), 1 / 64, np.float32))
    with pytest.raises(UsageError, match="conditions: found 65, allowed are at most 64"):
        plan.mix({f"e{i}": 1 for i in range(65)}, 2)
    with pytest.raises(UsageError, match="conditions: found 65"):
        plan.guided(found, "null", 2)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: plan.mix({"happy": -1.0, "sad": 2.0}, 3), "mix.happy: found weight -1.0"),
        (lambda: plan.mix({"happy": 0.0}, 3), "mix: .*above 0"),
        (lambda: plan.mix({}, 3), "mix: .*above 0"),
        (lambda: plan.mix({"happy": float("nan")}, 3), "mix.happy: found weight nan"),
        (lambda: emomix("sad", {"happy": 1.0}, 1.5, 3), "strength: found 1.5"),
        (lambda: emomix("sad", {"happy": 1.0}, float("nan"), 3), "strength: found nan"),
        (lambda: intensity("neutral", "happy", -0.1, 3), "intensity: found -0.1"),
        (lambda: plan.single("happy", 0), "steps: found fewer than 1"),
        (lambda: plan.over_frames(("a",), np.ones((1, 2)), 0), "steps: found fewer than 1"),
        (lambda: plan.over_frames(("a",), np.zeros((1, 2)), 2), "a row with sum 0"),
        (lambda: plan.guided(plan.single("happy", 2), "sad", -1.0), "guidance: found -1.0"),
        (lambda: plan.EmotionPlan(("a",), np.full((2, 1), 0.5)), "a row with sum 0.5"),
        (lambda: plan.EmotionPlan(("a",), np.full((2, 1), np.nan)), "a row with sum nan"),
        (lambda: plan.EmotionPlan(("a", "a"), np.full((2, 2), 0.5)), "every name"),
        (lambda: plan.EmotionPlan(("a",), np.ones((2, 2))), r"found shape \(2, 2\)"),
    ],
)
def test_wrong_requests_are_refused_by_name(build, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()


def test_the_phases_are_levels_of_noise_where_steps_are_unequal():
    """T = 5, so that K_max and K_min are 3 and 1: times above .6 of the first are the base's, and
    those of .2 and less the mixed-in emotion's."""
    base, target = plan.single("neutral", 5), plan.single("happy", 5)
    grid = 0.9 * np.array([1.0, 0.61, 0.6, 0.21, 0.2, 0.0])
    found = plan.emomix(base, target, 0.3, grid)
    np.testing.assert_allclose(found.weights[:, 1], [0, 0, 0.3, 0.3, 1])
    # of three steps K_max and K_min are 2 and 1; 3 times each time is 3, 2.1 and .6: none of them
    # is in between, and 2.1 is nearest
    base, target = plan.single("neutral", 3), plan.single("happy", 3)
    found = plan.emomix(base, target, 0.3, np.array([1.0, 0.7, 0.2, 0.0]))
    np.testing.assert_allclose(found.weights[:, 1], [0, 0.3, 1])
    for steps in range(1, 60):  # equal steps are EmoMix's own count, whatever start they have
        base, target = plan.single("neutral", steps), plan.single("happy", steps)
        uniform = plan.emomix(base, target, 0.3, time_grid(steps, 0.7))
        np.testing.assert_array_equal(uniform.weights, plan.emomix(base, target, 0.3).weights)
