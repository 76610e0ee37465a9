"""From corpus folders to a store: tones whose pitch, level and phone times are known."""

import csv
import dataclasses
import hashlib
import json
import pathlib
import shutil

import numpy as np
import pytest
import soundfile
from tones import CLIPS, RATE_HZ, SECONDS, SETTINGS, make_corpus, tone

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference.whisper_features import ENCODER, WhisperFeatures
from emoconv_jax.pipeline.extraction import Settings
from emoconv_jax.pipeline.phones import PHONES
from emoconv_jax.pipeline.prepare import Running, Target, prepare
from emoconv_jax.pipeline.rejects import REJECTED
from emoconv_jax.pipeline.store import INDEX

HOP = 256


def quietly(lines: list[str] | None = None, **options) -> Running:
    return Running(log=(lines if lines is not None else []).append, **options)


@pytest.mark.slow
def test_what_was_kept_and_how_it_was_aligned_is_said(preparation):
    """Three clips have phone times, the others neither those nor a text."""
    assert [u.path for u in preparation.store.utterances] == [clip.path for clip in CLIPS]
    assert preparation.lines == [
        f"{len(CLIPS)} of {len(CLIPS)} utterances kept, 0 rejected; phone times from "
        f"corpus: 3, units: {len(CLIPS) - 3}"
    ]


@pytest.mark.slow
def test_mels_are_those_of_the_files(preparation, corpus):
    store = preparation.store
    for i, utterance in enumerate(store.utterances):
        expected = log_mel(read_audio(corpus / utterance.path), MelConfig())
        assert utterance.frames == int(SECONDS * RATE_HZ) // HOP
        np.testing.assert_array_equal(store.frames_of("mel", i), expected.astype(np.float16))


@pytest.mark.slow
def test_prosody_is_that_of_the_tones(preparation):
    """Faint noise of .25 s, 21.5 frames, then a steady tone."""
    store = preparation.store
    for i, clip in enumerate(CLIPS):
        octaves, voicing, energy = store.frames_of("prosody", i).T
        assert len(octaves) == store.utterances[i].frames
        # the last frame is cut off by the clip's end
        np.testing.assert_allclose(octaves[:-1], np.log2(clip.f0_hz), atol=0.02)
        np.testing.assert_allclose(octaves[-1], np.log2(clip.f0_hz), atol=0.1)
        assert not voicing[:19].any() and voicing[25:-3].all()
        assert (energy[:19] < np.log(4e-5)).all()  # rounded to 16 bits
        rms = clip.amplitude * np.sqrt((1 + 1 / 4 + 1 / 9 + 1 / 16) / 2)
        np.testing.assert_allclose(energy[25:-3], np.log(rms), atol=0.1)


@pytest.mark.slow
def test_phones_lie_where_their_times_say_and_units_elsewhere(preparation):
    """The vowel begins in frame floor(.25 * 22050) // 256 = 5512 // 256 = 21."""
    store = preparation.store
    for i, utterance in enumerate(store.utterances):
        phones = store.frames_of("phones", i)
        if utterance.alignment == "corpus":
            names = [PHONES[p] for p in phones]
            assert names == ["sil"] * 21 + ["IY"] * (utterance.frames - 21)
        else:
            assert (phones[:19] == PHONES.index("sil")).all()  # faint noise
            assert (phones[24:-2] >= len(PHONES)).all()
            assert phones.max() < len(PHONES) + store.units


@pytest.mark.slow
def test_pitch_level_labels_and_splits(preparation):
    store = preparation.store
    for utterance, clip in zip(store.utterances, CLIPS, strict=True):
        assert utterance.f0_hz == pytest.approx(clip.f0_hz, rel=0.02)
        assert utterance.f0_spread < 0.5  # steady, but for the tracker's steps
        assert 0.4 < utterance.voiced < 0.8  # two thirds are the tone
        # The power of sines of amplitude a/k is the sum of a^2 / 2 k^2.
        power = clip.amplitude**2 / 2 * (1 + 1 / 4 + 1 / 9 + 1 / 16)
        assert utterance.level_db == pytest.approx(10 * np.log10(power), abs=0.3)
        peak = np.abs(tone(clip.f0_hz, clip.amplitude)).max()
        assert utterance.peak_db == pytest.approx(20 * np.log10(peak), abs=0.01)
        assert utterance.split == ("test" if clip.speaker == "bea" else "a")
        assert utterance.speaker == f"corpus/{clip.speaker}"
    low, high, *_, test = store.utterances
    assert (low.emotion, high.emotion, test.emotion) == ("happy", "neutral", "")
    assert (high.arousal, high.rated) == (6.5, True)
    assert (high.valence, high.dominance, low.valence) == (2.5, -1.0, -1.0)
    assert 1 <= low.arousal <= 7
    assert not low.rated
    assert test.arousal == -1  # neither rating nor emotion


@pytest.mark.slow
def test_d_vectors_are_of_unit_length_and_differ(preparation):
    vectors = np.array(preparation.store.array("speaker"))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] < 0.999


def again(corpus, folder, splits, *, settings=SETTINGS, **options):
    """Prepares into a folder that has been prepared."""
    return prepare([str(corpus)], folder, splits, settings=settings, running=quietly(), **options)


@pytest.mark.slow
@pytest.mark.parametrize("mean", [False, True])
def test_the_target_of_a_phone_lies_between_its_occurrences(prepared, corpus, splits, mean):
    """Two occurrences, both of one speaker: the smoothed mode lies at one or between them."""
    store, _ = again(corpus, prepared, splits, target=Target(mean=mean))
    mels = [np.array(store.frames_of("mel", i), dtype=np.float32)[21:] for i in (0, 1)]
    medians = np.round(np.stack([np.median(mel, axis=0) for mel in mels]), 1)
    target = np.array(store.array("targets"))[PHONES.index("IY")]
    if mean:
        np.testing.assert_allclose(target, medians.mean(axis=0), atol=1e-5)
    else:
        assert (target >= medians.min(axis=0) - 1e-5).all()
        assert (target <= medians.max(axis=0) + 1e-5).all()
        np.testing.assert_allclose(target * 10, np.round(target * 10), atol=1e-4)


def spoilt(folder: pathlib.Path) -> pathlib.Path:
    """Makes a corpus of one good clip and one of each fault."""
    corpus = folder / "corpus"
    corpus.mkdir()
    good = tone(150.0, 0.1)
    sounds = {
        "good.wav": good,
        "again.wav": good,
        "silent.wav": np.zeros(RATE_HZ),
        "short.wav": good[: round(0.4 * RATE_HZ)],
        "shortest.wav": good[: round(0.05 * RATE_HZ)],
        "long.wav": np.tile(good, 3),
        "clipped.wav": np.clip(good * 40, -1, 1),
        "nan.wav": np.where(np.arange(len(good)) == 9, np.nan, good),
        "rated.wav": good * 0.5,
        "quiet rating.wav": good * 0.6,
    }
    for name, sound in sounds.items():
        kind = "FLOAT" if name == "nan.wav" else "PCM_16"
        form = "WAVEX" if name == "again.wav" else "WAV"  # the same samples in another file
        soundfile.write(corpus / name, sound, RATE_HZ, subtype=kind, format=form)
    (corpus / "empty.wav").write_bytes(b"")
    (corpus / "text.wav").write_text("no audio")
    (corpus / "folder.wav").mkdir()
    (corpus / "empty.ogg").write_bytes(b"")
    (corpus / "odd.ogg").write_bytes(b"OggS" + bytes(60))
    soundfile.write(corpus / "cut.ogg", good, RATE_HZ)
    (corpus / "cut.ogg").write_bytes((corpus / "cut.ogg").read_bytes()[:-1])
    ratings = {"rated.wav": "9\t", "quiet rating.wav": "3\tnan"}
    names = [*sounds, "empty.wav", "text.wav", "folder.wav", "absent.wav"]
    names += ["empty.ogg", "odd.ogg", "cut.ogg", "absent.ogg"]
    lines = [f"{name}\tann\thappy\t{ratings.get(name, chr(9))}" for name in names]
    header = "path\tspeaker\temotion\tarousal\tdominance"
    (corpus / "manifest.tsv").write_text("\n".join([header, *lines]) + "\n")
    return corpus


EXPECTED = {  # the line counts from the header's, 1
    "again.wav": ("3", "duplicate", "corpus/good.wav"),
    "silent.wav": ("4", "silent", "peak"),
    "short.wav": ("5", "too short", "0.40 s"),
    "shortest.wav": ("6", "too short", "0.050 s"),
    "long.wav": ("7", "too long", "s long, allowed are up to 1 s"),
    "clipped.wav": ("8", "clipped", "% of samples at full scale"),
    "nan.wav": ("9", "unreadable", "NaN"),
    "rated.wav": ("10", "wrong label", "arousal '9', allowed are 1 to 7"),
    "quiet rating.wav": ("11", "wrong label", "dominance 'nan'"),
    "empty.wav": ("12", "empty", "0 bytes"),
    "text.wav": ("13", "unreadable", "cannot be decoded"),
    "folder.wav": ("14", "unreadable", "directory"),
    "absent.wav": ("15", "missing", "No such file"),
    "empty.ogg": ("16", "empty", "0 bytes"),
    "odd.ogg": ("17", "unreadable", "damaged, the checksum of the Ogg page at byte 0"),
    "cut.ogg": ("18", "unreadable", "truncated, the last Ogg page is missing"),
    "absent.ogg": ("19", "missing", "No such file"),
}


@pytest.mark.network
@pytest.mark.slow
def test_every_fault_is_listed_with_its_line_and_reason(tmp_path):
    settings = Settings(max_seconds=1.0, shard_utterances=4)
    lines: list[str] = []
    store, rejected = prepare(
        [str(spoilt(tmp_path))], tmp_path / "out", {}, settings=settings, running=quietly(lines)
    )
    assert [u.path for u in store.utterances] == ["good.wav"]
    assert lines[-1] == "corpus: manifest.tsv names absent.wav, which is not there (and 1 more)"
    assert store.frames_of("mel", 0).shape == (int(SECONDS * RATE_HZ) // HOP, 80)
    with (tmp_path / "out" / REJECTED).open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert rejected == len(rows) == len(EXPECTED)
    for path, (line, kind, reason) in EXPECTED.items():
        row = rows[path]
        assert (row["corpus"], row["line"], row["kind"]) == ("corpus", line, kind), row
        assert reason in row["reason"]


@pytest.mark.network
@pytest.mark.slow
def test_nothing_to_use_is_an_error_and_leaves_no_index(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.wav").write_bytes(b"no audio")
    (corpus / "manifest.tsv").write_text("path\tspeaker\na.wav\tann\n")
    with pytest.raises(EmoconvError, match=r"rejected\.tsv: all 1 utterances were rejected"):
        prepare([str(corpus)], tmp_path / "out", {}, running=quietly())
    assert "a.wav" in (tmp_path / "out" / REJECTED).read_text()
    assert not (tmp_path / "out" / INDEX).exists()
    (corpus / "a.wav").unlink()
    with pytest.raises(EmoconvError, match=r"see there; corpus: manifest\.tsv names a\.wav, which"):
        prepare([str(corpus)], tmp_path / "other", {}, running=quietly())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("ann\tbored\t", r"corpus/a\.wav: emotion 'bored': unknown"),
        ("ann\thappy\tloud", r"corpus/a\.wav: intensity 'loud'"),
        ("bea\thappy\t", r"puts no utterance of .*corpus into a, b, train"),
    ],
)
def test_names_without_a_meaning_stop_before_any_sound_is_read(tmp_path, splits, fields, message):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.wav").write_bytes(b"no audio")
    (corpus / "manifest.tsv").write_text(f"path\tspeaker\temotion\tintensity\na.wav\t{fields}\n")
    with pytest.raises(EmoconvError, match=message):
        prepare([str(corpus)], tmp_path / "out", splits, running=quietly())
    assert not (tmp_path / "out").exists()


def test_corpora_of_one_name_are_refused(tmp_path, corpus, splits):
    other = make_corpus(tmp_path / "corpus")
    for again in (corpus, other):
        with pytest.raises(UsageError, match=r"a corpus named corpus was given before"):
            prepare([str(corpus), str(again)], tmp_path / "out", splits, running=quietly())
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_folder_that_holds_something_else_is_refused_and_left(prepared, corpus, splits, tmp_path):
    before = hashlib.sha256((prepared / INDEX).read_bytes()).hexdigest()
    given = dataclasses.replace(SETTINGS, alignment="given")
    with pytest.raises(UsageError, match=r"alignment is 'auto', this run has 'given'; use"):
        again(corpus, prepared, splits, settings=given)
    changed = shutil.copytree(corpus, tmp_path / "changed" / "corpus")
    table = changed / "phones.tsv"
    table.write_text(table.read_text().replace("0.25", "0.26"))
    with pytest.raises(UsageError, match="rows, their order or their phone times are not those"):
        again(changed, prepared, splits)
    other = make_corpus(tmp_path / "corpus", CLIPS[:3])
    with pytest.raises(UsageError, match=rf"utterances are {len(CLIPS)}, this run has 3"):
        again(other, prepared, splits)
    assert hashlib.sha256((prepared / INDEX).read_bytes()).hexdigest() == before
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / INDEX).write_text("{}")
    with pytest.raises(UsageError, match="holds features of no known plan"):
        prepare([str(corpus)], tmp_path / "old", splits, running=quietly())


@pytest.mark.network
@pytest.mark.slow
def test_whispers_states_are_those_of_the_files_and_of_named_weights(tmp_path, corpus, splits):
    settings, folder = dataclasses.replace(SETTINGS, whisper=True), tmp_path / "out"
    store, _ = prepare([str(corpus)], folder, splits, settings=settings, running=quietly())
    assert store is not None
    assert store.encoder == ENCODER == json.loads((folder / "plan.json").read_text())["encoder"]
    features = WhisperFeatures()
    for i in (1, 6):  # in two shards
        utterance = store.utterances[i]
        audio = read_audio(corpus / utterance.path)
        heard = features(audio, RATE_HZ, utterance.frames, MelConfig())
        frames, pooled = store.frames_of("whisper", i), store.array("whisper_pooled")[i]
        assert (frames.shape, pooled.shape) == ((utterance.frames, 1024), (7168,))
        # float16 has 11 bits, and a worker's sums are in another order
        np.testing.assert_allclose(frames, heard.frames, rtol=2e-3, atol=2e-2)
        np.testing.assert_allclose(pooled, heard.pooled, rtol=2e-3, atol=2e-2)
    (folder / "shards" / "00003" / "whisper.f16").write_bytes(b"")
    with pytest.raises(EmoconvError, match="00003: damaged"):
        again(corpus, folder, splits, settings=settings)
    with pytest.raises(UsageError, match="whisper is True, this run has False"):
        again(corpus, folder, splits)


@pytest.mark.network
@pytest.mark.slow
def test_alignment_given_leaves_the_rest_without_phones(tmp_path, corpus, splits):
    store, _ = prepare(
        [str(corpus)],
        tmp_path / "out",
        splits,
        settings=Settings(alignment="given"),
        running=quietly(),
    )
    assert store.units == 0
    assert [u.alignment for u in store.utterances] == [
        "corpus" if clip.times else "" for clip in CLIPS
    ]
    for i, clip in enumerate(CLIPS):
        assert (store.frames_of("phones", i) == -1).all() == (not clip.times)


@pytest.mark.network
@pytest.mark.slow
def test_a_text_grid_beside_the_sound_comes_first(tmp_path, splits):
    """The grid's vowel begins at .5 s: in frame floor(.5 * 22050) // 256 = 43."""
    corpus = make_corpus(tmp_path / "corpus", CLIPS[:2])
    (corpus / "low.TextGrid").write_text(
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n0.75\n<exists>\n1\n'
        '"IntervalTier"\n"phones"\n0\n0.75\n2\n0\n0.5\n"sil"\n0.5\n0.75\n"AA1"\n'
    )
    store, _ = prepare([str(corpus)], tmp_path / "out", splits, running=quietly())
    assert [u.alignment for u in store.utterances] == ["textgrid", "corpus"]
    names = [PHONES[p] for p in store.frames_of("phones", 0)]
    assert names == ["sil"] * 43 + ["AA"] * (len(names) - 43)


@pytest.mark.network
@pytest.mark.slow
def test_a_clip_that_cannot_be_aligned_is_named_and_kept(tmp_path, splits):
    """A word that no dictionary has, and times beyond the sound; both languages have phones."""
    corpus = make_corpus(tmp_path / "corpus", CLIPS[:4])
    table = (corpus / "phones.tsv").read_text()
    (corpus / "phones.tsv").write_text(table + "most.wav\tsil\t9\t9.5\n")
    lines = (corpus / "manifest.tsv").read_text().splitlines()
    words = ["text", "", "", "qxzzy", ""]
    text = "\n".join(f"{line}\t{word}" for line, word in zip(lines, words, strict=True))
    (corpus / "manifest.tsv").write_text(text + "\n")
    said: list[str] = []
    store, rejected = prepare([str(corpus)], tmp_path / "out", splits, running=quietly(said))
    assert rejected == 0
    assert [u.alignment for u in store.utterances] == ["corpus", "corpus", "", ""]
    assert said[0].endswith("phone times from corpus: 2, none: 2")
    assert said[1].startswith("not aligned: corpus/more.wav: word 'qxzzy'")
    assert said[2] == (
        "not aligned: corpus/most.wav: its first phone begins at 9 s, beyond the sound"
    )


@pytest.mark.network
@pytest.mark.slow
def test_a_language_that_no_aligner_understands_gets_units(tmp_path, splits):
    """Every clip has a text that cannot be aligned, so there are no phones to be mixed with."""
    corpus = make_corpus(tmp_path / "corpus", CLIPS[2:5])
    (corpus / "phones.tsv").unlink()
    header, *lines = (corpus / "manifest.tsv").read_text().splitlines()
    text = "\n".join([f"{header}\ttext", *(f"{line}\tqxzzy" for line in lines)])
    (corpus / "manifest.tsv").write_text(text + "\n")
    store, _ = prepare([str(corpus)], tmp_path / "out", splits, running=quietly())
    assert [u.alignment for u in store.utterances] == ["units"] * 3


def test_the_plan_is_json_that_names_what_is_prepared(preparation):
    plan = json.loads((preparation.folder / "plan.json").read_text())
    assert plan["utterances"] == len(CLIPS)
    assert plan["settings"]["alignment"] == "auto"
