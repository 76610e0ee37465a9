"""DiffVC's original score network, from the user's own checkout, in place of the twin.

That code is run, so the folder must be trusted; nothing of it is part of this package. It needs
`einops`. Source: github.com/huawei-noah/Speech-Backbones, folder DiffVC.
"""

import functools
import importlib
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

import torch

from emoconv_jax.config import ScoreNetworkConfig
from emoconv_jax.errors import EmoconvError

WHERE = ("", "DiffVC")  # the checkout's own folder, or the repository's


def estimator_of(folder: pathlib.Path) -> Callable[[ScoreNetworkConfig], torch.nn.Module]:
    """Returns what makes the original network, with the arguments and image of our twin.

    It can be sent to another process, which then runs the code anew.

    Args:
        folder: DiffVC's, or that of the repository which holds it.

    Raises:
        EmoconvError: no such code there, or a package that it needs is missing.
    """
    for name in WHERE:
        root = folder / name
        if (root / "model" / "diffusion.py").is_file():
            break
    else:
        raise EmoconvError(f"{folder}: no model/diffusion.py; expected a checkout of DiffVC")
    _original_class(root.resolve())  # refused here and not in the midst of a measurement
    return functools.partial(_make, root.resolve())


def _make(root: pathlib.Path, config: ScoreNetworkConfig) -> torch.nn.Module:
    return _Original(_original_class(root), config)


@functools.cache
def _original_class(root: pathlib.Path) -> Any:
    # the package's own start imports all of DiffVC, and torchaudio with it
    package = types.ModuleType("model")
    package.__path__ = [str(root / "model")]
    sys.modules["model"] = package
    try:
        return importlib.import_module("model.diffusion").GradLogPEstimator
    except ModuleNotFoundError as error:
        raise EmoconvError(f"{root}: needs {error.name}, which is not installed") from None
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "model"]:
            del sys.modules[name]


class _Original(torch.nn.Module):
    """The original, with the twin's state dict, arguments and orientation of the mels."""

    def __init__(self, original: Any, config: ScoreNetworkConfig):
        super().__init__()
        if config.emotion or not config.reference_block or config.conditioning != "input":
            raise EmoconvError("DiffVC's network has a reference block and no emotion")
        self.network = original(config.width, config.condition_width, True, config.multipliers)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.state_dict(*args, **kwargs)

    def forward(self, xt, average_voice, mask, t, speaker, emotion, reference, seen):
        """Returns the score, `b f m`; `emotion` is empty."""
        found = self.network(
            xt.transpose(1, 2),
            mask[:, None],
            average_voice.transpose(1, 2),
            reference.transpose(1, 2)[:, None],
            seen[:, None],
            speaker,
            t,
        )
        return found.transpose(1, 2)
