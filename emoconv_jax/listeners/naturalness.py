"""How natural speech sounds to networks that were trained on people's opinions.

    DNSMOS P.835   speech (SIG) and overall (OVRL) quality, 1..5; the networks come with `speechmos`
    DistillMOS     overall quality, 1..5; the network comes with `xls-r-sqa`, read by `distillmos`

Source: Reddy, Gopal and Cutler, DNSMOS P.835 (arXiv 2110.01763); Stahl and Gamper, Distillation and
Pruning for Scalable Self-Supervised Representation-Based Speech Quality Assessment (arXiv
2502.05356).
"""

import sys
import types
from typing import Any

import numpy as np

from emoconv_jax.audio.resampling import resample
from emoconv_jax.shapes import Float

RATE_HZ = 16_000
DNSMOS_NEEDS = "`pip install speechmos onnxruntime requests` has it"
DISTILLMOS_NEEDS = "`pip install --no-deps distillmos xls-r-sqa`, beside torch, has it"


class Dnsmos:
    """DNSMOS P.835."""

    def __init__(self) -> None:
        """Loads the networks.

        Raises:
            ModuleNotFoundError: a package is absent.
        """
        from speechmos import dnsmos

        self._dnsmos: Any = dnsmos

    def __call__(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> tuple[float, float]:
        """Returns SIG and OVRL of speech.

        Args:
            audio: mono.
            sample_rate_hz: of it.
        """
        speech = np.clip(resample(audio, sample_rate_hz, RATE_HZ), -1.0, 1.0)
        found = self._dnsmos.run(speech, RATE_HZ)
        return float(found["sig_mos"]), float(found["ovrl_mos"])


class Distillmos:
    """DistillMOS."""

    def __init__(self) -> None:
        """Loads the network.

        Raises:
            ModuleNotFoundError: a package is absent.
        """
        import torch

        # its command line alone needs torchaudio, which it imports at once
        absent = "torchaudio" not in sys.modules
        if absent:
            sys.modules["torchaudio"] = types.ModuleType("torchaudio")
        try:
            import distillmos
        finally:
            if absent:
                del sys.modules["torchaudio"]
        made: Any = distillmos.ConvTransformerSQAModel
        self._torch, self._network = torch, made().eval()

    def __call__(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> float:
        """Returns the quality of speech.

        Args:
            audio: mono.
            sample_rate_hz: of it.
        """
        speech = resample(audio, sample_rate_hz, RATE_HZ).astype(np.float32)
        with self._torch.inference_mode():
            return float(self._network(self._torch.from_numpy(speech)[None])[0, 0])
