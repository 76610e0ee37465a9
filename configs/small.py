"""emoconv-small: laptop-sized networks, trained on two CPU cores.

    emoconv train --config configs/small.py:recogniser    --features F --workdir runs/recogniser
    emoconv train --config configs/small.py:average_voice --features F --workdir runs/average_voice
    emoconv train --config configs/small.py:score_network --features F --workdir runs/score_network

Costs and results are in data/bundles/emoconv-small/README.md.
"""

from ml_collections import ConfigDict

from emoconv_jax.config import TrainingConfig

TRAINEES = {
    "recogniser": {
        "network": {"maps": (32, 64, 64, 64, 64, 64), "linear": 256},
        "splits": ("a",),
        "batch": 16,
        "frames": 258,
        "steps": 1200,
        "learning_rate": 5e-4,
        "warmup": 50,
        "ema": 0.995,
    },
    "average_voice": {
        "network": {"postnet_width": 32},
        "batch": 8,
        "frames": 128,
        "steps": 1500,
        "learning_rate": 5e-4,
        "warmup": 100,
        "ema": 0.995,
    },
    "score_network": {
        "network": {"width": 32, "condition_width": 64, "conditioning": "blocks"},
        "batch": 8,
        "frames": 128,
        "steps": 3750,
        "learning_rate": 1e-3,
        "warmup": 50,
        "ema": 0.998,
    },
}


def get_config(trainee: str) -> ConfigDict:
    if trainee not in TRAINEES:
        raise ValueError(f"{trainee!r}: no such trainee, allowed are {', '.join(TRAINEES)}")
    return ConfigDict(dict(vars(TrainingConfig(trainee, **TRAINEES[trainee]))))
