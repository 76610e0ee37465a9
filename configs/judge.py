"""A second recogniser of log-mels: another make, other speakers; for `--what ablation`.

    emoconv train --config=configs/judge.py:recogniser --features=F --workdir=runs/judge
    emoconv export runs/judge --features F --out judge
    emoconv evaluate --what recognisers --bundle judge --split a,validation ...
    emoconv evaluate --what ablation --second judge ...

Recordings are judged by data/bundles/emoconv-judge, which names twice as many emotions.

F is from `emoconv prepare RAVDESS NEMO SYNTHETIC --out F`. Split b alone, which no conditioning
recogniser hears; the network is `models/pooled_recogniser.py`, blind to the level of a clip. Seven
voices are few: squared errors on RAVDESS's 15 and 16 were 1.13 here, 1.27 at best with twice the
width, and 1.23 or more in longer runs, which were stopped.

Cost, measured beside other work: 32 000 examples of 3 s at 213 a second on one core, 3 minutes.

Result: arousal heard correlates .79 with that of the acting on RAVDESS's actors 1-8 (.83 within
each voice, where level and F0 have .81), .60 on nEMO's EB0 and KS0 (.65; .59) and .84 on RAVDESS's
15 and 16 (.84; .82), none of whom it had heard. Of emotions it names 20 to 36 % of 8.
"""

from emoconv_jax.config import runs_of

TRAINEES = {
    "recogniser": {
        "splits": ("b",),
        "compute": "float32",
        "network": {
            "architecture": "pooled",
            "maps": (64, 64, 64),
            "linear": 128,
            "embedding": 64,
        },
        "batch": 32,
        "steps": 1000,
        "learning_rate": 1e-3,
        "warmup": 100,
        "ema": 0.998,
    },
}
get_config = runs_of(TRAINEES)
