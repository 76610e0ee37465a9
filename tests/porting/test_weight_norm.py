"""Folding weight normalisation, against PyTorch's own."""

import numpy as np
import pytest
import torch

from emoconv_jax.errors import EmoconvError
from emoconv_jax.porting.tables import fold_weight_norm

NORMS = [torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm]


@pytest.mark.parametrize("norm", NORMS, ids=["weight_g", "parametrizations"])
@pytest.mark.parametrize("kind", [torch.nn.Conv1d, torch.nn.ConvTranspose1d])
@pytest.mark.parametrize("axis", [0, 2])  # as in HiFi-GAN, as in wav2vec2
def test_folds_to_the_weight_pytorch_uses(norm, kind, axis):
    torch.manual_seed(0)
    module = torch.nn.ModuleDict({"conv": norm(kind(3, 5, 4), dim=axis)})
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn_like(parameter)
    module["conv"](torch.zeros(1, 3, 8))  # the older form computes its weight in the forward pass
    folded = fold_weight_norm({n: t.numpy() for n, t in module.state_dict().items()})
    assert set(folded) == {"conv.bias", "conv.weight"}
    expected = module["conv"].weight.detach().numpy()
    np.testing.assert_allclose(folded["conv.weight"], expected, rtol=1e-6)


def test_tensors_without_it_stay():
    tensors = {"a.weight": np.ones((2, 3, 1), np.float32), "a.bias": np.zeros(2, np.float32)}
    assert fold_weight_norm(tensors) == tensors


def test_half_a_pair_and_other_shapes_are_refused():
    g, v = np.ones((2, 1, 1)), np.ones((2, 3, 4))
    with pytest.raises(EmoconvError, match=r"file: a\.weight_g is missing"):
        fold_weight_norm({"a.weight_v": v}, "file")
    with pytest.raises(EmoconvError, match=r"a\.weight_v is missing"):
        fold_weight_norm({"a.weight_g": g})
    with pytest.raises(EmoconvError, match=r"a\.weight_g \(3, 1, 1\)"):
        fold_weight_norm({"a.weight_g": np.ones((3, 1, 1)), "a.weight_v": v[:, :, :2]})
    with pytest.raises(EmoconvError, match=r"file: a\.weight is there twice"):
        fold_weight_norm({"a.weight_g": g, "a.weight_v": v, "a.weight": v}, "file")
    with pytest.raises(EmoconvError, match=r"a\.weight_g \(1, 1, 1\)"):
        fold_weight_norm({"a.weight_g": np.ones((1, 1, 1)), "a.weight_v": v})
