"""What a score network is told of prosody in training, and what a decay takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import OVER_FRAMES, drawn, settings

from emoconv_jax.errors import EmoconvError
from emoconv_jax.training.selection import choose, training_batches, validation_batches
from emoconv_jax.training.state import make_optimizer
from emoconv_jax.training.trainees import make_trainee

KEYS = jax.random.split(jax.random.key(0), 40_000)


@pytest.mark.parametrize("dropout", [0.15, 0.0, 1.0])
def test_each_channel_is_absent_in_a_share_of_the_examples_and_all_in_half_of_it(dropout):
    """Within five standard errors; all are absent in d / 2, and by chance in d^3 more at most."""
    trainee = make_trainee(settings("score_network", network=OVER_FRAMES, prosody_dropout=dropout))
    absent = 1 - np.asarray(jax.vmap(trainee._present)(KEYS))
    error = 5 * np.sqrt(0.25 / len(KEYS))
    np.testing.assert_allclose(absent.mean(0), dropout, atol=error)
    if dropout < 1:
        nothing = absent.all(-1).mean()
        assert dropout / 2 - error <= nothing <= dropout / 2 + dropout**3 + error


@pytest.mark.slow
def test_the_loss_of_an_example_depends_on_its_prosody_unless_it_is_dropped(store):
    def loss(batch, dropout, training):
        config = settings("score_network", network=OVER_FRAMES, prosody_dropout=dropout)
        trainee = make_trainee(config)
        params = drawn(trainee)
        keys = jax.random.split(jax.random.key(1), len(batch.mel))
        terms = jax.jit(lambda p: trainee.terms(p, batch, keys, training))(params)
        return float(terms["score"][0])

    config = settings("score_network", network=OVER_FRAMES)
    batch = training_batches(config, store, choose(store, config, ("a",))).at(0)
    other = batch._replace(prosody=batch.prosody - 0.5)
    told, otherwise = (loss(b, 0.0, True) for b in (batch, other))
    assert abs(told - otherwise) > 1e-4 * told
    assert loss(batch, 1.0, True) == loss(other, 1.0, True)
    assert loss(batch, 1.0, False) == pytest.approx(loss(batch, 0.0, False), rel=1e-6)
    assert loss(batch, 1.0, False) != loss(other, 1.0, False)


def test_only_a_network_with_prosody_reads_it(store):
    (store.folder / "shards" / "00000" / "prosody.f32").unlink()
    without = settings("score_network")
    watched = validation_batches(without, store)
    assert watched is not None and watched.at(0).prosody is None
    asked = settings("score_network", network=OVER_FRAMES)
    with pytest.raises(Exception, match=r"prosody\.f32: not found"):
        training_batches(asked, store, choose(store, asked, ("a",))).at(0)


def test_matrices_decay_and_vectors_do_not():
    """Without gradients Adam stands still: a step of rate r takes r x decay of a matrix."""
    config = settings("score_network", learning_rate=0.1, warmup=0, steps=10**6, weight_decay=0.5)
    optimizer = make_optimizer(config)
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full((2,), 3.0)}
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    np.testing.assert_allclose(updates["kernel"], -0.1 * 0.5 * 3.0, rtol=1e-5)
    np.testing.assert_allclose(updates["bias"], 0.0)


def test_b2_is_how_much_of_the_last_squared_gradient_stays():
    optimizer = make_optimizer(settings("score_network", b2=0.75, clip=1e9))
    params = {"x": jnp.zeros(1)}
    _, state = optimizer.update({"x": jnp.full(1, 3.0)}, optimizer.init(params), params)
    seconds = [leaf for leaf in jax.tree.leaves(state) if np.allclose(leaf, 0.25 * 3.0**2)]
    assert len(seconds) == 1


def test_a_score_head_has_no_velocity():
    """`settings` has velocity; its loss is then one more term, weighted as asked."""
    assert "velocity" not in make_trainee(settings("score_network")).weights
    assert make_trainee(settings("score_network", velocity_weight=0.5)).weights["velocity"] == 0.5
    network = OVER_FRAMES | {"head": "score"}
    with pytest.raises(EmoconvError, match=r"velocity_weight: found 0\.5, allowed is 0 with"):
        make_trainee(settings("score_network", network=network, velocity_weight=0.5))


def test_a_voice_with_noise_has_length_one_and_the_angle_of_the_noise():
    """Noise of half the length, in 256 dimensions at a right angle: a cosine of 1 / sqrt(1.25)."""
    trainee = make_trainee(settings("score_network", speaker_noise=0.5))
    voice = jnp.eye(256)[:1].repeat(64, 0)
    moved = jax.vmap(trainee._another_voice)(voice, jax.random.split(jax.random.key(3), 64))
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1.0, rtol=1e-5)
    assert float(moved[:, 0].mean()) == pytest.approx(1 / np.sqrt(1.25), abs=0.02)
    assert len(np.unique(np.asarray(moved[:, 1]))) == 64
