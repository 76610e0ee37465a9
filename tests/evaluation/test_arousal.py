"""Evaluation: counts against arithmetic done by hand on a store of two-number voices."""

import dataclasses
import json
import math

import numpy as np
import pytest
import soundfile
from tiny_store import voice_store

from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation.arousal import Row, evaluate, summarise
from emoconv_jax.evaluation.rows import ROWS_FILE
from emoconv_jax.evaluation.subjects import Voices


@pytest.fixture
def voices(tmp_path) -> Voices:
    store = voice_store(tmp_path / "features")
    return Voices(store, "test", np.array(store.array("speaker")))


def row(path, speaker, target, *figures, nearest, corpus="made") -> Row:
    value, equal, f0_hz, level_db = figures
    return Row(corpus, path, speaker, target, value, equal, f0_hz, level_db, nearest)


ROWS = [
    row("0", "ann", 1.0, 2.0, 3.0, 100.0, -30.0, nearest="ann"),
    row("0", "ann", 7.0, 5.0, 2.0, 120.0, -20.0, nearest="bea"),
    row("4", "carl", 1.0, 4.0, 4.0, 200.0, -28.0, nearest="carl"),
    row("4", "carl", 7.0, 3.0, 5.0, 180.0, -26.0, nearest="carl"),
    row("5", "carl", 1.0, 1.0, 1.0, math.nan, -22.0, nearest="bea"),
    row("5", "carl", 7.0, 7.0, 6.0, 300.0, -21.0, nearest="carl"),
    row("1", "ann", 1.0, 9.0, 9.0, 900.0, 0.0, nearest="ann"),  # its other half is missing
]


def test_shares_and_means_are_those_of_complete_pairs(voices):
    found = summarise(ROWS, (1.0, 7.0), voices)["all"]
    real = (0.0 + 1.0 + 1.0) / 3  # ann, carl, carl
    assert found == pytest.approx(
        {
            "utterances": 3,
            "voiced_pairs": 2,
            "arousal_rises": 2 / 3,  # 2 -> 5, 4 -> 3, 1 -> 7
            "arousal_rises_equal_level": 2 / 3,  # 3 -> 2, 4 -> 5, 1 -> 6
            "f0_rises": 1 / 2,  # 100 -> 120, 200 -> 180; the third is unvoiced once
            "arousal_low": 7 / 3,
            "arousal_high": 15 / 3,
            "f0_low_hz": 150.0,
            "f0_high_hz": 150.0,
            "level_low_db": -80 / 3,
            "level_high_db": -67 / 3,
            "own_speaker_nearest": 4 / 6,
            "own_speaker_nearest_real": real,
            "own_speaker_ratio": (4 / 6) / real,
        }
    )


def test_each_corpus_is_counted_apart(voices):
    pair = [
        row("9", "carl", 1.0, 5.0, 5.0, 100.0, -20.0, nearest="carl", corpus="other"),
        row("9", "carl", 7.0, 4.0, 6.0, 110.0, -20.0, nearest="carl", corpus="other"),
    ]
    found = summarise(ROWS + pair, (1.0, 7.0), voices)
    assert list(found) == ["all", "made", "other"]
    assert found["all"]["utterances"] == 4
    assert found["made"]["arousal_rises"] == pytest.approx(2 / 3)
    assert found["other"]["arousal_rises"] == 0.0
    assert found["all"]["arousal_rises"] == pytest.approx(2 / 4)


@pytest.fixture
def corpora(tmp_path, speech):
    """Two clips of one corpus, with the d-vectors of a store."""
    folder = tmp_path / "corpora" / "made"
    folder.mkdir(parents=True)
    for i in range(2):
        soundfile.write(folder / f"{i}.wav", speech * (0.5 + 0.3 * i), 22050)
    clips = [("ann", "F", "sad", tuple(np.eye(256)[i])) for i in range(2)]
    return voice_store(tmp_path / "features", clips), folder.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": 2.0}, "start: found 2.0"),
        ({"seed": -1}, "seed: found -1"),
        ({"split": "tset"}, "no utterances of unseen speakers in split 'tset'"),
    ],
)
def test_a_wrong_request_does_not_claim_the_folder(corpora, converter, tmp_path, changes, message):
    store, folder = corpora
    with pytest.raises(EmoconvError, match=message):
        evaluate(converter, store, folder, tmp_path / "report", **changes)
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_d_vectors_of_two_encoders_are_not_compared(corpora, converter, tmp_path, monkeypatch):
    store, folder = corpora
    roles = dataclasses.replace(converter.config.roles, speaker="bundle")
    own = dataclasses.replace(converter.config, roles=roles)
    monkeypatch.setattr(converter, "config", own)
    with pytest.raises(
        EmoconvError, match=r"roles\.speaker is 'bundle', but the features'"
    ) as caught:
        evaluate(converter, store, folder, tmp_path / "report", limit=1, steps=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_an_interrupted_evaluation_continues_where_it_was(
    corpora, converter, tmp_path, monkeypatch
):
    store, folder = corpora
    out = tmp_path / "report"

    def run(**changes):
        return evaluate(converter, store, folder, out, **({"limit": 2, "steps": 1} | changes))

    whole = run()
    assert whole["all"]["utterances"] == 2
    assert [request["steps"] for request in whole["requests"]] == [1, 1]
    assert [request["start"] for request in whole["requests"]] == [1.0, 1.0]  # the bundle's own
    assert (whole["bundle"], len(whole["bundle_sha256"])) == ("tiny", 64)
    lines = (out / ROWS_FILE).read_text().splitlines()
    assert len(lines) == 4
    # A crash in the middle of the last line, and marks on the others to see them kept.
    marked = [json.dumps(json.loads(line) | {"level_db": -1.0}) for line in lines[:3]]
    (out / ROWS_FILE).write_text("\n".join([*marked, lines[3][:20]]))
    again = run()
    rows = [json.loads(line) for line in (out / ROWS_FILE).read_text().splitlines()]
    assert [r["level_db"] == -1.0 for r in rows] == [True, True, True, False]
    assert again["all"]["arousal_high"] == whole["all"]["arousal_high"]
    assert run(limit=1)["all"]["utterances"] == 1  # rows beyond the limit are not counted
    with pytest.raises(EmoconvError, match="use a fresh folder"):
        run(steps=2)
    monkeypatch.setattr(converter, "sha256", "0" * 64)  # another bundle of the same name
    with pytest.raises(EmoconvError, match="use a fresh folder"):
        run()
