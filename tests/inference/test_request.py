"""Requests: what makes no sense is refused by name, what is left open comes from the bundle."""

import dataclasses

import numpy as np
import pytest
from tiny_bundle import CONFIG

from emoconv_jax.bundles.banks import load_banks
from emoconv_jax.config import DiffusionConfig
from emoconv_jax.errors import UsageError
from emoconv_jax.inference.request import Request, resolve


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "give arousal or mix"),
        ({"arousal": 3.0, "mix": {"happy": 1.0}}, "give arousal or mix"),
        ({"base": "neutral"}, "give arousal or mix"),
        ({"arousal": 0.0}, r"arousal: found 0.0, allowed is 1..7"),
        ({"arousal": 8.0}, r"arousal: found 8.0, allowed is 1..7"),
        ({"arousal": float("nan")}, r"arousal: found nan, allowed is 1..7"),
        ({"arousal": 3.0, "base": "neutral"}, "base and strength belong to a mix"),
        ({"arousal": 3.0, "strength": 0.5}, "base and strength belong to a mix"),
        ({"mix": {"happy": 1.0}, "strength": 0.5}, "strength: needs a base"),
        ({"mix": {"happy": 1.0}, "base": "sad", "strength": 1.1}, r"strength: found 1.1"),
        ({"mix": {"happy": 1.0}, "base": "sad", "strength": -0.1}, r"strength: found -0.1"),
        ({"mix": {"happy": 1.0}, "base": "sad", "strength": float("nan")}, "strength: found nan"),
        ({"mix": {"happy": -1.0, "sad": 2.0}}, r"mix.happy: found weight -1.0"),
        ({"mix": {"happy": float("nan")}}, r"mix.happy: found weight nan"),
        ({"mix": {"happy": float("inf")}}, r"mix.happy: found weight inf"),
        ({"mix": {"happy": 0.0, "sad": 0.0}}, "at least one weight must be above 0"),
        ({"mix": {}}, "at least one weight must be above 0"),
        ({"arousal": 3.0, "steps": 0}, r"steps: found 0, allowed is 1..1000"),
        ({"arousal": 3.0, "steps": 1001}, r"steps: found 1001"),
        ({"arousal": 3.0, "solver": "magic"}, "solver: found 'magic', allowed are .*maximum_like"),
        ({"arousal": 3.0, "guidance": float("inf")}, "guidance: found inf"),
        ({"arousal": 3.0, "guidance": -1.0}, r"guidance: found -1.0"),
        ({"arousal": 3.0, "start": 0.0}, r"start: found 0.0, allowed is 0.001 to 1"),
        ({"arousal": 3.0, "start": 1.1}, "start: found 1.1"),
        ({"arousal": 3.0, "start": float("nan")}, "start: found nan"),
        ({"arousal": 3.0, "start": 1e-36}, "start: found 1e-36"),
        ({"arousal": 3.0, "latent": "air"}, "latent: found 'air', allowed are noise, source"),
        (
            {"arousal": 3.0, "latent": "source", "solver": "maximum_likelihood"},
            "solver: found 'maximum_likelihood', which draws noise; from the source allowed are",
        ),
        ({"mix": {"happy": 1e308, "sad": 1e308}}, r"mix.happy: found weight 1e\+308"),
        ({"arousal": 3.0, "guidance": 1e9}, "guidance: found 1000000000.0, allowed is 0 to 100"),
        ({"arousal": 3.0, "seed": -1}, r"seed: found -1, allowed is 0..4294967295"),
        ({"arousal": 3.0, "seed": 2**32}, "seed: found 4294967296"),
    ],
)
def test_requests_that_make_no_sense_are_usage_errors_before_anything_is_loaded(request_, message):
    with pytest.raises(UsageError, match=message) as caught:
        Request(**request_).plan()
    assert "\n" not in str(caught.value)


def test_an_arousal_becomes_its_bank_and_guidance_adds_the_null_condition(bundle_folder):
    banks = load_banks(bundle_folder, 8)
    _, plan, vectors = resolve(Request(arousal=2.5, steps=3), CONFIG, banks)
    np.testing.assert_allclose(plan.weights, np.ones((3, 1)))
    np.testing.assert_allclose(
        vectors, [(banks.vectors["arousal/2"] + banks.vectors["arousal/3"]) / 2], rtol=1e-5
    )
    _, plan, vectors = resolve(Request(arousal=2.0, steps=3, guidance=1.5), CONFIG, banks)
    np.testing.assert_allclose(plan.weights, np.tile([1.5, -0.5], (3, 1)))
    np.testing.assert_array_equal(vectors, [banks.vectors["arousal/2"], np.zeros(8)])


def test_a_mix_is_normalised_and_follows_emomix_with_a_base(bundle_folder):
    """T = 10: K_max = 6, K_min = 2: 4 steps of the base, 4 of both, 2 of the mix."""
    banks = load_banks(bundle_folder, 8)
    _, plan, vectors = resolve(Request(mix={"happy": 3, "sad": 1}, steps=2), CONFIG, banks)
    assert plan.names == ("happy", "sad")
    np.testing.assert_allclose(plan.weights, [[0.75, 0.25]] * 2)
    np.testing.assert_array_equal(vectors, [banks.emotion("happy"), banks.emotion("sad")])
    wanted = Request(mix={"happy": 1.0}, base="neutral", strength=0.7, steps=10)
    _, plan, _ = resolve(wanted, CONFIG, banks)
    assert plan.names == ("neutral", "happy")
    np.testing.assert_allclose(
        plan.weights, [[1, 0]] * 4 + [[0.3, 0.7]] * 4 + [[0, 1]] * 2, atol=1e-6
    )


def test_an_emotion_the_bundle_does_not_know_is_a_usage_error(bundle_folder):
    banks = load_banks(bundle_folder, 8)
    with pytest.raises(UsageError, match="'bored' is unknown, allowed are angry, calm"):
        resolve(Request(mix={"happy": 1.0, "bored": 1.0}), CONFIG, banks)
    with pytest.raises(UsageError, match="'bored' is unknown"):
        resolve(Request(mix={"happy": 1.0}, base="bored"), CONFIG, banks)


def test_notes_say_what_was_changed_and_what_to_expect():
    assert Request(mix={"happy": 0.6, "sad": 0.4}).notes() == []
    (note,) = Request(mix={"happy": 3.0, "sad": 1.0}).notes()
    assert note == "mix weights sum to 4; normalised to happy 0.75, sad 0.25"
    (note,) = Request(mix={"happy": 1.0}, base="sad", strength=0.9).notes()
    assert "above 0.8" in note


def test_what_a_request_leaves_open_is_the_bundles_own(bundle_folder):
    banks = load_banks(bundle_folder, 8)
    config = dataclasses.replace(CONFIG, diffusion=DiffusionConfig(latent="source", start=0.7))
    found, *_ = resolve(Request(arousal=3, steps=10), config, banks)
    assert (found.latent, found.start, found.solver, found.evaluations) == (
        "source",
        0.7,
        "ddim",
        20,
    )
    found, *_ = resolve(Request(arousal=3, steps=10, latent="noise", start=1), config, banks)
    assert (found.latent, found.start, found.solver, found.evaluations) == (
        "noise",
        1.0,
        "maximum_likelihood",
        10,
    )
    with pytest.raises(UsageError, match="euler_maruyama"):  # only the bundle says "source"
        resolve(Request(arousal=3, solver="euler_maruyama"), config, banks)
