import csv
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.alignment import read_phone_table
from emoconv_jax.pipeline.phones import PHONE_INDEX, PHONES, SILENCE, frame_phones
from emoconv_jax.pipeline.units import (
    CLUSTERED_FRAMES,
    UNITS,
    UTTERANCE_FRAMES,
    assign_units,
    fit_units,
    sample_frames,
)

SIL, FIRST = PHONE_INDEX[SILENCE], len(PHONES)
FLOOR = float(np.log(MelConfig().floor))
SOUNDS = 4
SEGMENT_FRAMES = 12


def sounds():
    """Four spectra with one or two broad peaks, as of vowels and fricatives; [SOUNDS, 80]."""
    bins = np.arange(80)

    def peak(centre, width):
        return 4.0 * np.exp(-0.5 * ((bins - centre) / width) ** 2)

    return np.stack([peak(10, 6) + peak(35, 6), peak(20, 8), peak(66, 9), peak(8, 5) + peak(58, 6)])


def made(order, seed=0, *, gain=0.0, tilt=0.0, silence=15):
    """A log-mel of sounds in the given order, silence at both ends, and each frame's sound or -1.

    `gain` and `tilt` are natural logarithms of magnitude, `tilt` from first to last bin.
    """
    truth = np.repeat(np.concatenate([[-1], order, [-1]]), SEGMENT_FRAMES)
    truth = np.concatenate([np.full(silence, -1), truth])
    mel = np.where(truth[:, None] < 0, -9.0, sounds()[truth] - 4.0)
    mel += gain + tilt * np.linspace(-0.5, 0.5, 80)
    mel += np.random.default_rng(seed).normal(0.0, 0.25, mel.shape)
    return np.maximum(mel, FLOOR).astype(np.float16), truth


def corpus(count=8):
    rng = np.random.default_rng(1)
    return [
        made(
            np.concatenate([rng.permutation(SOUNDS) for _ in range(4)]),
            seed,
            gain=float(rng.uniform(-2, 2)),
            tilt=float(rng.uniform(-2, 2)),
        )
        for seed in range(count)
    ]


def fitted(clips, count=SOUNDS):
    return fit_units(np.concatenate([sample_frames(mel) for mel, _ in clips]), count=count)


def test_silence_is_sil_and_sounds_are_units_across_level_and_channel():
    clips = corpus()
    centroids = fitted(clips)
    assert centroids.shape[0] == SOUNDS
    meaning: dict[int, set[int]] = {}
    for mel, truth in clips:
        units = assign_units(mel, centroids)
        assert units.shape == truth.shape
        # one frame of tolerance beside each boundary
        far = np.ones(len(truth), bool)
        for edge in np.flatnonzero(np.diff(truth)):
            far[edge : edge + 2] = False
        np.testing.assert_array_equal(units[far] == SIL, truth[far] == -1)
        for sound in range(SOUNDS):
            meaning.setdefault(sound, set()).update(units[far & (truth == sound)].tolist())
    assert all(len(found) == 1 for found in meaning.values()), meaning
    assert set.union(*meaning.values()) == set(range(FIRST, FIRST + SOUNDS))


@pytest.mark.parametrize(("gain", "tilt"), [(0.0, 0.0), (-2.0, 0.0), (2.0, 1.5), (0.0, -2.0)])
def test_a_voice_heard_for_the_first_time_keeps_its_units_at_any_level(gain, tilt):
    centroids = fitted(corpus())
    order = np.array([0, 2, 1, 3, 2, 0, 3, 1])
    plain = assign_units(made(order, 77)[0], centroids)
    changed = assign_units(made(order, 77, gain=gain, tilt=tilt)[0], centroids)
    assert np.mean(plain == changed) > 1 - 4 / len(plain)  # a boundary may move by a frame


def test_one_odd_frame_does_not_make_a_unit():
    order = np.array([0, 1, 2, 3] * 3)
    mel, truth = made(order, 5)
    centroids = fitted(corpus())
    plain = assign_units(mel, centroids)
    starts = np.flatnonzero(np.diff(truth)) + 1
    for place in starts[:-1] + SEGMENT_FRAMES // 2:  # in mid sound, nearer to another one
        mel[place] = 0.4 * sounds()[truth[place]] + 0.6 * sounds()[(truth[place] + 1) % SOUNDS] - 4
    changed = assign_units(mel, centroids)
    for place in starts[:-1] + SEGMENT_FRAMES // 2:
        assert changed[place] == changed[place - 2] == plain[place - 2]


def test_one_frame_is_neither_a_pause_nor_a_sound():
    order = np.array([0, 1, 2, 3])
    mel, truth = made(order, 5)
    centroids = fitted(corpus())
    dip, click = 15 + SEGMENT_FRAMES + 5, 8
    mel[click] = mel[dip]
    mel[dip] = -9.0
    units = assign_units(mel, centroids)
    assert truth[dip] >= 0
    assert units[dip] != SIL
    assert units[click] == SIL


def test_a_recorded_pause_is_silence_beside_digital_silence():
    """The latter lies 20 dB and more below, and must not draw the limit down to itself."""
    spoken, truth = made(np.array([0, 1, 2, 3] * 4), 2)
    nothing = np.full((40, 80), FLOOR, np.float16)
    silent = assign_units(np.concatenate([nothing, spoken, nothing]), fitted(corpus())) == SIL
    pause = truth[: 15 + SEGMENT_FRAMES] < 0
    assert pause.all()
    assert silent[: 40 + len(pause) - 1].all()
    assert silent[-40 - SEGMENT_FRAMES + 1 :].all()


def test_a_pause_inside_and_noise_below_the_speech_are_silence():
    before, _ = made(np.array([0, 1, 2]), 1)
    pause = before[:20]
    mel = np.concatenate([before, pause, before])
    silent = assign_units(mel, fitted(corpus())) == SIL
    assert silent[len(before) + 1 : len(before) + len(pause) - 1].all()
    assert not silent[15 + SEGMENT_FRAMES + 1 : 15 + 4 * SEGMENT_FRAMES - 1].any()


def test_digital_silence_holds_no_speech():
    mel = np.full((30, 80), FLOOR, np.float16)
    assert sample_frames(mel).shape == (0, fitted(corpus()).shape[1])
    assert (assign_units(mel, fitted(corpus())) == SIL).all()


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_short_utterances_are_assigned(frames, dtype):
    mel = np.tile(sounds()[:1] - 4, (frames, 1)).astype(dtype)
    units = assign_units(mel, fitted(corpus()))
    assert units.shape == (frames,)
    assert np.isfinite(sample_frames(mel)).all()
    assert ((units == SIL) | ((units >= FIRST) & (units < FIRST + SOUNDS))).all()


def test_one_utterance_contributes_a_bounded_number_of_its_spoken_frames():
    long, truth = made(np.array([0, 1, 2, 3] * 20))
    assert np.count_nonzero(truth >= 0) > UTTERANCE_FRAMES
    assert len(sample_frames(long)) == UTTERANCE_FRAMES
    short, truth = made(np.array([0, 1]))
    assert abs(len(sample_frames(short)) - np.count_nonzero(truth >= 0)) <= 2


def test_fewer_frames_than_units_give_fewer_units():
    samples = np.random.default_rng(0).normal(size=(5, 11)).astype(np.float32)
    centroids = fit_units(np.concatenate([samples, samples]))
    # each different frame is a unit of its own
    np.testing.assert_allclose(
        centroids[np.argsort(centroids[:, 0])], samples[np.argsort(samples[:, 0])], atol=1e-6
    )
    with pytest.raises(EmoconvError, match="no frame of speech"):
        fit_units(samples[:0])


def test_units_are_in_order_and_fit_into_a_byte():
    samples = np.random.default_rng(0).normal(size=(1000, 11)).astype(np.float32)
    centroids = fit_units(samples)
    assert centroids.shape == (UNITS, 11)
    assert (np.diff(centroids[:, 0]) >= 0).all()
    assert np.int8(FIRST + UNITS - 1) == FIRST + UNITS - 1


def test_more_frames_than_are_clustered_are_thinned():
    point = np.zeros((CLUSTERED_FRAMES + 1000, 2), np.float32)
    point[::2] = 1.0
    np.testing.assert_allclose(fit_units(point, count=2), [[0, 0], [1, 1]], atol=1e-6)


FIT = """
import sys
import numpy as np
from emoconv_jax.pipeline.units import fit_units
samples = np.random.default_rng(0).normal(size=(6000, 11)).astype(np.float32)
sys.stdout.buffer.write(fit_units(samples).tobytes())
"""


@pytest.mark.slow
def test_neither_the_process_nor_its_threads_change_the_units():
    found = {
        subprocess.run(
            [sys.executable, "-c", FIT],
            env=os.environ | {"OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n},
            cwd=pathlib.Path(__file__).parents[2],
            capture_output=True,
            check=True,
        ).stdout
        for n in ("1", "2")
    }
    samples = np.random.default_rng(0).normal(size=(6000, 11)).astype(np.float32)
    assert found == {fit_units(samples).tobytes()}


def information(first, second):
    """Mutual information of two labellings in nats, by its definition."""
    joint = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(joint, (first, second), 1 / len(first))
    product = joint.sum(1, keepdims=True) @ joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / product[there])).sum())


@pytest.mark.slow
@pytest.mark.corpora
def test_units_tell_the_phone_of_voices_that_they_were_not_fitted_to(monkeypatch):
    folder = pathlib.Path(os.environ["EMOCONV_CORPORA"]) / "synthetic"
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    table = read_phone_table(folder / "phones.tsv")
    speakers = sorted({row["speaker"] for row in rows})
    chosen = [row for s in speakers for row in [r for r in rows if r["speaker"] == s][:4]]
    mels = [log_mel(read_audio(folder / row["path"]), MelConfig()) for row in chosen]
    own = [row["speaker"] in speakers[::2] for row in chosen]
    centroids = fit_units(
        np.concatenate([sample_frames(m) for m, fit in zip(mels, own, strict=True) if fit])
    )
    heard = [(r, m) for r, m, fit in zip(chosen, mels, own, strict=True) if not fit]

    def assigned():
        return np.concatenate([assign_units(mel, centroids) for _, mel in heard])

    unit = assigned()
    phone = np.concatenate([frame_phones(table[row["path"]], len(mel)) for row, mel in heard])
    length = [len(mel) for _, mel in heard]
    who = np.repeat([speakers.index(row["speaker"]) for row, _ in heard], length)
    woman = np.repeat([int(row["gender"] == "F") for row, _ in heard], length)
    agreed = np.mean((unit == SIL) == (phone == SIL))
    constant = max(np.mean(phone == SIL), np.mean(phone != SIL))
    assert 1 - agreed < 0.5 * (1 - constant)  # half the errors of one answer for every frame
    spoken = (unit != SIL) & (phone != SIL)
    told = information(unit[spoken], phone[spoken])
    # What few frames seem to tell by chance: phones moved along in time, so that neighbours stay
    # neighbours, have no more to do with the units.
    moved = np.random.default_rng(0).integers(500, 5000, 10)
    chance = [information(unit[spoken], np.roll(phone[spoken], k)) for k in moved]
    assert told > 2 * max(chance)
    assert told > np.mean(chance) + 10 * np.std(chance)
    assert told > 2 * information(unit[spoken], who[spoken])
    # Stretching the mel axis to fit takes the length of the vocal tract away.
    gender = information(unit[spoken], woman[spoken])
    monkeypatch.setattr("emoconv_jax.pipeline.units.STRETCHES", (1.0,))
    assert gender < information(assigned()[spoken], woman[spoken])
