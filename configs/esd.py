"""ESD: 10 English and 10 Chinese speakers, 5 emotions; 14 000 clips in split a, 21 000 in a and b.

    emoconv train --config=configs/esd.py:recogniser    --features=F --workdir=runs/emotion
    emoconv train --config=configs/esd.py:average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/esd.py:score_network --features=F --workdir=runs/score

F is from `emoconv prepare ESD --out F`; what comes between the commands is in configs/base.py. For
phone times of the Chinese half give TextGrids, else its average voice is of units by clustering.

Result: not run. Nothing published compares directly: EmoMix (arXiv 2306.00648) speaks from text. It
reports, for seen / unseen speakers being angry, MOS 4.10 / 3.92, similarity 4.02 / 3.82 and
mel-cepstral distortion 5.29 / 5.65.
"""

from emoconv_jax.config import runs_of

TRAINEES = {
    "recogniser": {"steps": 14_000 * 50 // 40},  # 50 epochs
    "average_voice": {"steps": 21_000 * 100 // 128},  # 100 epochs
    "score_network": {"network": {"width": 128}},
}
get_config = runs_of(TRAINEES)
