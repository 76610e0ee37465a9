"""RAVDESS: 24 English actors, 8 emotions, 2 sentences; 480 clips in split a, 840 in a and b.

    emoconv train --config=configs/ravdess.py:recogniser    --features=F --workdir=runs/emotion
    emoconv train --config=configs/ravdess.py:average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/ravdess.py:score_network --features=F --workdir=runs/score

F is from `emoconv prepare RAVDESS --out F`; what comes between the commands is in configs/base.py.
Three quarters of an hour of speech and two sentences are little: the score network has a quarter of
the published width, and its words are better learnt with another corpus in the same F.

Result: not run. To beat: emoconv-small (configs/small.py, with nEMO and synthetic speech) on
validation actors 15 and 16: squared arousal error 1.28 and emotion accuracy 30 % of 8 classes,
squared error of the average voice .777, L_s .151. Source: data/bundles/emoconv-small/README.md.
"""

from emoconv_jax.config import runs_of

TRAINEES = {
    "recogniser": {"steps": 480 * 100 // 40, "warmup": 100},  # 100 epochs
    "average_voice": {"steps": 840 * 300 // 128, "warmup": 100},  # 300 epochs
    "score_network": {"network": {"width": 64}, "steps": 20_000},
}
get_config = runs_of(TRAINEES)
