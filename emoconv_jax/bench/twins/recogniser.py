"""The recogniser (ACRNN) in PyTorch, for utterances without padding."""

import itertools

import torch
from torch.nn.functional import leaky_relu, max_pool2d, pad

from emoconv_jax.config import RecogniserConfig


def _delta(x: torch.Tensor) -> torch.Tensor:
    """Returns the slope over five frames of [b, bands, frames], edges repeated."""
    padded = pad(x, (2, 2), mode="replicate")
    near = padded[:, :, 3:-1] - padded[:, :, 1:-3]
    return (near + 2 * (padded[:, :, 4:] - padded[:, :, :-4])) / 10


class RecogniserTwin(torch.nn.Module):
    """Computes (embedding, logits, arousal, maps) as `models.recogniser.Recogniser` does."""

    def __init__(self, config: RecogniserConfig):
        super().__init__()
        widths = (3, *config.maps)
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(a, b, (5, 3), padding=(2, 1)) for a, b in itertools.pairwise(widths)
        )
        self.linear = torch.nn.Linear(config.maps[-1] * (config.bands // 4), config.linear)
        self.norm = torch.nn.LayerNorm(config.linear, eps=1e-4)
        self.lstm = torch.nn.LSTM(
            config.linear, config.hidden, batch_first=True, bidirectional=True
        )
        self.attention = torch.nn.Linear(2 * config.hidden, 1, bias=False)
        self.feed_forward = torch.nn.Linear(config.embedding, config.feed_forward)
        self.emotion = torch.nn.Linear(config.feed_forward, len(config.emotions))
        self.arousal = torch.nn.Linear(config.feed_forward, 1)
        self.mean = torch.nn.Buffer(torch.zeros(3, config.bands))
        self.std = torch.nn.Buffer(torch.ones(3, config.bands))

    def forward(
        self, mel: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Returns embedding, logits, arousal and NCHW maps of a log-mel [b, frames, mels]."""
        pairs = mel.exp().unflatten(2, (-1, 2)).sum(3).log().transpose(1, 2)
        stacked = torch.stack([pairs, _delta(pairs), _delta(_delta(pairs))], 1)
        x = (stacked - self.mean[None, :, :, None]) / self.std[None, :, :, None]
        x, maps = x.transpose(2, 3), []  # b, 3, frames, bands
        for i, conv in enumerate(self.convs):
            x = leaky_relu(conv(x), 0.01)
            maps.append(x)
            if i == 0:
                x = max_pool2d(x, (2, 4))
        x = x.permute(0, 2, 3, 1).flatten(2)
        states, _ = self.lstm(leaky_relu(self.norm(self.linear(x)), 0.01))
        weights = torch.softmax(self.attention(states), 1)
        embedding = (weights * states).sum(1)
        x = leaky_relu(self.feed_forward(embedding), 0.01)
        return embedding, self.emotion(x), 4 + self.arousal(x)[:, 0], maps
