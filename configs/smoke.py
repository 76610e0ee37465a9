"""Tiny networks for a first look: whether all that training needs is there and fits together.

    emoconv train --config=configs/smoke.py:recogniser    --features=F --workdir=runs/emotion
    emoconv train --config=configs/smoke.py:average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/smoke.py:score_network --features=F --workdir=runs/score

F is any feature folder; what comes between the commands is in configs/base.py. The batch of 8 fits
on 1, 2, 4 or 8 devices.

Cost, measured on two busy CPU cores: 7 to 55 s to compile, then 0.3 to 4 s for all 20 steps.

Result: losses that fall, and files in all the places. Nothing worth hearing.
"""

from emoconv_jax.config import runs_of

TINY = {
    "batch": 8,
    "frames": 32,
    "steps": 20,
    "warmup": 5,
    "learning_rate": 2e-3,
    "ema": 0.9,
    "compute": "float32",
}
TRAINEES = {
    "recogniser": TINY | {"network": {"maps": (8, 8), "linear": 32}},
    "average_voice": TINY
    | {
        "network": {
            "channels": 32,
            "feed_forward": 64,
            "layers": 2,
            "postnet_width": 8,
            "postnet_kernel": 3,
        },
    },
    "score_network": TINY
    | {"network": {"width": 8, "multipliers": (1, 2), "groups": 4, "condition_width": 8}},
}
get_config = runs_of(TRAINEES)
