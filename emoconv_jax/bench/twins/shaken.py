"""Weights that show a difference: no scale is 1 and no bias 0."""

import torch
from torch import nn


def shaken(twin: nn.Module, seed: int = 0) -> nn.Module:
    """Returns the twin for inference, its scales, shifts and biases no longer 1 and 0.

    Args:
        twin: any module; it is changed.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return twin.eval()
