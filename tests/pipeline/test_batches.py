"""Batches: a pure function of seed and step, whole epochs, crops and masks that tell the truth."""

import collections

import numpy as np
import pytest

from emoconv_jax.bundles.banks import Banks
from emoconv_jax.config import CROPS, EMOTIONS
from emoconv_jax.errors import UsageError
from emoconv_jax.pipeline.batches import Batches
from emoconv_jax.pipeline.phones import PHONES
from emoconv_jax.pipeline.store import write_array

LOG_FLOOR = np.log(np.float32(1e-5))
TRAINEES = (
    *("recogniser", "average_voice", "score_network"),
    *("whisper_emotion", "whisper_average_voice"),
)


def batches(store, trainee="score_network", frames=32, batch=4, seed=0, **rest) -> Batches:
    selection = np.arange(len(store.utterances))
    return Batches(store, selection, trainee, batch=batch, frames=frames, seed=seed, **rest)


def fields(batch) -> dict[str, np.ndarray]:
    return {name: value for name, value in batch._asdict().items() if value is not None}


def owners(batch) -> list[int]:
    """The utterance of each example, which `numbered` writes into bin 0."""
    return batch.mel[:, 0, 0].astype(int).tolist()


@pytest.mark.parametrize("trainee", TRAINEES)
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
def test_the_parts_of_all_hosts_are_the_batch_of_one(numbered, trainee, crop, hosts):
    made = {"trainee": trainee, "frames": 48, "batch": 8, "crop": crop}
    for step in (0, 7, 1_000_003):
        whole = fields(batches(numbered, **made).at(step))
        parts = [
            fields(batches(numbered, **made, host=h, hosts=hosts).at(step)) for h in range(hosts)
        ]
        assert all(len(part["index"]) == 8 // hosts for part in parts)
        for name, value in whole.items():
            joined = np.concatenate([part[name] for part in parts])
            np.testing.assert_array_equal(joined, value, err_msg=name)
        assert whole["index"].tolist() == list(range(8))


@pytest.mark.parametrize("crop", CROPS)
def test_a_host_reads_its_own_slice_alone(numbered, crop):
    """The other hosts' utterances are never asked for."""
    made = batches(numbered, batch=8, crop=crop, host=1, hosts=4)
    asked, real = [], numbered.frames_of
    numbered.frames_of = lambda name, i, *rest: asked.append(i) or real(name, i, *rest)
    batch = made.at(5)
    assert asked == owners(batch) * 2  # mel, then average voice


def test_a_batch_that_hosts_cannot_share_is_refused(numbered):
    with pytest.raises(UsageError, match="batch: found 4, expected a multiple of the 3 hosts"):
        batches(numbered, host=0, hosts=3)


@pytest.mark.parametrize("crop", CROPS)
def test_a_batch_depends_on_seed_and_step_alone(numbered, crop):
    first, second = batches(numbered, crop=crop), batches(numbered, crop=crop)
    for step in (3, 0, 3, 11):  # in any order, from any object
        for a, b in zip(
            fields(first.at(step)).values(), fields(second.at(step)).values(), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.at(3).mel, first.at(4).mel)
    assert not np.array_equal(first.at(3).mel, batches(numbered, seed=1, crop=crop).at(3).mel)


def test_iterating_is_counting_steps(numbered):
    made = batches(numbered)
    for step, batch in zip(range(3), made, strict=False):
        np.testing.assert_array_equal(batch.mel, made.at(step).mel)


@pytest.mark.parametrize("batch", [1, 4, 7, 25])
def test_every_utterance_is_seen_once_per_epoch(numbered, batch):
    """Ten utterances; batches may straddle epochs or hold several."""
    made = batches(numbered, batch=batch)
    epochs = 14
    seen = [i for step in range(10 * epochs // batch) for i in owners(made.at(step))]
    orders = [tuple(seen[start : start + 10]) for start in range(0, len(seen) - 9, 10)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) == len(orders)  # 10! orders: two alike would be no accident


@pytest.mark.parametrize("most", [16, 32, 48, 100])
@pytest.mark.parametrize("crop", CROPS)
def test_crops_are_stretches_of_one_utterance_and_masks_end_with_it(numbered, most, crop):
    made = batches(numbered, frames=most, crop=crop)
    for step in range(10):
        batch = made.at(step)
        frames = batch.mel.shape[1]
        assert frames == most if crop == "random" else frames <= most
        assert all(value.dtype == np.float32 for value in batch if np.ndim(value) > 1)
        for mel, mask, voice, i in zip(
            batch.mel, batch.mask, batch.average_voice, owners(batch), strict=True
        ):
            length = numbered.utterances[i].frames
            real = min(length, frames)
            assert mask.tolist() == [1.0] * real + [0.0] * (frames - real)
            start = int(mel[0, 1])
            assert 0 <= start <= length - real
            assert mel[:real, 1].tolist() == list(range(start, start + real))
            assert (mel[:real, 0] == i).all()
            np.testing.assert_allclose(mel[real:], LOG_FLOOR, rtol=1e-6)
            np.testing.assert_array_equal(voice[:real], -mel[:real])
            assert not voice[real:].any()


@pytest.mark.parametrize("crop", CROPS)
def test_an_average_voice_on_whisper_reads_states_and_phones_of_its_frames(numbered, crop):
    made = batches(numbered, "whisper_average_voice", frames=48, crop=crop, target="parallel")
    for step in range(5):
        batch = made.at(step)
        real = batch.mask.astype(bool)
        assert (batch.states.dtype, batch.phones.dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(batch.states[real][:, :2], 2 * batch.mel[real][:, :2])
        np.testing.assert_array_equal(batch.phones[real], batch.mel[real][:, 1] % len(PHONES))
        np.testing.assert_array_equal(batch.average_voice[real], 3 * batch.mel[real])
        assert not batch.states[~real].any() and not batch.average_voice[~real].any()
        assert (batch.phones[~real] == -1).all()


def test_both_average_voices_learn_either_target(numbered):
    for trainee in ("average_voice", "whisper_average_voice"):
        by_phones = batches(numbered, trainee).at(0)
        in_context = batches(numbered, trainee, target="parallel").at(0)
        real = by_phones.mask.astype(bool)
        phones = by_phones.mel[real][:, 1] % len(PHONES)  # whose targets say their number
        np.testing.assert_array_equal(by_phones.average_voice[real][:, 5], phones)
        np.testing.assert_array_equal(
            in_context.average_voice[real], 3 * np.asarray(in_context.mel[real])
        )


def test_an_emotion_on_whisper_reads_statistics_and_labels(numbered):
    batch = batches(numbered, "whisper_emotion", batch=10).at(0)
    assert batch.pooled.dtype == np.float32
    assert batch.pooled[:, 0].astype(int).tolist() == owners(batch)
    told = [numbered.utterances[i] for i in owners(batch)]
    assert batch.arousal_label.tolist() == [u.arousal for u in told]
    assert batch.emotion_label.tolist() == [
        EMOTIONS.index(u.emotion) if u.emotion else -1 for u in told
    ]


def test_a_score_network_reads_the_prosody_where_it_is_asked_to(numbered):
    batch = batches(numbered, prosody=True).at(2)
    real = batch.mask.astype(bool)
    np.testing.assert_array_equal(batch.prosody[real], batch.mel[real][:, :3] + 0.5)
    assert batches(numbered).at(2).prosody is None
    assert batches(numbered, "recogniser", prosody=True).at(2).prosody is None


def test_crops_start_everywhere(numbered):
    """Utterance 4 has 64 frames: a crop of 60 starts at 0..4, each about as often."""
    made = batches(numbered, frames=60, batch=10)
    starts = collections.Counter()
    for step in range(100):
        batch = made.at(step)
        starts[int(batch.mel[owners(batch).index(4), 0, 1])] += 1
    assert set(starts) == {0, 1, 2, 3, 4}
    assert min(starts.values()) > 5  # 20 expected; 5 or fewer has probability 1e-5


def test_whole_utterances_are_whole_and_padded_to_one_bucket(numbered):
    """20 to 64 frames: those up to 32 in one bucket, the others in that of 64."""
    made = batches(numbered, frames=100, crop="whole")
    for epoch in range(3):
        seen = [made.at(epoch * 3 + step) for step in range(3)]  # 4 of 32, 6 of 64 in two
        assert sorted(batch.mel.shape[1] for batch in seen) == [32, 64, 64]
        assert {i for batch in seen for i in owners(batch)} == set(range(10))
        for batch in seen:
            lengths = [numbered.utterances[i].frames for i in owners(batch)]
            assert batch.mask.sum(axis=1).tolist() == lengths
            assert not batch.mel[:, 0, 1].any()  # from the first frame on


def test_only_utterances_beyond_the_limit_are_cropped(numbered):
    """A limit of 36: buckets of 32 and of 36; those longer than 36 frames begin anywhere."""
    made = batches(numbered, frames=36, crop="whole")
    starts = collections.defaultdict(set)
    for step in range(120):
        batch = made.at(step)
        assert batch.mel.shape[1] in (32, 36)
        for i, start in zip(owners(batch), batch.mel[:, 0, 1].astype(int).tolist(), strict=True):
            starts[i].add(start)
    for i, found in starts.items():
        room = max(0, numbered.utterances[i].frames - 36)
        assert found <= set(range(room + 1))
        assert len(found) > room / 2  # 40 draws or more of at most 29 starts


def test_labels_are_the_utterances_own_and_minus_one_where_unknown(numbered):
    made = batches(numbered, "recogniser", batch=10)
    batch = made.at(0)
    for i, emotion, arousal in zip(
        owners(batch), batch.emotion_label, batch.arousal_label, strict=True
    ):
        utterance = numbered.utterances[i]
        assert emotion == (EMOTIONS.index(utterance.emotion) if utterance.emotion else -1)
        assert arousal == utterance.arousal
    assert batch.speaker is None
    assert batch.average_voice is None


def test_average_voice_targets_follow_the_phones_and_padding_is_silence(numbered):
    batch = batches(numbered, "average_voice", frames=40, batch=10).at(0)
    for mel, mask, target in zip(batch.mel, batch.mask, batch.average_voice, strict=True):
        real = mask > 0
        np.testing.assert_array_equal(target[real, 0], mel[real, 1] % len(PHONES))
        assert (target[~real] == PHONES.index("sil")).all()


def test_unaligned_frames_have_the_target_of_silence(numbered):
    write_array(numbered.folder, "phones", np.full(numbered.frames, -1))
    batch = batches(numbered, "average_voice", frames=40, batch=10).at(0)
    assert (batch.average_voice == PHONES.index("sil")).all()


def test_vectors_are_the_utterances_own(numbered):
    batch = batches(numbered, batch=10).at(0)
    assert batch.speaker[:, 0].astype(int).tolist() == owners(batch)
    assert batch.emotion[:, -1].astype(int).tolist() == owners(batch)
    assert batch.speaker.shape == (10, 256)
    assert batch.emotion.shape == (10, 8)


def test_a_selection_is_all_that_is_drawn_from(numbered):
    made = Batches(numbered, np.array([2, 5]), "score_network", batch=3, frames=16, seed=0)
    assert {i for step in range(6) for i in owners(made.at(step))} == {2, 5}


def test_banks_stand_in_for_the_share_that_was_asked(numbered):
    """An own embedding ends in the utterance's number, 0..9; a bank's in what it is of, from 100.

    Utterances 0, 4 and 8 have neither emotion nor arousal and always see their own. Of 700 draws of
    the others a quarter sees the bank of the arousal and a quarter that of the emotion.
    """
    vectors = {f"arousal/{level}": np.full(8, 100.0 + level) for level in range(1, 8)}
    vectors |= {f"emotion/{name}": np.full(8, 200.0 + i) for i, name in enumerate(EMOTIONS)}
    made = batches(numbered, batch=10, banks=Banks(vectors, {}), bank_share=0.5)
    seen = collections.Counter()
    for step in range(100):
        batch = made.at(step)
        for i, value in zip(owners(batch), batch.emotion[:, -1].tolist(), strict=True):
            utterance = numbered.utterances[i]
            if value < 100:
                assert value == i
                seen["own"] += 1
            elif value < 200:
                assert value == 100 + utterance.arousal  # whole levels are not interpolated
                seen["arousal"] += 1
            else:
                assert value == 200 + EMOTIONS.index(utterance.emotion)
                seen["emotion"] += 1
    assert abs(seen["arousal"] - 175) < 50  # standard deviation 11
    assert abs(seen["emotion"] - 175) < 50


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_d_vector_is_of_another_clip_of_the_speaker_as_often_as_was_asked(numbered, share):
    """Utterance 9 is left out: nobody may see what is not drawn from."""
    selection = np.arange(9)
    vectors = np.asarray(numbered.array("speaker"))
    made = Batches(
        numbered, selection, "score_network", batch=9, frames=16, seed=0, speaker_share=share
    )
    others = {
        i: [j for j in selection if j != i and numbered.utterances[j].speaker == u.speaker]
        for i, u in enumerate(numbered.utterances[:9])
    }
    assert any(others.values())
    seen = collections.defaultdict(collections.Counter)
    for step in range(100):
        batch = made.at(step)
        for i, vector in zip(owners(batch), batch.speaker, strict=True):
            (j,) = (j for j in range(10) if np.array_equal(vectors[j], vector))
            seen[i][int(j)] += 1
    for i, counted in seen.items():
        assert set(counted) <= {i, *others[i]}
        of_others = sum(counted[j] for j in others[i]) / counted.total()
        expected = share if others[i] else 0.0
        assert abs(of_others - expected) < 0.2  # standard deviation .05
        if share == 1.0:  # none of them is left out
            assert not others[i] or set(counted) == set(others[i])
