"""Compiles what librosa has numba compile, for all processes of a run: ten seconds, once.

usage: python tests/numba_cache.py     fills $NUMBA_CACHE_DIR, and says so by a file `filled` in it

Processes that fill one cache at the same time can damage it, and crash whoever reads it. So one
fills it while the others collect and begin, and each works on a copy of its own.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

FILLED = "filled"


def start() -> tuple[tempfile.TemporaryDirectory[str], subprocess.Popen[bytes]]:
    """Starts a process that fills a new cache; returns both."""
    folder = tempfile.TemporaryDirectory(prefix="numba-filled-")
    environment = os.environ | {"NUMBA_CACHE_DIR": folder.name}
    return folder, subprocess.Popen([sys.executable, __file__], env=environment)


def take(filled: pathlib.Path, own: pathlib.Path) -> None:
    """Copies the cache once it is filled; who needs a function before compiles it for itself."""
    if (filled / FILLED).exists() and not (own / FILLED).exists():
        shutil.copytree(filled, own, dirs_exist_ok=True)


def fill() -> None:
    """Calls each of those functions once, on what tests give them."""
    import librosa
    import numpy as np

    noise = np.random.default_rng(0).normal(0.0, 0.1, 22050).astype(np.float32)
    librosa.pyin(noise, fmin=50.0, fmax=600.0, sr=22050, frame_length=2048, hop_length=256)
    librosa.feature.melspectrogram(y=noise, sr=22050)
    spectrum = np.abs(librosa.stft(noise, n_fft=1024, hop_length=256))
    librosa.griffinlim(spectrum, n_iter=1, hop_length=256, center=False, init=None)
    librosa.sequence.dtw(X=spectrum[:13, :20], Y=spectrum[:13, :30], metric="euclidean")


if __name__ == "__main__":
    fill()
    (pathlib.Path(os.environ["NUMBA_CACHE_DIR"]) / FILLED).touch()
