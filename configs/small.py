"""emoconv-small: laptop-sized networks, trained on two CPU cores.

    emoconv train --config=configs/small.py:recogniser    --features=F --workdir=runs/emotion
    emoconv train --config=configs/small.py:average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/small.py:score_network --features=F --workdir=runs/score

F is from `emoconv prepare RAVDESS NEMO SYNTHETIC --out F`; what comes between the commands is in
configs/base.py. Source `launch/cpu.env` first: memory-bound work is then 3 to 5 times faster.

Cost, measured on cores that other work shared: the recogniser 13 792 examples at 11 to 23 a second
on one core; the average voice 11 008 at 2.7 to 9; the score network 29 944 at 4.4 to 5.9 on two.

Result: squared arousal error 1.28 and emotion accuracy 30 % of 8 classes, squared error of the
average voice .777, L_s .151, all on RAVDESS's actors 15 and 16; 42 of 42 clips of unheard speakers
measure a higher arousal at target 7 than at target 1. data/bundles/emoconv-small/README.md has it
all, and how the published run differed from these settings.
"""

from emoconv_jax.config import runs_of

ON_CPU = {"compute": "float32", "batch": 8}

TRAINEES = {
    "recogniser": ON_CPU
    | {
        "network": {"maps": (32, 64, 64, 64, 64, 64), "linear": 256},
        "batch": 16,
        "steps": 1200,
        "learning_rate": 5e-4,
        "warmup": 50,
        "ema": 0.995,
    },
    "average_voice": ON_CPU
    | {
        "network": {"postnet_width": 32},
        "steps": 1500,
        "warmup": 100,
        "ema": 0.995,
    },
    "score_network": ON_CPU
    | {
        "network": {"width": 32, "condition_width": 64},
        "steps": 3750,
        "learning_rate": 1e-3,
        "warmup": 50,
        "ema": 0.998,
    },
}
get_config = runs_of(TRAINEES)
