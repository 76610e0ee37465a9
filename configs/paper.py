"""EmoConv-Diff (arXiv 2309.07828): its score network, and the encoders that we put before it.

    emoconv train --config=configs/paper.py:recogniser    --features=MSP --workdir=runs/emotion
    emoconv train --config=configs/paper.py:average_voice --features=TTS --workdir=runs/voice
    emoconv train --config=configs/paper.py:score_network --features=MSP --workdir=runs/score

MSP is MSP-Podcast, TTS is LibriTTS; what comes between the commands is in configs/base.py. All
sizes are the published ones. Of the papers' are: DiffVC's U-Net with conditions at the input only,
a head that predicts the score, L_s + lambda_t L_m(X0_hat), Adam at a constant 1e-4 (here it falls
along a cosine), nothing dropped, own embeddings only, 110 epochs (DiffVC's); the average-voice
encoder, Adam at 5e-4, 300 epochs of LibriTTS's clean subsets. Not of the paper: the emotion comes
from EmoMix's ACRNN, trained for 30 epochs as nobody states theirs, and not from a wav2vec2;
parameters are averaged; bfloat16.

Where the score network's activations do not fit, --config.remat computes them twice and
--config.accumulate 4 keeps a quarter of them at a time.

Result: not run. The papers' on the test set of MSP-Podcast v1.10: squared arousal error .072,
absolute 21 %, DNSMOS SIG 3.21, OVRL 2.78. With --config.loss score .091, 25 %, 3.20, 2.78; with
--config.loss xt .121, 34 %, 3.08, 2.62. DiffVC's final losses on LibriTTS: average voice .1368,
L_s .1081 (its code).
"""

from emoconv_jax.config import runs_of

MSP_PODCAST = 63_076  # utterances of v1.10's Train set
LIBRITTS_CLEAN = 33_236 + 116_500  # of train-clean-100 and -360, DiffVC's about 1100 speakers

TRAINEES = {
    "recogniser": {"steps": MSP_PODCAST * 30 // 40, "gain_db": 0.0, "masked_bands": 0},
    "average_voice": {"steps": LIBRITTS_CLEAN * 300 // 128},
    "score_network": {
        "network": {"conditioning": "input", "head": "score"},
        "steps": MSP_PODCAST * 110 // 32,
        "emotion_dropout": 0.0,
        "speaker_dropout": 0.0,
        "bank_share": 0.0,
        "speaker_share": 0.0,
    },
}
get_config = runs_of(TRAINEES)
