"""The average-voice target in context: the same sentence by other voices, in this clip's time.

A template per phone averages over all contexts and so loses the transitions that carry speech. The
mean over voices of one sentence keeps them:

    (1) runs: r_1 .. r_n of this clip, q_1 .. q_m of another voice's; a run is a stretch of frames
        of one phone, from s to e
    (2) partners: the alignment of the two sequences of least cost, where leaving out a run costs 1,
        and two phones that differ cost SUBSTITUTION (nothing goes with silence but silence)
    (3) time: frame k of r_i, whose partner is q_j, lies at
            p = s(q_j) + (k - s(r_i) + 1/2) length(q_j) / length(r_i) - 1/2
        of the other clip, between two of its frames on a line. Runs without a partner share, in
        the same way, what lies between their neighbours' partners; where nothing does, the frame
        at the boundary is held
    (4) Y[k] = sum_v w_v[k] X_v(p_v(k)) / sum_v w_v[k] over the other voices' log-mels X_v, one clip
        of each, w = 1 where there is a partner and ALONE where there is none: a pause that only
        this clip makes is silence if one of the others makes it too

A clip is of the same sentence if corpus and text agree, letters and digits alone. The other voices
are those of the training splits that say it in a neutral way: rated at arousal 4 where the corpus
rates arousal, else neutral by name. At least FEWEST voices, at most MOST, as many of each sex as
there are, always in the same order, that of their names' SHA-256: one choice for all clips.
What is outside of the training splits has a target as well, which evaluation compares with: by the
same voices, whatever split their clips are in. No clip of a training split hears of such a clip.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Sequence

import numpy as np

from emoconv_jax.config import TRAINING_SPLITS
from emoconv_jax.files import write_text
from emoconv_jax.inference.prosody_rule import stretched
from emoconv_jax.pipeline.phones import PHONE_INDEX, SILENCE
from emoconv_jax.pipeline.shard_runner import map_shards, tick
from emoconv_jax.pipeline.statistics import Corpus
from emoconv_jax.pipeline.store import Utterance, array_path, shard_folder, write_array
from emoconv_jax.shapes import Float, Int

FEWEST, MOST = 2, 8  # other voices
NEUTRAL_AROUSAL, NEUTRAL_EMOTION = 4.0, "neutral"
SUBSTITUTION = 1.0  # of one phone by another: aligners choose among a word's pronunciations
ALONE = 1e-3  # weight of a frame whose run has no partner
PARALLEL_KEY = "parallel.json"

_SILENCE = PHONE_INDEX[SILENCE]
_NEVER = 1e9
Place = tuple[int, int, int]  # shard, first frame, frames


@dataclasses.dataclass(frozen=True)
class _Job:
    """A shard whose targets are to be written: of each clip its place there and the others'."""

    corpus: Corpus
    shard: int
    clips: tuple[tuple[Place, tuple[Place, ...]], ...]


def runs(phones: Int[np.ndarray, " f"]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the phone of each run of frames, and where each begins and the last one ends.

    Args:
        phones: index of each frame, one or more.

    Returns:
        (n phones, n + 1 boundaries).
    """
    starts = np.flatnonzero(np.diff(phones, prepend=phones[0] - 1))
    return phones[starts].astype(np.int64), np.append(starts, len(phones))


def partners(one: Int[np.ndarray, " n"], other: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
    """Returns each run's partner among another clip's runs, by equation (2).

    Args:
        one: phones of this clip's runs.
        other: of the other's.

    Returns:
        Places in `other`, rising; -1 where there is none.
    """
    differ = one[:, None] != other[None, :]
    silent = (one[:, None] == _SILENCE) != (other[None, :] == _SILENCE)
    price = np.where(silent, _NEVER, np.where(differ, SUBSTITUTION, 0.0))
    count, places = len(one), np.arange(len(other) + 1)
    cost = np.empty((count + 1, len(other) + 1))
    cost[0] = places
    for i in range(1, count + 1):
        best = cost[i - 1] + 1
        best[1:] = np.minimum(best[1:], cost[i - 1, :-1] + price[i - 1])
        # what leaving out any number of the other's runs before it makes cheaper
        cost[i] = np.minimum.accumulate(best - places) + places
    found = np.full(count, -1)
    i, j = count, len(other)
    while i and j:
        if cost[i, j] == cost[i - 1, j - 1] + price[i - 1, j - 1]:
            i, j = i - 1, j - 1
            found[i] = j
        elif cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return found


def times(
    phones: Int[np.ndarray, " f"], other: Int[np.ndarray, " g"]
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Returns where each frame lies in another clip of the sentence, and its weight: (3), (4).

    Args:
        phones: index of each frame of this clip.
        other: of the other one.

    Returns:
        Places from 0 to its frames - 1, not whole numbers, and weights.
    """
    (names, edges), (other_names, other_edges) = runs(phones), runs(other)
    found = partners(names, other_names)
    # boundaries that belong together; each stretch between two of them is stretched evenly
    anchors = [(0, 0)]
    for run in np.flatnonzero(found >= 0).tolist():
        anchors.append((int(edges[run]), int(other_edges[found[run]])))
        anchors.append((int(edges[run + 1]), int(other_edges[found[run] + 1])))
    anchors.append((len(phones), len(other)))
    places = np.empty(len(phones))
    for (start, other_start), (stop, other_stop) in itertools.pairwise(anchors):
        if stop > start:
            share = (np.arange(stop - start) + 0.5) / (stop - start)
            places[start:stop] = other_start + share * (other_stop - other_start) - 0.5
    matched = np.repeat(found >= 0, np.diff(edges))
    return np.clip(places, 0, len(other) - 1), np.where(matched, 1.0, ALONE)


def parallel_target(
    phones: Int[np.ndarray, " f"],
    others: Sequence[tuple[Int[np.ndarray, " _"], Float[np.ndarray, "_ m"]]],
) -> Float[np.ndarray, "f m"]:
    """Returns the average-voice target of a clip, equation (4).

    Args:
        phones: index of each frame.
        others: phones and log-mel of the sentence by other voices, one or more.

    Returns:
        The log-mel, float64.
    """
    total, weights = 0.0, np.zeros((len(phones), 1))
    for other, mel in others:
        places, weight = times(phones, other)
        total = total + weight[:, None] * stretched(mel.astype(np.float64), places)
        weights += weight[:, None]
    return total / weights


def sentence(utterance: Utterance) -> tuple[str, str]:
    """Returns what two clips of one sentence have in common; an empty second part is none."""
    letters = "".join(c if c.isalnum() or c.isspace() else "" for c in utterance.text.casefold())
    return utterance.corpus, " ".join(letters.split())


def other_voices(utterances: Sequence[Utterance]) -> list[list[int]]:
    """Returns which clips the target of each utterance is the mean of.

    Args:
        utterances: of the whole corpus.

    Returns:
        Of each utterance, indices of clips of other voices; empty where there are too few.
    """
    voices = {u.speaker for u in utterances if u.split in TRAINING_SPLITS}
    spoken: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for i, u in enumerate(utterances):
        if _is_aligned(u) and _is_neutral(u) and u.speaker in voices and sentence(u)[1]:
            spoken[sentence(u)].append(i)
    chosen: list[list[int]] = []
    for u in utterances:
        clips = spoken.get(sentence(u), []) if _is_aligned(u) else []
        if u.split in TRAINING_SPLITS:
            clips = [i for i in clips if utterances[i].split in TRAINING_SPLITS]
        first: dict[str, int] = {}
        for i in clips:
            if utterances[i].speaker != u.speaker:
                first.setdefault(utterances[i].speaker, i)
        found = _balanced([utterances[i] for i in first.values()])
        chosen.append([first[name] for name in found] if len(found) >= FEWEST else [])
    return chosen


def _is_aligned(utterance: Utterance) -> bool:
    return utterance.alignment not in ("", "units")


def _is_neutral(utterance: Utterance) -> bool:
    if utterance.rated:
        return utterance.arousal == NEUTRAL_AROUSAL
    return utterance.emotion == NEUTRAL_EMOTION


def _balanced(clips: Sequence[Utterance]) -> list[str]:
    """Returns up to MOST of the clips' speakers, the sexes in turn while both last."""
    order = sorted(clips, key=lambda u: hashlib.sha256(u.speaker.encode()).digest())
    turns: collections.Counter[str] = collections.Counter()
    ranked = []
    for u in order:
        ranked.append((turns[u.gender], u.gender, u.speaker))
        turns[u.gender] += 1
    return [speaker for *_, speaker in sorted(ranked)[:MOST]]


def add_parallel(corpus: Corpus, utterances: Sequence[Utterance]) -> list[Utterance]:
    """Writes the targets of every shard that has one.

    Args:
        corpus: with its phones.
        utterances: of the whole corpus.

    Returns:
        The utterances with their `parallel` as it is now.
    """
    chosen = other_voices(utterances)
    places = [(u.shard, u.start, u.frames) for u in utterances]
    clips: dict[int, list[tuple[Place, tuple[Place, ...]]]] = collections.defaultdict(list)
    for place, others in zip(places, chosen, strict=True):
        if others:
            clips[place[0]].append((place, tuple(places[i] for i in others)))
    for shard in range(len(corpus.shard_frames)):
        if shard not in clips:
            array_path(corpus.folder, "parallel", shard).unlink(missing_ok=True)
    jobs = [_Job(corpus, shard, tuple(found)) for shard, found in clips.items()]
    total = sum(len(job.clips) for job in jobs)
    for _ in map_shards(_write_shard, jobs, "sentences", total, corpus.workers):
        pass
    return [
        dataclasses.replace(u, parallel=len(others))
        for u, others in zip(utterances, chosen, strict=True)
    ]


def _write_shard(job: _Job) -> None:
    """Writes a shard's targets, unless they are there already of the same clips."""
    corpus, folder = job.corpus, shard_folder(job.corpus.folder, job.shard)
    key = {"sha256": hashlib.sha256(json.dumps(job.clips).encode()).hexdigest()}
    target, note = array_path(corpus.folder, "parallel", job.shard), folder / PARALLEL_KEY
    known = note.read_bytes().decode(errors="replace") if note.is_file() else ""
    rows = corpus.shard_frames[job.shard]
    size = target.stat().st_size if target.is_file() else -1
    if known.strip() == json.dumps(key) and size == 2 * rows * corpus.mels:
        tick(len(job.clips))
        return
    note.unlink(missing_ok=True)
    values = np.zeros((rows, corpus.mels), np.float16)
    for place, others in job.clips:
        _, start, frames = place
        found = [(_rows(corpus.phones, other), _rows(corpus.mel, other)) for other in others]
        values[start : start + frames] = parallel_target(_rows(corpus.phones, place), found)
        tick()
    write_array(corpus.folder, "parallel", values, job.shard)
    write_text(note, json.dumps(key) + "\n")


def _rows(read: Callable[[int], np.ndarray], place: Place) -> np.ndarray:
    shard, start, frames = place
    return np.array(read(shard)[start : start + frames])
