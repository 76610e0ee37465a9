"""VCTK: 98 English speakers to train on, about 39 000 clips without emotion, for the average voice.

    emoconv train --config=configs/vctk.py:average_voice --features=F --workdir=runs/voice

F is from `emoconv prepare tfds:vctk --out F` or a folder with a manifest, best with Montreal
TextGrids. There is no recogniser and no score network here: nothing says how a clip is spoken. Use
the encoder with another corpus: export it into that one's bundle before `prepare --bundle`.

Result: not run, and no figure is published: DiffVC's encoder for VCTK is the one of LibriTTS.
"""

from emoconv_jax.config import runs_of

TRAINEES = {"average_voice": {"steps": 39_000 * 100 // 128}}  # 100 epochs
get_config = runs_of(TRAINEES)
