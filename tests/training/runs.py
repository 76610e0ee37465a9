"""Runs small enough for a test: tiny networks by trainee, and a quiet loop on one device."""

import dataclasses
import pathlib
import sys
from typing import Any

import jax
import numpy as np

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))  # for scripts beside the suite
from tiny_store import entries

from emoconv_jax.config import EMOTIONS, MelConfig, TrainingConfig
from emoconv_jax.pipeline.phones import PHONES
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index
from emoconv_jax.training import loop
from emoconv_jax.training.state import TrainState
from emoconv_jax.training.trainees import Trainee

FEATURES = "features"
FRAMES = (20, 33, 47, 28, 64, 40, 25, 52)
TINY = {
    "recogniser": {"maps": (4,), "linear": 8, "hidden": 4, "embedding": 8},
    "average_voice": {
        "channels": 16,
        "feed_forward": 16,
        "layers": 1,
        "prenet_layers": 1,
        "postnet_width": 8,
        "postnet_groups": 4,
    },
    "whisper_emotion": {"pooled": 3, "states": (0, 2), "hidden": 4, "embedding": 8},
    "whisper_average_voice": {"states": (1, 2), "hidden": 4, "channels": 8, "dilations": (1, 2)},
    "score_network": {"width": 8, "groups": 4, "condition_width": 8, "multipliers": (1,)},
}
OVER_FRAMES = {
    "kind": "unet1d",
    "prosody": True,
    "width": 16,
    "condition_width": 16,
    "layers": 1,
    "heads": 2,
}
TRAINEES = list(TINY)


def make_store(folder: pathlib.Path) -> FeatureStore:
    """Returns eight training and two validation utterances of noise with every array present."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    lengths = [*FRAMES, 30, 35]
    utterances = entries(
        lengths,
        lambda i: {
            "speaker": f"made/{i % 3}",
            "split": "a" if i < len(FRAMES) else "validation",
            "emotion": EMOTIONS[i % len(EMOTIONS)],
            "arousal": 1.0 + i % 7,
            "parallel": 2 * (i % 5 > 0),
        },
    )
    total, count = sum(lengths), len(lengths)
    write_array(folder, "mel", generator.normal(-5, 2, (total, 80)))
    write_array(folder, "phones", generator.integers(0, len(PHONES), total))
    write_array(folder, "speaker", generator.normal(size=(count, 256)) / 16)
    write_array(folder, "targets", generator.normal(-5, 1, (len(PHONES), 80)))
    write_array(folder, "average_voice", generator.normal(-5, 1, (total, 80)))
    tracked = [generator.uniform(6, 9, total), generator.uniform(0, 1, total)]
    write_array(folder, "prosody", np.stack([*tracked, generator.normal(-4, 1, total)], -1))
    write_array(folder, "emotion", generator.normal(size=(count, 256)))
    write_array(folder, "arousal", generator.uniform(1, 7, count))
    write_array(folder, "whisper", generator.normal(size=(total, 8)))
    write_array(folder, "whisper_pooled", generator.normal(size=(count, 24)))
    write_array(folder, "parallel", generator.normal(-5, 1, (total, 80)))
    write_index(folder, MelConfig(), utterances, [total], encoder="e" * 64)
    return FeatureStore(folder)


def settings(trainee: str, **changes) -> TrainingConfig:
    base = TrainingConfig(
        trainee=trainee,
        network=TINY[trainee],
        splits=("a",),
        batch=4,
        frames=32,
        steps=4,
        warmup=1,
        learning_rate=1e-3,
    )
    return dataclasses.replace(base, **changes)


def eight_devices() -> TrainingConfig:
    """Returns a run for eight devices, of one process or of two."""
    return settings("average_voice", batch=8, frames=32, steps=6)


def drawn(trainee: Trainee, seed: int = 0) -> Any:
    """Random parameters of a network; compiling its own `init` takes seconds."""
    generator = np.random.default_rng(seed)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "g"):  # attention begins with a gain of 0
            return np.full(leaf.shape, path[-1].key == "scale", np.float32)
        width = np.sqrt(np.prod(leaf.shape[:-1]))
        return (generator.normal(size=leaf.shape) / max(width, 1.0)).astype(np.float32)

    shapes = jax.eval_shape(trainee.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def silent(_: str) -> None:
    """Takes a line of progress."""


def train(config: TrainingConfig, store: FeatureStore, workdir: pathlib.Path, **more) -> TrainState:

    return loop.train(
        config, store, workdir, **{"devices": jax.devices()[:1], "log": silent} | more
    )
