"""From corpus folders to a store: tones whose pitch, level and phone times are known."""

import json
import pathlib

import numpy as np
import pytest
import soundfile

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.config import MelConfig
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.pipeline.phones import PHONES
from emoconv_jax.pipeline.prepare import _map, encode, prepare
from emoconv_jax.pipeline.store import INDEX, FeatureStore

RATE_HZ, HOP = 22050, 256
SECONDS = 0.75
SPLITS = {
    "corpus": {"splits": {"a": {"speakers": ["ann"]}, "test": {"speakers": ["bea"]}}},
}
# path, speaker, emotion, arousal, tone in Hz, amplitude
CLIPS = [
    ("low.flac", "ann", "happiness", "", 120.0, 0.1),
    ("high.flac", "ann", "neutral", "6.5", 240.0, 0.2),
    ("test.flac", "bea", "", "", 180.0, 0.05),
]


def tone(f0_hz: float, amplitude: float) -> np.ndarray:
    """A steady vowel-like tone (four harmonics) that begins after .25 s of faint noise."""
    generator = np.random.default_rng(round(f0_hz))
    time_s = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    sound = sum(np.sin(2 * np.pi * k * f0_hz * time_s) / k for k in range(1, 5))
    return np.where(time_s < 0.25, 0.0, amplitude * sound) + 1e-5 * generator.normal(
        size=len(time_s)
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("data") / "corpus"
    folder.mkdir()
    lines = ["path\tspeaker\temotion\tarousal\tlanguage"]
    for path, speaker, emotion, arousal, f0_hz, amplitude in CLIPS:
        soundfile.write(folder / path, tone(f0_hz, amplitude), RATE_HZ)
        lines.append(f"{path}\t{speaker}\t{emotion}\t{arousal}\ten")
    (folder / "empty.wav").write_bytes(b"")
    lines.append("empty.wav\tann\tsad\t\ten")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    phones = ["path\tphone\tstart_s\tend_s"]
    for path in ("low.flac", "high.flac"):
        phones += [f"{path}\tsil\t0\t0.25", f"{path}\ti\t0.25\t{SECONDS}"]
    (folder / "phones.tsv").write_text("\n".join(phones) + "\n")
    (folder.parent / "splits.json").write_text(json.dumps(SPLITS))
    return folder


@pytest.fixture(scope="module")
def prepared(corpus) -> tuple[FeatureStore, list[str]]:
    lines: list[str] = []
    out = corpus.parent / "features"
    return prepare([corpus], out, corpus.parent / "splits.json", log=lines.append), lines


@pytest.mark.slow
def test_unreadable_utterances_are_listed_and_left_out(prepared, corpus):
    store, lines = prepared
    assert [u.path for u in store.utterances] == [path for path, *_ in CLIPS]
    assert lines == [
        f"left out: {corpus / 'empty.wav'}: empty (0 bytes), expected an audio file",
        "3 of 4 utterances kept, 2 with phone times",
    ]


@pytest.mark.slow
def test_mels_are_those_of_the_files(prepared, corpus):
    store, _ = prepared
    for i, utterance in enumerate(store.utterances):
        expected = log_mel(read_audio(corpus / utterance.path), MelConfig())
        assert utterance.frames == int(SECONDS * RATE_HZ) // HOP
        np.testing.assert_array_equal(store.frames_of("mel", i), expected.astype(np.float16))


@pytest.mark.slow
def test_phones_lie_where_their_times_say(prepared):
    """The vowel begins in frame floor(.25 * 22050) // 256 = 5512 // 256 = 21."""
    store, _ = prepared
    for i in (0, 1):
        names = [PHONES[p] for p in store.frames_of("phones", i)]
        assert names == ["sil"] * 21 + ["IY"] * (store.utterances[i].frames - 21)
    assert (store.frames_of("phones", 2) == -1).all()


@pytest.mark.slow
def test_pitch_level_labels_and_splits(prepared):
    store, _ = prepared
    low, high, test = store.utterances
    for utterance, (*_, f0_hz, amplitude) in zip(store.utterances, CLIPS, strict=True):
        assert utterance.f0_hz == pytest.approx(f0_hz, rel=0.02)
        # The power of sines of amplitude a/k is the sum of a^2 / 2 k^2.
        power = amplitude**2 / 2 * (1 + 1 / 4 + 1 / 9 + 1 / 16)
        assert utterance.level_db == pytest.approx(10 * np.log10(power), abs=0.3)
    assert (low.split, high.split, test.split) == ("a", "a", "test")
    assert (low.emotion, high.emotion, test.emotion) == ("happy", "neutral", "")
    assert high.arousal == 6.5  # rated
    assert 1 <= low.arousal <= 7
    assert test.arousal == -1  # neither rating nor emotion
    assert {u.speaker for u in store.utterances} == {"corpus/ann", "corpus/bea"}


@pytest.mark.slow
def test_d_vectors_are_of_unit_length_and_differ(prepared):
    vectors = np.array(prepared[0].array("speaker"))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] < 0.999


@pytest.mark.slow
def test_the_target_of_a_phone_lies_between_its_occurrences(prepared):
    """Two occurrences, both of one speaker: the smoothed mode lies at one or between them."""
    store, _ = prepared
    mels = [np.array(store.frames_of("mel", i), dtype=np.float32)[21:] for i in (0, 1)]
    medians = np.stack([np.median(mel, axis=0) for mel in mels])
    target = np.array(store.array("targets"))[PHONES.index("IY")]
    assert (target >= medians.min(axis=0) - 0.06).all()  # rounded to a tenth
    assert (target <= medians.max(axis=0) + 0.06).all()
    np.testing.assert_allclose(target * 10, np.round(target * 10), atol=1e-4)


@pytest.mark.slow
def test_encoding_adds_what_the_encoders_say_and_preparing_again_takes_it_away(prepared, corpus):
    store, _ = prepared
    store = FeatureStore(store.folder)
    encode(store, lambda mel: 2 * mel, lambda mel: (mel.mean(axis=0)[:5], float(len(mel))))
    for i, utterance in enumerate(store.utterances):
        doubled = 2 * np.array(store.frames_of("mel", i), dtype=np.float32)
        np.testing.assert_allclose(store.frames_of("average_voice", i), doubled, rtol=1e-3)
        assert store.array("arousal")[i] == utterance.frames
        np.testing.assert_allclose(store.array("emotion")[i], doubled.mean(axis=0)[:5] / 2)
    prepare([corpus], store.folder, corpus.parent / "splits.json", log=lambda line: None)
    with pytest.raises(EmoconvError, match="run `emoconv prepare`"):
        FeatureStore(store.folder).array("average_voice")


def hopeless(folder: pathlib.Path, manifest: str) -> pathlib.Path:
    """Makes a corpus whose only file holds no audio."""
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "a.wav").write_bytes(b"no audio")
    (corpus / "manifest.tsv").write_text(manifest)
    (folder / "splits.json").write_text(json.dumps(SPLITS))
    return corpus


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("ann\tbored\t\t", r"corpus/a\.wav: emotion 'bored': unknown"),
        ("ann\thappy\tloud\t", r"corpus/a\.wav: intensity 'loud'"),
        ("ann\thappy\t\t9", r"corpus/a\.wav: arousal '9', allowed are 1 to 7"),
        ("zoe\thappy\t\t", r"splits\.json: puts no utterance of .*corpus into a, b, train"),
        ("ann\thappy\t\t3", r"no utterance could be read"),
    ],
)
def test_bad_labels_are_named_before_any_audio_is_read(tmp_path, manifest, message):
    """The only file of the corpus holds no audio, which is said in the last case alone."""
    folder = hopeless(tmp_path, f"path\tspeaker\temotion\tintensity\tarousal\na.wav\t{manifest}\n")
    with pytest.raises(EmoconvError, match=message):
        prepare([folder], tmp_path / "out", tmp_path / "splits.json", log=lambda line: None)
    assert not (tmp_path / "out" / INDEX).exists()


def test_corpora_of_one_name_are_refused(tmp_path):
    folder = hopeless(tmp_path, "path\tspeaker\na.wav\tann\n")
    with pytest.raises(UsageError, match=r"a corpus named corpus was given before"):
        prepare([folder, folder], tmp_path / "out", tmp_path / "splits.json", log=print)


def test_every_row_must_name_its_sentence_where_splits_ask_for_it(tmp_path):
    """The second row's path has no sentence; the first is enough for the targets."""
    folder = hopeless(tmp_path, "path\tspeaker\ns_1.wav\tann\na.wav\tann\n")
    (folder / "s_1.wav").write_bytes(b"no audio")
    splits = {"corpus": {"sentence": "_(\\d)", "splits": {"a": {"sentences": ["1"]}}}}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(EmoconvError, match=r"a\.wav"):
        prepare([folder], tmp_path / "out", tmp_path / "splits.json", log=print)
    assert not (tmp_path / "out").exists()


def test_a_failed_preparation_leaves_the_store_before_it(tmp_path):
    """The old store is taken away only when the new one is about to be written."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / INDEX).write_text("old")
    folder = hopeless(tmp_path, "path\tspeaker\na.wav\tann\n")
    with pytest.raises(EmoconvError, match="no utterance could be read"):
        prepare([folder], tmp_path / "out", tmp_path / "splits.json", log=lambda line: None)
    assert (tmp_path / "out" / INDEX).read_text() == "old"


@pytest.mark.slow
def test_several_processes_keep_the_order():
    words = ["x" * n for n in (3, 1, 2, 5, 4)] * 4
    assert list(_map(len, words, 2)) == list(map(len, words))
