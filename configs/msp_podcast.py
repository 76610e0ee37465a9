"""MSP-Podcast: real speech of more than a thousand people, rated; 63 076 clips in split a.

    emoconv train --config=configs/msp_podcast.py:recogniser    --features=F --workdir=runs/emotion
    emoconv train --config=configs/msp_podcast.py:average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/msp_podcast.py:score_network --features=F --workdir=runs/score

F is from `emoconv prepare MSP-PODCAST --out F`; what comes between the commands is in
configs/base.py. This is our own form at the published width; configs/paper.py has EmoConv-Diff's.
The count is the Train set of v1.10; v1.11 has 84 030 (ecs.utdallas.edu, MSP lab).

Result: not run. To beat, on its test set: EmoConv-Diff, squared arousal error .072, absolute 21 %,
DNSMOS SIG 3.21 and OVRL 2.78 (arXiv 2309.07828); TargetSEC (2026), .065, 20.9 %.
"""

from emoconv_jax.config import runs_of

TRAINEES = {
    "recogniser": {"steps": 63_076 * 30 // 40},  # 30 epochs
    "average_voice": {"steps": 63_076 * 50 // 128},  # 50 epochs
    "score_network": {"steps": 200_000},
}
get_config = runs_of(TRAINEES)
