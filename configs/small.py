"""emoconv-small: laptop-sized networks, trained on two CPU cores.

    emoconv train --config=configs/small.py:recogniser    --features=F --workdir=runs/emotion
    emoconv train --config=configs/small.py:average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/small.py:whisper_emotion --features=F --workdir=runs/emotion
    emoconv train --config=configs/small.py:whisper_average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/small.py:score_network --features=F --workdir=runs/score

F is from `emoconv prepare RAVDESS NEMO SYNTHETIC KOKORO --whisper --out F`: the first two read its
mels, the next two, which may take their place, Whisper's states; the score network then needs
--config.network.emotion 128. What comes between the commands is in configs/base.py, and
launch/train_small.sh runs them all. Source `launch/cpu.env` first: memory-bound work is then 3 to 5
times faster.
The score network works over frames and hears prosody; configs/small2d.py has one on the mel image.

Cost, measured on cores that other work shared: the recogniser 57 600 examples at 22 to 35 a second
on one core, 48 minutes; the average voice 16 608 at 2.7 to 9; whisper_emotion 7 seconds;
whisper_average_voice 19 200 (1200 of its steps) at 49, 6.5 minutes; the score network over frames
45 a second on two cores that multiply bfloat16.

Result: squared arousal error .78 and emotion accuracy 55 % of 8 classes, squared error of the
average voice .719, all on RAVDESS's actors 15 and 16; of whisper_emotion 69 % there and on nEMO's
TP0; of whisper_average_voice 90 % of phones, after 1200 steps. The score network over frames was
stopped at 3276 steps, after 2913 without velocity_weight and speaker_noise: L_s .113. What
conversions of unheard speakers come to with the first two and the network of configs/small2d.py at
other settings stands in the README and in data/bundles/emoconv-small/README.md.
"""

from emoconv_jax.config import runs_of

ON_CPU = {"compute": "float32", "batch": 8}

TRAINEES = {
    "recogniser": ON_CPU
    | {
        "network": {"maps": (32, 64, 64, 64, 64, 64), "linear": 256},
        "batch": 32,
        "steps": 1800,
        "learning_rate": 8e-4,
        "ema": 0.998,
    },
    "average_voice": ON_CPU
    | {
        "network": {"postnet_width": 32},
        "steps": 2000,
        "warmup": 100,
        "ema": 0.995,
    },
    "whisper_emotion": ON_CPU
    | {"batch": 64, "steps": 400, "weight_decay": 1.0, "warmup": 50, "ema": 0.998},
    "whisper_average_voice": ON_CPU | {"batch": 16, "steps": 3000, "warmup": 100, "ema": 0.998},
    "score_network": {
        "network": {"kind": "unet1d", "prosody": True, "condition_width": 256},
        "compute": "auto",
        "batch": 16,
        "steps": 60_000,
        "learning_rate": 1e-3,
        "b2": 0.98,
        "weight_decay": 0.01,
        "warmup": 100,
        "ema": 0.998,
        "velocity_weight": 0.5,
        "prosody_dropout": 0.3,
        "speaker_noise": 0.5,
    },
}
get_config = runs_of(TRAINEES)
