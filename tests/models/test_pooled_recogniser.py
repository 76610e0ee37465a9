"""The second recogniser: what level and padding must not change, and its sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emoconv_jax.config import RecogniserConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.pooled_recogniser import PooledRecogniser, loudness, recogniser_of
from emoconv_jax.models.recogniser import recognise

CONFIG = RecogniserConfig(
    architecture="pooled",
    mels=16,
    bands=8,
    frames=20,
    maps=(12, 10),
    linear=24,
    embedding=16,
    feed_forward=10,
)
NETWORK = recogniser_of(CONFIG)
apply = jax.jit(NETWORK.apply)


def mels(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(-5.0, 2.0, shape).astype(np.float32))


@pytest.fixture(scope="module")
def variables():
    mel = mels(1, 20, 16)
    params = jax.jit(NETWORK.init)(jax.random.key(0), mel, jnp.ones((1, 20)))["params"]
    return {
        "params": params,
        "statistics": {"mean": jnp.full((3, 8), 0.5), "std": jnp.full((3, 8), 2.0)},
    }


def test_a_gain_changes_nothing(variables):
    mask = jnp.ones((2, 20))
    quiet = apply(variables, mels(2, 20, 16), mask)
    loud = apply(variables, mels(2, 20, 16) + 1.5, mask)  # 13 dB
    for found, expected in zip(loud[:3], quiet[:3], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_loudness_is_the_logarithm_of_the_mean_of_real_frames():
    mel = mels(1, 9, 16)
    mask = (jnp.arange(9) < 6)[None].astype(jnp.float32)
    expected = np.log(np.exp(np.asarray(mel[0, :6], np.float64)).mean())
    np.testing.assert_allclose(loudness(mel, mask)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("frames", [1, 9])
def test_padding_changes_nothing(variables, frames):
    mel = mels(2, 27, 16)
    mask = jnp.broadcast_to((jnp.arange(27) < frames)[None], (2, 27)).astype(jnp.float32)
    padded = apply(variables, mel, mask)
    alone = apply(variables, mel[:, :frames], jnp.ones((2, frames)))
    for found, expected in zip(padded[:3], alone[:3], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_finite_even_of_silence(variables):
    def judged(mel):
        output = NETWORK.apply(variables, mel, jnp.ones((1, 20)))
        return output.logits.sum() + output.arousal.sum()

    gradient = jax.jit(jax.grad(judged))
    for mel in (mels(1, 20, 16), jnp.full((1, 20, 16), -11.5)):
        assert np.isfinite(np.asarray(gradient(mel))).all()


def test_it_is_called_as_the_first_one_in_windows(variables):
    assert isinstance(NETWORK, PooledRecogniser)
    found = jax.jit(recognise, static_argnums=0)(
        NETWORK, variables, mels(1, 50, 16), jnp.ones((1, 50))
    )
    assert found.embedding.shape == (1, 16) and found.logits.shape == (1, 8)


def test_another_architecture_is_refused():
    with pytest.raises(EmoconvError, match="architecture: found 'lstm', allowed are acrnn, pooled"):
        recogniser_of(RecogniserConfig(architecture="lstm"))
