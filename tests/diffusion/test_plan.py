"""Plans against EmoMix's published schedule and the arithmetic of mixing."""

import numpy as np
import pytest

from emoconv_jax.diffusion import plan
from emoconv_jax.errors import UsageError


def test_emomix_rows_at_ten_steps() -> None:
    found = plan.emomix("happy", {"surprised": 1.0}, 0.4, 10)
    assert found.names == ("happy", "surprised")
    rows = [[1, 0]] * 4 + [[0.6, 0.4]] * 4 + [[0, 1]] * 2
    np.testing.assert_allclose(found.weights, rows, rtol=1e-6)
    assert found.segments() == ((0, 4, (0,)), (4, 8, (0, 1)), (8, 10, (1,)))
    assert found.cost() == pytest.approx(1.40)


@pytest.mark.parametrize("steps", [1, 2, 3, 6, 25, 30, 100])
def test_emomix_phases_follow_the_rounding_rule(steps: int) -> None:
    found = plan.emomix("happy", {"sad": 1.0}, 0.5, steps)
    k_max, k_min = int(0.6 * steps + 0.5), int(0.2 * steps + 0.5)
    for i, k in enumerate(range(steps, 0, -1)):
        phase = {"happy": 1.0} if k > k_max else {"sad": 1.0} if k <= k_min else None
        expected = phase or {"happy": 0.5, "sad": 0.5}
        row = dict(zip(found.names, found.weights[i].tolist(), strict=True))
        assert {name: w for name, w in row.items() if w} == expected


def test_emomix_mixes_several_emotions_in() -> None:
    found = plan.emomix("neutral", {"happy": 3, "surprised": 1}, 0.8, 10)
    np.testing.assert_allclose(found.weights[5], [0.2, 0.6, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found.weights[9], [0, 0.75, 0.25], rtol=1e-6)


def test_emomix_base_that_is_also_mixed_in_stays_one_condition() -> None:
    found = plan.emomix("happy", {"happy": 1, "sad": 1}, 0.5, 10)
    assert found.names == ("happy", "sad")
    np.testing.assert_allclose(found.weights[5], [0.75, 0.25])


@pytest.mark.parametrize(("strength", "name"), [(0.0, "neutral"), (1.0, "happy")])
def test_ends_are_the_pure_emotions(strength: float, name: str) -> None:
    pure = plan.single(name, 10)
    for found in (
        plan.emomix("neutral", {"happy": 1.0}, strength, 10),
        plan.intensity("neutral", "happy", strength, 10),
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
    found = plan.intensity("neutral", "angry", 0.3, 4)
    np.testing.assert_allclose(found.weights, [[0.7, 0.3]] * 4, rtol=1e-6)


def test_guidance_moves_away_from_the_negative() -> None:
    found = plan.guided(plan.emomix("happy", {"sad": 1.0}, 0.5, 10), "neutral", 1.25)
    assert found.names == ("happy", "sad", "neutral")
    np.testing.assert_allclose(found.weights[0], [1.25, 0, -0.25])
    np.testing.assert_allclose(found.weights[5], [0.625, 0.625, -0.25])
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)


def test_guidance_by_a_condition_of_the_plan_merges_with_it() -> None:
    found = plan.guided(plan.intensity("neutral", "happy", 0.8, 3), "neutral", 1.5)
    np.testing.assert_allclose(found.weights, [[-0.2, 1.2]] * 3, rtol=1e-5)


def test_guidance_of_one_changes_nothing() -> None:
    before = plan.mix({"happy": 1, "sad": 2}, 3)
    after = plan.guided(before, "neutral", 1.0)
    assert after.names == before.names
    np.testing.assert_array_equal(after.weights, before.weights)


def test_weights_over_frames_count_as_active_where_any_frame_is() -> None:
    weights = np.zeros((2, 2, 3), np.float32)
    weights[:, 0] = 1
    weights[1, :, 2] = [0.25, 0.75]
    found = plan.EmotionPlan(("sad", "happy"), weights)
    assert found.segments() == ((0, 1, (0,)), (1, 2, (0, 1)))
    guided = plan.guided(found, "neutral", 2.0)
    np.testing.assert_allclose(guided.weights[1, :, 2], [0.5, 1.5, -1])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: plan.mix({"happy": -1.0, "sad": 2.0}, 3), "mix.happy: found weight -1.0"),
        (lambda: plan.mix({"happy": 0.0}, 3), "mix: .*above 0"),
        (lambda: plan.mix({}, 3), "mix: .*above 0"),
        (lambda: plan.mix({"happy": float("nan")}, 3), "mix.happy: found weight nan"),
        (lambda: plan.emomix("sad", {"happy": 1.0}, 1.5, 3), "strength: found 1.5"),
        (lambda: plan.intensity("neutral", "happy", -0.1, 3), "strength: found -0.1"),
        (lambda: plan.single("happy", 0), "steps: found fewer than 1"),
        (lambda: plan.emomix("sad", {"happy": 1.0}, 0.5, 0), "steps: found fewer than 1"),
        (lambda: plan.guided(plan.single("happy", 2), "sad", -1.0), "guidance: found -1.0"),
        (lambda: plan.EmotionPlan(("a",), np.full((2, 1), 0.5)), "a row with sum 0.5"),
        (lambda: plan.EmotionPlan(("a", "a"), np.full((2, 2), 0.5)), "every name"),
        (lambda: plan.EmotionPlan(("a",), np.ones((2, 2))), r"found shape \(2, 2\)"),
    ],
)
def test_wrong_requests_are_refused_by_name(build, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()
