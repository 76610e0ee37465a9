"""The average-voice target in context: voices whose mels are known, stretched by arithmetic."""

import dataclasses

import numpy as np
import pytest
from tiny_store import entries

from emoconv_jax.config import MelConfig
from emoconv_jax.pipeline.parallel_target import (
    add_parallel,
    other_voices,
    parallel_target,
    partners,
    times,
)
from emoconv_jax.pipeline.phones import PHONE_INDEX
from emoconv_jax.pipeline.statistics import Corpus
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index

SIL = PHONE_INDEX["sil"]
A, B, C, D = (PHONE_INDEX[name] for name in ("AA", "B", "CH", "D"))


def phones(*runs: tuple[int, int]) -> np.ndarray:
    return np.repeat([phone for phone, _ in runs], [frames for _, frames in runs])


def ramp(frames: int, mels: int = 3) -> np.ndarray:
    """A log-mel that says the place of each frame."""
    return np.repeat(np.arange(frames, dtype=np.float64)[:, None], mels, axis=1)


def test_a_clip_in_its_own_time_is_itself():
    own = phones((SIL, 5), (A, 8), (B, 1), (A, 4), (SIL, 6))
    mel = np.random.default_rng(0).normal(size=(len(own), 80))
    np.testing.assert_allclose(parallel_target(own, [(own, mel)]), mel, atol=1e-12)


def test_runs_are_stretched_evenly_onto_their_partners():
    """A of 4 frames on one of 8: centres 1/8, 3/8 .. of 8 frames lie at 0.5, 2.5, 4.5, 6.5."""
    own = phones((SIL, 2), (A, 4), (B, 3))
    other = phones((SIL, 2), (A, 8), (B, 1))
    places, weights = times(own, other)
    expected = [0, 1, 2.5, 4.5, 6.5, 8.5]
    np.testing.assert_allclose(places[:6], expected)
    # B's one frame has the centre 10.5, the thirds of it 10 + 1/6 - 1/2 ..
    np.testing.assert_allclose(places[6:], [10 - 1 / 3, 10, 10])  # the last one is the clip's end
    assert (weights == 1).all()
    target = parallel_target(own, [(other, ramp(len(other)))])
    np.testing.assert_allclose(target[:, 0], places)


def test_a_pause_or_a_phone_that_one_voice_leaves_out_has_no_partner():
    assert list(partners(np.array([SIL, A, B, C, SIL]), np.array([SIL, A, SIL, B, C, SIL]))) == [
        *(0, 1, 3, 4, 5)
    ]
    assert list(partners(np.array([SIL, A, SIL, B]), np.array([SIL, A, B]))) == [0, 1, -1, 2]
    assert list(partners(np.array([A, B, C]), np.array([A, C]))) == [0, -1, 1]
    assert list(partners(np.array([A, B, C]), np.array([A, D, C]))) == [0, 1, 2]  # another vowel
    assert list(partners(np.array([SIL, A]), np.array([B, A]))) == [-1, 1]


def test_a_pause_is_that_of_the_voice_that_makes_it_too():
    own = phones((A, 4), (SIL, 4), (B, 4))
    without, within = phones((A, 4), (B, 4)), own
    loud, soft = np.full((8, 3), 5.0), np.full((12, 3), -10.0)
    target = parallel_target(own, [(without, loud), (within, soft)])
    np.testing.assert_allclose(target[:4], -2.5)
    np.testing.assert_allclose(target[4:8], -10, atol=0.02)  # 15/1001 from what holds its frame
    np.testing.assert_allclose(parallel_target(own, [(without, loud)]), 5.0)


def clips(about: dict[int, dict]) -> list:
    lengths = [12] * len(about)
    return entries(
        lengths, lambda i: {"split": "a", "emotion": "neutral", "text": "Go on.", **about[i]}
    )


VOICES = dict(enumerate({"speaker": f"made/{n}", "gender": "FM"[n % 2]} for n in range(12)))


def test_others_are_neutral_clips_of_the_sentence_by_other_training_voices():
    about = {
        0: {"speaker": "ann"},
        1: {"speaker": "ann"},
        2: {"speaker": "bea", "text": "go  ON!"},
        3: {"speaker": "carl", "emotion": "calm"},
        4: {"speaker": "dan", "split": "test"},
        5: {"speaker": "eve", "text": "Go in."},
        6: {"speaker": "fred", "corpus": "another"},
        7: {"speaker": "gus", "alignment": "units"},
        8: {"speaker": "hal", "emotion": "", "rated": True, "arousal": 4.0},
        9: {"speaker": "ida", "rated": True, "arousal": 5.0},
    }
    found = other_voices(clips(about))
    assert [sorted(f) for f in found] == [
        *([2, 8], [2, 8], [0, 8], [0, 2, 8], [0, 2, 8]),
        *([], [], [], [0, 2], [0, 2, 8]),
    ]


def test_one_other_voice_is_none():
    assert other_voices(clips({0: {"speaker": "ann"}, 1: {"speaker": "bea"}})) == [[], []]


def test_what_is_held_out_is_compared_with_training_voices_and_trains_none():
    """Sentences are held out: their clips by training voices serve one another alone."""
    about = {n: {"speaker": f"{n}", "split": "test" if n < 3 else "a"} for n in range(6)}
    about |= {n: {"speaker": f"{n - 6}", "split": "a", "text": "More."} for n in range(6, 9)}
    found = other_voices(clips(about))
    assert [sorted(f) for f in found[:6]] == [
        *([1, 2, 3, 4, 5], [0, 2, 3, 4, 5], [0, 1, 3, 4, 5], [4, 5], [3, 5], [3, 4])
    ]


def test_at_most_eight_voices_as_many_of_each_sex():
    made = clips(VOICES)
    found = other_voices(made)
    for own, others in enumerate(found):
        assert len(others) == 8
        assert own not in others
        assert sum(made[i].gender == "F" for i in others) == 4
    few = {n: VOICES[n] | {"gender": "F" if n == 5 else "M"} for n in range(12)}
    assert all(5 in others for own, others in enumerate(other_voices(clips(few))) if own != 5)


@pytest.fixture
def spoken(tmp_path):
    """Three voices, one of which makes a pause, in two shards; a fourth says something else."""
    folder = tmp_path / "features"
    own = [
        phones((SIL, 3), (A, 5), (B, 4)),
        phones((SIL, 2), (A, 4), (B, 6)),
        phones((SIL, 2), (A, 4), (SIL, 3), (B, 3)),
        phones((SIL, 2), (C, 10)),
    ]
    about = {n: {"speaker": f"{n}", "shard": n // 2, "start": 12 * (n % 2)} for n in range(4)}
    about[3]["text"] = "Stay."
    utterances = clips(about)
    generator = np.random.default_rng(0)
    mels = generator.normal(size=(4, 12, 80)).astype(np.float16)
    for shard in (0, 1):
        part = slice(2 * shard, 2 * shard + 2)
        write_array(folder, "mel", mels[part].reshape(24, 80), shard)
        write_array(folder, "phones", np.concatenate(own[part]), shard)
    return Corpus(folder, 80, (24, 24), 1), utterances, own, mels


def stored(corpus, utterances):
    described = add_parallel(corpus, utterances)
    write_index(corpus.folder, MelConfig(), described, corpus.shard_frames)
    store = FeatureStore(corpus.folder)
    return store, [store.frames_of("parallel", i) for i in range(len(utterances))]


def test_the_store_has_the_mean_of_the_others(spoken):
    corpus, utterances, own, mels = spoken
    store, found = stored(corpus, utterances)
    assert [u.parallel for u in store.utterances] == [2, 2, 2, 0]
    for i in range(3):
        others = [(own[k], mels[k]) for k in range(3) if k != i]
        expected = parallel_target(own[i], others).astype(np.float16)
        np.testing.assert_allclose(found[i].astype(float), expected, atol=2e-3)
    assert (found[3] == 0).all()


def test_a_voices_own_sound_does_not_change_its_target(spoken):
    corpus, utterances, _, mels = spoken
    _, before = stored(corpus, utterances)
    note = {path: path.stat().st_mtime_ns for path in corpus.folder.rglob("parallel.*")}
    stored(corpus, utterances)
    assert note == {path: path.stat().st_mtime_ns for path in note}  # found there, and left
    changed = mels.copy()
    changed[0] += 3
    write_array(corpus.folder, "mel", changed[:2].reshape(24, 80), 0)
    for path in corpus.folder.rglob("parallel.json"):
        path.unlink()
    _, after = stored(corpus, utterances)
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1] > before[1]).all()


def test_targets_of_a_split_that_is_gone_are_taken_away(spoken):
    corpus, utterances, *_ = spoken
    stored(corpus, utterances)
    apart = [dataclasses.replace(u, text=u.text + u.speaker) for u in utterances]
    assert [u.parallel for u in add_parallel(corpus, apart)] == [0] * 4
    assert not list(corpus.folder.rglob("parallel.f16"))
