"""Networks in bfloat16 and float64, and with activations computed again in the backward pass.

The three networks that are trained are compared with themselves in float64, whose gradients are
those of finite differences. bfloat16 rounds to 8 bits, by a relative 2^-8 at most.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.config import (
    AverageVoiceConfig,
    RecogniserConfig,
    ScoreNetworkConfig,
    SpeakerConfig,
    VocoderConfig,
)
from emoconv_jax.models.average_voice import AverageVoiceEncoder, Dropout
from emoconv_jax.models.recogniser import BidirectionalLstm, Recogniser, recognise
from emoconv_jax.models.score_network import ScoreNetwork
from emoconv_jax.models.speaker import SpeakerEncoder
from emoconv_jax.models.vocoder import Vocoder
from emoconv_jax.training.parallel import CPU_OPTIONS

ROUNDING = 2.0**-8  # of one number in bfloat16
BATCH, FRAMES, MELS = 2, 48, 16
REAL = (48, 37)  # frames of each example
SCORE = ScoreNetworkConfig(
    mels=MELS,
    width=8,
    groups=2,
    condition_width=6,
    speaker=6,
    emotion=5,
    multipliers=(1,),
    conditioning="blocks",
)
DEEP = dataclasses.replace(SCORE, multipliers=(1, 17))  # down, up, and more channels than the heads
ENCODER = AverageVoiceConfig(
    mels=MELS,
    channels=12,
    prenet_layers=1,
    feed_forward=16,
    layers=1,
    postnet_width=8,
    postnet_groups=2,
    postnet_kernel=3,
)
RECOGNISER = RecogniserConfig(
    mels=MELS,
    bands=8,
    frames=20,
    maps=(6, 6, 6),
    linear=8,
    hidden=4,
    embedding=8,
    feed_forward=6,
)
AS_IN_TRAINING = CPU_OPTIONS | {"xla_backend_optimization_level": 0}
NAMES = ("score_network", "average_voice", "recogniser")


class Pass(NamedTuple):
    """A forward and backward pass; `temporary` is the memory that XLA planned for it, in bytes."""

    compiled: Any
    output: Any
    gradients: Any
    temporary: int


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(name: str, **attributes: Any) -> Any:
    kind, config = {
        "score_network": (ScoreNetwork, SCORE),
        "deep score_network": (ScoreNetwork, DEEP),
        "average_voice": (AverageVoiceEncoder, ENCODER),
        "recogniser": (Recogniser, RECOGNISER),
    }[name]
    return kind(config, **attributes)


def inputs(name: str, kind: type = np.float32, dropout: bool = True) -> list[Any]:
    mask = (np.arange(FRAMES) < np.array(REAL)[:, None]).astype(kind)
    mel = draw(BATCH, FRAMES, MELS, seed=1).astype(kind)
    if name.endswith("score_network"):
        t = np.array([0.2, 0.7], kind)
        conditions = draw(BATCH, 6, seed=3).astype(kind), draw(BATCH, 5, seed=4).astype(kind)
        mels = mel, draw(BATCH, FRAMES, MELS, seed=2).astype(kind)
        return [*map(jnp.asarray, (*mels, mask, t, *conditions))]
    keys = [jax.random.split(jax.random.key(7), BATCH)] if dropout else []
    return [jnp.asarray(2.0 * mel - 5.0), jnp.asarray(mask), *keys]


@functools.cache
def variables(name: str) -> Any:
    """Returns numbers none of which stands at the 0 or 1 that would hide a mistake."""
    shapes = jax.eval_shape(network(name).init, jax.random.key(0), *inputs(name))
    leaves, tree = jax.tree.flatten(shapes)
    drawn = [draw(*leaf.shape, seed=i) for i, leaf in enumerate(leaves)]
    spread = [
        0.6 + 0.1 * array if array.ndim < 2 else array / np.sqrt(np.prod(array.shape[:-1]))
        for array in drawn
    ]
    return jax.tree.unflatten(tree, spread)


def forward(name: str, **attributes: Any):
    def output(params, given):
        own = {**variables(name), "params": params}
        return network(name, **attributes).apply(own, *given)

    return output


def loss(name: str, **attributes: Any):
    def value(params, given):
        output = forward(name, **attributes)(params, given)
        return sum(jnp.square(leaf).mean() for leaf in jax.tree.leaves(output)), output

    return value


def cast(tree: Any, kind: type) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, kind), tree)


@functools.cache
def passed(name: str, kind: type = np.float64, **attributes: Any) -> Pass:
    """Runs forward and backward on parameters and inputs of one type."""
    with jax.enable_x64(kind is np.float64):
        given = cast(variables(name)["params"], kind), inputs(name, kind)
        compute = jax.jit(jax.value_and_grad(loss(name, **attributes), has_aux=True))
        compiled = compute.lower(*given).compile(compiler_options=AS_IN_TRAINING)
        (_, output), gradients = jax.tree.map(np.asarray, compiled(*given))
        return Pass(compiled, output, gradients, compiled.memory_analysis().temp_size_in_bytes)


def distance(found: Any, expected: Any) -> float:
    """Returns the relative distance of two trees in the root mean square."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    wide = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    return float(
        np.sqrt(sum(np.sum((a - b) ** 2) for a, b in wide) / sum(np.sum(b**2) for _, b in wide))
    )


def types(tree: Any) -> set[str]:
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


def float_types(jaxpr: Any) -> set[str]:
    """Returns the floating types of whatever a computation computes, at any depth."""
    found = set()
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            kind = getattr(variable.aval, "dtype", None)
            if kind is not None and jnp.issubdtype(kind, jnp.floating):
                found.add(str(kind))
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found |= float_types(inner)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_float64_gradient_is_that_of_finite_differences(name):
    compiled, output, gradients, _ = passed(name)
    assert types((output, gradients)) == {"float64"}
    leaves, tree = jax.tree.flatten(variables(name)["params"])
    way = [draw(*leaf.shape, seed=50 + i).astype(np.float64) for i, leaf in enumerate(leaves)]

    def value(step):
        moved = [jnp.asarray(leaf + step * d) for leaf, d in zip(leaves, way, strict=True)]
        return float(compiled(jax.tree.unflatten(tree, moved), inputs(name, np.float64))[0][0])

    step = 1e-8  # so small that no ReLU turns within it
    with jax.enable_x64(True):
        slope = (value(step) - value(-step)) / (2 * step)
    expected = sum(map(np.vdot, way, jax.tree.leaves(gradients)))
    # the value itself carries 1e-16, the quotient 1e-8; through float32 it would carry 1
    assert slope == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "deep score_network"])
def test_float64_is_computed_in_no_other_type(name):
    with jax.enable_x64(True):
        given = cast(variables(name)["params"], np.float64), inputs(name, np.float64, dropout=False)
        step = jax.make_jaxpr(jax.grad(lambda *a: loss(name, remat=True)(*a)[0]))(*given)
        assert float_types(step.jaxpr) == {"float64"}


def test_float64_windows_are_computed_in_no_other_type():
    def judged(given, mel, mask):
        return recognise(network("recogniser"), given, mel, mask)

    with jax.enable_x64(True):
        given = cast(variables("recogniser"), np.float64)
        mel, mask = inputs("recogniser", np.float64, dropout=False)
        assert float_types(jax.make_jaxpr(judged)(given, mel, mask).jaxpr) == {"float64"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_near_float64(name):
    exact, rounded = passed(name), passed(name, np.float32, dtype=jnp.bfloat16)
    assert types((rounded.output, rounded.gradients)) == {"float32"}
    # some tens of roundings one after the other, each of .4 2^-8 in the root mean square, add up to
    # a few times 2^-8; less than one of them would mean that something else was computed
    for found, expected in zip(
        jax.tree.leaves(rounded.output), jax.tree.leaves(exact.output), strict=True
    ):
        assert distance(found, expected) < 8 * ROUNDING
    assert distance(rounded.output, exact.output) > ROUNDING / 4
    assert ROUNDING / 4 < distance(rounded.gradients, exact.gradients) < 16 * ROUNDING


def test_recurrent_gradient_counts_every_frame_in_bfloat16():
    # summed over the frames in bfloat16, it would stop growing after some 256 of them
    frames, lstm = 1000, BidirectionalLstm(2)
    x, mask = 0.1 * draw(1, 1, 3) + np.zeros((1, frames, 1), np.float32), np.ones((1, frames))
    shapes = jax.eval_shape(lstm.init, jax.random.key(0), jnp.asarray(x), jnp.asarray(mask))
    params = jax.tree.map(lambda leaf: 0.3 * draw(*leaf.shape, seed=leaf.size), shapes)

    def gradient(kind):
        with jax.enable_x64(kind is jnp.float64):
            wide = jnp.float64 if kind is jnp.float64 else jnp.float32
            given = cast(params, wide), jnp.asarray(x, kind), jnp.asarray(mask, wide)
            return jax.jit(jax.grad(lambda *g: lstm.apply(*g).astype(wide).sum()))(*given)

    found, expected = gradient(jnp.bfloat16)["params"], gradient(jnp.float64)["params"]
    for name, wanted in expected.items():
        np.testing.assert_allclose(
            found[name], wanted, rtol=0, atol=4 * ROUNDING * np.abs(wanted).max()
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["score_network", "recogniser"])  # dropout is by frames elsewhere
def test_padding_changes_nothing_in_bfloat16(name):
    short = passed(name, np.float32, dtype=jnp.bfloat16).output
    given = inputs(name)
    images = 2 if name == "score_network" else 1

    def lengthened(array, filler):
        edges = [(0, 0), (0, 16)] + [(0, 0)] * (array.ndim - 2)
        return jnp.pad(array, edges, constant_values=filler)

    mels, mask = [lengthened(array, 3.0) for array in given[:images]], lengthened(given[images], 0)
    run = jax.jit(forward(name, dtype=jnp.bfloat16), compiler_options=AS_IN_TRAINING)
    long = run(variables(name)["params"], [*mels, mask, *given[images + 1 :]])
    for found, expected in zip(jax.tree.leaves(long), jax.tree.leaves(short), strict=True):
        if found.shape != expected.shape:
            frames = expected.shape[1]
            assert np.all(np.asarray(found[:, frames:]) == 0.0)
            found = found[:, :frames]
        # sums in another order may turn a rounding here and there, no more
        assert distance(found, expected) < ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_rematerialisation_changes_memory_and_nothing_else(name):
    kept, again = passed(name), passed(name, remat=True)
    assert distance(again.output, kept.output) < 1e-14
    assert distance(again.gradients, kept.gradients) < 1e-12
    assert again.temporary < kept.temporary


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("score_network", ["downs_0_2", "final_block"]),
        ("average_voice", ["attn_layers_0", "postnet_block1"]),
        ("recogniser", ["conv_0", "conv_2"]),
    ],
)
def test_initial_parameters_are_the_same_with_rematerialisation(name, parts):
    @jax.jit
    def initial(key):
        return [
            [network(name, remat=remat).init(key, *inputs(name))["params"][part] for part in parts]
            for remat in (False, True)
        ]

    with jax.debug_key_reuse(False):  # twice the same draws are wanted
        plain, again = initial(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, plain, again)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*NAMES, "speaker", "vocoder"])
def test_parameters_start_as_float32_whatever_the_type(kind):
    with jax.enable_x64(True):
        mel = jnp.zeros((1, FRAMES, MELS))
        if kind == "speaker":
            example = SpeakerEncoder(SpeakerConfig(mels=MELS)), [mel]
        elif kind == "vocoder":
            example = Vocoder(VocoderConfig()), [mel]
        else:
            example = network(kind, dtype=jnp.bfloat16), inputs(kind, np.float64)
        made = jax.eval_shape(example[0].init, jax.random.key(0), *example[1])
        assert types(made) == {"float32"}


def test_every_type_drops_the_same():
    def dropped(kind):
        with jax.enable_x64(kind is jnp.float64):
            keys = jax.random.split(jax.random.key(0), 2)
            return np.asarray(Dropout(keys, 1, 0.3)(jnp.ones((2, 5, 40), kind)) == 0.0)

    single, half, double = map(dropped, (jnp.float32, jnp.bfloat16, jnp.float64))
    np.testing.assert_array_equal(half, single)
    np.testing.assert_array_equal(double, single)
    assert 0.2 < single.mean() < 0.4
