"""EmoConv-Diff (arXiv 2309.07828): its score network, and the encoders that we put before it.

    emoconv train --config=configs/paper.py:average_voice --features=TTS --workdir=runs/voice
    emoconv export runs/voice --features TTS --out B
    emoconv import --format wav2vec2-dim FOLDER --out B
    emoconv prepare MSP --out F --bundle B
    emoconv export --banks --features F --out B
    emoconv train --config=configs/paper.py:score_network --features=F --workdir=runs/score
    emoconv export runs/score --features F --out B

MSP is MSP-Podcast, F its features; TTS are those of LibriTTS; FOLDER holds the wav2vec 2.0 of
Wagner et al. as Hugging Face has it, whose last layer's mean over time is the emotion: 1024
numbers. It hears waveforms, so the corpus is given along with the bundle. All sizes are the
published ones. Of the papers' are: DiffVC's U-Net with conditions at the input only, a head that
predicts the score, L_s + lambda_t L_m(X0_hat), Adam at a constant 1e-4 (here it falls along a
cosine), nothing dropped, own embeddings only, 110 epochs (DiffVC's), banks as means over the
nearest fifth; the average-voice encoder, Adam at 5e-4, 300 epochs of LibriTTS's clean subsets. Not
of the paper: parameters are averaged; bfloat16.

EmoMix's emotions are those of an ACRNN, here trained for 30 epochs, as nobody states its number:

    emoconv train --config=configs/paper.py:recogniser    --features=F --workdir=runs/emotion

With it in B in the place of the wav2vec 2.0, --config.network.emotion 256 trains the score network.

Where the score network's activations do not fit, --config.remat computes them twice and
--config.accumulate 4 keeps a quarter of them at a time.

Result: not run. The papers' on the test set of MSP-Podcast v1.10: squared arousal error .072,
absolute 21 %, DNSMOS SIG 3.21, OVRL 2.78. With --config.loss score .091, 25 %, 3.20, 2.78; with
--config.loss xt .121, 34 %, 3.08, 2.62. DiffVC's final losses on LibriTTS: average voice .1368,
L_s .1081 (its code).
"""

from emoconv_jax.config import runs_of

MSP_PODCAST = 63_076  # utterances of v1.10's Train set
WAV2VEC2_DIM = 1024  # numbers of an embedding
LIBRITTS_CLEAN = 33_236 + 116_500  # of train-clean-100 and -360, DiffVC's about 1100 speakers

TRAINEES = {
    "average_voice": {"steps": LIBRITTS_CLEAN * 300 // 128},
    "score_network": {
        "network": {"conditioning": "input", "head": "score", "emotion": WAV2VEC2_DIM},
        "steps": MSP_PODCAST * 110 // 32,
        "emotion_dropout": 0.0,
        "speaker_dropout": 0.0,
        "bank_share": 0.0,
        "bank_rule": "paper",
        "speaker_share": 0.0,
    },
    "recogniser": {"steps": MSP_PODCAST * 30 // 40, "gain_db": 0.0, "masked_bands": 0},
}
get_config = runs_of(TRAINEES)
