"""What mixing promises, held by whole conversions: its limits are the pure emotions, to the bit."""

import numpy as np
import pytest

from emoconv_jax.inference.curve import Curve

SHARED = {"steps": 2, "seed": 5, "start": 0.5}
MIX = {"happy": 0.6, "surprised": 0.4}


@pytest.fixture(scope="module")
def mel_of(converter, speech):
    """Returns the log-mel of the sample under a request."""
    return lambda **request: converter.convert(speech, **(SHARED | request)).mel


def constant(names: tuple[str, ...], *values: float) -> Curve:
    return Curve((0.0, 0.3, 0.6), names, (values,) * 3, "made")


@pytest.mark.slow
def test_the_limits_of_every_rule_are_pure(mel_of):
    happy, neutral, mixed = (mel_of(mix=mix) for mix in ({"happy": 1}, {"neutral": 1}, MIX))
    aroused = mel_of(arousal=4.5)
    assert np.abs(happy - neutral).max() > 1e-3 < np.abs(mixed - happy).max()
    for request, expected in (
        ({"mix": {"happy": 3}}, happy),
        ({"mix": {"happy": 1, "sad": 0}}, happy),
        ({"mix": MIX, "base": "neutral", "strength": 0}, neutral),
        ({"mix": MIX, "base": "neutral", "strength": 1}, mixed),
        ({"mix": MIX, "intensity": 0}, neutral),
        ({"mix": MIX, "intensity": 1}, mixed),
        ({"mix": MIX, "guidance": 1, "negative": "sad"}, mixed),
        ({"mix": MIX, "guidance": 0, "negative": "neutral"}, neutral),
        ({"mix": {"arousal 4.5": 1}}, aroused),
        ({"curve": constant(("arousal",), 4.5)}, aroused),
        ({"curve": constant(("happy", "surprised"), 3.0, 2.0)}, mixed),
    ):
        np.testing.assert_array_equal(mel_of(**request), expected, err_msg=str(request))


@pytest.mark.slow
def test_the_order_of_a_mix_does_not_matter(mel_of):
    turned = dict(reversed(MIX.items()))
    np.testing.assert_allclose(mel_of(mix=turned), mel_of(mix=MIX), atol=1e-4)


@pytest.mark.slow
def test_a_frame_of_a_curve_has_the_score_of_its_own_emotion(mel_of):
    """From calm to excited at .35 s, frame 30: in one step no frame hears of the others' change."""
    curve = Curve((0.0, 0.34, 0.36, 0.6), ("arousal",), ((1.0,), (1.0,), (7.0,), (7.0,)), "made")
    calm, excited, both = (
        mel_of(steps=1, **target) for target in ({"arousal": 1}, {"arousal": 7}, {"curve": curve})
    )
    assert np.abs(calm - excited).mean() > 0.01
    np.testing.assert_allclose(both[:29], calm[:29], atol=1e-3)
    np.testing.assert_allclose(both[32:], excited[32:], atol=1e-3)
