"""What probes find: all where it was put, nothing where there is noise."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_store import entries

from emoconv_jax.cli.main import main
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation import probes
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index

SPEAKERS, EMOTIONS, EACH, FRAMES = ("ann", "bea", "cat", "dan", "eve"), ("sad", "happy"), 30, 12


def make_store(folder, speakers=SPEAKERS, emotions=EMOTIONS) -> FeatureStore:
    """Clips of noise; in the mel each speaker lifts one bin, and each emotion another."""
    about = [(s, e) for s in speakers for e in emotions for _ in range(EACH)]
    generator = np.random.default_rng(0)
    mel, voice = generator.normal(size=(2, len(about), FRAMES, 80))
    for i, (speaker, emotion) in enumerate(about):
        mel[i, :, SPEAKERS.index(speaker)] += 3.0
        mel[i, :, 40 + EMOTIONS.index(emotion) if emotion else 60] += 3.0
    clips = entries(
        [FRAMES] * len(about),
        lambda i: {"split": "a", "speaker": f"made/{about[i][0]}", "emotion": about[i][1]},
    )
    folder.mkdir()
    write_array(folder, "mel", mel.reshape(-1, 80))
    write_array(folder, "average_voice", voice.reshape(-1, 80))
    write_index(folder, MelConfig(), clips, [len(about) * FRAMES])
    return FeatureStore(folder)


def test_all_is_found_in_the_mel_and_chance_in_noise(tmp_path, capsys):
    """Emotion across speakers too. Chance is 1 / 2 and 1 / 5; 300 guesses stay within .1 of it."""
    store, out = make_store(tmp_path / "features"), tmp_path / "out"
    flags = ["--what", "probes", "--features", str(store.folder), "--out", str(out)]
    assert main(["evaluate", *flags]) == 0
    found = json.loads((out / "summary.json").read_text())["made"]
    for label, classes in (("emotion", 2), ("speaker", 5)):
        row = found[label]
        assert (row["classes"], row["chance"]) == (classes, pytest.approx(1 / classes))
        assert row["mel"]["value"] > 0.98 and row["mel"]["utterances"] == 300
        assert row["average_voice"]["value"] == pytest.approx(row["chance"], abs=0.1)
    assert f"| made: emotion | {found['emotion']['mel']['value']:.2f} (" in capsys.readouterr().out


def test_a_label_that_tells_the_speaker_alone_is_not_found_in_other_speakers():
    """Emotion that is a speaker's own habit: a probe that knew the speakers would be right."""
    generator = np.random.default_rng(1)
    speaker = np.repeat(np.arange(6), 10)
    x = np.eye(6)[speaker] + 0.01 * generator.normal(size=(60, 6))
    labels = np.array(["sad", "happy"])[speaker % 2]
    known = probes.accuracy(x, labels, None, seed=0)
    unknown = probes.accuracy(x, labels, speaker, seed=0)
    assert known is not None and known.value == 1.0
    assert unknown is not None and unknown.value < 0.7


def test_what_cannot_be_probed_is_left_out_or_refused(tmp_path):
    unnamed = make_store(tmp_path / "unnamed", emotions=("",))
    assert set(probes.evaluate(unnamed, tmp_path / "out")["made"]) == {"speaker"}
    habits = make_store(tmp_path / "habits", ("ann", "bea"), ("sad",))
    habits.utterances[-EACH:] = [
        dataclasses.replace(clip, emotion="happy") for clip in habits.utterances[-EACH:]
    ]  # each speaker has one emotion: without either a probe has but one to learn
    assert set(probes.evaluate(habits, tmp_path / "out")["made"]) == {"speaker"}
    alone = make_store(tmp_path / "alone", speakers=("ann",))
    with pytest.raises(
        EmoconvError, match="nothing to probe; needed is a corpus with two speakers"
    ):
        probes.evaluate(alone, tmp_path / "out")
