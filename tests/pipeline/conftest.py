"""A feature store whose every number says where it stands."""

import numpy as np
import pytest
from tiny_store import entries

from emoconv_jax.config import EMOTIONS, MelConfig
from emoconv_jax.pipeline.phones import PHONES
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
        },
    )
    owner = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    place = np.concatenate([np.arange(length) for length in LENGTHS])
    mel = np.zeros((len(owner), 80))
    mel[:, 0], mel[:, 1] = owner, place
    phones = place % len(PHONES)
    write_array(folder, "mel", mel)
    write_array(folder, "average_voice", -mel)
    write_array(folder, "phones", phones)
    write_array(folder, "targets", np.tile(np.arange(len(PHONES))[:, None], (1, 80)))
    write_array(folder, "speaker", np.tile(np.arange(10.0)[:, None], (1, 256)))
    write_array(folder, "emotion", np.tile(np.arange(10.0)[:, None], (1, 8)))
    write_array(folder, "arousal", np.arange(10.0))
    write_index(folder, MelConfig(), utterances, [sum(LENGTHS)])
    return FeatureStore(folder)
