"""The recogniser against librosa and a PyTorch twin; what padding and windows must not change."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import torch

from emoconv_jax.bench.twins.recogniser import RecogniserTwin
from emoconv_jax.config import RecogniserConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.recogniser import (
    DROPOUT,
    Recogniser,
    front_end,
    measure_statistics,
    pooled_mask,
    recognise,
)
from emoconv_jax.porting.recogniser import port_recogniser

CONFIG = RecogniserConfig(
    mels=16,
    bands=8,
    frames=20,
    maps=(4, 6, 6),
    linear=12,
    hidden=8,
    embedding=16,
    feed_forward=10,
)
NETWORK = Recogniser(CONFIG)
apply = jax.jit(NETWORK.apply)
recognise_jit = jax.jit(functools.partial(recognise, NETWORK))


def mels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-5.0, 2.0, shape).astype(np.float32)


def twin() -> RecogniserTwin:
    torch.manual_seed(3)
    network = RecogniserTwin(CONFIG)
    network.mean.normal_(-4.0)
    network.std.uniform_(0.5, 2.0)
    return network.eval()


@pytest.fixture(scope="module")
def variables():
    tensors = {name: tensor.numpy() for name, tensor in twin().state_dict().items()}
    return jax.tree.map(jnp.asarray, port_recogniser(tensors, CONFIG))


def test_front_end_is_summed_pairs_and_librosas_deltas():
    mel = mels(1, 30, 16)
    found = np.asarray(front_end(jnp.asarray(mel), jnp.ones((1, 30))))[0]
    power = np.exp(mel[0].astype(np.float64))
    bands = np.log(power[:, 0::2] + power[:, 1::2])
    first = librosa.feature.delta(bands, width=5, axis=0, mode="nearest")
    second = librosa.feature.delta(first, width=5, axis=0, mode="nearest")
    np.testing.assert_allclose(found, np.stack([bands, first, second], -1), atol=2e-5)


@pytest.mark.slow
def test_statistics_make_the_training_mels_standard():
    some = [mels(n, 16, seed=n) for n in (3, 40, 300)]
    statistics = measure_statistics(some)
    features = np.concatenate(
        [np.asarray(front_end(jnp.asarray(m)[None], jnp.ones((1, len(m)))))[0] for m in some]
    )
    normal = (features - statistics["mean"].T) / statistics["std"].T
    np.testing.assert_allclose(normal.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(normal.std(0), 1.0, atol=1e-4)
    with pytest.raises(EmoconvError, match="no mels"):
        measure_statistics([])


@pytest.mark.parametrize("frames", [20, 14])
def test_equals_its_pytorch_twin(variables, frames):
    mel = mels(2, frames, 16)
    ours = apply(variables, jnp.asarray(mel), jnp.ones((2, frames)))
    with torch.no_grad():
        embedding, logits, arousal, maps = twin()(torch.from_numpy(mel))
    for found, expected in zip(ours[:3], (embedding, logits, arousal), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    for found, expected in zip(ours.maps, maps, strict=True):
        np.testing.assert_allclose(
            found, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("frames", [1, 9])
def test_padding_changes_nothing(variables, frames):
    mel = mels(2, 27, 16)
    long_mask = jnp.broadcast_to((jnp.arange(27) < frames)[None], (2, 27)).astype(jnp.float32)
    padded = apply(variables, jnp.asarray(mel), long_mask)
    alone = apply(variables, jnp.asarray(mel[:, :frames]), jnp.ones((2, frames)))
    for found, expected in zip(padded[:3], alone[:3], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for found, expected in zip(padded.maps, alone.maps, strict=True):
        np.testing.assert_allclose(found[:, : expected.shape[1]], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found[:, expected.shape[1] :], 0.0)
    assert int(pooled_mask(long_mask).sum()) == 2 * ((frames + 1) // 2)


def test_gradient_reaches_every_real_frame_and_no_other(variables):
    mask = jnp.broadcast_to((jnp.arange(20) < 15)[None], (2, 20)).astype(jnp.float32)

    def judged(mel):
        output = NETWORK.apply(variables, mel, mask)
        grams = sum(jnp.square(found).mean() for found in output.maps)
        return output.logits.sum() + output.arousal.sum() + grams

    gradient = np.asarray(jax.jit(jax.grad(judged))(jnp.asarray(mels(2, 20, 16))))
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient[:, :15]).sum(-1) > 0).all()
    np.testing.assert_array_equal(gradient[:, 15:], 0.0)


def test_gradient_equals_pytorchs(variables):
    mel = mels(2, 14, 16)

    def judged(mel):
        output = NETWORK.apply(variables, mel, jnp.ones((2, 14)))
        return output.embedding.sum() + output.logits.sum() + jnp.square(output.maps[-1]).sum()

    theirs = torch.from_numpy(mel).requires_grad_()
    embedding, logits, _, maps = twin()(theirs)
    (embedding.sum() + logits.sum() + maps[-1].square().sum()).backward()
    expected = theirs.grad.numpy()
    found = jax.jit(jax.grad(judged))(jnp.asarray(mel))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_dropout_is_each_examples_own(variables):
    mel, mask = jnp.asarray(mels(3, 20, 16)), jnp.ones((3, 20))
    keys = jax.random.split(jax.random.key(1), 3)
    together = apply(variables, mel, mask, jax.random.clone(keys))
    alone = apply(variables, mel[1:2], mask[1:2], jax.random.clone(keys[1:2]))
    np.testing.assert_allclose(together.logits[1:2], alone.logits, rtol=1e-5, atol=1e-6)
    steady = apply(variables, mel, mask)
    np.testing.assert_allclose(together.embedding, steady.embedding, rtol=1e-5)
    assert np.abs(together.logits - steady.logits).max() > 1e-4
    assert 0.0 < DROPOUT < 0.5


def test_whole_utterance_is_the_real_average_of_its_windows(variables):
    mel = jnp.asarray(mels(1, 34, 16))
    found = recognise_jit(variables, mel, jnp.ones((1, 34)))
    spans = [(0, 20), (10, 30), (20, 34)]
    parts = [apply(variables, mel[:, a:b], jnp.ones((1, b - a))) for a, b in spans]
    weights = np.array([b - a for a, b in spans]) / 54
    for i in range(3):
        expected = sum(w * np.asarray(part[i]) for w, part in zip(weights, parts, strict=True))
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [7, 20, 21, 34])
def test_windows_do_not_depend_on_padding(variables, frames):
    mel, mask = mels(1, 64, 16), (np.arange(64) < frames)[None].astype(np.float32)
    padded = recognise_jit(variables, jnp.asarray(mel), jnp.asarray(mask))
    alone = recognise_jit(variables, jnp.asarray(mel[:, :frames]), jnp.ones((1, frames)))
    for found, expected in zip(padded[:3], alone[:3], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_published_sizes_give_an_embedding_of_256():
    mel, mask = jnp.zeros((2, 258, 80)), jnp.ones((2, 258))
    network = Recogniser(RecogniserConfig())
    output, made = jax.eval_shape(network.init_with_output, jax.random.key(0), mel, mask)
    assert output.embedding.shape == (2, 256)
    assert [found.shape[1:3] for found in output.maps] == [(258, 40)] + [(129, 10)] * 5
    assert made["params"]["linear"]["kernel"].shape == (2560, 768)


def test_contradicting_sizes_are_refused():
    network = Recogniser(RecogniserConfig(hidden=8, embedding=17))
    with pytest.raises(EmoconvError, match=r"recogniser\.embedding: found 17"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 4, 80)), jnp.ones((1, 4)))
