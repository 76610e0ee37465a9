"""The score network in PyTorch: DiffVC's tensor names and arithmetic, for parity and comparison.

Channels first, as PyTorch likes it: the image is `b c m f`. Like DiffVC, and unlike ours, nothing
but the convolutions' inputs is masked, so the two agree for full masks at frame counts divisible by
2^(levels - 1).

Source: Popov et al. 2022 (arXiv 2109.13821); names and shapes of the published checkpoint.
"""

import math

import torch
from torch import nn

from emoconv_jax.config import ScoreNetworkConfig

HEADS, HEAD_WIDTH = 4, 32


class ScoreNetworkTwin(nn.Module):
    """The U-Net; state dict keys are those of `decoder.estimator`.

    With `conditioning="blocks"` (ours) it has one layer more, `cond_time`.
    """

    def __init__(self, config: ScoreNetworkConfig):
        super().__init__()
        self.config = config
        width, condition = config.width, config.condition_width
        widths = [width * multiplier for multiplier in config.multipliers]
        inputs = width + config.speaker + config.emotion
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width)
        )
        if config.reference_block:
            self.ref_block = ReferenceBlock(condition, width)
            inputs += condition
        self.cond_block = nn.Sequential(
            nn.Linear(inputs, 4 * condition), nn.Mish(), nn.Linear(4 * condition, condition)
        )
        if config.conditioning == "blocks":
            self.cond_time = nn.Linear(condition, width)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        before = [2 + condition, *widths[:-1]]
        for level, (source, target) in enumerate(zip(before, widths, strict=True)):
            resize = (
                _Resize(nn.Conv2d(target, target, 3, 2, 1)) if level < len(widths) - 1 else None
            )
            self.downs.append(self._level(source, target, resize))
        for level in range(len(widths) - 1, 0, -1):
            target = widths[level - 1]
            resize = _Resize(nn.ConvTranspose2d(target, target, 4, 2, 1))
            self.ups.append(self._level(2 * widths[level], target, resize))
        self.mid_block1 = ResnetBlock(widths[-1], widths[-1], width, config.groups)
        self.mid_attn = Residual(widths[-1])
        self.mid_block2 = ResnetBlock(widths[-1], widths[-1], width, config.groups)
        self.final_block = Block(width, width, config.groups)
        self.final_conv = nn.Conv2d(width, 1, 1)

    def _level(self, source: int, target: int, resize: nn.Module | None) -> "_Level":
        time, groups = self.config.width, self.config.groups
        blocks = (
            ResnetBlock(source, target, time, groups),
            ResnetBlock(target, target, time, groups),
        )
        parts = (*blocks, Residual(target), resize)
        return _Level(part for part in parts if part is not None)

    def forward(self, xt, average_voice, mask, t, speaker, emotion, reference=None, seen=None):
        """Returns the head's output, `b f m`.

        Args:
            xt: noisy log-mel, `b f m`.
            average_voice: `b f m`.
            mask: `b f`, frames divisible by 2^(levels - 1).
            t: diffusion times, `b`.
            speaker: `b d`.
            emotion: `b e`, e may be 0.
            reference: `b r m` for a network with a reference block.
            seen: mask of the reference, `b r`.
        """
        half = self.config.width // 2
        steps = torch.arange(half, dtype=t.dtype, device=t.device)
        angles = 1000.0 * t[:, None] * torch.exp(steps * (-math.log(10000.0) / (half - 1)))
        sinusoid = torch.cat([angles.sin(), angles.cos()], 1)
        time = self.mlp(sinusoid)
        parts = [sinusoid]
        if self.config.reference_block:
            parts.append(self.ref_block(reference, seen, time))
        if self.config.conditioning == "blocks":
            speaker = speaker * math.sqrt(self.config.speaker)
        condition = self.cond_block(torch.cat([*parts, speaker, emotion], 1))
        if self.config.conditioning == "blocks":
            time = time + self.cond_time(nn.functional.mish(condition))
        real = mask[:, None, None]
        x = torch.stack([average_voice, xt], 1).transpose(2, 3)
        plane = condition[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self._unet(torch.cat([x, plane], 1), real, time)

    def _unet(self, x, real, time):
        hiddens, masks = [], [real]
        for level in self.downs:
            x, resized = level(x, masks[-1], time)
            hiddens.append(x)
            if resized is not None:
                x = resized
                masks.append(masks[-1][..., ::2])
        x = self.mid_block1(x, masks[-1], time)
        x = self.mid_block2(self.mid_attn(x), masks[-1], time)
        for level in self.ups:
            now = masks.pop()
            _, x = level(torch.cat([x, hiddens.pop()], 1), now, time)
        x = self.final_conv(self.final_block(x, real) * real) * real
        return x[:, 0].transpose(1, 2)


class _Level(nn.ModuleList):
    """Two residual blocks, attention and, except at the bottom, a change of resolution."""

    def forward(self, x, real, time):
        first, second, attention, *resize = self
        x = attention(second(first(x, real, time), real, time))
        return x, resize[0](x * real) if resize else None


class _Resize(nn.Module):
    def __init__(self, conv: nn.Module):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x)


class Block(nn.Module):
    """Convolution of the masked input, GroupNorm, Mish, mask."""

    def __init__(self, source: int, target: int, groups: int, taps: int = 3):
        super().__init__()
        conv = nn.Conv2d(source, target, taps, padding=taps // 2)
        self.block = nn.Sequential(conv, nn.GroupNorm(groups, target), nn.Mish())

    def forward(self, x, real):
        """Returns the masked output."""
        return self.block(x * real) * real


class ResnetBlock(nn.Module):
    """Two Blocks with the time added between them, and a residual connection."""

    def __init__(self, source: int, target: int, time: int, groups: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(time, target))
        self.block1 = Block(source, target, groups)
        self.block2 = Block(target, target, groups)
        self.res_conv = nn.Identity() if source == target else nn.Conv2d(source, target, 1)

    def forward(self, x, real, time):
        """Returns the output; its padded frames are not masked."""
        h = self.block1(x, real) + self.mlp(time)[:, :, None, None]
        return self.block2(h, real) + self.res_conv(x * real)


class Residual(nn.Module):
    """x + g attention(x)."""

    def __init__(self, channels: int):
        super().__init__()
        self.fn = _Rezero(channels)

    def forward(self, x):
        """Returns the image with what it attended to added."""
        return x + self.fn(x)


class _Rezero(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.g = nn.Parameter(torch.zeros(1))
        self.fn = _LinearAttention(channels)

    def forward(self, x):
        return self.fn(x) * self.g


class _LinearAttention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.to_qkv = nn.Conv2d(channels, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.to_out = nn.Conv2d(HEADS * HEAD_WIDTH, channels, 1)

    def forward(self, x):
        batch, _, height, width = x.shape
        qkv = self.to_qkv(x).reshape(batch, 3, HEADS, HEAD_WIDTH, height * width)
        query, key, value = qkv.unbind(1)
        context = key.softmax(-1) @ value.transpose(-1, -2)
        out = context.transpose(-1, -2) @ query
        return self.to_out(out.reshape(batch, -1, height, width))


class ReferenceBlock(nn.Module):
    """Six gated convolutions and the mean over the reference's frames."""

    def __init__(self, features: int, time: int):
        super().__init__()
        base = features // 4
        self.mlp1 = nn.Sequential(nn.Mish(), nn.Linear(time, base))
        self.mlp2 = nn.Sequential(nn.Mish(), nn.Linear(time, 2 * base))
        self.block11, self.block12 = _gated(1, base), _gated(base, base)
        self.block21, self.block22 = _gated(base, 2 * base), _gated(2 * base, 2 * base)
        self.block31, self.block32 = _gated(2 * base, 4 * base), _gated(4 * base, 4 * base)
        self.final_conv = nn.Conv2d(4 * base, features, 1)

    def forward(self, reference, mask, time):
        """Returns one vector per reference `b r m` with mask `b r`."""
        real = mask[:, None, None]
        y = reference.transpose(1, 2)[:, None]
        y = self.block12(self.block11(y * real) * real) + self.mlp1(time)[:, :, None, None]
        y = self.block22(self.block21(y * real) * real) + self.mlp2(time)[:, :, None, None]
        y = self.block32(self.block31(y * real) * real)
        y = self.final_conv(y * real) * real
        return y.sum((2, 3)) / (real.sum((2, 3)) * y.shape[2])


def _gated(source: int, target: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(source, 2 * target, 3, 1, 1),
        nn.InstanceNorm2d(2 * target, affine=True),
        nn.GLU(1),
    )
