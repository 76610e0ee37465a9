"""nEMO: Polish, 6 emotions; split a is 3 actors and about 1080 clips, a and b are 5 and 1800.

    emoconv train --config=configs/nemo.py:recogniser    --features=F --workdir=runs/emotion
    emoconv train --config=configs/nemo.py:average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/nemo.py:score_network --features=F --workdir=runs/score

F is from `emoconv prepare NEMO --out F`; what comes between the commands is in configs/base.py.
data/splits/emoconv-small.json places seven of the nine actors, one of them for validation, and
keeps 30 of the 90 sentences for the test; to use all, give `prepare` a split file of your own.
Without TextGrids the average voice is learnt from units found by clustering, since no aligner of
Polish comes along.

Result: not run. emoconv-small, which had nEMO among its corpora, converts clips of an unheard actor
to target arousal 7 above target 1 in 7 of 7. Source: data/bundles/emoconv-small/README.md.
"""

from emoconv_jax.config import runs_of

TRAINEES = {
    "recogniser": {"steps": 1080 * 100 // 40, "warmup": 100},  # 100 epochs
    "average_voice": {"steps": 1800 * 300 // 128, "warmup": 100},  # 300 epochs
    "score_network": {"network": {"width": 64}, "steps": 20_000},
}
get_config = runs_of(TRAINEES)
