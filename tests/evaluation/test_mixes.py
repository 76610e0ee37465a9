"""The order of asked and heard: counts made by hand, and sweeps of a tiny bundle's conversions."""

import json
import math

import numpy as np
import pytest
import soundfile
from tiny_store import entries

from emoconv_jax.cli.evaluate import order_table
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.evaluation import trials
from emoconv_jax.evaluation.mixes import Row, evaluate, in_series, order, summarise
from emoconv_jax.evaluation.rows import ROWS_FILE, SETTINGS_FILE
from emoconv_jax.evaluation.trials import shared_out
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index

STRENGTHS = np.array(trials.STRENGTHS)


def test_pairs_and_tau_of_one_series_by_hand():
    """Of the 10 pairs of (.1, .3, .2, .5, .4) two fall: .3 before .2 and .5 before .4. Eight in
    order against two gives tau (8 - 2) / 10."""
    found = order(STRENGTHS, np.array([[0.1, 0.3, 0.2, 0.5, 0.4]]))
    assert found["pairs_in_order"] == pytest.approx(0.8)
    assert found["tau"] == found["tau_low"] == found["tau_high"] == pytest.approx(0.6)
    assert found["ends_in_order"] == 1.0
    assert found["means"] == {"0": 0.1, "0.2": 0.3, "0.4": 0.2, "0.6": 0.5, "0.8": 0.4}


def test_ties_are_not_in_order_and_no_change_is_tau_zero():
    """(0, 0, 1): two of three pairs rise. Tau-b is 2 / sqrt(3 x 2), the tie of what is heard taken
    out of one factor only."""
    found = order(np.arange(3.0), np.array([[0.0, 0.0, 1.0]]))
    assert found["pairs_in_order"] == pytest.approx(2 / 3)
    assert found["tau"] == pytest.approx(2 / math.sqrt(6))
    still = order(np.arange(3.0), np.full((2, 3), 0.5))
    assert (still["pairs_in_order"], still["tau"], still["ends_in_order"]) == (0.0, 0.0, 0.0)


def test_means_are_over_utterances_and_the_interval_holds_them():
    rising, falling = np.arange(5.0), np.arange(5.0)[::-1]
    found = order(STRENGTHS, np.stack([rising] * 3 + [falling]))
    assert found["pairs_in_order"] == pytest.approx(0.75)
    assert found["tau"] == pytest.approx(0.5)  # three of 1, one of -1
    assert found["tau_low"] < 0.5 < found["tau_high"] <= 1.0


def test_every_speaker_gets_every_emotion_in_turn():
    """Six speakers take turns, as `choose` gives them; by number alone, three emotions would each
    be that of two speakers."""
    speakers = [f"v{i}" for i in range(6)] * 3
    found = shared_out(speakers, ("happy", "angry", "sad"), 1)
    for speaker in set(speakers):
        own = [names[0] for names, of in zip(found, speakers, strict=True) if of == speaker]
        assert sorted(own) == ["angry", "happy", "sad"]
    assert sorted(names[0] for names in found[:3]) == ["angry", "happy", "sad"]
    assert all(len(set(two)) == 2 for two in shared_out(speakers, ("happy", "angry", "sad"), 2))


def row(path, mixed_in, value, happy, happy_equal, level_db=-30.0) -> Row:
    told, equal = {"happy": happy, "sad": 1 - happy}, {"happy": happy_equal, "sad": 1 - happy_equal}
    return Row("made", path, "ann", mixed_in, value, level_db, told, equal, 4.0, 4.0)


def test_strength_zero_belongs_to_every_emotion_and_what_is_incomplete_is_left_out():
    rows = [row("0", "", 0.0, 0.2, 0.2)]
    rows += [row("0", name, 0.4, 0.5, 0.1, -20.0) for name in ("happy", "sad")]
    rows += [row("1", "", 0.0, 0.2, 0.2)]
    series = in_series(rows)
    assert [(one.mixed_in, [r.value for r in one.rows]) for one in series] == [
        ("happy", [0.0, 0.4]),
        ("sad", [0.0, 0.4]),
    ]
    found = summarise(rows)
    assert list(found) == ["all", "happy", "sad", "made"]
    assert (found["all"]["utterances"], found["all"]["series"]) == (1, 2)
    assert found["happy"]["pairs_in_order"] == 1.0  # .2 -> .5
    assert found["happy"]["pairs_in_order_equal_level"] == 0.0  # .2 -> .1
    assert found["sad"]["pairs_in_order"] == 0.0  # .8 -> .5
    assert found["all"]["pairs_in_order"] == 0.5
    assert found["sad"]["means"] == {"0": pytest.approx(0.8), "0.4": pytest.approx(0.5)}
    assert found["all"]["level_db"] == {"0": -30.0, "0.4": -20.0}
    assert "| heard at 0.4 | 0.50 | 0.50 | 0.50 | 0.50 |" in order_table(found)


@pytest.fixture(scope="module")
def clips(tmp_path_factory, speech):
    """Two clips of two unseen speakers."""
    place = tmp_path_factory.mktemp("clips")
    (place / "corpora" / "made").mkdir(parents=True)
    for i in range(2):
        soundfile.write(place / "corpora" / "made" / f"{i}.wav", speech * (0.5 + 0.3 * i), 22050)
    utterances = entries(
        [1, 1], lambda i: {"corpus": "made", "split": "test", "speaker": ("ann", "bea")[i]}
    )
    (place / "features").mkdir()
    write_array(place / "features", "speaker", np.eye(2))
    write_index(place / "features", MelConfig(), utterances, [2])
    return FeatureStore(place / "features"), place / "corpora"


@pytest.mark.slow
def test_a_sweep_of_strengths_continues_and_counts_every_utterance(clips, converter, tmp_path):
    store, corpora = clips
    out = tmp_path / "mixes"

    def run(**changes):
        fields = {"limit": 2, "steps": 1, "values": (0.0, 0.8), **changes}
        return evaluate(converter, store, corpora, out, **fields)

    first = run(limit=1)
    assert first["all"]["utterances"] == 1
    marked = [json.loads(line) | {"level_db": -1.0} for line in (out / ROWS_FILE).open()]
    assert [(r["mixed_in"], r["value"]) for r in marked] == [("", 0.0), ("happy", 0.8)]
    (out / ROWS_FILE).write_text("".join(json.dumps(one) + "\n" for one in marked))
    whole = run()
    rows = [json.loads(line) for line in (out / ROWS_FILE).open()]
    assert [r["level_db"] == -1.0 for r in rows] == [True, True, False, False]
    assert (whole["all"]["utterances"], whole["all"]["series"]) == (2, 2)
    assert {r["mixed_in"] for r in rows} == {"", "happy", "angry"}  # of three, the first two
    for one in rows:
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert "| utterances | 2 |" in order_table(whole)
    with pytest.raises(EmoconvError, match="use a fresh folder"):
        run(what="levels", values=None)


@pytest.mark.slow
def test_a_sweep_of_arousal_has_a_series_of_its_values(clips, converter, tmp_path):
    store, corpora = clips
    fields = {"what": "levels", "values": (1.0, 4.5, 7.0), "limit": 1, "steps": 1}
    found = evaluate(converter, store, corpora, tmp_path / "o", **fields)
    assert found["all"]["series"] == 1
    assert [one["arousal"] for one in found["requests"]] == [1.0, 4.5, 7.0]
    assert list(found["all"]["means"]) == ["1", "4.5", "7"]
    assert 3 * found["all"]["tau"] == pytest.approx(6 * found["all"]["pairs_in_order"] - 3)


def test_by_default_all_strengths_and_all_levels_are_asked_for(clips, converter, tmp_path):
    """Settings name the requests: 0 once, four strengths of each emotion, and seven levels."""
    empty = {"limit": 1, "steps": 1, "split": "test", "emotions": ("happy", "sad")}
    store, corpora = clips
    for what, count in (("mixes", 1 + 2 * 4), ("levels", 7)):
        (tmp_path / what).mkdir()
        (tmp_path / what / ROWS_FILE).write_text("no row\n")
        with pytest.raises(EmoconvError, match="a line is no row"):
            evaluate(converter, store, corpora, tmp_path / what, what=what, **empty)
        settings = json.loads((tmp_path / what / SETTINGS_FILE).read_text())
        assert len(settings["requests"]) == count


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emotions": ("joyous",)}, "mixed_in: found joyous, allowed are neutral, calm"),
        ({"each": 4}, r"each: found 4, allowed is 1\.\.3"),
        ({"steps": 0}, "steps: found 0"),
    ],
)
def test_a_wrong_request_does_not_claim_the_folder(clips, converter, tmp_path, changes, message):
    store, corpora = clips
    with pytest.raises(UsageError, match=message):
        evaluate(converter, store, corpora, tmp_path / "o", **changes)
    assert not (tmp_path / "o").exists()
