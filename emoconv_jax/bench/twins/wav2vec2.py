"""wav2vec2 in PyTorch, by Hugging Face transformers, under the head of Wagner et al.

The tensor names are those of wav2vec2-large-robust-12-ft-emotion-msp-dim.
"""

from typing import Any

import torch
import transformers
from torch import nn

from emoconv_jax.config import Wav2Vec2Config
from emoconv_jax.porting.wav2vec2 import SIZES


class DimensionalTwin(nn.Module):
    """Tells arousal, dominance and valence as `models.wav2vec2.DimensionalRecogniser` does."""

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        self.wav2vec2 = transformers.Wav2Vec2Model(hugging_face(config))
        self.sizes = list(zip(config.conv_kernels, config.conv_strides, strict=True))
        self.classifier = nn.ModuleDict(
            {
                "dense": nn.Linear(config.hidden, config.hidden),
                "out_proj": nn.Linear(config.hidden, config.dimensions),
            }
        )

    def forward(
        self, waveform: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns embeddings and dimensions of waveforms that are already normalised.

        Args:
            waveform: `b n` at 16 kHz, zero mean and unit variance over the real samples.
            mask: 1 on real samples, which come first; None if all are.
        """
        states = self.wav2vec2(waveform, attention_mask=mask).last_hidden_state
        if mask is None:
            embedding = states.mean(1)
        else:
            lengths = mask.sum(-1)
            for kernel, stride in self.sizes:
                lengths = (lengths - kernel) // stride + 1
            pairs = zip(states, lengths.tolist(), strict=True)
            embedding = torch.stack([state[:length].mean(0) for state, length in pairs])
        y = torch.tanh(self.classifier["dense"](embedding))
        return embedding, self.classifier["out_proj"](y)


def hugging_face(config: Wav2Vec2Config) -> transformers.Wav2Vec2Config:
    """Returns the configuration under the names of transformers."""
    sizes: dict[str, Any] = {"num_labels": config.dimensions}
    sizes |= {theirs: getattr(config, ours) for theirs, (ours, _) in SIZES.items()}
    return transformers.Wav2Vec2Config(**sizes)
