"""CREMA-D: 91 English actors, 6 emotions, 12 sentences; about 3760 clips in split a, 5310 in a, b.

    emoconv train --config=configs/crema_d.py:recogniser    --features=F --workdir=runs/emotion
    emoconv train --config=configs/crema_d.py:average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/crema_d.py:score_network --features=F --workdir=runs/score

F is from `emoconv prepare CREMA-D --out F`; what comes between the commands is in configs/base.py.
Many voices, few words: half of the published width.

Result: not run. For comparison with the recogniser: people name the intended emotion of 40.9 % of
the clips by ear alone (Cao et al., IEEE Trans. Affective Computing 5(4), 2014).
"""

from emoconv_jax.config import runs_of

TRAINEES = {
    "recogniser": {"steps": 3760 * 100 // 40},  # 100 epochs
    "average_voice": {"steps": 5310 * 150 // 128},  # 150 epochs
    "score_network": {"network": {"width": 128}, "steps": 40_000},
}
get_config = runs_of(TRAINEES)
