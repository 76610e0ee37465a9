"""The heads on Whisper's encoder: padding, arithmetic of the embedding, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.config import WhisperAverageVoiceConfig, WhisperEmotionConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.whisper_heads import (
    WhisperAverageVoiceHead,
    WhisperEmotionHead,
    measure_statistics,
)

VOICE = WhisperAverageVoiceConfig(
    hidden=4, channels=8, kernel=3, dilations=(1, 2), mels=5, phones=6
)
EMOTION = WhisperEmotionConfig(states=(0, 2), pooled=3, hidden=4, embedding=6)


def shaken(shapes):
    """Returns numbers in place of shapes, so that no bias is 0 and no scale 1."""
    generator = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), jnp.float32), shapes
    )


@pytest.fixture(scope="module")
def voice():
    head = WhisperAverageVoiceHead(VOICE)
    shapes = jax.eval_shape(head.init, jax.random.key(0), jnp.zeros((1, 9, 8)), jnp.ones((1, 9)))
    return head, shaken(shapes)


def test_padding_changes_nothing_on_real_frames(voice):
    head, variables = voice
    states = np.random.default_rng(0).normal(size=(1, 9, 8)).astype(np.float32)
    alone = head.apply(variables, jnp.asarray(states), jnp.ones((1, 9)))
    padded = np.pad(states, ((0, 0), (0, 7), (0, 0)), constant_values=30.0)
    mask = jnp.asarray(np.arange(16)[None] < 9, jnp.float32)
    found = head.apply(variables, jnp.asarray(padded), mask)
    np.testing.assert_allclose(found.mel[:, :9], alone.mel, atol=1e-5)
    np.testing.assert_allclose(found.phones[:, :9], alone.phones, atol=1e-5)
    assert not np.asarray(found.mel[:, 9:]).any()


def test_the_average_voice_is_that_of_torch(voice):
    torch = pytest.importorskip("torch")
    head, variables = voice
    params = jax.tree.map(lambda a: torch.from_numpy(np.array(a)), variables["params"])
    states = np.random.default_rng(2).normal(size=(2, 9, 8)).astype(np.float32)

    def norm(x, name):
        scale, bias = params[name]["scale"], params[name]["bias"]
        return torch.nn.functional.layer_norm(x, x.shape[-1:], scale, bias, 1e-5)

    def linear(x, name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    x = linear(norm(torch.from_numpy(states), "norm_states"), "linear")
    for i, dilation in enumerate(VOICE.dilations):
        kernel, bias = params[f"conv_{i}"]["kernel"], params[f"conv_{i}"]["bias"]
        y = torch.nn.functional.conv1d(
            norm(x, f"norm_{i}").mT, kernel.permute(2, 1, 0), bias, padding="same",
            dilation=dilation,
        ).mT  # fmt: skip
        x = x + linear(torch.relu(y), f"linear_{i}")
    x = norm(x, "norm")
    found = head.apply(variables, jnp.asarray(states), jnp.ones((2, 9)))
    np.testing.assert_allclose(found.mel, linear(x, "mel").numpy(), atol=1e-4)
    np.testing.assert_allclose(found.phones, linear(x, "phones").numpy(), atol=1e-4)


def test_an_embedding_is_what_numpy_makes_of_the_chosen_states():
    generator = np.random.default_rng(3)
    training = generator.normal(2.0, 3.0, size=(50, 24)).astype(np.float32)
    pooled = jnp.asarray(generator.normal(2.0, 3.0, size=(4, 24)), jnp.float32)
    head = WhisperEmotionHead(EMOTION)
    shapes = jax.eval_shape(head.init, jax.random.key(0), pooled)
    statistics = measure_statistics(training, EMOTION)
    given = shaken(shapes["params"])
    found = head.apply({"params": given, "statistics": statistics}, pooled)
    params = jax.tree.map(np.asarray, given)
    # states 0 and 2 of three, each 4 means and 4 deviations
    read = [
        np.concatenate([np.asarray(x)[:, :8], np.asarray(x)[:, 16:]], axis=1)
        for x in (training, pooled)
    ]
    z = (read[1] - read[0].mean(0)) / read[0].std(0)
    embedding = np.tanh(z @ params["embedding"]["kernel"] + params["embedding"]["bias"])
    np.testing.assert_allclose(found.embedding, embedding, atol=1e-4)
    assert np.abs(found.embedding).max() <= 1
    logits = embedding @ params["emotion"]["kernel"] + params["emotion"]["bias"]
    np.testing.assert_allclose(found.logits, logits, atol=1e-3)
    arousal = 4 + (embedding @ params["arousal"]["kernel"] + params["arousal"]["bias"])[:, 0]
    np.testing.assert_allclose(found.arousal, arousal, atol=1e-3)


def test_a_number_that_never_changes_is_not_blown_up():
    statistics = measure_statistics(np.ones((5, 24), np.float32), EMOTION)
    assert statistics["std"].min() == np.float32(1e-3)


def test_dropout_draws_from_an_example_s_own_key():
    """What is dropped of an example does not depend on its place in the batch."""
    head = WhisperEmotionHead(EMOTION)
    pooled = jnp.asarray(np.random.default_rng(4).normal(size=(3, 24)), jnp.float32)
    variables = shaken(jax.eval_shape(head.init, jax.random.key(0), pooled))
    keys = jax.random.split(jax.random.key(5), 3)
    found = head.apply(variables, pooled, keys).embedding
    turned = head.apply(variables, pooled[::-1], keys[::-1]).embedding
    np.testing.assert_allclose(found, turned[::-1], atol=1e-6)
    assert not np.allclose(found, head.apply(variables, pooled).embedding, atol=1e-2)


@pytest.mark.parametrize("states", [(), (0, 3), (-1,)])
def test_states_that_were_not_pooled_are_refused(states):
    head = WhisperEmotionHead(dataclasses.replace(EMOTION, states=states))
    with pytest.raises(EmoconvError, match=r"whisper_emotion\.states: found .* of 0 to 2"):
        head.init(jax.random.key(0), jnp.zeros((1, 24)))
