"""LibriTTS: 354 780 English training clips without emotion, for the average voice alone.

    emoconv train --config=configs/libritts.py:average_voice --features=F --workdir=runs/voice

F is from `emoconv prepare tfds:libritts --out F` or a folder with a manifest, best with Montreal
TextGrids. There is no recogniser and no score network here: nothing says how a clip is spoken. Use
the encoder with another corpus: export it into that one's bundle before `prepare --bundle`.

Result: not run. DiffVC's final squared error is .1368 after 300 epochs of a part of it (its code;
configs/paper.py has that run).
"""

from emoconv_jax.config import runs_of

TRAINEES = {"average_voice": {"steps": 354_780 * 40 // 128}}  # 40 epochs
get_config = runs_of(TRAINEES)
