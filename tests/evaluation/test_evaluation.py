"""The whole evaluation of a tiny bundle, and its report, as a user would run it."""

import csv
import html.parser
import json

import numpy as np
import pytest
import soundfile
from tiny_store import entries

from emoconv_jax.cli import evaluate
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.evaluation import report
from emoconv_jax.evaluation.evaluation import AUDIO, Asked, Evaluation
from emoconv_jax.evaluation.judges import Judges
from emoconv_jax.evaluation.rows import ROWS_FILE, SETTINGS_FILE
from emoconv_jax.evaluation.trials import MIXED_IN, WHAT, Trial, request_of, shared_out, trials
from emoconv_jax.evaluation.yardsticks import BY_RULE, UNCHANGED
from emoconv_jax.inference.conversion import CAUTION
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index

ODD = "<script>alert(1)</script>.wav"
ASKED = {"what": ("arousal",), "systems": ("source", "level"), "limit": 1, "request": {"steps": 1}}


@pytest.fixture(scope="module")
def clips(tmp_path_factory, speech):
    """Two clips of one voice, whose text has no words that Whisper could be asked for; one has a
    name that is markup."""
    place = tmp_path_factory.mktemp("heard")
    (place / "corpora" / "made" / ODD).parent.mkdir(parents=True)
    for i, name in enumerate((ODD, "1.wav")):
        path = place / "corpora" / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, speech * (0.5 + 0.3 * i), 22050)
    utterances = entries(
        [1, 1],
        lambda i: {
            "path": (ODD, "1.wav")[i],
            "split": "test",
            "speaker": "ann",
            "emotion": ("sad", "happy")[i],
            "text": "...",
        },
    )
    (place / "features").mkdir()
    write_array(place / "features", "speaker", np.eye(2))
    write_index(place / "features", MelConfig(), utterances, [2])
    return FeatureStore(place / "features"), place / "corpora"


@pytest.fixture(scope="module")
def judges(converter) -> Judges:
    return Judges(converter, converter.emotion)


def evaluation(clips, converter, judges, out, **changes) -> Evaluation:
    return Evaluation(converter, *clips, out, judges, Asked(**(ASKED | changes)))


class Page(html.parser.HTMLParser):
    """Tags of a page, and the addresses in it."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.mark.slow
def test_rows_sounds_and_a_page_that_needs_nothing_else(
    clips, converter, judges, tmp_path, monkeypatch
):
    texts, hear = [], judges.hear
    monkeypatch.setattr(judges, "hear", lambda *heard: texts.append(heard[1:]) or hear(*heard))
    one = evaluation(clips, converter, judges, tmp_path / "o")
    rows = one.run()
    assert texts == [("...", "en")] * len(rows)
    assert [row.system for row in rows] == ["source"] + ["model"] * 7 + ["level"] * 7
    heard = rows[0].figures
    wanted = {"own_arousal", "own_arousal_equal_level", "second_arousal", "own_voice", "level_db"}
    assert wanted <= set(heard)
    assert heard["second_arousal"] == heard["own_arousal"]  # the same machine here
    comments = [soundfile.SoundFile(tmp_path / "o" / AUDIO / one.file).comment for one in rows]
    assert comments == [""] + [CAUTION] * 14  # the source is a recording
    for row in rows:
        sound, rate_hz = soundfile.read(tmp_path / "o" / AUDIO / row.file)
        assert len(sound) / rate_hz == pytest.approx(row.figures["seconds"])
        assert row.figures["own_nearest"] == 1.0  # the only voice there is
    summary = report.write(rows, one.voices, judges.notes, tmp_path / "o")
    assert summary["systems"]["source"]["all"]["l_abs_own"]["value"] == pytest.approx(
        np.mean(np.abs(heard["own_arousal"] - np.arange(1, 8))) / 6
    )
    text = (tmp_path / "o" / "report.html").read_text()
    page = Page(text)
    assert "script" not in page.tags and ODD not in text
    assert page.tags.count("audio") == 15 and page.tags.count("svg") >= 1
    assert all(a.startswith(("data:audio/ogg;base64,", "#")) for a in page.addresses)
    with open(tmp_path / "o" / "report.csv", newline="") as file:
        sheet = list(csv.DictReader(file))
    assert len(sheet) == 15 and sheet[0]["path"] == ODD
    assert float(sheet[0]["own_arousal"]) == heard["own_arousal"]
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["systems"].keys() == {
        "source",
        "model",
        "level",
    }
    # after a crash in the middle of the last line that one alone is measured anew
    before = (tmp_path / "o" / ROWS_FILE).read_bytes()
    marked = before.replace(b'"speaker": "ann"', b'"speaker": "bea"')
    (tmp_path / "o" / ROWS_FILE).write_bytes(marked[:-40])
    again = evaluation(clips, converter, judges, tmp_path / "o").run()
    assert [row.speaker for row in again] == ["bea"] * 14 + ["ann"]
    assert [row.figures for row in again] == [row.figures for row in rows]
    # and other settings are refused
    with pytest.raises(EmoconvError, match="use a fresh folder"):
        evaluation(clips, converter, judges, tmp_path / "o", request={"steps": 2}).run()
    (tmp_path / "o" / SETTINGS_FILE).unlink()
    with pytest.raises(EmoconvError, match="nobody knows what the rows are of"):
        evaluation(clips, converter, judges, tmp_path / "o").run()


@pytest.mark.slow
def test_an_emotion_is_compared_with_the_recording_of_it(clips, converter, judges, tmp_path):
    """The two clips are the same speech, one .5 and one .8 as loud: the source is next to nothing
    away from its counterpart, whose emotion alone has a distance."""
    one = evaluation(
        clips, converter, judges, tmp_path / "o", what=("emotions",), systems=("source",)
    )
    rows = one.run()
    [index] = one.chosen
    other = {"sad": "happy", "happy": "sad"}[clips[0].utterances[index].emotion]
    compared = {row.emotion: row.figures for row in rows if "mcd_db" in row.figures}
    assert set(compared) == {"", other}
    assert compared[""]["mcd_db"] < 0.5 < compared[other]["mcd_db"]
    assert compared[""]["f0_error_semitones"] == pytest.approx(0, abs=0.3)


def test_the_command_offers_all_trials_and_yardsticks():
    assert evaluate.TRIALS == WHAT and set(evaluate.YARDSTICKS) == {*UNCHANGED, *BY_RULE}


def test_trials_are_all_levels_all_emotions_and_the_mixes_of_the_turn():
    found = trials(("arousal", "emotions", "mixes"), ("happy", "sad"), ["sad"], ("source", "level"))
    names = [trial.name for trial in found]
    assert names[0] == "source" and len(set(names)) == len(names)
    assert [n for n in names if n.startswith("level")] == [
        f"level_arousal_{v}" for v in range(1, 8)
    ]
    assert names[-5:] == ["model_mixes_0", *(f"model_mixes_sad_{v}" for v in (0.2, 0.4, 0.6, 0.8))]
    assert "model_emotions_happy" in names


def test_an_emotion_is_mixed_in_on_all_steps_or_by_three_phases():
    found = [request_of(Trial("model", mixing, "sad", 0.4), {}) for mixing in ("mixes", "emomix")]
    assert [(one.intensity, one.base, one.strength) for one in found] == [
        (0.4, None, None),
        (None, "neutral", 0.4),
    ]
    assert [one.mix for one in found] == [{"sad": 1.0}, {"sad": 1.0}]


def test_every_speaker_gets_every_emotion_in_turn():
    """Six speakers take turns, as `choose` gives them; by number alone, three emotions would each
    be that of two speakers."""
    speakers = [f"v{i}" for i in range(6)] * 3
    found = shared_out(speakers, MIXED_IN, 1)
    for speaker in set(speakers):
        own = [names[0] for names, of in zip(found, speakers, strict=True) if of == speaker]
        assert sorted(own) == sorted(MIXED_IN)
    assert sorted(names[0] for names in found[:3]) == sorted(MIXED_IN)
    assert all(len(set(two)) == 2 for two in shared_out(speakers, MIXED_IN, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"what": ("mixes",), "mixed_in": ("joyous",)}, "mixed_in: found joyous, allowed are"),
        ({"what": ("mixes",), "each": 4}, r"each: found 4, allowed is 1\.\.3"),
        ({"what": ("mixes",), "mixed_in": ("sad", "sad")}, "found sad, sad, allowed is each"),
        ({"what": ("mixes",), "mixed_in": ("neutral",)}, "mixed_in: found neutral, allowed are"),
        ({"what": ()}, "trials: found none"),
        ({"what": ("arousals",)}, "trials: found arousals, allowed are arousal, emotions"),
        ({"systems": ("sources",)}, "yardsticks: found sources, allowed are source, copy"),
        ({"seed": -1}, "seed: found -1"),
        ({"request": {"steps": 0}}, "steps: found 0"),
        ({"request": {"start": 2.0}}, "start: found 2.0"),
    ],
)
def test_what_makes_no_sense_is_refused(clips, converter, judges, tmp_path, changes, message):
    assert len(MIXED_IN) == 3
    with pytest.raises(UsageError, match=message):
        evaluation(clips, converter, judges, tmp_path / "o", **changes)
    assert not (tmp_path / "o").exists()
