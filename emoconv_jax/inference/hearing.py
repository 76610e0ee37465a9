"""The encoders on their own: what a recording tells of its speaker and its emotion."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.bundles import hub
from emoconv_jax.bundles.format import BundleConfig, read_config
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import replacing
from emoconv_jax.inference.encoders import emotion_role
from emoconv_jax.inference.speaker import SpeakerRole

MOST_SECONDS = 60.0


class Ear:
    """The speaker and the emotion encoder of a bundle."""

    def __init__(self, folder: pathlib.Path, config: BundleConfig):
        """Loads both. Use `from_pretrained`.

        Args:
            folder: of the bundle; its other parts may be absent.
            config: of the bundle.
        """
        self.config = config
        self.speaker = SpeakerRole.from_bundle(folder, config)
        self.emotion = emotion_role(folder, config)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], revision: str | None = None) -> "Ear":
        """Loads the encoders of a bundle.

        Args:
            path: its folder, or "org/name" on the Hugging Face Hub.
            revision: branch, tag or commit on the Hub.

        Returns:
            The encoders.

        Raises:
            EmoconvError: no such bundle, or one without these parts.
        """
        folder, _ = hub.fetch(path, revision)
        return cls(folder, read_config(folder))

    def hear(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Returns what the encoders say of a file, JSON-ready.

        Args:
            path: an audio file of any sample rate, 0.1 to 60 s.

        Returns:
            file, speaker, emotion, arousal; dominance, valence or probabilities where told.

        Raises:
            EmoconvError: a file that cannot be read.
        """
        rate_hz = self.config.mel.sample_rate_hz
        audio = read_audio(path, rate_hz, max_seconds=MOST_SECONDS)
        told = self.emotion.hear(audio, rate_hz)
        found: dict[str, Any] = {
            "file": os.fspath(path),
            "speaker": [round(float(x), 6) for x in self.speaker(audio, rate_hz)],
            "emotion": [round(float(x), 6) for x in told.embedding],
        }
        for name in ("arousal", "dominance", "valence"):
            value = getattr(told, name)
            if value is not None:
                found[name] = round(value, 4)
        if told.probabilities:
            found["probabilities"] = {
                name: round(value, 4) for name, value in told.probabilities.items()
            }
        return found


def save(path: pathlib.Path, heard: Sequence[dict[str, Any]]) -> None:
    """Writes the results of several files, whole or not at all.

    Args:
        path: .json, a list; or .npz, arrays with a row per file.
        heard: of `Ear.hear`, at least one.

    Raises:
        EmoconvError: the file cannot be written.
    """
    try:
        with replacing(path) as (partial,):
            if path.suffix == ".json":
                partial.write_text(json.dumps(list(heard), indent=1) + "\n", encoding="utf-8")
                return
            arrays: dict[str, Any] = {
                name: np.array([one[name] for one in heard])
                for name in heard[0]
                if name not in ("file", "probabilities")
            }
            arrays["files"] = np.array([one["file"] for one in heard])
            if "probabilities" in heard[0]:
                names = list(heard[0]["probabilities"])
                arrays["emotions"] = np.array(names)
                arrays["probabilities"] = np.array(
                    [[one["probabilities"][name] for name in names] for one in heard]
                )
            with open(partial, "wb") as file:
                np.savez(file, **arrays)
    except OSError as error:
        raise EmoconvError(f"{path}: cannot be written ({error.strerror})") from None
