"""What is said of recognisers, on clips whose figures can be had on paper or from SciPy."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr
from tiny_store import PLAIN, entries

from emoconv_jax.cli.main import main
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation import recognition
from emoconv_jax.evaluation.recognition import Heard, figures, proxy_of, true_arousal
from emoconv_jax.evaluation.statistics import correlation_figure
from emoconv_jax.inference.encoders import EmotionRole
from emoconv_jax.pipeline.store import FeatureStore, Utterance, write_array, write_index


def clip(**fields) -> Utterance:
    place = {"path": "0.wav", "start": 0, "frames": 9, "speaker": "ann", "split": "test"}
    return Utterance(**(PLAIN | place | fields))


CLIPS = [
    clip(emotion="sad", level_db=-30.0, f0_hz=100.0),
    clip(emotion="happy", level_db=-20.0, f0_hz=200.0),
    clip(speaker="bea", emotion="sad", level_db=-50.0, f0_hz=200.0),
    clip(speaker="bea", emotion="happy", level_db=-40.0, f0_hz=400.0),
]


def test_the_truth_is_the_rating_or_what_the_acting_stands_for():
    """Sad is (2.5 + 3.5) / 2; the label of training (6.5 here) counts only where listeners gave
    it."""
    assert true_arousal(clip(emotion="sad", arousal=6.5)) == 3.0
    assert true_arousal(clip(emotion="sad", arousal=6.5, rated=True)) == 6.5


def test_the_proxy_is_the_sum_of_two_scores_within_each_speaker():
    """Two clips of a speaker have the scores -1 and 1, whatever their size."""
    speaker = np.array([0, 0, 1, 1])
    assert proxy_of(CLIPS, speaker) == pytest.approx([-2, 2, -2, 2])
    nemo = [
        clip(corpus="nemo", f0_hz=f0_hz, level_db=level_db)
        for f0_hz, level_db in ((100.0, -9.0), (200.0, -30.0), (0.0, -9.0))
    ]
    assert proxy_of(nemo, np.zeros(3, int)) == pytest.approx([-1, 1, 0])  # by F0 alone


def test_a_voice_that_is_always_heard_higher_costs_nothing_per_speaker():
    """Heard 2, 3 for Ann and 5, 6 for Bea, true 3, 5.6 for both: r of (2, 3, 5, 6) with
    (0, 1, 0, 1) is .316; within each speaker it is 1, as the proxy's, so the lead is 0."""
    heard = Heard(np.array([2.0, 3.0, 5.0, 6.0]), ["sad", "happy", "angry", "happy"])
    found = figures(CLIPS, heard)
    values = {name: one and one.value for name, one in found.items()}
    assert values["accuracy"] == pytest.approx(0.75)
    assert values["arousal"] == pytest.approx(1 / np.sqrt(10))
    assert values["arousal_per_speaker"] == pytest.approx(1)
    assert values["proxy"] == pytest.approx(1)
    assert values["lead"] == pytest.approx(0)


def test_a_correlation_is_scipys_and_so_is_its_interval():
    generator = np.random.default_rng(0)
    x = generator.normal(size=300)
    y = x + generator.normal(size=300)
    told: Any = pearsonr(x, y)
    found = correlation_figure(x, y)
    interval = told.confidence_interval(0.95)  # by Fisher's transform
    assert found is not None and found.utterances == 300
    assert found.value == pytest.approx(told.statistic)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.02)
    lead = correlation_figure(x, y, less=y)
    assert lead is not None and (lead.low, lead.value, lead.high) == (0, 0, 0)
    assert correlation_figure(x, np.ones(300)) is None
    unknown = np.concatenate([x, [np.nan]]), np.concatenate([y, [5.0]])
    assert correlation_figure(*unknown) == found  # where one is not known neither counts
    assert correlation_figure(x[:2], y[:2]) is None


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """Four acted clips of 20 to 50 frames, one of them of a training voice, and one unnamed."""
    lengths, folder = [20, 50, 30, 40, 25], tmp_path / "features"
    about = [("test", "sad"), ("test", "happy"), ("a", "sad"), ("test", "angry"), ("test", "")]
    clips = entries(
        lengths,
        lambda i: {
            "split": about[i][0],
            "emotion": about[i][1],
            "speaker": "made/ann",
            "f0_hz": 100.0 + 10 * i,
        },
    )
    folder.mkdir()
    mels = np.random.default_rng(0).normal(-5, 1, (sum(lengths), 80))
    write_array(folder, "mel", mels)
    write_index(folder, MelConfig(), clips, [sum(lengths)])
    return FeatureStore(folder)


@pytest.mark.slow
def test_each_clip_is_heard_as_it_is_alone(store, bundle_folder):
    """In batches, sorted by length, and given back in the order asked for."""
    recogniser = EmotionRole.from_bundle(bundle_folder)
    heard = recognition.hear(recogniser, store, np.array([1, 0, 3]), "clips")
    for i, arousal, emotion in zip((1, 0, 3), heard.arousal, heard.emotion, strict=True):
        alone = recogniser(store.frames_of("mel", i).astype(np.float32))
        assert arousal == pytest.approx(alone.arousal, abs=1e-4)
        assert alone.probabilities[emotion] == max(alone.probabilities.values())


def test_the_command_prints_what_it_writes(store, bundle_folder, tmp_path, capsys):
    out = tmp_path / "heard"
    flags = ["--what", "recognisers", "--bundle", str(bundle_folder), "--split", "a,test"]
    assert main(["evaluate", *flags, "--features", str(store.folder), "--out", str(out)]) == 0
    told = json.loads((out / "summary.json").read_text())
    assert list(told) == ["made/a", "made/test"]
    found = told["made/test"][str(bundle_folder)]
    assert found["arousal"]["utterances"] == 3
    assert told["made/a"][str(bundle_folder)]["arousal"] is None  # one clip has no r
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith(f"| made/test | {bundle_folder} | {found['accuracy']['value']:.2f} (")


def test_without_acted_or_rated_clips_it_says_so(store, bundle_folder, tmp_path):
    recognisers = {"own": EmotionRole.from_bundle(bundle_folder)}
    with pytest.raises(EmoconvError, match=r"split 'tset': no utterance, allowed are a, test$"):
        recognition.evaluate(recognisers, store, tmp_path / "out", ["a", "tset"])
    store.utterances[:] = [store.utterances[4]]  # the unnamed one
    with pytest.raises(EmoconvError, match="no acted or rated clips in test"):
        recognition.evaluate(recognisers, store, tmp_path / "out", ["test"])
