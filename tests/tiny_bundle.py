"""A bundle small enough to make in a test: what `bundle_folder` in conftest.py is made of."""

import pathlib

import jax
import numpy as np

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.bundles import banks
from emoconv_jax.bundles.format import BundleConfig, save_part, write_config
from emoconv_jax.bundles.parts import FRAMES, ROLES, network_of
from emoconv_jax.config import (
    EMOTIONS,
    AverageVoiceConfig,
    RecogniserConfig,
    ScoreNetworkConfig,
)

SAMPLE = pathlib.Path(__file__).parent.parent / "data" / "samples" / "neutral.flac"
SPEECH_SAMPLES = 15_435  # 0.7 s, 60.3 hops: one padded length of 64 frames, so one compilation

CONFIG = BundleConfig(
    name="tiny",
    licence="CC0-1.0",
    score_network=ScoreNetworkConfig(
        width=8, multipliers=(1, 2), groups=4, condition_width=8, emotion=8
    ),
    average_voice=AverageVoiceConfig(
        channels=16, feed_forward=16, layers=1, postnet_width=8, postnet_groups=4
    ),
    recogniser=RecogniserConfig(maps=(4,) * 6, linear=8, hidden=4, embedding=8),
)


def make_bundle(folder: pathlib.Path) -> pathlib.Path:
    """Writes freshly initialised parts, and banks of random embeddings of 80 utterances."""
    write_config(folder, CONFIG)
    for number, role in enumerate(ROLES):
        variables = jax.jit(network_of(role, CONFIG).init)(jax.random.key(number), *_inputs(role))
        save_part(folder, role, jax.tree.map(np.asarray, variables))
    generator = np.random.default_rng(0)
    count = 10 * len(EMOTIONS)
    labels = generator.uniform(1, 7, count)
    embeddings = generator.normal(size=(count, CONFIG.recogniser.embedding))
    speakers = [f"made/{i % 3}" for i in range(count)]
    made = banks.build(embeddings, labels, labels, list(EMOTIONS) * 10, speakers)
    banks.save_banks(folder, made)
    return folder


def _inputs(role: str) -> tuple:
    mel, mask = np.zeros((1, FRAMES, 80), np.float32), np.ones((1, FRAMES), np.float32)
    if role != "score_network":
        return mel, mask
    sizes = CONFIG.score_network
    speaker, emotion = np.zeros((1, sizes.speaker)), np.zeros((1, sizes.emotion))
    return mel, mel, mask, np.zeros(1), speaker, emotion


def read_speech() -> np.ndarray:
    """Returns a voiced stretch of the sample."""
    audio = read_audio(SAMPLE, 22050)
    return audio[22050 : 22050 + SPEECH_SAMPLES]
