"""Stretches of speech as batches: what has to be the same for utterances to run as one.

Lengths are padded to the buckets of `lengths.bucket`, and a batch that is not full is filled with
copies of its last utterance, so that a program is compiled for each bucket and no more. Neither
changes an utterance: networks are masked, and noise is a function of its key, step and frame.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.encoders import pad
from emoconv_jax.inference.lengths import bucket
from emoconv_jax.inference.resolved import Resolved
from emoconv_jax.inference.sampling import Sampler
from emoconv_jax.shapes import Float

READ_AHEAD = 4  # batches that may wait to be filled
OnProgress = Callable[[float], None]
ON_ACCELERATORS = 8  # utterances per device; two CPU cores have no use for more than one


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """What a score network is told of prosody, in frames of the stretch that it makes.

    Attributes:
        own: prosody of the source.
        wanted: prosody asked for.
        change: by rule, before its limits.
        places: of the frames in the source's, from its beginning on; None where they are the same.
    """

    own: Float[np.ndarray, "f 3"]
    wanted: Float[np.ndarray, "f 3"]
    change: Float[np.ndarray, "f 4"]
    places: Float[np.ndarray, " f"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Stretch:
    """A stretch of speech, encoded.

    Attributes:
        mel: log-mel of the source.
        average_voice: log-mel Y.
        speaker: d-vector.
        emotion: embedding of what is heard in it.
        first_frame: where it begins in its file; in the converted one, where the pace changes.
        asked: for a network that takes prosody.
    """

    mel: Float[np.ndarray, "f m"]
    average_voice: Float[np.ndarray, "f m"]
    speaker: Float[np.ndarray, " d"]
    emotion: Float[np.ndarray, " e"]
    first_frame: int = 0
    asked: Asked | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """What all recordings of a call are converted to.

    Attributes:
        resolved: the request.
        reference: embedding of the reference recording, where there is one.
        batch: stretches that run at once.
        listener: called with the seconds of audio that were finished since the last call.
        reference_change: what the emotion of the reference recording does to prosody.
    """

    resolved: Resolved
    reference: Float[np.ndarray, " e"] | None
    batch: int
    listener: OnProgress | None = None
    reference_change: Float[np.ndarray, "4"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """A recording on its way.

    Attributes:
        number: among those of a call.
        name: of the file.
        audio: its waveform.
        asked: of each of its stretches, for a network that takes prosody.
        mels: the sampled log-mel of each of its stretches, None until it is there.
    """

    number: int
    name: str
    audio: Float[np.ndarray, " n"]
    asked: Sequence[Asked] = ()
    mels: list[Any] = dataclasses.field(default_factory=list)


def in_batches(
    recordings: Iterable[tuple[Recording, Sequence[Stretch]]],
    run: Callable[[Sequence[Stretch]], Sequence[Float[np.ndarray, "_ m"]]],
    size: int,
) -> Iterator[Recording]:
    """Runs stretches of one bucket together, whichever recordings they are of.

    Args:
        recordings: with their stretches; read as they are needed, READ_AHEAD batches at most.
        run: gives the log-mels of a batch.
        size: of a batch.

    Yields:
        Each recording when the last of its stretches has been run.
    """
    waiting: dict[int, list[tuple[Recording, int, Stretch]]] = collections.defaultdict(list)

    def finish(group: list[tuple[Recording, int, Stretch]]) -> Iterator[Recording]:
        taken = group[:size]
        del group[:size]
        mels = run([stretch for _, _, stretch in taken])
        for (recording, place, _), mel in zip(taken, mels, strict=True):
            recording.mels[place] = mel
            if all(found is not None for found in recording.mels):
                yield recording

    for recording, stretches in recordings:
        recording.mels.extend([None] * len(stretches))
        for place, stretch in enumerate(stretches):
            waiting[bucket(len(stretch.mel))].append((recording, place, stretch))
        for group in waiting.values():
            while len(group) >= size:
                yield from finish(group)
        while sum(map(len, waiting.values())) > READ_AHEAD * size:
            yield from finish(max(waiting.values(), key=len))
    for group in waiting.values():
        while group:
            yield from finish(group)


def check_finite(mel: Float[np.ndarray, "f m"], name: str) -> None:
    """Refuses what was sampled where nobody could hear it.

    Args:
        mel: the log-mel.
        name: of the recording.

    Raises:
        EmoconvError: NaN or infinity.
    """
    if not np.isfinite(mel).all():
        raise EmoconvError(f"{name}: the score network gave NaN or infinity; try a lower guidance")


def batch_size(sampler: Sampler, wanted: int | None) -> int:
    """Returns how many utterances run at once.

    Args:
        sampler: says on which devices.
        wanted: a number, rounded up to a multiple of the devices; None is what suits them.
    """
    devices = len(sampler.devices)
    if wanted is None:
        return devices * (1 if sampler.devices[0].platform == "cpu" else ON_ACCELERATORS)
    return -(-wanted // devices) * devices


def sample_batch(
    sampler: Sampler,
    stretches: Sequence[Stretch],
    job: Job,
    floor: float,
    on_step: Callable[[Any], None] | None = None,
) -> list[Float[np.ndarray, "_ m"]]:
    """Draws the target log-mels of stretches of like length.

    Args:
        sampler: of the bundle.
        stretches: at most `job.batch`; all are padded to the bucket of the longest.
        job: what they are converted to.
        floor: log-mel of silence, which padding is filled with.
        on_step: as of `Sampler`.

    Returns:
        One log-mel per stretch, of its length.
    """
    resolved, size = job.resolved, job.batch
    rows = [*stretches, *[stretches[-1]] * (size - len(stretches))]
    frames = bucket(max(len(stretch.mel) for stretch in rows))
    mel, mask = _padded([stretch.mel for stretch in rows], frames, floor)
    voice, _ = _padded([stretch.average_voice for stretch in rows], frames, 0.0)
    plans = [
        resolved.plan(frames, stretch.first_frame, stretch.asked and stretch.asked.places)
        for stretch in rows
    ]
    weights = plans[0].weights
    if weights.ndim == 3:
        weights = np.stack([plan.weights for plan in plans], axis=2)
    own = np.stack([stretch.emotion for stretch in rows])
    request = resolved.request
    key = jax.random.split(jax.random.key(request.seed), 1)
    # `resolve` filled them
    assert request.solver and request.spacing and request.latent and request.start
    sampled = sampler(
        mel,
        voice,
        mask,
        np.stack([stretch.speaker for stretch in rows]),
        resolved.embeddings(own, job.reference),
        own,
        weights,
        jax.numpy.repeat(key, size),  # an utterance's noise does not depend on its neighbours
        np.array([stretch.first_frame for stretch in rows], np.int32),
        **_told(rows, frames),
        solver=request.solver,
        segments=request.segments(resolved.sde),  # the same for all: another is compiled anew
        latent=request.latent,
        latent_noise=request.latent_noise or 0.0,
        start=float(request.start),
        spacing=request.spacing,
        on_step=on_step,
    )
    found = np.asarray(sampled)
    if on_step is not None:
        jax.effects_barrier()  # all steps are told before the batch is
    return [found[i, : len(stretch.mel)] for i, stretch in enumerate(stretches)]


def _told(rows: Sequence[Stretch], frames: int) -> dict[str, np.ndarray]:
    """Returns what the network is told of prosody, on the way back and on the way forwards."""
    found = [stretch.asked for stretch in rows if stretch.asked is not None]
    if not found:
        return {}
    return {
        "prosody": _padded([asked.wanted for asked in found], frames, 0.0)[0],
        "own_prosody": _padded([asked.own for asked in found], frames, 0.0)[0],
    }


def _padded(mels: Sequence[np.ndarray], frames: int, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns log-mels as a batch, and its mask."""
    padded, masks = zip(*(pad(mel, floor, frames) for mel in mels), strict=True)
    return np.concatenate(padded), np.concatenate(masks)
