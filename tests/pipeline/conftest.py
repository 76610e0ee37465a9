"""A feature store whose every number says where it stands, and a preparation of a whole corpus."""

import pathlib
import shutil
from typing import NamedTuple

import numpy as np
import pytest
from tiny_store import entries
from tones import SETTINGS, make_corpus

from emoconv_jax.config import EMOTIONS, MelConfig
from emoconv_jax.pipeline.phones import PHONES
from emoconv_jax.pipeline.prepare import Running, prepare
from emoconv_jax.pipeline.splits import CorpusSplits, load_splits
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index

LENGTHS = (20, 33, 47, 28, 64, 40, 25, 52, 30, 35)


@pytest.fixture
def numbered(tmp_path) -> FeatureStore:
    """Mel bin 0 holds the utterance, bin 1 the frame within it; both are exact in float16."""
    folder = tmp_path / "features"
    folder.mkdir()
    utterances = entries(
        LENGTHS,
        lambda i: {
            "speaker": f"made/{i % 3}",
            "split": "test" if i > 7 else "a",
            "emotion": EMOTIONS[i % 8] if i % 4 else "",
            "arousal": 1.0 + i % 7 if i % 4 else -1.0,
            "text": "żółw",
            "parallel": 2 if i in (2, 5, 6) else 0,
        },
    )
    owner = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    place = np.concatenate([np.arange(length) for length in LENGTHS])
    mel = np.zeros((len(owner), 80))
    mel[:, 0], mel[:, 1] = owner, place
    phones = place % len(PHONES)
    write_array(folder, "mel", mel)
    write_array(folder, "average_voice", -mel)
    write_array(folder, "parallel", 3 * mel)
    write_array(folder, "prosody", mel[:, :3] + 0.5)
    write_array(folder, "whisper", 2 * np.tile(mel[:, :2], (1, 8)))
    write_array(folder, "phones", phones)
    write_array(folder, "targets", np.tile(np.arange(len(PHONES))[:, None], (1, 80)))
    write_array(folder, "speaker", np.tile(np.arange(10.0)[:, None], (1, 256)))
    write_array(folder, "whisper_pooled", np.tile(np.arange(10.0)[:, None], (1, 28)))
    write_array(folder, "emotion", np.tile(np.arange(10.0)[:, None], (1, 8)))
    write_array(folder, "arousal", np.arange(10.0))
    write_index(folder, MelConfig(), utterances, [sum(LENGTHS)])
    return FeatureStore(folder)


class Preparation(NamedTuple):
    """A feature folder, and what was said while it was made."""

    folder: pathlib.Path
    lines: list[str]

    @property
    def store(self) -> FeatureStore:
        return FeatureStore(self.folder)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> pathlib.Path:
    """Returns a corpus of tones that nothing may change."""
    return make_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture(scope="session")
def splits(corpus) -> dict[str, CorpusSplits]:
    return load_splits(corpus.parent / "splits.json")


@pytest.fixture(scope="session")
def preparation(corpus, splits) -> Preparation:
    """Returns what `prepare` made of it, which nothing may change."""
    folder, lines = corpus.parent / "features", []
    running = Running(log=lines.append)
    _, rejected = prepare([str(corpus)], folder, splits, settings=SETTINGS, running=running)
    assert rejected == 0
    return Preparation(folder, lines)


@pytest.fixture
def prepared(preparation, tmp_path) -> pathlib.Path:
    """Returns a copy of what was prepared, to change."""
    return shutil.copytree(preparation.folder, tmp_path / "prepared")
