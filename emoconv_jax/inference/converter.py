"""The public face: a bundle as a converter of speech.

Source mel -> average voice Y and d-vector S; the emotion comes from the bundle's banks under a
plan; the score network samples the target mel; the vocoder makes the waveform.
"""

import dataclasses
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import emoconv_jax
from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import SHORTEST_S, SILENCE_PEAK, read_audio
from emoconv_jax.audio.writing import write_audio
from emoconv_jax.bundles import hub
from emoconv_jax.bundles.banks import Banks, load_banks, save_banks
from emoconv_jax.bundles.cards import CARD_FILE, read_card
from emoconv_jax.bundles.cards import card as new_card
from emoconv_jax.bundles.format import (
    CONFIG_FILE,
    BundleConfig,
    check_agreement,
    fingerprint,
    narrowest,
    read_config,
    save_part,
    write_config,
)
from emoconv_jax.bundles.parts import load_variables, parts_of
from emoconv_jax.diffusion.plan import EmotionPlan
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import replacing, write_text
from emoconv_jax.inference.encoders import (
    AverageVoiceRole,
    VocoderRole,
    emotion_role,
    log_floor,
    pad,
)
from emoconv_jax.inference.request import Request, resolve
from emoconv_jax.inference.sampling import Sampler
from emoconv_jax.inference.speaker import SpeakerRole
from emoconv_jax.shapes import Float

MOST_SECONDS = 60.0  # of one utterance; memory grows by about 30 MB per second
CAUTION = "synthetic speech: converted by emoconv, not spoken by the person it sounds like"


@dataclasses.dataclass(frozen=True)
class Conversion:
    """One converted utterance.

    Attributes:
        audio: mono waveform in [-1, 1].
        sample_rate_hz: of it.
        mel: the sampled log-mel.
        provenance: what made it, JSON-ready.
    """

    audio: Float[np.ndarray, " n"]
    sample_rate_hz: int
    mel: Float[np.ndarray, "f m"]
    provenance: dict[str, Any]

    @property
    def sample_rate(self) -> int:
        """The sample rate in Hz, under the name other audio libraries use."""
        return self.sample_rate_hz

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the audio (WAV or FLAC by suffix) and, beside it, `<path>.json` with provenance.

        Args:
            path: of the audio; its folder must exist.

        Raises:
            UsageError: a suffix other than .wav and .flac.
            EmoconvError: one of the two files cannot be written; earlier ones stay as they were.
        """
        target = pathlib.Path(path)
        beside = target.with_name(target.name + ".json")
        try:
            with replacing(beside) as (note,):
                note.write_text(json.dumps(self.provenance, indent=1) + "\n", encoding="utf-8")
                write_audio(target, self.audio, self.sample_rate_hz)
        except OSError as error:
            raise EmoconvError(f"{beside}: cannot be written ({error.strerror})") from None


def open_bundle(folder: pathlib.Path) -> tuple[BundleConfig, Banks]:
    """Reads what says whether a request can be met, without the networks.

    Args:
        folder: of the bundle.

    Returns:
        Its configuration and its banks.

    Raises:
        EmoconvError: not a bundle, parts that do not fit together, or damaged banks.
    """
    config = read_config(folder)
    check_agreement(config, str(folder / CONFIG_FILE))
    return config, load_banks(folder, config.emotion_width)


class EmotionConverter:
    """Converts speech to another emotion with the networks of one bundle.

    Attributes:
        config: of the bundle.
        banks: its target embeddings.
        sha256: its fingerprint.
        source: the name it was asked for by, and the commit where it came from the Hub.
        card: the text of its model card; empty where it has none.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        config: BundleConfig,
        banks: Banks,
        source: hub.Source | None = None,
    ):
        """Loads every role. Use `from_pretrained`.

        Args:
            folder: of the bundle.
            config: of the bundle.
            banks: of the bundle.
            source: where the folder came from; None is the folder itself.
        """
        self.config, self.banks, self.sha256 = config, banks, fingerprint(folder)
        self.source, self.card = source or hub.Source(str(folder), None), read_card(folder)
        self.sampler = Sampler(config, load_variables(folder, "score_network", config))
        self.average_voice = AverageVoiceRole(
            config, load_variables(folder, "average_voice", config)
        )
        self.emotion = emotion_role(folder, config)
        self.speaker = SpeakerRole.from_bundle(folder, config)
        self.vocoder = VocoderRole(config, folder)

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str], revision: str | None = None
    ) -> "EmotionConverter":
        """Loads a bundle.

        Args:
            path: the bundle's folder, or "org/name" on the Hugging Face Hub.
            revision: branch, tag or commit on the Hub; None is its main branch.

        Returns:
            The converter.

        Raises:
            UsageError: a revision that can be none, or one of a folder.
            EmoconvError: neither a folder nor such a name, not a bundle, a part that does not fit
                its configuration, or the Hub does not give it.
        """
        folder, commit = hub.fetch(path, revision)
        return cls(folder, *open_bundle(folder), hub.Source(os.fspath(path), commit))

    def save_pretrained(self, folder: str | os.PathLike[str], card: str | None = None) -> None:
        """Writes the bundle: configuration, parts, banks, model card. It loads to equal outputs.

        Args:
            folder: made if absent; a bundle in it is replaced.
            card: text of the model card; None is the bundle's own or, without one, a template that
                still needs its data and metrics.

        Raises:
            EmoconvError: a file cannot be written.
        """
        target = pathlib.Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            # last to be written: until then this is no bundle, rather than a mixture of two
            (target / CONFIG_FILE).unlink(missing_ok=True)
            held = {
                "score_network": self.sampler.variables,
                "average_voice": self.average_voice.variables,
                self.config.roles.emotion: self.emotion.variables,
                "speaker": {"params": self.speaker.params},
                "vocoder": {"params": self.vocoder.params},
            }
            for part in parts_of(self.config):
                save_part(target, part, held[part], narrowest(held[part]))
            save_banks(target, self.banks)
            write_text(target / CARD_FILE, card or self.card or new_card(self.config))
            write_config(target, self.config)
        except OSError as error:
            raise EmoconvError(f"{target}: cannot be written ({error.strerror})") from None

    def push_to_hub(
        self,
        name: str,
        *,
        card: str | None = None,
        private: bool = False,
        token: str | None = None,
        message: str = "Upload of a bundle",
    ) -> str:
        """Publishes the bundle on the Hugging Face Hub.

        Args:
            name: "org/name"; the repository is made where there is none.
            card: as of `save_pretrained`; every section must say something.
            private: whether a new repository is.
            token: with the right to write; None is the one the Hub's login has stored.
            message: of the commit.

        Returns:
            The full hash of the commit.

        Raises:
            UsageError: no such form of a name.
            EmoconvError: the card lacks a section, or the Hub refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, card)
            return hub.push(
                pathlib.Path(folder), name, private=private, token=token, message=message
            )

    def convert(
        self,
        source: str | os.PathLike[str] | Float[np.ndarray, " n"],
        *,
        on_step: Callable[[Any], None] | None = None,
        **request: Any,
    ) -> Conversion:
        """Converts one utterance.

        Args:
            source: an audio file, or a mono waveform at the bundle's sample rate, full scale 1.
            on_step: called with the number of each finished solver step.
            **request: the fields of `Request`.

        Returns:
            The conversion; its audio is as long as the source.

        Raises:
            UsageError: a request that makes no sense.
            EmoconvError: a source that cannot be read, or is no speech of 0.1 to 60 s.
        """
        wanted, plan, embeddings = resolve(Request(**request), self.config, self.banks)
        rate_hz = self.config.mel.sample_rate_hz
        if isinstance(source, np.ndarray):
            audio, name = _checked(source, rate_hz), "waveform"
        else:
            audio = read_audio(source, rate_hz, max_seconds=MOST_SECONDS)
            name = pathlib.Path(source).name
        mel = self._sample(audio, plan, embeddings, wanted, on_step)
        converted = self.vocoder(mel)
        fitted = np.zeros(len(audio), np.float32)  # the mel drops the last samples of a hop
        fitted[: min(len(audio), len(converted))] = converted[: len(audio)]
        return Conversion(fitted, rate_hz, mel, self._provenance(name, wanted, plan))

    def _sample(
        self,
        audio: np.ndarray,
        plan: EmotionPlan,
        embeddings: np.ndarray,
        request: Request,
        on_step: Callable[[Any], None] | None,
    ) -> np.ndarray:
        """Returns the converted log-mel of a waveform."""
        floor = log_floor(self.config)
        source = log_mel(audio, self.config.mel)
        mel, mask = pad(source, floor)
        voice, _ = pad(self.average_voice(source), 0.0)
        speaker = self.speaker(audio, self.config.mel.sample_rate_hz)
        own_emotion = self.emotion.hear(audio, self.config.mel.sample_rate_hz).embedding
        keys = jax.random.split(jax.random.key(request.seed), 1)
        assert request.solver and request.latent and request.start  # `resolve` filled them
        sampled = self.sampler(
            mel,
            voice,
            mask,
            speaker[None],
            embeddings,
            own_emotion[None],
            plan.weights,
            keys,
            solver=request.solver,
            segments=plan.segments(),
            latent=request.latent,
            start=float(request.start),
            on_step=on_step,
        )
        found = np.asarray(sampled)[0, : len(source)]
        if on_step is not None:
            jax.effects_barrier()  # all steps are told before the utterance is
        return found

    def _provenance(self, name: str, request: Request, plan: EmotionPlan) -> dict[str, Any]:
        commit = self.source.commit
        return {
            "notice": CAUTION,
            "software": f"emoconv {emoconv_jax.__version__}",
            "bundle": self.config.name,
            "bundle_revision": f"{self.source.name}@{commit}" if commit else None,
            "bundle_sha256": self.sha256,
            "licence": self.config.licence,
            "source": name,
            "request": dataclasses.asdict(request),
            "conditions": list(plan.names),
        }


def _checked(audio: np.ndarray, rate_hz: int) -> np.ndarray:
    """Returns a caller's waveform as float32, or refuses what a file would be refused for."""
    shortest, longest = SHORTEST_S * rate_hz, MOST_SECONDS * rate_hz
    if audio.ndim != 1 or not shortest <= len(audio) <= longest:
        raise EmoconvError(
            f"waveform: found shape {audio.shape}, allowed is one channel of "
            f"{math.ceil(shortest)} to {math.floor(longest)} samples"
        )
    peak = float(np.abs(audio, dtype=np.float64).max())
    if not SILENCE_PEAK <= peak <= 1.0:  # also refuses NaN
        raise EmoconvError(f"waveform: found peak {peak}, allowed is {SILENCE_PEAK:g} to 1")
    return audio.astype(np.float32)
