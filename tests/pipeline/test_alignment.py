import csv
import difflib
import os
import pathlib

import numpy as np
import pytest
import soundfile

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.alignment import align_english, read_phone_table
from emoconv_jax.pipeline.phones import PHONES


def corpus(name):
    return pathlib.Path(os.environ["EMOCONV_CORPORA"]) / name


def manifest(folder):
    with (folder / "manifest.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_a_phone_table_is_read_by_path(tmp_path):
    table = tmp_path / "phones.tsv"
    table.write_text(
        "path\tphone\tstart_s\tend_s\n"
        "a.flac\tsil\t0.000\t0.100\n"
        "a.flac\tˈ\t0.100\t0.150\n"
        "a.flac\tI\t0.150\t0.300\n"
        "b.flac\ts\t0.000\t0.200\n",
        encoding="utf-8",
    )
    spans = read_phone_table(table)
    assert [(s.phone, s.start_s, s.end_s) for s in spans["a.flac"]] == [
        ("sil", 0.0, 0.1),
        ("AY", 0.1, 0.3),
    ]
    assert [s.phone for s in spans["b.flac"]] == ["S"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("path\tphone\tstart_s\na.flac\tt\t0\n", "end_s"),
        ("path\tphone\tstart_s\tend_s\na.flac\tt\tx\t1\n", "numbers"),
        ("path\tphone\tstart_s\tend_s\na.flac\tж\t0\t1\n", "a.flac: token 'ж'"),
    ],
)
def test_a_damaged_phone_table_is_refused_by_name(tmp_path, content, named):
    table = tmp_path / "phones.tsv"
    table.write_text(content, encoding="utf-8")
    with pytest.raises(EmoconvError, match=named):
        read_phone_table(table)


def test_a_missing_phone_table_is_named(tmp_path):
    with pytest.raises(EmoconvError, match=r"none\.tsv"):
        read_phone_table(tmp_path / "none.tsv")


@pytest.mark.corpora
@pytest.mark.slow
def test_an_alignment_does_not_depend_on_the_clips_before_it():
    """Clips forwards and backwards, with the one aligner of the process."""
    folder = corpus("ljspeech32")
    rows = [r for r in manifest(folder) if r["text"] and "woodcutters" not in r["text"]]
    rows = sorted(rows, key=lambda row: float(row["seconds"]))[:8]
    sounds = [soundfile.read(folder / row["path"], dtype="float32")[0] for row in rows]
    clips = [(sound, row["text"]) for sound, row in zip(sounds, rows, strict=True)]
    forwards = [align_english(audio, text) for audio, text in clips]
    backwards = [align_english(audio, text) for audio, text in reversed(clips)]
    assert forwards == backwards[::-1]


def test_a_word_that_the_dictionary_lacks_is_named():
    with pytest.raises(EmoconvError, match="'qxzzy'"):
        align_english(np.ones(22050, np.float32), "Kids qxzzy are talking.")


def test_text_without_words_and_silent_audio_are_refused():
    with pytest.raises(EmoconvError, match="no word"):
        align_english(np.ones(22050, np.float32), " ... ")
    with pytest.raises(EmoconvError, match="silent"):
        align_english(np.zeros(22050, np.float32), "Kids are talking.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x.wav\tn\tnan\t1\n", r"x\.wav: a phone from nan to 1\.0 s, times must be finite"),
        (b"x.wav\tn\t0\tinf\n", "a phone from 0.0 to inf s"),
        (b"x.wav\tn\t2\t1\n", "a phone from 2.0 to 1.0 s"),
        (b"x.wav\tn\tsoon\t1\n", "must be numbers of seconds"),
        (b"x.wav\tn\n", "must be numbers of seconds"),
        (b"x" * 200_000 + b"\tn\t0\t1\n", "not a UTF-8 table"),
        (b"\xff.wav\tn\t0\t1\n", "not a UTF-8 table"),
    ],
)
def test_a_damaged_phone_table_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "phones.tsv"
    path.write_bytes(b"path\tphone\tstart_s\tend_s\n" + content)
    with pytest.raises(EmoconvError, match=message) as caught:
        read_phone_table(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_phone_table_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "phones.tsv"
    path.write_text("\ufeffpath\tphone\tstart_s\tend_s\nx.wav\tn\t0\t1\n", encoding="utf-8")
    (span,) = read_phone_table(path)["x.wav"]
    assert (span.phone, span.start_s, span.end_s) == ("N", 0.0, 1.0)


@pytest.mark.corpora
def test_every_token_of_the_synthetic_corpus_is_mapped():
    table = read_phone_table(corpus("synthetic") / "phones.tsv")
    found = {span.phone for spans in table.values() for span in spans}
    assert found == set(PHONES)


@pytest.mark.slow
@pytest.mark.corpora
def test_alignment_agrees_with_the_times_a_synthesiser_states():
    folder = corpus("synthetic")
    table = read_phone_table(folder / "phones.tsv")
    errors, matched, stated_total = [], 0, 0
    for row in manifest(folder)[:12]:
        audio, _ = soundfile.read(folder / row["path"], dtype="float32")
        stated = [s for s in table[row["path"]] if s.phone != "sil"]
        heard = [s for s in align_english(audio, row["text"]) if s.phone != "sil"]
        blocks = difflib.SequenceMatcher(
            None, [s.phone for s in stated], [s.phone for s in heard], autojunk=False
        ).get_matching_blocks()
        for block in blocks:
            for i in range(block.size):
                errors.append(heard[block.b + i].start_s - stated[block.a + i].start_s)
        matched += sum(block.size for block in blocks)
        stated_total += len(stated)
    assert matched > 0.85 * stated_total
    assert np.median(np.abs(errors)) < 0.03
    assert abs(np.median(errors)) < 0.015


@pytest.mark.corpora
def test_alignment_does_not_depend_on_what_was_aligned_before():
    folder = corpus("ravdess")
    rows = manifest(folder)[:3]
    clips = [soundfile.read(folder / row["path"], dtype="float32")[0] for row in rows]
    first = align_english(clips[0], rows[0]["text"])
    for clip, row in zip(clips[1:], rows[1:], strict=True):
        align_english(clip, row["text"])
    assert align_english(clips[0], rows[0]["text"]) == first
    assert first[0].start_s == 0.0
    assert first[-1].end_s == pytest.approx(len(clips[0]) / 22050)
