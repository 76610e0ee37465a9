"""IEMOCAP: 10 English actors in dialogues, rated; 3630 turns in split a, 5766 in a and b.

    emoconv train --config=configs/iemocap.py:recogniser    --features=F --workdir=runs/emotion
    emoconv train --config=configs/iemocap.py:average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/iemocap.py:score_network --features=F --workdir=runs/score

F is from `emoconv prepare IEMOCAP --out F`; what comes between the commands is in configs/base.py.
The recogniser learns from turns whose emotion has a name of ours; half of the published width.

Result: not run. For comparison with the recogniser: ACRNN reached an unweighted recall of 64.74 %
on four emotions of the improvised half (Chen et al., IEEE Signal Processing Letters 25(10), 2018);
ours has up to seven emotions, all turns and half of the speakers.
"""

from emoconv_jax.config import runs_of

TRAINEES = {
    "recogniser": {"steps": 3630 * 100 // 40},  # 100 epochs
    "average_voice": {"steps": 5766 * 150 // 128},  # 150 epochs
    "score_network": {"network": {"width": 128}, "steps": 60_000},
}
get_config = runs_of(TRAINEES)
