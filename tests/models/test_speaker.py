"""The GE2E encoder against a PyTorch twin, and its windows against the arithmetic of samples."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from emoconv_jax.bench.twins.speaker import SpeakerEncoderTwin
from emoconv_jax.config import SpeakerConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.speaker import SpeakerEncoder, d_vector, partials
from emoconv_jax.porting.speaker import port_speaker
from emoconv_jax.porting.torch_file import read_torch_file

CONFIG = SpeakerConfig(mels=5, hidden=8, layers=3, embedding=6)


def ported_twin(tmp_path, config=CONFIG, zipped=True):
    """Returns a random twin and the parameters read from the file it was saved to."""
    torch.manual_seed(0)
    twin = SpeakerEncoderTwin(config)
    state = {**twin.state_dict(), "similarity_weight": torch.ones(1)}
    path = tmp_path / "w.pt"
    torch.save({"model_state": state}, path, _use_new_zipfile_serialization=zipped)
    return twin, port_speaker(read_torch_file(path)["model_state"], config)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_matches_pytorch(tmp_path, zipped):
    twin, params = ported_twin(tmp_path, zipped=zipped)
    mel = np.random.default_rng(0).exponential(size=(3, 30, 5)).astype(np.float32)
    found = jax.jit(SpeakerEncoder(CONFIG).apply)({"params": params}, mel)
    with torch.no_grad():
        expected = twin(torch.from_numpy(mel)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, rtol=1e-5)
    assert np.min(found) == 0.0  # the ReLU comes before the normalisation


def test_initial_weights_have_pytorch_range():
    params = jax.jit(SpeakerEncoder(CONFIG).init)(jax.random.key(0), jnp.zeros((1, 4, 5)))["params"]
    bound = 1 / math.sqrt(CONFIG.hidden)
    for array in jax.tree.leaves(params["lstm_0"]):
        assert -bound <= float(array.min()) < 0 < float(array.max()) <= bound
        assert float(jnp.abs(array).max()) > 0.5 * bound


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"linear.bias": None}, "missing: linear/bias"),
        ({"lstm.weight_ih_l3": np.zeros((32, 8))}, "unexpected: lstm.weight_ih_l3"),
        ({"linear.weight": np.zeros((6, 9))}, "wrong shape: linear.weight"),
    ],
)
def test_other_weights_are_refused_by_name(change, message):
    tensors = {n: t.numpy() for n, t in SpeakerEncoderTwin(CONFIG).state_dict().items()}
    tensors = {n: t for n, t in (tensors | change).items() if t is not None}
    with pytest.raises(EmoconvError, match=message):
        port_speaker(tensors, CONFIG)


def reference_starts(samples):
    """First frames of the windows of a signal of so many samples at 16 kHz.

    Restated from the reference's rule, which counts in samples: 25 600 per window, 160 per frame.
    """
    frames = math.ceil((samples + 1) / 160)
    starts = list(range(0, max(1, frames - 160 + 80 + 1), 80))
    covered = (samples - starts[-1] * 160) / 25_600
    return starts[:-1] if covered < 0.75 and len(starts) > 1 else starts


def test_windows_are_the_reference_windows():
    rng = np.random.default_rng(0)
    edges = [start + offset for start in range(0, 80_000, 6_400) for offset in (-1, 0, 1, 159, 160)]
    for samples in (*rng.integers(1, 100_000, 200), *edges):
        if samples < 1:
            continue
        frames = samples // 160 + 1  # of a centred mel
        mel = np.arange(1, frames + 1, dtype=np.float32)[:, None]
        found = partials(mel)
        starts = reference_starts(int(samples))
        assert [int(window[0, 0]) - 1 for window in found] == starts
        assert found.shape == (len(starts), 160, 1)
        for start, window in zip(starts, found, strict=True):
            wanted = np.arange(start + 1, start + 161, dtype=np.float32)
            np.testing.assert_array_equal(window[:, 0], np.where(wanted <= frames, wanted, 0))


def test_no_frames_are_refused():
    with pytest.raises(EmoconvError, match="0 frames"):
        partials(np.zeros((0, 40), np.float32))


def test_d_vector_is_the_normalised_mean():
    embeddings = np.array([[0.6, 0.8, 0.0], [1.0, 0.0, 0.0]], np.float32)
    expected = np.array([1.6, 0.8, 0.0]) / math.hypot(1.6, 0.8)
    np.testing.assert_allclose(d_vector(jnp.asarray(embeddings)), expected, rtol=1e-6)
    np.testing.assert_array_equal(d_vector(jnp.zeros((2, 3))), 0.0)  # silence: 0, not NaN
