"""HiFi-GAN's generator in PyTorch, with the tensor names of the public weights."""

import torch
from torch.nn.functional import leaky_relu
from torch.nn.utils import weight_norm

from emoconv_jax.config import VocoderConfig


def _conv(channels_in: int, channels_out: int, kernel: int, dilation: int = 1) -> torch.nn.Module:
    reach = dilation * (kernel - 1)
    return weight_norm(
        torch.nn.Conv1d(channels_in, channels_out, kernel, padding=reach // 2, dilation=dilation)
    )


class _PairedBlock(torch.nn.Module):
    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        dilated = [_conv(channels, channels, kernel, dilation) for dilation in dilations]
        self.convs1 = torch.nn.ModuleList(dilated)
        self.convs2 = torch.nn.ModuleList(_conv(channels, channels, kernel) for _ in dilations)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(leaky_relu(dilated(leaky_relu(x, 0.1)), 0.1))
        return x


class _SingleBlock(torch.nn.Module):
    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        dilated = [_conv(channels, channels, kernel, dilation) for dilation in dilations]
        self.convs = torch.nn.ModuleList(dilated)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for dilated in self.convs:
            x = x + dilated(leaky_relu(x, 0.1))
        return x


class VocoderTwin(torch.nn.Module):
    """Turns a mel [b, frames, mels] into a waveform as `models.vocoder.Vocoder` does."""

    def __init__(self, config: VocoderConfig):
        super().__init__()
        widths = [config.channels // 2**i for i in range(len(config.upsample_rates) + 1)]
        block = _PairedBlock if config.resblock == 1 else _SingleBlock
        self.kinds = len(config.resblock_kernels)
        self.conv_pre = _conv(config.mel.mels, widths[0], 7)
        self.ups = torch.nn.ModuleList()
        self.resblocks = torch.nn.ModuleList()
        stages = zip(config.upsample_rates, config.upsample_kernels, strict=True)
        for i, (rate, kernel) in enumerate(stages):
            layer = torch.nn.ConvTranspose1d(
                widths[i], widths[i + 1], kernel, rate, padding=(kernel - rate) // 2
            )
            self.ups.append(weight_norm(layer))
            shapes = zip(config.resblock_kernels, config.resblock_dilations, strict=True)
            self.resblocks.extend(block(widths[i + 1], *shape) for shape in shapes)
        self.conv_post = _conv(widths[-1], 1, 7)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Returns the waveform [b, samples]."""
        x = self.conv_pre(mel.transpose(1, 2))
        for i, up in enumerate(self.ups):
            x = up(leaky_relu(x, 0.1))
            blocks = self.resblocks[i * self.kinds : (i + 1) * self.kinds]
            x = torch.stack([block(x) for block in blocks]).mean(0)
        return torch.tanh(self.conv_post(leaky_relu(x, 0.01)))[:, 0]
