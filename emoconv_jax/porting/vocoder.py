"""The table that moves public HiFi-GAN weights into `models.vocoder.Vocoder`.

The weights come with weight normalisation, which is folded, so that the network has plain kernels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emoconv_jax.config import MelConfig, VocoderConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.models.templates import template
from emoconv_jax.models.vocoder import Vocoder
from emoconv_jax.porting.tables import fold_weight_norm, layer, port

MOST = 10**9  # of any number; what each may be is checked with the bundle's limits
RULES = (
    *layer("(conv_pre|conv_post)", r"\1", "conv1d"),
    *layer(r"ups\.(\d+)", r"ups_\1", "transposed1d"),
    *layer(r"resblocks\.(\d+)\.(convs[12]?)\.(\d+)", r"resblocks_\1/\2_\3", "conv1d"),
)


def port_vocoder(
    tensors: Mapping[str, np.ndarray],
    config: VocoderConfig | None = None,
    source: str = "vocoder",
) -> dict[str, Any]:
    """Returns the parameters of `Vocoder(config)`.

    Args:
        tensors: the `generator` of a HiFi-GAN checkpoint, with or without weight normalisation.
        config: the sizes; None is V1.
        source: what the tensors come from, for messages.

    Returns:
        The parameter tree, float32.

    Raises:
        EmoconvError: impossible sizes, or names or shapes that do not match.
    """
    config = config or VocoderConfig()
    shapes = template(Vocoder(config), f"{source}: vocoder")
    return port(fold_weight_norm(tensors, source), RULES, shapes["params"], source)


def vocoder_sizes(data: Any, path: str) -> VocoderConfig:
    """Returns the sizes that HiFi-GAN's config.json tells.

    Args:
        data: what `json.load` gave; it is a foreign file.
        path: its name, for messages.

    Returns:
        The configuration, its mel included.

    Raises:
        EmoconvError: a field that is absent or of the wrong type, under the file's name for it.
    """
    if not isinstance(data, dict):
        raise EmoconvError(f"{path}: found {type(data).__name__}, expected an object")

    def number(name: str, kinds: tuple[type, ...] = (int,)) -> Any:
        found: Any = data.get(name)
        if type(found) not in kinds or not abs(found) <= MOST:  # NaN neither
            raise EmoconvError(f"{path}: {name}: found {found!r:.40}, expected a number")
        return found

    def numbers(name: str, found: Any) -> tuple[int, ...]:
        if not isinstance(found, list) or not all(type(n) is int for n in found) or not found:
            raise EmoconvError(f"{path}: {name}: found {found!r:.40}, expected whole numbers")
        return tuple(found)

    if data.get("resblock") not in ("1", "2"):
        raise EmoconvError(
            f"{path}: resblock: found {data.get('resblock')!r:.40}, allowed are '1' and '2'"
        )
    dilations = data.get("resblock_dilation_sizes")
    if not isinstance(dilations, list):
        raise EmoconvError(f"{path}: resblock_dilation_sizes: expected lists of whole numbers")
    if number("win_size") != number("n_fft"):
        raise EmoconvError(f"{path}: win_size: found {data['win_size']!r:.40}, allowed is n_fft")
    mel = MelConfig(
        sample_rate_hz=number("sampling_rate"),
        fft_samples=number("n_fft"),
        hop_samples=number("hop_size"),
        mels=number("num_mels"),
        low_hz=float(number("fmin", (int, float))),
        high_hz=float(number("fmax", (int, float))),
    )
    return VocoderConfig(
        mel=mel,
        resblock=int(data["resblock"]),
        upsample_rates=numbers("upsample_rates", data.get("upsample_rates")),
        upsample_kernels=numbers("upsample_kernel_sizes", data.get("upsample_kernel_sizes")),
        channels=number("upsample_initial_channel"),
        resblock_kernels=numbers("resblock_kernel_sizes", data.get("resblock_kernel_sizes")),
        resblock_dilations=tuple(numbers("resblock_dilation_sizes", row) for row in dilations),
    )
