"""Each network learns one batch by heart: the step's gradients lead where the loss says."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import OVER_FRAMES, TINY, settings

from emoconv_jax.config import TrainingConfig
from emoconv_jax.pipeline.batches import Batch
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.training.selection import choose, statistics_of, training_batches
from emoconv_jax.training.state import init_state, make_optimizer
from emoconv_jax.training.step import evaluate_step, train_step
from emoconv_jax.training.trainees import Trainee, make_trainee

pytestmark = pytest.mark.slow
KEY = 3


def learn(
    config: TrainingConfig, store: FeatureStore, hold: bool = True
) -> Iterator[tuple[Trainee, Batch, dict]]:
    """Yields the trainee, the one batch and the metrics after each step on it.

    To hold the step's number fixes every time and noise that is drawn, and a dropout.
    """
    trainee, optimizer = make_trainee(config, statistics_of(config, store)), make_optimizer(config)
    state = init_state(jax.jit(trainee.init)(jax.random.key(0)), optimizer)
    batch = training_batches(config, store, choose(store, config, ("a",))).at(0)

    @jax.jit
    def step(state):
        if hold:
            state = dataclasses.replace(state, step=jnp.zeros((), jnp.int32))
        return train_step(
            state, batch, jax.random.key(KEY), trainee=trainee, optimizer=optimizer, ema=0.0
        )

    for _ in range(config.steps):
        state, metrics = step(state)
        yield (
            trainee,
            batch,
            {name: float(value) for name, value in metrics.items()} | {"params": state.params},
        )


def test_the_score_network_learns_a_batch_with_its_noise_tenfold(store):
    config = settings("score_network", batch=2, frames=16, steps=300, learning_rate=5e-3)
    config = dataclasses.replace(
        config,
        emotion_dropout=0.0,
        speaker_dropout=0.0,
        bank_share=0.0,
        speaker_share=0.0,
    )
    losses = (metrics["score"] for _, _, metrics in learn(config, store))
    first = next(losses)
    assert any(loss < first / 10 for loss in losses)


def test_the_score_network_over_frames_learns_a_batch_with_its_noise_tenfold(store):
    """Its width is at least the 16 frames of the batch, whose noise it must tell apart."""
    config = settings("score_network", batch=2, frames=8, steps=300, learning_rate=5e-3)
    own = {"bank_share": 0.0, "speaker_share": 0.0, "prosody_dropout": 0.0}
    heard = {"emotion_dropout": 0.0, "speaker_dropout": 0.0}
    adam = {"b2": 0.98, "weight_decay": 0.01}
    network = OVER_FRAMES | {"width": 32}
    config = dataclasses.replace(config, network=network, **own, **heard, **adam)
    losses = (metrics["score"] for _, _, metrics in learn(config, store))
    first = next(losses)
    assert any(loss < first / 10 for loss in losses)


def test_the_average_voice_encoder_learns_a_batch_to_a_twentieth_of_its_variance(store):
    """A constant would stay at the variance, the mean mel of every bin not far below."""
    config = settings("average_voice", batch=2, frames=8, steps=400, learning_rate=1e-2)
    network = {**TINY["average_voice"], "channels": 32, "prenet_dropout": 0.0, "dropout": 0.0}
    config = dataclasses.replace(config, network=network | {"postnet_width": 16})
    errors = []
    for _, batch, metrics in learn(config, store):
        assert batch.average_voice is not None
        variance = np.var(batch.average_voice[batch.mask > 0])
        errors.append(metrics["mse"] / variance)
        if errors[-1] < 0.05:
            break
    assert variance > 0.5 and errors[0] > 1 and errors[-1] < 0.05


def test_the_recogniser_learns_the_emotions_of_a_batch(store):
    config = settings("recogniser", batch=4, steps=150, learning_rate=3e-3)
    network = {"maps": (4, 4, 4), "hidden": 16, "embedding": 32, "linear": 32}
    config = dataclasses.replace(config, network=network, gain_db=0.0, masked_bands=0)
    *_, (trainee, batch, metrics) = learn(config, store, hold=False)
    assert batch.emotion_label is not None and len(set(batch.emotion_label)) > 1
    evaluate = jax.jit(lambda p: evaluate_step(p, batch, jax.random.key(0), trainee=trainee))
    hits, count = evaluate(metrics["params"])["accuracy"]
    assert float(hits) == float(count) == 4
