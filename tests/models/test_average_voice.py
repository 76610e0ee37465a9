"""The average-voice encoder against its PyTorch twin; padding, batch and dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from emoconv_jax.bench.twins.average_voice import AverageVoiceTwin
from emoconv_jax.config import AverageVoiceConfig
from emoconv_jax.models.average_voice import AverageVoiceEncoder, Dropout
from emoconv_jax.porting.diffvc import port_average_voice

TINY = AverageVoiceConfig(
    mels=16, channels=16, feed_forward=24, layers=2, postnet_width=16, postnet_groups=4
)
# compiling is most of these tests' time, and what is compiled runs once
apply = jax.jit(
    AverageVoiceEncoder(TINY).apply, compiler_options={"xla_backend_optimization_level": 0}
)


def _inputs(frames=13, batch=3):
    rng = np.random.default_rng(1)
    mel = rng.standard_normal((batch, frames, TINY.mels)).astype(np.float32)
    return mel, np.ones((batch, frames), np.float32)


@pytest.fixture(scope="module")
def twin():
    torch.manual_seed(0)
    twin = AverageVoiceTwin(TINY).eval()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(0.5 + 0.5 * torch.rand_like(parameter))
            elif "prenet.proj" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return twin


@pytest.fixture(scope="module")
def variables(twin):
    tensors = {name: tensor.numpy() for name, tensor in twin.state_dict().items()}
    return {"params": port_average_voice(tensors, TINY)}


@pytest.mark.parametrize("frames", [3, 5, 13])  # 3 and 5: shorter than the window on both sides
def test_ported_twin_gives_the_same(twin, variables, frames):
    inputs = _inputs(frames)
    with torch.no_grad():
        expected = twin(*map(torch.from_numpy, inputs)).numpy()
    found = apply(variables, *inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_padding_changes_nothing_on_real_frames(variables):
    mel, mask = _inputs()
    short = apply(variables, mel, mask)
    tail = np.random.default_rng(2).standard_normal((3, 6, TINY.mels)).astype(np.float32)
    padded = apply(variables, np.concatenate([mel, tail], 1), np.pad(mask, ((0, 0), (0, 6))))
    np.testing.assert_allclose(padded[:, :13], short, rtol=1e-4, atol=1e-5 * np.abs(short).max())
    assert np.all(padded[:, 13:] == 0.0)


def test_dropout_belongs_to_the_example_and_not_to_its_place(variables):
    mel, mask = _inputs()

    def keys(*seeds):
        return jnp.stack([jax.random.key(seed) for seed in seeds])

    found = apply(variables, mel, mask, keys(0, 1, 2))
    turned = apply(variables, mel[::-1].copy(), mask, keys(2, 1, 0))
    np.testing.assert_allclose(turned[::-1], found, rtol=1e-4, atol=1e-5 * np.abs(found).max())
    others = apply(variables, mel, mask, keys(0, 3, 4))
    np.testing.assert_allclose(others[0], found[0], rtol=1e-4, atol=1e-5 * np.abs(found).max())
    assert np.abs(others[1:] - found[1:]).max() > 1e-2
    assert np.abs(found - apply(variables, mel, mask)).max() > 1e-2


def test_dropout_rate_and_expectation():
    keys = jax.random.split(jax.random.key(0), 2)
    kept = np.asarray(Dropout(keys, 0, 0.25)(jnp.ones((2, 200, 100))))
    other = np.asarray(Dropout(keys, 1, 0.25)(jnp.ones((2, 200, 100))))
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)}
    # 20 000 draws per example: one standard error of the rate is .003
    np.testing.assert_allclose((kept > 0).mean((1, 2)), 0.75, atol=0.012)
    # two layers of one example are independent: they agree where .75^2 + .25^2 says
    np.testing.assert_allclose((kept == other).mean((1, 2)), 0.625, atol=0.014)


def test_full_size_has_the_published_number_of_parameters():
    network = AverageVoiceEncoder(AverageVoiceConfig())
    shapes = jax.eval_shape(
        network.init, jax.random.key(0), jnp.zeros((1, 4, 80)), jnp.ones((1, 4))
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 8_464_529
