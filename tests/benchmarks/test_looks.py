"""Which clips a look takes, and whole looks at a tiny bundle over made-up corpora."""

import json
import pathlib

import numpy as np
import pytest
from tiny_bundle import SAMPLE

from benchmarks.quality import command, content, trials_table
from benchmarks.quality.clips import enrolment, places, read_clips, real, spread, to_convert
from benchmarks.quality.command import Kind, request_of
from benchmarks.quality.look import fields_of
from emoconv_jax import config
from emoconv_jax.audio.functionals import NAMES
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.audio.writing import write_audio
from emoconv_jax.bundles.parts import open_bundle
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.listeners.emotion import FUNCTIONALS, Linear, save_judges

RATE_HZ = 22_050
TEXT = "The queen wore a purple gown and a silver chain."
HEADER = "path\tspeaker\tgender\tlanguage\temotion\tintensity\tseconds\ttext\tarousal"
EMOTIONS = ("neutral", "neutral", "happy", "happy", "sad", "sad", "angry", "angry")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> pathlib.Path:
    """Returns made-up corpora under the names of real ones: the sample, by voices of many sizes."""
    root, sample = tmp_path_factory.mktemp("corpora"), read_audio(SAMPLE, RATE_HZ)
    rows: dict[str, list[str]] = {"ravdess": [], "synthetic": []}
    for speaker, gender in (("01", "M"), ("03", "M"), ("15", "M"), ("16", "F")):
        for number, emotion in enumerate(EMOTIONS):
            path = f"{speaker}/{number}.wav"
            cells = (path, speaker, gender, "en", emotion, "normal", "", TEXT, "")
            rows["ravdess"].append("\t".join(cells))
    for number, arousal in (("024", 4), ("024", 7), ("037", 4), ("001", 4)):
        path = f"af_alloy/af_alloy_{number}_a{arousal}.wav"
        cells = (path, "af_alloy", "F", "en", "", "", "", TEXT, str(arousal))
        rows["synthetic"].append("\t".join(cells))
    for corpus, lines in rows.items():
        for line in lines:
            path, speaker, *_ = line.split("\t")
            (root / corpus / speaker).mkdir(parents=True, exist_ok=True)
            pace = 0.8 + 0.02 * (hash_of(speaker) % 20)
            at = np.arange(0, min(len(sample), 2 * RATE_HZ) - 1, pace)
            sound = np.interp(at, np.arange(len(sample)), sample).astype(np.float32)
            write_audio(root / corpus / path, sound[: int(0.9 * RATE_HZ)], RATE_HZ)
        (root / corpus / "manifest.tsv").write_text("\n".join([HEADER, *lines]) + "\n")
    return root


def hash_of(text: str) -> int:
    return sum(ord(letter) * (i + 1) for i, letter in enumerate(text))


@pytest.fixture
def clips(corpora):
    return read_clips([corpora / name for name in ("ravdess", "synthetic", "absent")])


def test_voices_take_turns_and_no_clip_has_two_tasks(clips):
    chosen = to_convert(
        clips, {"ravdess": 4, "synthetic": 2}, "validation", other={"synthetic": "test"}
    )
    assert [c.voice for c in chosen] == ["ravdess/16"] * 2 + ["ravdess/15"] * 2 + [
        "synthetic/af_alloy"
    ] * 2
    assert all(c.is_neutral for c in chosen) and len({c.path for c in chosen}) == 6
    said = {c.path.stem for c in chosen if c.corpus == "synthetic"}
    assert said == {"af_alloy_024_a4", "af_alloy_037_a4"}
    enrolled = enrolment(clips, chosen)
    assert set(enrolled) == {f"ravdess/{s}" for s in ("01", "03", "15", "16")}
    heard = real(clips, {c.voice for c in chosen})
    groups = [chosen, [c for own in enrolled.values() for c in own], heard]
    paths = [c.path for group in groups for c in group]
    assert len(paths) == len(set(paths))
    assert {c.emotion for c in heard} == {"happy", "sad", "angry"}
    at = places(clips)
    assert all(at[c.path] % 2 == 1 for c in heard)


def test_even_spread():
    assert spread(list(range(10)), 3) == [0, 3, 6]
    assert spread(list(range(10)), 2, 0.5) == [2, 7]
    assert spread([1, 2], 5) == [1, 2] and spread([], 3) == []


def test_a_corpus_that_is_absent_is_named(clips, corpora):
    with pytest.raises(EmoconvError, match="nemo: no neutral clip in the split 'validation'"):
        to_convert(clips, {"nemo": 4}, "validation", other={})
    with pytest.raises(EmoconvError, match="no such folder; --corpora"):
        read_clips([corpora / "absent"])


def test_fields_of_a_request_are_passed_through():
    assert request_of(["prosody=0", "latent=noise", "guidance=1.5"]) == {
        "prosody": 0, "latent": "noise", "guidance": 1.5,
    }  # fmt: skip
    assert fields_of("4") == {"arousal": 4.0} and fields_of("sad") == {"mix": {"sad": 1.0}}
    with pytest.raises(UsageError, match="arousal is the look's own"):
        request_of(["arousal=4"])
    with pytest.raises(UsageError, match="allowed is FIELD=VALUE"):
        request_of(["steps"])


@pytest.fixture(scope="module")
def judges(tmp_path_factory) -> pathlib.Path:
    """Returns the judge by functionals, with random weights."""
    folder, rng = tmp_path_factory.mktemp("judges"), np.random.default_rng(0)
    width = len(NAMES)
    shapes = [(width,), (width,), (width, 8), (8,), (width,), (1,)]
    parts = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    parts[1] = np.full(width, 100.0, np.float32)
    told = {"clips": 9, "voices": 2, "emotions_named": 0.5, "named": {"happy": 0.5}}
    heard = {FUNCTIONALS: {"ravdess/validation": {**told, "r": 0.5, "slope": 0.5}}}
    save_judges(folder, {FUNCTIONALS: Linear(*parts)}, {FUNCTIONALS: {}}, config.EMOTIONS, heard)
    return folder


def test_without_its_embedding_every_emotion_is_null(bundle_folder):
    _, banks = open_bundle(bundle_folder)
    before = {name: vector.shape for name, vector in banks.vectors.items()}
    command.take_emotion_away(banks)
    assert {name: vector.shape for name, vector in banks.vectors.items()} == before
    for name in ("arousal 6.5", "happy"):
        np.testing.assert_array_equal(banks.condition(name), banks.condition("null"))


ARGUMENTS = ("--targets", "1,4,7", "--limit", "1", "--request", "steps=2")


@pytest.mark.slow
@pytest.mark.network
def test_a_whole_look_makes_a_row_and_goes_on_where_it_was(
    bundle_folder, corpora, judges, tmp_path, capsys
):
    kind = Kind("quick", "validation", {"ravdess": 1}, (0,))
    table, keep = tmp_path / "trials.tsv", tmp_path / "kept"
    common = ["--corpora", str(corpora), "--judges", str(judges), "--keep", str(keep)]
    arguments = [str(bundle_folder), *common, "--out", str(table), "--hours", "3", *ARGUMENTS]
    assert command.run(kind, "A look.", arguments) == 0
    (row,) = trials_table.read(table)
    assert row["bundle"].startswith("tiny ") and row["hours"] == "3" and row["clips"] == "1"
    assert row["request"] == "steps=2" and float(row["voice_all"]) >= 0
    assert row["own_share"] == ""  # all clips of a voice are one sound
    for name in ("functionals_order", "word_errors", "ovrl_7", "seconds_per_second"):
        assert np.isfinite(float(row[name])), name
    rows = (keep / "rows.jsonl").read_text().splitlines()
    assert len(list((keep / "clips").glob("*.flac"))) == 3
    assert "| functionals | ravdess/validation |" in capsys.readouterr().out
    assert command.run(kind, "A look.", arguments) == 0
    assert (keep / "rows.jsonl").read_text().splitlines() == rows
    assert len(trials_table.read(table)) == 2
    assert command.run(kind, "A look.", [*arguments[:-1], "steps=3"]) == 1
    assert "made with another bundle or other settings" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.network
def test_the_content_look_tells_words_error_and_probes(bundle_folder, corpora, tmp_path, capsys):
    out = tmp_path / "content.json"
    arguments = [str(bundle_folder), "--corpora", str(corpora), "--limit", "2", "--out", str(out)]
    assert content.main(arguments) == 0, capsys.readouterr().err
    told = json.loads(out.read_text())
    assert told["synthetic"]["word_errors_copy"] <= 1.0 and told["synthetic"]["squared_error"] > 0
    assert told["probes"]["voice_chance"] == 0.5
