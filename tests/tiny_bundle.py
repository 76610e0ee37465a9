"""A bundle small enough to make in a test: what `bundle_folder` in conftest.py is made of."""

import functools
import pathlib

import jax
import numpy as np

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.bundles import banks
from emoconv_jax.bundles.format import BundleConfig, save_part, write_config
from emoconv_jax.bundles.parts import ROLES, template_of
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
    """Writes parts of random weights, and banks of random embeddings of 80 utterances."""
    write_config(folder, CONFIG)
    generator = np.random.default_rng(0)
    for role in ROLES:
        template = template_of(role, CONFIG)
        draw = functools.partial(_draw, generator)
        save_part(folder, role, jax.tree_util.tree_map_with_path(draw, template))
    count = 10 * len(EMOTIONS)
    labels = generator.uniform(1, 7, count)
    embeddings = generator.normal(size=(count, CONFIG.recogniser.embedding))
    speakers = [f"made/{i % 3}" for i in range(count)]
    made = banks.build(embeddings, labels, labels, list(EMOTIONS) * 10, speakers)
    banks.save_banks(folder, made)
    return folder


def _draw(generator: np.random.Generator, path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Draws weights that keep the size of what passes through; compiling `init` takes seconds."""
    name = path[-1].key
    if name in ("scale", "std") or leaf.ndim < 2:
        return np.full(leaf.shape, 1.0 if name in ("scale", "std", "g") else 0.0, np.float32)
    fan_in = np.prod(leaf.shape[:-1])
    return (generator.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)


def read_speech() -> np.ndarray:
    """Returns a voiced stretch of the sample."""
    audio = read_audio(SAMPLE, 22050)
    return audio[22050 : 22050 + SPEECH_SAMPLES]
