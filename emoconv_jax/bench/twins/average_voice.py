"""The average-voice encoder in PyTorch: DiffVC's tensor names, for parity and comparison.

Channels first: mels are `b f m` outside and `b c f` inside. The PostNet's GroupNorms see padded
frames here, as in DiffVC, so the two agree for full masks.

Source: Popov et al. 2022 (arXiv 2109.13821); names and shapes of the published checkpoint.
"""

import math

import torch
from torch import nn

from emoconv_jax.bench.twins.score_network import Block
from emoconv_jax.config import AverageVoiceConfig


class AverageVoiceTwin(nn.Module):
    """Transformer and PostNet; state dict keys are those of DiffVC's `encoder`."""

    def __init__(self, config: AverageVoiceConfig):
        super().__init__()
        self.encoder = _MelEncoder(config)
        self.postnet = _PostNet(config)

    def forward(self, mel, mask):
        """Returns the average voice `b f m` of the log-mel `b f m` with mask `b f`."""
        y = self.encoder(mel.transpose(1, 2), mask[:, None])
        return self.postnet(y, mask[:, None, None]).transpose(1, 2)


class _MelEncoder(nn.Module):
    def __init__(self, config: AverageVoiceConfig):
        super().__init__()
        self.init_proj = nn.Conv1d(config.mels, config.channels, 1)
        self.prenet = _Prenet(config)
        self.encoder = _Layers(config)
        self.term_proj = nn.Conv1d(config.channels, config.mels, 1)

    def forward(self, x, real):
        x = self.prenet(self.init_proj(x * real), real)
        return self.term_proj(self.encoder(x, real) * real)


class _Prenet(nn.Module):
    def __init__(self, config: AverageVoiceConfig):
        super().__init__()
        channels, taps = config.channels, config.prenet_kernel
        convs = [
            nn.Conv1d(channels, channels, taps, padding=taps // 2)
            for _ in range(config.prenet_layers)
        ]
        self.conv_layers = nn.ModuleList(convs)
        self.norm_layers = nn.ModuleList(_ChannelNorm(channels) for _ in convs)
        self.proj = nn.Conv1d(channels, channels, 1)
        for parameter in self.proj.parameters():
            nn.init.zeros_(parameter)
        self.drop = nn.Dropout(config.prenet_dropout)

    def forward(self, x, real):
        y = x
        for conv, norm in zip(self.conv_layers, self.norm_layers, strict=True):
            y = self.drop(torch.relu(norm(conv(y * real))))
        return (x + self.proj(y)) * real


class _Layers(nn.Module):
    def __init__(self, config: AverageVoiceConfig):
        super().__init__()
        layers = range(config.layers)
        self.attn_layers = nn.ModuleList(_Attention(config) for _ in layers)
        self.norm_layers_1 = nn.ModuleList(_ChannelNorm(config.channels) for _ in layers)
        self.ffn_layers = nn.ModuleList(_FeedForward(config) for _ in layers)
        self.norm_layers_2 = nn.ModuleList(_ChannelNorm(config.channels) for _ in layers)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x, real):
        parts = (self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2)
        for attention, norm1, feed_forward, norm2 in zip(*parts, strict=True):
            x = x * real
            x = norm1(x + self.drop(attention(x, real)))
            x = norm2(x + self.drop(feed_forward(x, real)))
        return x * real


class _ChannelNorm(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        y = x.transpose(1, 2)
        y = nn.functional.layer_norm(y, y.shape[-1:], self.gamma, self.beta, 1e-4)
        return y.transpose(1, 2)


class _FeedForward(nn.Module):
    def __init__(self, config: AverageVoiceConfig):
        super().__init__()
        pad = config.kernel // 2
        self.conv_1 = nn.Conv1d(config.channels, config.feed_forward, config.kernel, padding=pad)
        self.conv_2 = nn.Conv1d(config.feed_forward, config.channels, config.kernel, padding=pad)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x, real):
        y = self.drop(torch.relu(self.conv_1(x * real)))
        return self.conv_2(y * real) * real


class _Attention(nn.Module):
    """Relative positions by table look-up: index k - q + window, where it is within the window."""

    def __init__(self, config: AverageVoiceConfig):
        super().__init__()
        channels = config.channels
        self.heads, self.window = config.heads, config.window
        width = channels // config.heads
        table = (1, 2 * config.window + 1, width)
        self.emb_rel_k = nn.Parameter(torch.randn(table) * width**-0.5)
        self.emb_rel_v = nn.Parameter(torch.randn(table) * width**-0.5)
        self.conv_q, self.conv_k = (
            nn.Conv1d(channels, channels, 1),
            nn.Conv1d(channels, channels, 1),
        )
        self.conv_v, self.conv_o = (
            nn.Conv1d(channels, channels, 1),
            nn.Conv1d(channels, channels, 1),
        )
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x, real):
        batch, channels, frames = x.shape
        shape = (batch, self.heads, channels // self.heads, frames)
        query, key, value = (
            conv(x).reshape(shape).transpose(2, 3)
            for conv in (self.conv_q, self.conv_k, self.conv_v)
        )
        place = torch.arange(frames, device=x.device)
        distance = place[None] - place[:, None]
        near = (distance.abs() <= self.window).to(x.dtype)
        index = (distance + self.window).clamp(0, 2 * self.window)
        local = (query @ self.emb_rel_k[0].T).gather(3, index.expand(*shape[:2], -1, -1)) * near
        logits = (query @ key.transpose(2, 3) + local) / math.sqrt(shape[2])
        logits = logits.masked_fill((real[:, :, None] * real[..., None]) == 0, -1e4)
        weights = self.drop(logits.softmax(-1))
        sums = weights.new_zeros(*shape[:2], frames, 2 * self.window + 1)
        sums = sums.scatter_add(3, index.expand_as(weights), weights * near)
        y = weights @ value + sums @ self.emb_rel_v[0]
        return self.conv_o(y.transpose(2, 3).reshape(batch, channels, frames))


class _PostNet(nn.Module):
    def __init__(self, config: AverageVoiceConfig):
        super().__init__()
        width = config.postnet_width
        self.init_conv = nn.Conv2d(1, width, 1)
        self.res_block = _PostNetBlock(config)
        self.final_conv = nn.Conv2d(width, 1, 1)

    def forward(self, x, real):
        x = self.init_conv(x[:, None] * real)
        return self.final_conv(self.res_block(x, real) * real)[:, 0]


class _PostNetBlock(nn.Module):
    def __init__(self, config: AverageVoiceConfig):
        super().__init__()
        width = config.postnet_width
        sizes = (width, width, config.postnet_groups, config.postnet_kernel)
        self.block1, self.block2 = Block(*sizes), Block(*sizes)
        self.res = nn.Conv2d(width, width, 1)

    def forward(self, x, real):
        return self.block2(self.block1(x, real), real) + self.res(x * real)
