"""The GE2E speaker encoder in PyTorch, with the tensor names of the public weights."""

import torch

from emoconv_jax.config import SpeakerConfig


class SpeakerEncoderTwin(torch.nn.Module):
    """Embeds partials as `models.speaker.SpeakerEncoder` does."""

    def __init__(self, config: SpeakerConfig):
        super().__init__()
        self.lstm = torch.nn.LSTM(config.mels, config.hidden, config.layers, batch_first=True)
        self.linear = torch.nn.Linear(config.hidden, config.embedding)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Returns one embedding of length 1 for each partial [p, frames, mels]."""
        states, _ = self.lstm(mel)
        return torch.nn.functional.normalize(torch.relu(self.linear(states[:, -1])), dim=-1)
