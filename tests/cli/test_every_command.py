"""From a corpus folder to a converted file by the commands alone, with networks of a few weights.

What a stranger types: prepare, train, export, prepare --bundle, train, export, export --banks,
convert, evaluate, demo; on pieces of the project's sample.
"""

import html
import json
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest
import soundfile
from tiny_bundle import SAMPLE, SPEECH_SAMPLES

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.bundles.banks import load_banks
from emoconv_jax.bundles.format import read_config
from emoconv_jax.cli.main import main

pytestmark = pytest.mark.slow

CONFIG = """
from ml_collections import ConfigDict

NETWORKS = {
    "recogniser": {"maps": (4,), "linear": 8, "hidden": 4, "embedding": 8},
    "average_voice": {"channels": 16, "feed_forward": 16, "layers": 1, "postnet_width": 8,
                      "postnet_groups": 4},
    "score_network": {"width": 8, "multipliers": (1,), "groups": 4, "condition_width": 8,
                      "emotion": 8},
}


def get_config(trainee):
    return ConfigDict({"trainee": trainee, "network": NETWORKS[trainee], "splits": ("a",),
                       "batch": 2, "frames": 32, "steps": 5, "warmup": 1})
"""
SPLITS = {"voices": {"splits": {"a": {"speakers": ["ann"]}, "test": {"speakers": ["bea", "cid"]}}}}
EMOTIONS = ("neutral", "happy", "sad")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """Pieces of the sample as three speakers; the phone times are made up."""
    place = tmp_path_factory.mktemp("place")
    corpus = place / "voices"
    corpus.mkdir()
    audio, lines, phones = read_audio(SAMPLE), ["path\tspeaker\tgender\temotion"], []
    for i, speaker in enumerate(["ann"] * 4 + ["bea"] * 2 + ["cid"] * 2):
        piece = audio[8000 * i : 8000 * i + SPEECH_SAMPLES]
        soundfile.write(corpus / f"{i}.wav", piece * (0.5 + i / 20), 22050)
        lines.append(f"{i}.wav\t{speaker}\tF\t{EMOTIONS[i % 3]}")
        for number, token in enumerate(("sil", "w", "i", "n")):
            phones.append(f"{i}.wav\t{token}\t{number * 0.15:.2f}\t{number * 0.15 + 0.15:.2f}")
    (corpus / "manifest.tsv").write_text("\n".join(lines) + "\n")
    (corpus / "phones.tsv").write_text("\n".join(["path\tphone\tstart_s\tend_s", *phones]) + "\n")
    (place / "splits.json").write_text(json.dumps(SPLITS))
    (place / "tiny.py").write_text(CONFIG)
    return place


@pytest.fixture
def emoconv(place, monkeypatch, capsys):
    """Runs a command in the place, which must succeed; returns what it printed."""
    monkeypatch.chdir(place)

    def run(line: str) -> str:
        words = line.split()
        monkeypatch.setattr(sys, "argv", ["emoconv", *words])  # ml_collections reads it too
        code = main(words)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


@pytest.mark.network
def test_from_a_corpus_to_converted_speech(emoconv, place):
    """One test, because every command needs what the one before it made."""
    out = emoconv("prepare voices --out features --splits splits.json")
    assert "8 of 8 utterances kept, 0 rejected; phone times from corpus: 8" in out
    assert "voices/ann" not in emoconv("data_report features --out shown_data")
    assert (place / "shown_data" / "report.png").stat().st_size > 10_000
    for trainee in ("recogniser", "average_voice"):
        command = f"train --config tiny.py:{trainee} --features features --workdir runs/{trainee}"
        out = emoconv(f"{command} --config.steps 2 --devices 1")
        assert "planned 2 steps of 2 = 4 examples of 32 frames" in out
        assert "done: 2 steps" in out
    out = emoconv("export runs/recogniser runs/average_voice --features features --out mine")
    assert out.count("averaged parameters of step 2") == 2
    config = read_config(place / "mine")
    assert (config.name, config.recogniser.embedding) == ("mine", 8)
    assert config.average_voice.channels == 16
    emoconv("prepare --out features --bundle mine")
    command = "train --config tiny.py:score_network --features features --workdir runs/score"
    assert "done: 2 steps" in emoconv(f"{command} --config.steps 2 --devices 1 --listen 2")
    assert list((place / "runs" / "score" / "tensorboard").iterdir())
    emoconv("export runs/score --out mine")
    assert "arousal/7: 4 utterances of voices/ann" in emoconv(
        "export --banks --features features --out mine"
    )
    banks = load_banks(place / "mine", 8)
    assert banks.emotions == ("happy", "neutral", "sad")
    assert {s for made in banks.made_from.values() for s in made["speakers"]} == {"voices/ann"}
    out = emoconv("convert voices/4.wav --out made --bundle mine --mix happy:3,sad:1 --steps 2")
    assert out.split() == ["made/4.wav"]
    audio, _ = soundfile.read(place / "made" / "4.wav")
    assert len(audio) == SPEECH_SAMPLES
    provenance = json.loads((place / "made" / "4.wav.json").read_text())
    assert provenance["conditions"] == ["happy", "sad"]
    words = "--features features --corpora . --out report --bundle mine --limit 1 --steps 2"
    out = emoconv(f"evaluate {words} --trials emotions --yardsticks source")
    assert "| | model | source |" in out and "second recogniser: none was given" in out
    rows = [json.loads(r) for r in (place / "report" / "rows.jsonl").read_text().splitlines()]
    assert [(r["speaker"], r["system"], r["emotion"]) for r in rows] == [
        ("voices/bea", "source", ""),
        *(("voices/bea", "model", emotion) for emotion in banks.emotions),
    ]
    assert np.isfinite([r["figures"]["own_arousal"] for r in rows]).all()
    assert (place / "report" / "report.html").is_file()


def test_the_demo_makes_a_page_of_any_file(emoconv, place, bundle_folder):
    name = "<b>&amp;'$x.wav"
    (place / name).write_bytes((place / "voices" / "5.wav").read_bytes())
    out = emoconv(f"demo {name} --out shown --bundle {bundle_folder} --steps 2")
    sounds = ["arousal_1.wav", "arousal_4.wav", "arousal_7.wav", "mix.wav"]
    assert sorted(path.name for path in (place / "shown").iterdir()) == sorted(
        [
            *sounds,
            *(f"{sound}.json" for sound in sounds),
            "source.wav",
            "comparison.png",
            "index.html",
        ]
    )
    page = (place / "shown" / "index.html").read_text()
    assert html.escape(name) in page
    assert name not in page
    figures = [line for line in out.splitlines() if re.search(r"-?\d+\.\d\s+-?[01]\.\d\d$", line)]
    assert len(figures) == 5
    assert figures[0].startswith("source ")
    assert figures[0].endswith(" 1.00")  # the source resembles itself


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("demo shown/source.wav --out shown", "shown/source.wav: would be overwritten"),
        ("demo voices/5.wav --out shown --seed -1", "seed: found -1"),
        ("demo voices/5.wav --out shown --steps 5000", "steps: found 5000"),
    ],
)
def test_a_wrong_request_leaves_nothing_behind(
    place, bundle_folder, tmp_path, monkeypatch, capsys, words, message
):
    folder = tmp_path / "place"
    shutil.copytree(place, folder)
    (folder / "shown").mkdir(exist_ok=True)
    shutil.copy(folder / "voices" / "5.wav", folder / "shown" / "source.wav")
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert main([*words.split(), "--bundle", str(bundle_folder)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("emoconv: ")
    assert message in captured.err
    assert sorted(folder.rglob("*")) == before
