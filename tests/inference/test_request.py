"""Requests: what makes no sense is refused by name, what is left open comes from the bundle."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
from tiny_bundle import CONFIG

from emoconv_jax.bundles.banks import load_banks
from emoconv_jax.config import DiffusionConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference import request as request_module
from emoconv_jax.inference.curve import Curve
from emoconv_jax.inference.request import Request
from emoconv_jax.inference.resolved import resolve

RISE = Curve([0, 1], ["arousal"], [[2], [6]])
NAN = float("nan")


@pytest.fixture
def banks(bundle_folder):
    return load_banks(bundle_folder, 8)


@pytest.fixture(scope="module")
def unhooked():
    """The module as users have it: the tests' own type checks would be the first to refuse."""
    spec = importlib.util.spec_from_file_location("unhooked_request", request_module.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(plan) -> list[dict[str, float]]:
    """The weights of each step that are not zero."""
    return [
        {name: round(w, 5) for name, w in zip(plan.names, row.tolist(), strict=True) if w}
        for row in plan.weights
    ]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "give arousal, mix, curve or emotion_ref; found none of them"),
        ({"base": "neutral"}, "found none of them"),
        ({"intensity": 0.5}, "found none of them"),
        ({"arousal": 3.0, "mix": {"happy": 1.0}}, "give one of .*; found arousal and mix"),
        ({"arousal": 3.0, "curve": RISE}, "give one of .*; found arousal and curve"),
        ({"mix": {"happy": 1}, "curve": RISE}, "give one of .*; found mix and curve"),
        ({"arousal": 0.0}, r"arousal: found 0.0, allowed is 1..7"),
        ({"arousal": 8.0}, r"arousal: found 8.0, allowed is 1..7"),
        ({"arousal": NAN}, r"arousal: found nan, allowed is 1..7"),
        ({"arousal": 3.0, "strength": 0.5}, "strength: needs a base"),
        ({"mix": {"happy": 1.0}, "strength": 0.5}, "strength: needs a base"),
        ({"mix": {"happy": 1.0}, "base": "sad", "strength": 1.1}, r"strength: found 1.1"),
        ({"mix": {"happy": 1.0}, "base": "sad", "strength": -0.1}, r"strength: found -0.1"),
        ({"mix": {"happy": 1.0}, "base": "sad", "strength": NAN}, "strength: found nan"),
        ({"arousal": 3.0, "intensity": 1.1}, r"intensity: found 1.1, allowed is 0..1"),
        ({"arousal": 3.0, "intensity": -0.1}, r"intensity: found -0.1"),
        ({"arousal": 3.0, "intensity": NAN}, r"intensity: found nan"),
        ({"mix": {"happy": -1.0, "sad": 2.0}}, r"mix.happy: found weight -1.0"),
        ({"mix": {"happy": NAN}}, r"mix.happy: found weight nan"),
        ({"mix": {"happy": float("inf")}}, r"mix.happy: found weight inf"),
        ({"mix": {"happy": 0.0, "sad": 0.0}}, "at least one weight must be above 0"),
        ({"mix": {}}, "at least one weight must be above 0"),
        ({"mix": {"arousal 9": 1.0}}, "mix: found 'arousal 9', allowed are arousal 1 to arousal 7"),
        ({"mix": {"arousal 3": 1, "arousal 3.0": 1}}, "mix: found arousal 3, arousal 3.0, each"),
        ({"arousal": 3.0, "base": "arousal nan"}, "base: found 'arousal nan', allowed are"),
        ({"arousal": 3.0, "negative": "arousal x"}, "negative: found 'arousal x', allowed are"),
        ({"mix": {"reference": 1}}, "emotion_ref: missing, the 'reference' of mix"),
        ({"arousal": 3.0, "base": "reference"}, "emotion_ref: missing, the 'reference' of base"),
        ({"arousal": 3.0, "negative": "reference"}, "emotion_ref: missing, .* of negative"),
        ({"arousal": 3.0, "emotion_ref": "a.wav"}, "emotion_ref: found beside arousal, which is"),
        ({"curve": RISE, "emotion_ref": "a.wav"}, "emotion_ref: found beside curve"),
        ({"arousal": 3.0, "steps": 0}, r"steps: found 0, allowed is 1..1000"),
        ({"arousal": 3.0, "steps": 1001}, r"steps: found 1001"),
        ({"arousal": 3.0, "solver": "magic"}, "solver: found 'magic', allowed are .*maximum_like"),
        ({"arousal": 3.0, "spacing": "even"}, "spacing: found 'even', allowed are .*log_snr"),
        ({"arousal": 3.0, "guidance": float("inf")}, "guidance: found inf"),
        ({"arousal": 3.0, "guidance": -1.0}, r"guidance: found -1.0"),
        ({"arousal": 3.0, "start": 0.0}, r"start: found 0.0, allowed is 0.001 to 1"),
        ({"arousal": 3.0, "start": 1.1}, "start: found 1.1"),
        ({"arousal": 3.0, "start": NAN}, "start: found nan"),
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
        ({"mix": {f"e{i}": 1 for i in range(65)}}, "conditions: found 65, allowed are at most 64"),
        (
            {"mix": {f"e{i}": 1 for i in range(64)}, "guidance": 2},
            "conditions: found 65, allowed are at most 64",
        ),
    ],
)
def test_requests_that_make_no_sense_are_usage_errors_before_anything_is_loaded(request_, message):
    with pytest.raises(UsageError, match=message) as caught:
        Request(**request_).plan()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"arousal": "6"}, r"arousal: found '6' \(str\), allowed is a number"),
        ({"arousal": True}, "arousal: found True"),
        ({"arousal": np.zeros(2)}, r"arousal: found array\(\[0., 0.\]\)"),
        ({"mix": "happy"}, r"mix: found 'happy' \(str\), allowed is weights by condition"),
        ({"mix": ["happy", "sad"]}, r"mix: found \['happy', 'sad'\] \(list\)"),
        ({"mix": {"happy": "1"}}, "mix.happy: found '1'"),
        ({"mix": {"happy": None}}, "mix.happy: found None"),
        ({"mix": {3: 1}}, "the key 3 of mix: found 3"),
        ({"arousal": 3, "steps": 2.5}, r"steps: found 2.5 \(float\), allowed is a whole number"),
        ({"arousal": 3, "seed": None}, "seed: found None"),
        ({"arousal": 3, "seed": 1.5}, "seed: found 1.5"),
        ({"arousal": 3, "seed": "1"}, "seed: found '1'"),
        ({"arousal": 3, "base": 3}, r"base: found 3 \(int\), allowed is text"),
        ({"arousal": 3, "negative": None}, "negative: found None"),
        ({"arousal": 3, "solver": 1}, "solver: found 1"),
        ({"arousal": 3, "spacing": 2}, "spacing: found 2"),
        ({"arousal": 3, "latent": ["noise"]}, "latent: found"),
        ({"arousal": 3, "base": "sad", "strength": "half"}, "strength: found 'half'"),
        ({"arousal": 3, "intensity": 1j}, "intensity: found 1j"),
        ({"arousal": 3, "guidance": [2]}, r"guidance: found \[2\]"),
        ({"arousal": 3, "start": "late"}, "start: found 'late'"),
        ({"arousal": 3, "prosody": "all"}, "prosody: found 'all'"),
        ({"arousal": 3, "rate": 1.2}, "rate: found 1.2"),
        ({"curve": [(0, 1)]}, r"curve: found \[\(0, 1\)\] \(list\), allowed is a Curve"),
        ({"emotion_ref": 5}, r"emotion_ref: found 5 \(int\), allowed is a path"),
    ],
)
def test_values_of_another_type_are_usage_errors_by_field(unhooked, request_, message):
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        unhooked.Request(**request_)
    assert "\n" not in str(caught.value)


def test_numpys_numbers_are_numbers(unhooked, banks):
    asked = unhooked.Request(
        mix={"happy": np.float32(0.5), "sad": np.int64(1)},
        base="calm",
        strength=np.float32(0.25),
        guidance=np.int32(2),
        seed=np.int64(3),
        steps=np.int64(2),
    )
    plain = Request(
        mix={"happy": 0.5, "sad": 1}, base="calm", strength=0.25, guidance=2, seed=3, steps=2
    )
    assert dataclasses.asdict(asked) == dataclasses.asdict(plain)
    # its own class is another, of the same fields
    found, same = (resolve(Request(**vars(one)), CONFIG, banks) for one in (asked, plain))
    told, expected = (json.dumps(dataclasses.asdict(one.request)) for one in (found, same))
    assert told == expected
    np.testing.assert_array_equal(found.plan().weights, same.plan().weights)


def test_an_arousal_becomes_its_bank_and_guidance_adds_the_null_condition(banks):
    own = np.zeros((1, 8), np.float32)
    found = resolve(Request(arousal=2.5, steps=3), CONFIG, banks)
    np.testing.assert_allclose(found.plan().weights, np.ones((3, 1)))
    between = (banks.vectors["arousal/2"] + banks.vectors["arousal/3"]) / 2
    np.testing.assert_allclose(found.embeddings(own), [[between]], rtol=1e-5)
    found = resolve(Request(arousal=2.0, steps=3, guidance=1.5), CONFIG, banks)
    np.testing.assert_allclose(found.plan().weights, np.tile([1.5, -0.5], (3, 1)))
    np.testing.assert_array_equal(
        found.embeddings(own), [[banks.vectors["arousal/2"]], [np.zeros(8)]]
    )


def test_two_arousals_that_print_alike_are_two_conditions(banks):
    third = Request(mix={"arousal 2.3333333": 1, f"arousal {7 / 3!r}": 1}, steps=1)
    found = resolve(third, CONFIG, banks)
    assert len(found.names) == 2
    np.testing.assert_array_equal(
        found.embeddings(np.zeros((1, 8)))[:, 0], [banks.arousal(2.3333333), banks.arousal(7 / 3)]
    )


def test_a_mix_is_normalised_and_follows_emomix_with_a_base(banks):
    """T = 10: K_max = 6, K_min = 2: 4 steps of the base, 4 of both, 2 of the mix."""
    found = resolve(Request(mix={"happy": 3, "sad": 1}, steps=2), CONFIG, banks)
    assert found.names == ("happy", "sad")
    assert rows(found.plan()) == [{"happy": 0.75, "sad": 0.25}] * 2
    np.testing.assert_array_equal(
        found.embeddings(np.zeros((2, 8))),
        [[banks.emotion("happy")] * 2, [banks.emotion("sad")] * 2],
    )
    wanted = Request(mix={"happy": 1.0}, base="neutral", strength=0.7, steps=10)
    assert rows(wanted.plan()) == (
        [{"neutral": 1}] * 4 + [{"neutral": 0.3, "happy": 0.7}] * 4 + [{"happy": 1}] * 2
    )


def test_the_fields_compose_in_their_order():
    """Target, then base: (1 - .4) calm + .4 target; half of it neutral; then 2 x - 1 negative."""
    found = Request(
        mix={"happy": 1, "sad": 1},
        base="calm",
        strength=0.4,
        intensity=0.5,
        guidance=2,
        negative="source",
        steps=10,
    ).plan()
    middle = {"calm": 0.6, "happy": 0.2, "sad": 0.2, "neutral": 1.0, "source": -1.0}
    assert rows(found) == (
        [{"calm": 1.0, "neutral": 1.0, "source": -1.0}] * 4
        + [middle] * 4
        + [{"happy": 0.5, "sad": 0.5, "neutral": 1.0, "source": -1.0}] * 2
    )


@pytest.mark.parametrize("target", [{"arousal": 6}, {"curve": RISE}, {"mix": {"happy": 1}}])
def test_limits_leave_one_side_alone(target):
    whole = Request(**target, steps=6).plan()

    def same(left, right) -> bool:
        return left.names == right.names and np.array_equal(left.weights, right.weights)

    def plan(**more):
        return Request(**target, steps=6, **more).plan()

    assert same(plan(base="sad", strength=1), whole)
    assert rows(plan(base="sad", strength=0)) == [{"sad": 1}] * 6
    assert same(plan(intensity=1), whole)
    assert rows(plan(intensity=0)) == [{"neutral": 1}] * 6
    assert same(plan(guidance=1, negative="sad"), whole)
    assert rows(plan(guidance=0, negative="sad")) == [{"sad": 1}] * 6


def test_a_reference_is_the_target_unless_another_is(banks, tmp_path):
    found = resolve(Request(emotion_ref=tmp_path / "a.wav", steps=2), CONFIG, banks)
    assert found.names == ("reference",)
    assert found.request.emotion_ref == str(tmp_path / "a.wav")
    found = resolve(
        Request(mix={"reference": 1, "happy": 1}, emotion_ref="a.wav", steps=1), CONFIG, banks
    )
    assert rows(found.plan()) == [{"reference": 0.5, "happy": 0.5}]
    own, heard = np.ones((3, 8), np.float32), np.arange(8, dtype=np.float32)
    np.testing.assert_array_equal(
        found.embeddings(own, heard), [[heard] * 3, [banks.emotion("happy")] * 3]
    )
    with pytest.raises(EmoconvError, match="reference: none given"):
        found.embeddings(own)


def test_the_sources_own_emotion_differs_from_utterance_to_utterance(banks):
    found = resolve(Request(arousal=5, guidance=2, negative="source", steps=1), CONFIG, banks)
    assert found.names == ("arousal 5", "source")
    own = np.arange(16, dtype=np.float32).reshape(2, 8)
    np.testing.assert_array_equal(found.embeddings(own), [[banks.arousal(5.0)] * 2, own])


def test_a_curve_is_read_at_the_middle_of_each_frame(banks):
    """A hop is 256 samples at 22 050 Hz; the arousal rises by 4 within the first second."""
    found = resolve(Request(curve=RISE, steps=4, guidance=2), CONFIG, banks)
    assert found.names == ("arousal 2", "arousal 6", "null")
    plan = found.plan(100)
    assert plan.names == found.names
    assert plan.weights.shape == (4, 3, 100)
    share = np.minimum((np.arange(100) + 0.5) * 256 / 22050, 1)
    expected = np.stack([2 * (1 - share), 2 * share, np.full(100, -1)])
    np.testing.assert_allclose(
        plan.weights, np.broadcast_to(expected, plan.weights.shape), atol=1e-6
    )
    stretch = found.plan(30, first_frame=50)
    np.testing.assert_array_equal(stretch.weights, plan.weights[:, :, 50:80])


def test_a_curve_that_never_changes_is_the_request_without_one():
    flat = Curve([0, 1], ["arousal"], [[3.5], [3.5]])
    more = {"base": "sad", "strength": 0.3, "intensity": 0.7, "guidance": 1.5, "steps": 12}
    ours = Request(curve=flat, **more).plan(np.arange(7.0))
    theirs = Request(arousal=3.5, **more).plan()
    assert ours.names == theirs.names
    np.testing.assert_array_equal(ours.weights, theirs.weights)


@pytest.mark.parametrize(
    "request_",
    [
        {"mix": {"happy": 1.0, "bored": 1.0}},
        {"mix": {"happy": 1.0, "bored": 0.0}},
        {"mix": {"happy": 1.0}, "base": "bored"},
        {"mix": {"happy": 1.0}, "base": "bored", "strength": 1.0},
        {"arousal": 3, "negative": "bored"},
        {"curve": Curve([0, 1], ["happy", "bored"], [[1, 0], [0, 1]])},
    ],
)
def test_an_emotion_the_bundle_does_not_know_is_a_usage_error_even_without_weight(banks, request_):
    with pytest.raises(
        UsageError, match=r"'bored' is unknown, allowed are angry, calm, .*, source"
    ):
        resolve(Request(**request_), CONFIG, banks)


def test_notes_say_what_was_changed_and_which_weights_are_used():
    assert Request(mix={"happy": 0.6, "sad": 0.4}).notes() == [
        "weights: steps 1-30 happy: .6, sad: .4"
    ]
    mix = {"happy": 3, "surprised": 2}
    assert Request(mix=mix, base="neutral", strength=0.7, guidance=2).notes() == [
        "mix weights sum to 5; normalised to happy 0.6, surprised 0.4",
        "weights: steps 1-12 neutral: 1; 13-24 neutral: .3, happy: .42, surprised: .28; "
        "25-30 happy: .6, surprised: .4 (guidance 2 against null)",
    ]
    note, _ = Request(mix={"happy": 1.0}, base="sad", strength=0.9).notes()
    assert "above 0.8" in note
    note, _ = Request(arousal=3, negative="sad").notes()
    assert note == "negative sad has no effect without guidance"
    (note,) = Request(curve=RISE, intensity=0.5, guidance=0, steps=1).notes()
    assert note == (
        "weights: over the curve, steps 1 neutral: .5, arousal 2: 0 to .5, arousal 6: 0 to .5 "
        "(guidance 0 against null)"
    )


def test_what_a_request_leaves_open_is_the_bundles_own(banks):
    config = dataclasses.replace(CONFIG, diffusion=DiffusionConfig(latent="source", start=0.7))

    def left_open(**fields):
        found = resolve(Request(arousal=3, **fields), config, banks).request
        run = found.solver, found.steps, found.spacing, found.evaluations
        return found.latent, found.start, *run

    assert left_open() == ("source", 0.7, "dpmpp_2m", 10, "log_snr", 20)
    assert left_open(steps=4, solver="ddim") == ("source", 0.7, "ddim", 4, "uniform_t", 8)
    assert left_open(solver="heun") == ("source", 0.7, "heun", 30, "uniform_t", 60)
    noise = left_open(latent="noise", start=1)
    assert noise == ("noise", 1.0, "maximum_likelihood", 30, "uniform_t", 30)
    own = left_open(latent="noise", solver="dpmpp_2m", spacing="uniform_t")
    assert own == ("noise", 0.7, "dpmpp_2m", 10, "uniform_t", 10)
    with pytest.raises(UsageError, match="euler_maruyama"):  # only the bundle says "source"
        resolve(Request(arousal=3, solver="euler_maruyama"), config, banks)


def test_a_filled_request_can_be_written_and_asked_again(banks):
    asked = Request(mix={"happy": 0.5, "arousal 3": 1}, base="sad", steps=4)
    found = resolve(asked, CONFIG, banks)
    again = resolve(Request(**dataclasses.asdict(found.request)), CONFIG, banks)
    assert again.request == found.request
    np.testing.assert_array_equal(again.plan().weights, found.plan().weights)
    told = json.loads(json.dumps(dataclasses.asdict(found.request)))
    assert (told["strength"], told["mix"]) == (0.5, {"happy": 0.5, "arousal 3": 1.0})
    drawn = json.loads(json.dumps(dataclasses.asdict(Request(curve=RISE))))["curve"]
    assert Curve(**drawn) == RISE
