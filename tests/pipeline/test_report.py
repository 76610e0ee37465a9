"""The report: figures by hand, a warning for each fault and none without, a picture of anything."""

import dataclasses
import functools
import json
import math

import matplotlib.image
import numpy as np
import pytest
from tiny_store import entries

from emoconv_jax.config import EMOTIONS, MelConfig, to_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.report import Report, duration, make_report, plain_name
from emoconv_jax.pipeline.report_picture import COLOURS, draw
from emoconv_jax.pipeline.report_text import in_plain_letters, report_text
from emoconv_jax.pipeline.report_warnings import findings
from emoconv_jax.pipeline.store import Utterance

MEL = MelConfig(sample_rate_hz=25_600)  # 100 frames of 256 samples a second
LONG = 12  # seconds


@functools.cache
def healthy(corpus: str = "good", speakers: int = 16) -> list[Utterance]:
    """16 speakers who each act the eight emotions five times, louder and higher with arousal."""
    splits = ["a"] * 6 + ["b"] * 4 + ["train"] * 2 + ["validation"] * 2 + ["test"] * 2

    def describe(i: int) -> dict:
        speaker, take = divmod(i, 40)
        arousal = 1.0 + (take * 7 % 40) / 39 * 6
        female = speaker % 2 == 0
        return {
            "corpus": corpus,
            "speaker": f"{corpus}/{speaker}",
            "gender": "F" if female else "M",
            "split": splits[speaker % 16],
            "emotion": EMOTIONS[take % 8],
            "arousal": arousal,
            "rated": take % 2 == 0,
            "level_db": -40.0 + 3 * arousal,
            "peak_db": -25.0 + 3 * arousal,
            "f0_hz": (180.0 if female else 100.0) * 2 ** (arousal / 12),
        }

    return entries([LONG * 100] * (speakers * 40), describe)


def change(utterances, of=lambda u: True, **fields) -> list[Utterance]:
    """The utterances, with some fields replaced in those for which `of` holds."""
    return [dataclasses.replace(u, **fields) if of(u) else u for u in utterances]


def report_of(utterances) -> Report:
    return make_report(utterances, MEL)


def a_few() -> list[Utterance]:
    """Hours, emotions and levels that a pencil can add up."""
    rows = [
        # corpus, speaker, gender, split, emotion, arousal, rated, level, f0, voiced, frames
        ("x", "x/ann", "F", "a", "happy", 6.0, True, -20.0, 200.0, 0.5, 360_000),
        ("x", "x/ann", "F", "a", "sad", 2.0, False, -30.0, 220.0, 0.4, 360_000),
        ("x", "x/bob", "M", "test", "", -1.0, False, -25.0, 0.0, 0.0, 720_000),
        ("y", "y/ann", "", "unused", "sad", 1.0, False, -50.0, 66.0, 0.05, 40),
    ]
    names = ("corpus", "speaker", "gender", "split", "emotion", "arousal", "rated", "level_db")
    names += ("f0_hz", "voiced")
    lengths = [row[-1] for row in rows]
    return entries(lengths, lambda i: dict(zip(names, rows[i][:-1], strict=True)))


def test_figures_of_four_utterances_by_hand():
    report = report_of(a_few())
    whole = report.overall
    assert whole.utterances == 4
    assert whole.hours == pytest.approx(4 + 0.4 / 3600)
    assert whole.speakers == 3
    assert whole.genders == {"F": 1, "M": 1, "none": 1}
    assert whole.emotions == dict.fromkeys(EMOTIONS, 0) | {"happy": 1, "sad": 2, "none": 1}
    assert whole.split_hours == pytest.approx({"a": 2.0, "test": 2.0, "unused": 0.4 / 3600})
    assert (whole.rated, whole.unvoiced, whole.f0_at_limits, whole.short) == (1, 2, 1, 1)
    assert whole.long_hours == pytest.approx(4.0)
    assert whole.speaker_level_deviation_db is None
    assert whole.arousal is not None
    assert (whole.arousal.count, whole.arousal.mean, whole.arousal.median) == (3, 3.0, 2.0)
    assert whole.arousal.deviation == pytest.approx(math.sqrt((9 + 1 + 4) / 3))
    filled = {whole.arousal.edges[i]: n for i, n in enumerate(whole.arousal.counts) if n}
    assert filled == {1.0: 1, 2.0: 1, 6.0: 1}
    assert whole.f0_hz is not None
    assert (whole.f0_hz.count, whole.f0_hz.least, whole.f0_hz.greatest) == (3, 66.0, 220.0)
    assert whole.speaker_minutes is not None
    assert whole.speaker_minutes.median == pytest.approx(120.0)  # of 120, 120 and nearly 0


def test_figures_by_corpus_and_split_are_those_of_their_utterances():
    report = report_of(a_few())
    assert list(report.corpora) == ["x", "y"]
    assert list(report.splits) == ["a", "test", "unused"]
    assert report.training == report.splits["a"]
    assert report.corpora["x"].level_db is not None
    assert report.corpora["x"].level_db.mean == pytest.approx(-25.0)
    assert report.splits["test"].arousal is None
    assert report.splits["test"].f0_hz is None
    assert report.corpora["y"] == report_of(a_few()[3:]).overall


def test_the_spread_of_level_is_that_within_speakers():
    levels = [-30.0, -20.0]  # deviation 5 within each, 20 between the two
    made = entries(
        [100] * 32,
        lambda i: {
            "speaker": f"s{i % 2}",
            "split": "a",
            "level_db": levels[i // 2 % 2] - 40 * (i % 2),
        },
    )
    assert report_of(made).overall.speaker_level_deviation_db == pytest.approx(5.0)


def test_parts_add_up_to_the_whole():
    report = report_of(healthy("one") + healthy("two"))
    for parts in (report.corpora, report.splits):
        assert sum(f.utterances for f in parts.values()) == report.overall.utterances == 1280
        assert sum(f.hours for f in parts.values()) == pytest.approx(1280 * LONG / 3600)
        counts = np.sum([f.level_db.counts for f in parts.values() if f.level_db], axis=0)
        assert report.overall.level_db
        assert counts.tolist() == report.overall.level_db.counts
        assert counts.sum() == 1280


def test_what_lies_beyond_a_histogram_is_in_its_outer_bins():
    made = change(a_few(), level_db=-99.0, f0_hz=2000.0)
    whole = report_of(made).overall
    assert whole.level_db and whole.f0_hz
    assert (whole.level_db.counts[0], whole.f0_hz.counts[-1]) == (4, 4)


def test_no_utterance_is_an_error():
    with pytest.raises(EmoconvError, match="no utterance"):
        report_of([])


def test_a_healthy_corpus_has_no_warnings():
    assert findings(report_of(healthy())) == []
    assert report_text(report_of(healthy()), []).endswith("no warnings")


def held_out(u: Utterance) -> bool:
    return u.split in ("validation", "test")


def number(u: Utterance) -> int:
    return int(u.path.removesuffix(".wav"))


# name -> (where, what makes a healthy corpus ill)
ILLNESSES = {
    "no_validation": ("", lambda us: change(us, lambda u: u.split == "validation", split="test")),
    "no_test": ("", lambda us: change(us, lambda u: u.split == "test", split="validation")),
    "leaked_speakers": ("", lambda us: change(us, lambda u: number(u) == 0, split="test")),
    "shared_speakers": ("", lambda us: change(us, lambda u: number(u) == 0, split="b")),
    "few_speakers": ("", lambda us: [u for u in us if u.split != "b"]),
    "little_speech": ("", lambda us: change(us, frames=100)),
    "no_emotions": ("", lambda us: change(us, lambda u: not held_out(u), emotion="")),
    "no_banks": ("", lambda us: change(us, lambda u: u.split == "a", split="train")),
    "missing_emotions": ("", lambda us: [u for u in us if u.emotion != "calm"]),
    "rare_emotions": ("", lambda us: [u for u in us if u.emotion != "calm" or number(u) % 40 == 1]),
    "no_arousal": ("", lambda us: change(us, lambda u: not held_out(u), arousal=-1.0)),
    "no_ratings": ("", lambda us: change(us, rated=False)),
    "bunched_arousal": ("", lambda us: change(us, lambda u: u.arousal >= 5.5, arousal=5.0)),
    "clipping": ("good", lambda us: change(us, lambda u: u.arousal > 6.5, peak_db=0.0)),
    "unaligned": ("good", lambda us: change(us, lambda u: number(u) % 8 == 0, alignment="")),
    "short_clips": ("good", lambda us: change(us, lambda u: number(u) % 50 == 0, frames=49)),
    "long_clips": ("good", lambda us: change(us, lambda u: number(u) % 50 == 0, frames=2001)),
    "unvoiced": ("good", lambda us: change(us, lambda u: number(u) % 8 == 0, f0_hz=0.0)),
    "f0_at_limits": ("good", lambda us: change(us, lambda u: number(u) % 20 == 0, f0_hz=65.5)),
}


@pytest.mark.parametrize("name", ILLNESSES)
def test_a_fault_raises_its_warning_and_no_other(name):
    where, spoil = ILLNESSES[name]
    found = findings(report_of(spoil(healthy())))
    assert [(finding.name, finding.where) for finding in found] == [(name, where)]
    assert all((found[0].found, found[0].wanted, found[0].advice))
    assert "\n" not in found[0].line
    assert found[0].line in report_text(report_of(spoil(healthy())), found)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"level_db": -22.0}, "± 0.0 dB within a speaker"),
        ({"peak_db": -1.0}, "peaks near -1.0 dBFS"),
    ],
)
def test_a_normalised_corpus_is_told_from_one_that_is_not(fields, message):
    made = healthy() + change(healthy("flat"), **fields)
    found = findings(report_of(made))
    assert [(f.name, f.where) for f in found] == [("normalised_level", "flat")]
    assert message in found[0].found


def test_normalised_level_is_seen_where_no_speaker_has_many_clips():
    made = change(healthy("flat"), level_db=-22.0)
    made = [dataclasses.replace(u, speaker=f"{u.speaker}.{i // 4}") for i, u in enumerate(made)]
    assert [f.name for f in findings(report_of(healthy() + made))] == ["normalised_level"]


def test_an_even_reading_voice_is_no_fault():
    book = change(healthy("book"), emotion="neutral", rated=False, level_db=-22.0)
    assert findings(report_of(healthy() + change(book, arousal=-1.0))) == []


def test_clips_scaled_to_full_scale_are_not_called_clipped():
    found = findings(report_of(change(healthy(), peak_db=0.0)))
    assert [f.name for f in found] == ["normalised_level"]


def test_a_corpus_that_no_split_names_is_told():
    made = healthy() + change(healthy("new"), split="unused")
    assert [(f.name, f.where) for f in findings(report_of(made))] == [("unused", "new")]


def test_without_training_nothing_else_is_said_of_training():
    found = findings(report_of([u for u in healthy() if held_out(u)]))
    assert [f.name for f in found] == ["no_training"]


def test_one_utterance_is_reported_with_warnings():
    report = report_of(healthy()[:1])
    names = {f.name for f in findings(report)}
    assert {"few_speakers", "little_speech", "no_validation", "no_test"} <= names


STRANGE = {
    "one utterance": healthy()[:1],
    "no arousal, no emotion": change(healthy(), arousal=-1.0, emotion="", rated=False),
    "nothing voiced": change(healthy(), f0_hz=0.0, f0_spread=0.0, voiced=0.0),
    "eight corpora": [u for i in range(8) for u in healthy(f"corpus number {i}")],
    "more corpora than colours": [u for i in range(11) for u in healthy(f"c{i}", 1)],
    "names of no alphabet": change(
        healthy(), corpus="$\\frac{\x1b\udc80\n語" + "x" * 300, split="?"
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_json_of_anything_comes_back_and_holds_no_nan(name):
    report = report_of(STRANGE[name])
    data = to_dict(report) | {"warnings": [to_dict(f) for f in findings(report)]}
    assert json.loads(json.dumps(data, allow_nan=False)) == data


@pytest.mark.parametrize("name", STRANGE)
def test_tables_of_anything_are_aligned_and_printable(name):
    report = report_of(STRANGE[name])
    text = report_text(report, findings(report))
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    heads = [block.splitlines() for block in text.split("\n\n")[1:3]]
    for lines in heads:
        assert len({len(line) for line in lines}) == 1  # right-aligned columns end together


def test_text_for_an_old_terminal_is_ascii():
    report = report_of(change(healthy(), level_db=-20.0))
    text = report_text(report, findings(report))
    assert "█" in text
    assert "±" in text
    assert in_plain_letters(text).isascii()
    assert len(in_plain_letters(text)) == len(text)


def test_blocks_show_the_shape_of_the_labels():
    made = entries(
        [100] * 7,
        lambda i: {"speaker": "s", "split": "a", "arousal": [1.0, 6.9, 6.9, 6.9, 6.9, 4.0, 4.0][i]},
    )
    row = next(line for line in report_text(report_of(made), []).splitlines() if line.endswith("█"))
    assert row.endswith("▂     ▄    █")  # 1, 2 and 4 of 4 in twelve bins


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * ("corpora" in n)) for n in STRANGE]
)
def test_the_picture_of_anything_is_drawn(name, tmp_path):
    path = tmp_path / "report.png"
    draw(report_of(STRANGE[name]), path)
    picture = matplotlib.image.imread(path)
    assert picture.shape[:2] == (1080, 1920)
    shades = picture[..., :3].reshape(-1, 3)
    corpora = len({u.corpus for u in STRANGE[name]})
    for colour in COLOURS[: min(corpora, len(COLOURS))]:
        wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert (np.abs(shades - wanted).max(axis=1) < 0.01).sum() > 100
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert edge[..., :3].min() == 1.0  # nothing runs off the picture


def test_blocks_fit_the_line_and_hide_no_rarity():
    frames = [10] + [1000] * 99 + [60_000]  # 0.1 s, 10 s and 600 s: more bins than blocks
    made = entries(frames, lambda i: {"speaker": "s", "split": "a"})
    text = report_text(report_of(made), [])
    blocks = next(block for block in text.split("\n\n") if block.startswith("length"))
    head, row = blocks.splitlines()
    histogram = row[head.index("0.0") :]
    assert len(histogram) <= 24
    assert (histogram[0], histogram[-1], histogram.strip("▁ ")) == ("▁", "▁", "█")


def test_durations_and_names_are_short():
    assert [duration(h) for h in (1234.4, 12.34, 2.345, 0.5, 1 / 3600)] == [
        "1,234 h",
        "12.3 h",
        "2.35 h",
        "30.0 min",
        "1.0 s",
    ]
    assert plain_name("a\x1b[2Jb", 20) == "a?[2Jb"
    assert plain_name("abcdef", 4) == "abc…"
