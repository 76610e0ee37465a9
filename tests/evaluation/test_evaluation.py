"""The whole evaluation of a tiny bundle, and its report, as a user would run it."""

import csv
import html.parser
import json
import re
import shutil
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from absl import flags as absl_flags
from tiny_store import entries

from emoconv_jax.audio.prosody import level_db
from emoconv_jax.cli import evaluate
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.evaluation import judges as judges_module
from emoconv_jax.evaluation import report
from emoconv_jax.evaluation.evaluation import AUDIO, Asked, Evaluation, Row
from emoconv_jax.evaluation.judges import Judges
from emoconv_jax.evaluation.rows import ROWS_FILE, SETTINGS_FILE
from emoconv_jax.evaluation.trials import MIXED_IN, MODEL, Trial, request_of, shared_out, trials
from emoconv_jax.inference.conversion import CAUTION
from emoconv_jax.inference.encoders import Recognition
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index

ODD = "<script>alert({})</script>.wav"
GAINS = {"ann": (0.5, 0.8), "bea": (0.1, 0.12)}  # of both clips of a voice; bea's are quiet
ASKED = {"what": ("arousal",), "systems": ("source", "level"), "limit": 1, "request": {"steps": 1}}


@pytest.fixture(scope="module")
def clips(tmp_path_factory, speech):
    """Two clips of each of two voices, which differ by their level; their texts have no words that
    Whisper could be asked for, and their names are markup."""
    place = tmp_path_factory.mktemp("heard")
    made = [(voice, i, gain) for voice, gains in GAINS.items() for i, gain in enumerate(gains)]
    for number, (_, _, gain) in enumerate(made):
        path = place / "corpora" / "made" / ODD.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, gain * speech, 22050)
    utterances = entries(
        [1] * len(made),
        lambda i: {
            "path": ODD.format(i),
            "split": "test",
            "speaker": made[i][0],
            "emotion": ("sad", "happy")[made[i][1]],
            "text": "...",
        },
    )
    (place / "features").mkdir()
    write_array(place / "features", "speaker", np.eye(len(made)))
    write_index(place / "features", MelConfig(), utterances, [len(made)])
    return FeatureStore(place / "features"), place / "corpora"


class HearsLevels:
    """A second recogniser: arousal is 4 at -26 dBFS and one more for every 6 dB."""

    def hear(self, audio, sample_rate_hz):
        arousal = arousal_at(float(level_db(audio, sample_rate_hz)))
        return Recognition(np.zeros(1, np.float32), {"happy": arousal / 10}, arousal)


def arousal_at(decibels: float) -> float:
    return 4 + (decibels + 26) / 6


def voice_of(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    return voice_at(float(level_db(audio, sample_rate_hz)))


def voice_at(decibels: float) -> np.ndarray:
    """A second speaker encoder: a direction, 2 degrees for every dB."""
    angle = np.deg2rad(2 * decibels)
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


def whisper():
    raise ModuleNotFoundError("no Whisper", name="faster_whisper")


@pytest.fixture(scope="module")
def judges(converter) -> Judges:
    """Judges of whom the own ones alone are networks; tests/evaluation/test_judges.py has all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judges_module, "SecondSpeaker", lambda: voice_of)
        patch.setattr(judges_module, "Dnsmos", lambda: lambda audio, rate_hz: (3.0, 2.5))
        patch.setattr(judges_module, "Distillmos", lambda: lambda audio, rate_hz: 4.5)
        patch.setattr(judges_module, "_whisper", whisper)
        return Judges(converter, HearsLevels())


def evaluation(clips, converter, judges, out, **changes) -> Evaluation:
    return Evaluation(converter, *clips, out, judges, Asked(**(ASKED | changes)))


class Measured(NamedTuple):
    """One whole evaluation; `texts` are those that the judges were told."""

    evaluation: Evaluation
    rows: list[Row]
    texts: list[tuple[str, str]]
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def measured(clips, converter, judges, tmp_path_factory) -> Measured:
    out, texts, hear = tmp_path_factory.mktemp("evaluation") / "o", [], judges.hear
    one = evaluation(clips, converter, judges, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judges, "hear", lambda *heard: texts.append(heard[1:]) or hear(*heard))
        rows = one.run()
    return Measured(one, rows, texts, report.write(rows, one.voices, judges.notes, out))


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
def test_rows_sounds_and_a_page_that_needs_nothing_else(clips, measured):
    one, rows, texts, summary = measured
    assert texts == [("...", "en")] * len(rows)
    assert [row.system for row in rows] == ["source"] + ["model"] * 7 + ["level"] * 7
    heard = rows[0].figures
    wanted = {"own_arousal", "own_arousal_equal_level", "second_arousal", "own_voice", "level_db"}
    assert wanted <= set(heard)
    assert (heard["sig"], heard["ovrl"], heard["distillmos"]) == (3.0, 2.5, 4.5)
    comments = [soundfile.SoundFile(one.out / AUDIO / row.file).comment for row in rows]
    assert comments == [""] + [CAUTION] * 14  # the source is a recording
    for row in rows:
        sound, rate_hz = soundfile.read(one.out / AUDIO / row.file)
        assert len(sound) / rate_hz == pytest.approx(row.figures["seconds"])
    assert summary["systems"]["source"]["all"]["l_abs_own"]["value"] == pytest.approx(
        np.mean(np.abs(heard["own_arousal"] - np.arange(1, 8))) / 6
    )
    text = (one.out / "report.html").read_text()
    page = Page(text)
    assert "script" not in page.tags and "<script>alert" not in text
    assert page.tags.count("audio") == 15 and page.tags.count("svg") >= 1
    assert all(a.startswith(("data:audio/ogg;base64,", "#")) for a in page.addresses)
    with open(one.out / "report.csv", newline="") as file:
        sheet = list(csv.DictReader(file))
    assert len(sheet) == 15 and sheet[0]["path"] == clips[0].utterances[one.chosen[0]].path
    assert float(sheet[0]["own_arousal"]) == heard["own_arousal"]
    assert json.loads((one.out / "summary.json").read_text())["systems"].keys() == {
        "source",
        "model",
        "level",
    }


@pytest.mark.slow
def test_an_evaluation_goes_on_where_it_was(clips, converter, judges, measured, tmp_path):
    rows = measured.rows
    shutil.copytree(measured.evaluation.out, tmp_path / "o")
    # after a crash in the middle of the last line that one alone is measured anew
    before = (tmp_path / "o" / ROWS_FILE).read_bytes()
    marked = before.replace(b'"speaker": "ann"', b'"speaker": "cid"')
    (tmp_path / "o" / ROWS_FILE).write_bytes(marked[:-40])
    again = evaluation(clips, converter, judges, tmp_path / "o").run()
    assert [row.speaker for row in again] == ["cid"] * 14 + ["ann"]
    assert [row.figures for row in again] == [row.figures for row in rows]
    # and other settings are refused
    with pytest.raises(EmoconvError, match="use a fresh folder"):
        evaluation(clips, converter, judges, tmp_path / "o", request={"steps": 2}).run()
    (tmp_path / "o" / SETTINGS_FILE).unlink()
    with pytest.raises(EmoconvError, match="nobody knows what the rows are of"):
        evaluation(clips, converter, judges, tmp_path / "o").run()


@pytest.mark.slow
def test_the_second_listeners_are_others_than_the_own(measured, speech):
    """The second recogniser and the second speaker encoder hear nothing but levels, so that all
    their figures follow from the gains. The level yardstick moves a source by 2.5 dB for every step
    from the arousal that the own recogniser heard, as far as full scale allows."""
    rows, [index] = measured.rows, measured.evaluation.chosen
    loudest, plain_db = np.abs(speech).max(), level_db(speech, 22050)
    by_voice = {voice: plain_db + 20 * np.log10(gains) for voice, gains in GAINS.items()}
    own = index % 2
    source_db, other_db = by_voice["ann"][own], by_voice["ann"][1 - own]
    source, *moved = (row for row in rows if row.system != "model")
    nearest = []
    for row in (source, *moved):
        figures, gain = row.figures, 1.0
        if row.what:
            gain = 10 ** (2.5 * (row.value - source.figures["own_arousal"]) / 20)
            gain = min(gain, 0.99 / (GAINS["ann"][own] * loudest))
        decibels = source_db + 20 * np.log10(gain)
        assert figures["second_arousal"] == pytest.approx(arousal_at(decibels), abs=0.02)
        assert figures["second_happy"] == pytest.approx(arousal_at(decibels) / 10, abs=0.002)
        assert figures["second_arousal_equal_level"] == pytest.approx(4, abs=0.02)
        # a clip's own voice is its other clip, the other one's lies in the middle of both
        middle = np.mean([voice_at(x) for x in by_voice["bea"]], axis=0)
        likeness = [
            np.dot(voice_at(decibels), voice) / np.linalg.norm(voice)
            for voice in (voice_at(other_db), middle)
        ]
        assert figures["second_voice"] == pytest.approx(likeness[0], abs=1e-3)
        nearest.append(float(likeness[0] > likeness[1]))
        assert figures["second_nearest"] == nearest[-1]
    assert set(nearest) == {0.0, 1.0}  # the quiet ones are taken for bea
    assert source.figures["second_arousal"] != source.figures["own_arousal"]
    found = measured.summary["systems"]["level"]["all"]
    assert found["second_nearest"]["value"] == pytest.approx(np.mean(nearest[1:]))
    assert found["second_nearest_guess"]["value"] == 0.5
    assert found["l_abs_second"]["value"] == pytest.approx(
        np.mean([abs(row.figures["second_arousal"] - row.value) for row in moved]) / 6
    )


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


def test_every_trial_and_yardstick_of_the_help_is_one_that_is_done():
    offered = {
        flag: re.search(rf"\[--{flag} ([\w,]+)\]", str(evaluate.__doc__))[1].split(",")
        for flag in ("trials", "yardsticks")
    }
    flags = absl_flags.FlagValues()
    evaluate.define(flags)
    flags(["emoconv evaluate"])
    assert offered == {flag: getattr(flags, flag) for flag in offered}  # by default all
    for what in offered["trials"]:
        alone = trials((what,), ("happy",), ("sad",), ())
        assert alone and {(trial.system, trial.what) for trial in alone} == {(MODEL, what)}
    done = trials(("arousal",), (), (), offered["yardsticks"])
    assert {trial.system for trial in done} == {MODEL, *offered["yardsticks"]}


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
