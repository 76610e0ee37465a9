"""The encoders on their own: what a recording tells of its speaker and its emotion."""

import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from emoconv_jax.audio.reading import check_heard, conform, read_native
from emoconv_jax.bundles import hub
from emoconv_jax.bundles.format import BundleConfig, read_config
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import replacing
from emoconv_jax.inference.encoders import Recognition
from emoconv_jax.inference.roles import emotion_role
from emoconv_jax.inference.speaker import SpeakerRole
from emoconv_jax.shapes import Float

MOST_SECONDS = 60.0
AHEAD_FILES = 64  # read before they are encoded, so that some have the same padded length
DIGITS = 6


class Ear:
    """The speaker and the emotion encoder of a bundle."""

    def __init__(
        self, folder: pathlib.Path, config: BundleConfig, whisper: pathlib.Path | None = None
    ):
        """Loads both. Use `from_pretrained`.

        Args:
            folder: of the bundle; its other parts may be absent.
            config: of the bundle.
            whisper: where Whisper's weights lie, for a bundle that needs them; None is the public
                base model, fetched if need be.
        """
        self.config = config
        self.speaker = SpeakerRole.from_bundle(folder, config)
        self.emotion = emotion_role(folder, config, whisper)

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
        (found,) = self.hear_all([path], 1)
        if isinstance(found, EmoconvError):
            raise found
        return found

    def hear_all(
        self, paths: Sequence[str | os.PathLike[str]], most: int | None = None
    ) -> Iterator[dict[str, Any] | EmoconvError]:
        """Yields for each file, in order, what `hear` returns or what is wrong with it.

        Files of similar length go through the networks together, which changes nothing but the
        time that it takes.

        Args:
            paths: audio files.
            most: how many go together, 1 or more; None is 1 on a CPU, which gains nothing by it,
                else 8.
        """
        most = most or (1 if jax.default_backend() == "cpu" else 8)
        for start in range(0, len(paths), AHEAD_FILES):
            ready = [self._prepared(path) for path in paths[start : start + AHEAD_FILES]]
            sound = [one for one in ready if not isinstance(one, EmoconvError)]
            if sound:
                emotions, voices = zip(*sound, strict=True)
                told = zip(
                    self.emotion.recognise(emotions, most), self.speaker.embed(voices), strict=True
                )
            for path, one in zip(paths[start:], ready, strict=False):
                yield one if isinstance(one, EmoconvError) else _found(path, *next(told))

    def _prepared(
        self, path: str | os.PathLike[str]
    ) -> tuple[np.ndarray, np.ndarray] | EmoconvError:
        """Returns what the two networks read of a file, resampled once for each."""
        try:
            audio, rate_hz = read_native(path, max_seconds=MOST_SECONDS)
            check_heard(os.fspath(path), float(np.abs(audio).max()))
            audio = conform(audio, rate_hz, rate_hz)
            return self.emotion.prepare(audio, rate_hz), self.speaker.prepare(audio, rate_hz)
        except EmoconvError as error:
            return error


def _found(
    path: str | os.PathLike[str], told: Recognition, speaker: Float[np.ndarray, " d"]
) -> dict[str, Any]:
    """Returns what is said of a file, rounded to what survives another batch size."""
    found: dict[str, Any] = {
        "file": os.fspath(path),
        "speaker": [round(float(x), DIGITS) for x in speaker],
        "emotion": [round(float(x), DIGITS) for x in told.embedding],
    }
    for name in ("arousal", "dominance", "valence"):
        value = getattr(told, name)
        if value is not None:
            found[name] = round(value, DIGITS)
    if told.probabilities:
        found["probabilities"] = {
            name: round(value, DIGITS) for name, value in told.probabilities.items()
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
