"""What every run has in common, and a start for corpora of your own.

    emoconv train --config=configs/base.py:recogniser    --features=F --workdir=runs/emotion
    emoconv train --config=configs/base.py:average_voice --features=F --workdir=runs/voice
    emoconv train --config=configs/base.py:whisper_emotion --features=F --workdir=runs/emotion
    emoconv train --config=configs/base.py:whisper_average_voice --features=F --workdir=runs/voice
    emoconv export runs/emotion runs/voice --features F --out B
    emoconv prepare --out F --bundle B
    emoconv export --banks --features F --out B
    emoconv train --config=configs/base.py:score_network --features=F --workdir=runs/score
    emoconv export runs/score --features F --out B

The first two are the published encoders, the next two take their place: heads on Whisper's encoder,
for features that were made by `emoconv prepare --whisper`. A score network is as wide as the
embeddings: after whisper_emotion it is trained with --config.network.emotion 128.

The other files here list only what they change of it, in the same order of commands. Any field can
be changed on the command line too: --config.batch 16, --config.network.width 64. All of it is in
`BASE` and `ON_ACCELERATORS` of emoconv_jax/config.py; what that does not name has the defaults of
`TrainingConfig` and of the network, which are the published sizes.

    all             bfloat16 (set --config.compute float32 on a CPU), a warm-up of 500 steps, then a
                    cosine to zero; gradients clipped at norm 1
    recogniser      split a only, so that b can train an independent one; 3 s; batch 40 and Adam at
                    1e-4 as for ACRNN in EmoMix
    average_voice   128 crops of 128 frames, Adam at 5e-4: DiffVC's
    whisper_emotion        split a only; 64 utterances, Adam at 1e-3; labels smoothed by .1
    whisper_average_voice  16 crops of 128 frames, Adam at 1e-3; the mean of the same sentence over
                           other voices
    score_network   32 crops of 128 frames, Adam at 1e-4: DiffVC's. Ours: conditions in every block,
                    velocity head, averaging over 10 000 steps, a tenth of the examples without
                    emotion or speaker (for guidance), half of them with a bank for their emotion,
                    all with the d-vector of another clip of their speaker

On several devices the batch has to be a multiple of their number. What a step costs on a machine
is measured by `emoconv bench training --config FILE:TRAINEE`.

Result: not run. By corpus see the other files.
"""

from emoconv_jax.config import BASE, runs_of

TRAINEES = {trainee: {} for trainee in BASE}
get_config = runs_of(TRAINEES)
