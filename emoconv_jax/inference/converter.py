"""The public face: a bundle as a converter of speech.

Source mel -> average voice Y and d-vector S; the emotion comes from the bundle's banks under a
plan; the score network samples the target mel; the vocoder makes the waveform.
"""

import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import check_waveform, read_audio
from emoconv_jax.audio.vad import loudest
from emoconv_jax.bundles import hub
from emoconv_jax.bundles.banks import BANKS_FILE, Banks, banks_content
from emoconv_jax.bundles.cards import CARD_FILE, read_card
from emoconv_jax.bundles.cards import card as new_card
from emoconv_jax.bundles.format import (
    BundleConfig,
    fingerprint,
    part_files,
    write_bundle,
)
from emoconv_jax.bundles.parts import PARTS, load_variables, open_bundle, parts_of
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference import chunks
from emoconv_jax.inference.batching import (
    Job,
    OnProgress,
    Recording,
    Stretch,
    batch_size,
    check_finite,
    in_batches,
    sample_batch,
)
from emoconv_jax.inference.conversion import Conversion
from emoconv_jax.inference.encoders import VocoderRole, log_floor
from emoconv_jax.inference.melody import Melody, joined, reply
from emoconv_jax.inference.provenance import provenance
from emoconv_jax.inference.request import Request
from emoconv_jax.inference.resolved import Resolved, resolve
from emoconv_jax.inference.roles import average_voice_role, emotion_role, whisper_encoder
from emoconv_jax.inference.sampling import Sampler
from emoconv_jax.inference.speaker import SpeakerRole
from emoconv_jax.shapes import Float

MOST_SECONDS = 3600.0  # of one recording; in memory a minute of sound takes about 20 MB
MOST_DECODED_BYTES = 2 << 30  # of a file as float32, all channels; it is decoded block by block
VOICE_SECONDS = 60.0  # of a recording are enough to hear whose voice it is
Source = str | os.PathLike[str] | Float[np.ndarray, " _"]


class EmotionConverter:
    """Converts speech to another emotion with the networks of one bundle, in one thread.

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
        compute: str = "float32",
        whisper: pathlib.Path | None = None,
    ):
        """Loads every role. Use `from_pretrained`.

        Args:
            folder: of the bundle.
            config: of the bundle.
            banks: of the bundle.
            source: where the folder came from; None is the folder itself.
            compute: as of `from_pretrained`.
            whisper: likewise.
        """
        self.config, self.banks, self.sha256 = config, banks, fingerprint(folder)
        self.source, self.card = source or hub.Source(str(folder), None), read_card(folder)
        network = load_variables(folder, "score_network", config)
        self.sampler = Sampler(config, network, compute=compute)
        heard = whisper_encoder(config, whisper)
        self.average_voice = average_voice_role(folder, config, heard)
        self.emotion = emotion_role(folder, config, heard)
        self.speaker = SpeakerRole.from_bundle(folder, config)
        self.vocoder = VocoderRole(config, folder)
        self._on_step = self._tell

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        revision: str | None = None,
        *,
        compute: str = "float32",
        whisper: pathlib.Path | None = None,
    ) -> "EmotionConverter":
        """Loads a bundle.

        Args:
            path: the bundle's folder, or "org/name" on the Hugging Face Hub.
            revision: branch, tag or commit on the Hub; None is its main branch.
            compute: "float32", "bfloat16" for the inside of the score network, or "auto", the
                faster of the two on this machine.
            whisper: where the weights of Whisper lie; None is the public base model, fetched once.

        Returns:
            The converter.

        Raises:
            UsageError: a revision that can be none, or one of a folder.
            EmoconvError: neither a folder nor such a name, not a bundle, a part that does not fit
                its configuration, or the Hub does not give it.
        """
        folder, commit = hub.fetch(path, revision)
        found = hub.Source(os.fspath(path), commit)
        return cls(folder, *open_bundle(folder), found, compute, whisper)

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
        held = {
            "score_network": self.sampler.variables,
            self.config.roles.average_voice: self.average_voice.variables,
            self.config.roles.emotion: self.emotion.variables,
            "speaker": {"params": self.speaker.params},
            "vocoder": {"params": self.vocoder.params},
        }
        try:
            write_bundle(
                target,
                self.config,
                {part: held[part] for part in parts_of(self.config)},
                files={
                    BANKS_FILE: banks_content(self.banks),
                    CARD_FILE: (card or self.card or new_card(self.config)).encode(),
                },
            )
            for part in set(PARTS) - set(parts_of(self.config)):
                for old in part_files(target, part):
                    old.unlink()
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
        source: Source,
        *,
        batch: int = 1,
        on_progress: OnProgress | None = None,
        **request: Any,
    ) -> Conversion:
        """Converts one recording.

        Args:
            source: an audio file, or a mono waveform at the bundle's sample rate, full scale 1.
            batch: stretches of a long recording that run at once; more pay on accelerators.
            on_progress: called with the seconds of audio that were finished since the last call.
            **request: the fields of `Request`.

        Returns:
            The conversion; its audio is as long as the source, but for the rate "follow".

        Raises:
            UsageError: a request that makes no sense.
            EmoconvError: a source that cannot be read, or is no speech of 0.1 s to an hour.
        """
        ((_, found),) = self.convert_many([source], batch=batch, on_progress=on_progress, **request)
        if isinstance(found, EmoconvError):
            raise found
        return found

    def convert_many(
        self,
        sources: Iterable[Source],
        *,
        batch: int | None = None,
        on_progress: OnProgress | None = None,
        **request: Any,
    ) -> Iterator[tuple[int, Conversion | EmoconvError]]:
        """Converts recordings, those of like length as one batch.

        Args:
            sources: as of `convert`; they are read as they are needed.
            batch: how many stretches of speech run at once; None is one on a CPU and eight on
                each accelerator. It changes no result.
            on_progress: as of `convert`.
            **request: the fields of `Request`.

        Returns:
            Iterator over each source's number and its conversion or what is wrong with it, as they
            are finished.

        Raises:
            UsageError: a request that makes no sense.
            EmoconvError: a reference recording that cannot be read.
        """
        if batch is not None and batch < 1:
            raise UsageError(f"batch: found {batch}, at least 1 is needed")
        job = self._job(request, batch, on_progress)
        return self._convert_all(sources, job)

    def stream(
        self, source: Source, *, on_progress: OnProgress | None = None, **request: Any
    ) -> Iterator[Float[np.ndarray, " _"]]:
        """Converts one recording stretch by stretch.

        Args:
            source: as of `convert`.
            on_progress: as of `convert`.
            **request: the fields of `Request`.

        Returns:
            Iterator over waveforms of up to 15 s, which together are as long as a conversion.

        Raises:
            UsageError: a request that makes no sense.
            EmoconvError: as of `convert`.
        """
        job = self._job(request, 1, on_progress)
        return self._streamed(*self._read(source, job.resolved), job)

    def warmup(
        self, seconds: Sequence[float | int] = (3.0,), *, batch: int | None = None, **request: Any
    ) -> None:
        """Compiles what conversions of some lengths need, so that the first is as fast as others.

        Args:
            seconds: lengths; those of one bucket (`lengths.bucket`) share their program.
            batch: as of `convert_many`.
            **request: the fields of `Request`; solver, steps and pattern of the plan matter.
        """
        rng, rate_hz = np.random.default_rng(0), self.config.mel.sample_rate_hz
        noise = [rng.uniform(-0.1, 0.1, int(s * rate_hz)).astype(np.float32) for s in seconds]
        for _, found in self.convert_many(noise, batch=batch, **request):
            if isinstance(found, EmoconvError):
                raise found

    def _job(self, request: dict[str, Any], batch: int | None, listener: Any) -> Job:
        """Returns what a request means here, its reference recording heard."""
        resolved = resolve(Request(**request), self.config, self.banks)
        reference, changed, path = None, None, resolved.request.emotion_ref
        if path is not None:
            rate_hz = self.config.mel.sample_rate_hz
            audio = read_audio(path, rate_hz, max_seconds=VOICE_SECONDS)
            heard = self.emotion.hear(audio, rate_hz)
            reference, changed = heard.embedding, resolved.heard(heard.arousal)
        return Job(resolved, reference, batch_size(self.sampler, batch), listener, changed)

    def _read(self, source: Source, resolved: Resolved) -> tuple[np.ndarray, str]:
        """Returns a source's waveform and name, or refuses it."""
        rate_hz = self.config.mel.sample_rate_hz
        if isinstance(source, np.ndarray):
            audio, name = check_waveform(source, rate_hz, MOST_SECONDS), "waveform"
        else:
            audio = read_audio(
                source, rate_hz, max_seconds=MOST_SECONDS, max_decoded_bytes=MOST_DECODED_BYTES
            )
            name = pathlib.Path(source).name
        if resolved.request.curve is not None:
            resolved.request.curve.check_within(len(audio) / rate_hz)
        return audio, name

    def _stretches(self, audio: np.ndarray, job: Job) -> Iterator[Stretch]:
        """Yields the stretches of a recording, encoded as they are asked for."""
        rate_hz, hop = self.config.mel.sample_rate_hz, self.config.mel.hop_samples
        mel, speaker = log_mel(audio, self.config.mel), None
        melody = Melody(audio, self.config.mel) if self.config.score_network.prosody else None
        for chunk in chunks.chunks_of(mel):
            if speaker is None:
                speaker = self.speaker(loudest(audio, int(VOICE_SECONDS * rate_hz)), rate_hz)
            own, sound = mel[chunk.start : chunk.stop], audio[chunk.start * hop : chunk.stop * hop]
            heard, voice = self.emotion.hear(sound, rate_hz), self.average_voice(own, sound)
            stretch = Stretch(own, voice, speaker, heard.embedding, chunk.start)
            yield melody.ask(stretch, job, heard.arousal) if melody else stretch

    def _run(self, stretches: Sequence[Stretch], job: Job) -> list[Float[np.ndarray, "_ m"]]:
        """Returns the log-mels of a batch, telling of each step's share of their seconds."""
        mel = self.config.mel
        frames = sum(len(s.mel) - chunks.OVERLAP_FRAMES * (s.first_frame > 0) for s in stretches)
        seconds = frames * mel.hop_samples / mel.sample_rate_hz
        self._listener, self._share_s = job.listener, seconds / job.resolved.request.evaluations
        on_step, floor = self._on_step if job.listener else None, log_floor(self.config)
        return sample_batch(self.sampler, stretches, job, floor, on_step)

    def _tell(self, _: Any) -> None:  # one function for all runs: another is compiled anew
        if self._listener:
            self._listener(self._share_s)

    def _streamed(self, audio: np.ndarray, name: str, job: Job) -> Iterator[np.ndarray]:
        def mels() -> Iterator[np.ndarray]:
            for stretch in self._stretches(audio, job):
                (mel,) = self._run([stretch], job)
                check_finite(mel, name)
                yield mel

        left, follows = len(audio), job.resolved.request.rate == "follow"
        for waveform in self.vocoder.stream(chunks.joined(mels())):
            yield waveform if follows else waveform[:left]
            left -= len(waveform)
        left = len(audio) % self.config.mel.hop_samples if follows else left
        if left > 0:  # the mel drops the last samples of a hop
            yield np.zeros(left, np.float32)

    def _convert_all(
        self, sources: Iterable[Source], job: Job
    ) -> Iterator[tuple[int, Conversion | EmoconvError]]:
        """Converts what can be read; what cannot is told between the others."""
        failed: list[tuple[int, EmoconvError]] = []

        def opened() -> Iterator[tuple[Recording, Sequence[Stretch]]]:
            for number, source in enumerate(sources):
                try:
                    audio, name = self._read(source, job.resolved)
                    stretches = list(self._stretches(audio, job))
                    asked = [s.asked for s in stretches if s.asked is not None]
                    yield Recording(number, name, audio, asked), stretches
                except EmoconvError as error:
                    failed.append((number, error))

        for recording in in_batches(opened(), lambda batch: self._run(batch, job), job.batch):
            yield from failed
            failed.clear()
            try:
                yield recording.number, self._conversion(recording, job.resolved)
            except EmoconvError as error:
                yield recording.number, error
        yield from failed

    def _conversion(self, recording: Recording, resolved: Resolved) -> Conversion:
        """Returns a recording's conversion, all of its stretches sampled."""
        audio, rate_hz = recording.audio, self.config.mel.sample_rate_hz
        mel = np.concatenate(list(chunks.joined(recording.mels)))
        check_finite(mel, recording.name)
        spoken = self.vocoder(mel)
        asked, samples = joined(recording.asked), len(audio)
        places = asked and asked.places
        if places is not None:  # at another pace
            hop = self.config.mel.hop_samples
            samples = len(mel) * hop + len(audio) % hop
        fitted = np.zeros(samples, np.float32)  # the mel drops the last samples of a hop
        fitted[: min(samples, len(spoken))] = spoken[:samples]
        plan = resolved.plan(len(mel), 0, places)
        made = provenance(recording.name, resolved, self.config, self.source, self.sha256)
        if asked is not None:
            made["prosody"] = reply(asked, (len(audio) / rate_hz, samples / rate_hz))
        mels, told = self.config.mel, asked and asked.wanted
        return Conversion(fitted, rate_hz, mel, audio, plan, made, mels, told)
