"""emoconv-small's other score network: the published one on the mel image, laptop-sized.

    emoconv train --config=configs/small2d.py:score_network --features=F --workdir=runs/score2d

F is what configs/small.py has, whose recogniser and average voice this network follows. It hears
the same conditions as the network over frames there, so that hours of the one can be held against
hours of the other: in one hour it sees a quarter to a sixth of the crops.

Cost, measured on two cores that other work shared, without prosody: 67 500 examples at 2.4 to 5.9 a
second.

Result: L_s .127 without prosody, on RAVDESS's actors 15 and 16; what conversions of unheard
speakers came to stands in data/bundles/emoconv-small/README.md.
"""

from emoconv_jax.config import runs_of

TRAINEES = {
    "score_network": {
        "network": {"width": 32, "condition_width": 64, "prosody": True},
        "compute": "float32",
        "batch": 8,
        "steps": 6000,
        "learning_rate": 1e-3,
        "ema": 0.999,
    },
}
get_config = runs_of(TRAINEES)
