"""Every builder on a small corpus of its layout: by `build` and by TFDS itself; what is refused."""

import dataclasses
import os
import pathlib
import zlib

import numpy as np
import pytest
import soundfile

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.corpora.layouts import LAYOUTS, MANIFEST
from emoconv_jax.pipeline.datasets import DatasetSource, build
from emoconv_jax.pipeline.rejects import REJECTED

RATE_HZ = 8000


def sound(name: str) -> np.ndarray:
    """Returns the sound of a clip, another one for each name."""
    return np.random.default_rng(zlib.crc32(name.encode())).integers(-9999, 9999, 900, np.int16)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A small corpus: its label files, and of every row what is most its own.

    Attributes:
        rows: path, speaker, gender, language, emotion, intensity, text, arousal and split.
        absent: paths that the labels name and that are not there.
    """

    texts: dict[str, str]
    rows: list[tuple[str, ...]]
    absent: tuple[str, ...] = ()


WAV = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01"
CORPORA = {
    "ravdess": Corpus(
        {},
        [
            *[("Actor_01/03-01-01-01-01-01-01.wav", "01", "M", "en", "neutral", "normal")],
            *[("Actor_24/03-01-06-02-02-02-24.wav", "24", "F", "en", "fearful", "strong")],
        ],
    ),
    "nemo": Corpus(
        {
            "data.tsv": "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
            "WR0_surprised_64.wav\tsurprised\tUcho „wykrywa”.\tucho\t        WR0\tmale\t23\n"
            "EB0_fear_13.wav\tfear\tŻółw.\tżółw\t        EB0\tfemale\t27\n"
        },
        [
            *[("samples/EB0_fear_13.wav", "EB0", "F", "pl", "fearful", "", "Żółw.")],
            *[("samples/WR0_surprised_64.wav", "WR0", "M", "pl", "surprised", "")],
        ],
    ),
    "esd": Corpus(
        {"0003/0003.txt": "0003_000351\t打远一看\t生气\n"},
        [
            *[("0003/Angry/train/0003_000351.wav", "0003", "F", "zh", "angry", "", "打远一看")],
            *[("0011/Surprise/0011_001401.wav", "0011", "M", "en", "surprised", "", "")],
        ],
    ),
    "msp_podcast": Corpus(
        {
            "Labels/labels_consensus.csv": "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,"
            "Split_Set\nMSP_1.wav,N,2.2,4,4.6,127,Male,Train\n"
            "MSP_2.wav,X,5.8,1.5,7,Unknown,Unknown,Train\n"
            "MSP_3.wav,,,,,128,Female,Test2\nMSP_4.wav,H,5,5,5,128,Female,Test2\n",
            "Transcripts/MSP_1.txt": "so it\n goes\n",
        },
        [
            *[("Audios/MSP_1.wav", "127", "M", "en", "neutral", "", "so it goes", "2.2", "a")],
            *[("Audios/MSP_2.wav", "unknown", "", "en", "", "", "", "5.8", "unused")],
            *[("Audios/MSP_3.wav", "128", "F", "en", "", "", "", "", "test")],
        ],
        ("Audios/MSP_4.wav",),
    ),
    "iemocap": Corpus(
        {
            "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": "% [START_TIME - END_TIME] TURN\n\n"
            "[6.29 - 8.23]\tSes01F_impro01_F000\texc\t[2.5000, 5.0000, 1.0000]\n"
            "C-E2:\tNeutral;\t()\n"
            "[10.0 - 11.3]\tSes01F_impro01_M000\txxx\t[2.5000, 3.0000, 0.5000]\n"
            "[12.0 - 13.3]\tSes01F_impro01_M001\thap\t[2.5000, 1.0000, 2.5000]\n",
            "Session1/dialog/transcriptions/Ses01F_impro01.txt": "Ses01F_impro01_F000 "
            "[006.2901-008.2357]: Excuse me. [LAUGHTER]\n",
        },
        [
            *[(f"{WAV}_F000.wav", "Ses01F", "F", "en", "happy", "", "Excuse me.", "7")],
            *[(f"{WAV}_M000.wav", "Ses01M", "M", "en", "", "", "", "4")],
            *[(f"{WAV}_M001.wav", "Ses01M", "M", "en", "happy", "", "", "1")],
        ],
    ),
    "crema_d": Corpus(
        {"VideoDemographics.csv": '"ActorID","Age","Sex"\n1001,51,"Male"\n'},
        [
            *[("AudioWAV/1001_DFA_ANG_XX.wav", "1001", "M", "en", "angry", "")],
            *[("AudioWAV/1002_IEO_HAP_HI.wav", "1002", "", "en", "happy", "strong")],
            *[("AudioWAV/1040_ITH_SAD_X.wav", "1040", "", "en", "sad", "")],
        ],
    ),
    MANIFEST: Corpus(
        {"manifest.csv": 'path,speaker,text,arousal\nb/ż.wav,x,"a, b",6.5\na.wav,y,,\n'},
        [
            *[("b/ż.wav", "x", "", "", "", "", "a, b", "6.5")],
            *[("a.wav", "y", "", "", "", "", "", "")],
        ],
    ),
}
FIELDS = (
    *("path", "speaker", "gender", "language", "emotion"),
    *("intensity", "text", "arousal", "split"),
)


def planted(folder: pathlib.Path, corpus: Corpus) -> pathlib.Path:
    for name, text in corpus.texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name in (row[0] for row in corpus.rows):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, sound(name), RATE_HZ, subtype="PCM_16")
    return folder


def test_every_layout_has_a_corpus_here():
    assert set(CORPORA) == {*LAYOUTS, MANIFEST}


@pytest.mark.parametrize("layout", CORPORA)
def test_a_corpus_of_each_layout_comes_back_from_build(layout, tmp_path):
    corpus = CORPORA[layout]
    folder = planted(tmp_path / "corpus", corpus)
    lines: list[str] = []
    source = DatasetSource(build(folder, tmp_path / "out", log=lines.append))
    for row, wanted in zip(source.rows, corpus.rows, strict=True):
        assert tuple(getattr(row, name) for name in FIELDS)[: len(wanted)] == wanted
        assert row.corpus == ("corpus" if layout == MANIFEST else layout)
    for number, row in enumerate(source.rows):
        audio, rate_hz = source.read(number)
        np.testing.assert_array_equal(audio * 32768, sound(row.path))
        assert rate_hz == RATE_HZ
    table = (source.folder.parent / REJECTED).read_text().splitlines()[1:]
    assert tuple(line.split("\t")[1] for line in table) == corpus.absent
    count = len(corpus.rows)
    assert lines[-1].startswith(f"{count} of {count + len(corpus.absent)} utterances built: ")


@pytest.mark.parametrize("layout", CORPORA)
def test_a_corpus_of_each_layout_comes_back_from_tfds_alone(layout, tmp_path):
    import tensorflow_datasets as tfds

    from emoconv_jax.pipeline.builders import BUILDERS

    corpus = CORPORA[layout]
    folder = planted(tmp_path / "corpus", corpus)
    builder = BUILDERS[layout](data_dir=os.fspath(tmp_path / "data"))
    builder.download_and_prepare(
        download_dir=os.fspath(tmp_path / "nothing"),
        download_config=tfds.download.DownloadConfig(
            manual_dir=os.fspath(folder), try_download_gcs=False
        ),
    )
    records = builder.as_data_source("corpus")
    assert len(records) == len(corpus.rows)
    for record, wanted in zip(records, corpus.rows, strict=True):
        texts = {name: record[name].decode() for name in FIELDS if name != "arousal"}
        for name, value in zip(FIELDS, wanted, strict=False):
            assert name == "arousal" or texts[name] == value
        if len(wanted) > 7:
            assert record["arousal"] == pytest.approx(float(wanted[7] or -1))
        np.testing.assert_array_equal(record["audio"], sound(wanted[0]))
        assert record["sample_rate_hz"] == RATE_HZ
    assert tuple(row.path for row, _, _ in builder.rejected) == corpus.absent


def manifest(folder: pathlib.Path, text: str) -> pathlib.Path:
    folder.mkdir(parents=True)
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,speaker,emotion\na.wav,x,bored\n", "a.wav: emotion 'bored': unknown"),
        ("path,speaker,emotion,intensity\na.wav,x,sad,mild\n", "a.wav: intensity 'mild'"),
        ("path,speaker,intensity\na.wav,x,mild\n", "a.wav: intensity 'mild', allowed are low, "),
        ("path,speaker,gender\na.wav,x,female\n", "a.wav: gender 'female', allowed are F, M or"),
        ("path,speaker,split\na.wav,x,b\nb.wav,y,dog\n", "b.wav: split 'dog', allowed are a"),
        ("path,speaker,dominance\na.wav,x,0\n", "a.wav: dominance '0', allowed are 1 to 7"),
    ],
)
def test_bad_labels_are_refused_before_audio_is_read(tmp_path, text, message):
    folder = manifest(tmp_path / "corpus", text)  # without audio, which would be another error
    with pytest.raises(EmoconvError, match=message):
        build(folder, tmp_path / "out", log=lambda line: None)
    assert not (tmp_path / "out").exists()


def test_nothing_readable_is_no_dataset_with_the_progress_bar_off(tmp_path, monkeypatch):
    from emoconv_jax.pipeline import builders

    shown = builders.tqdm  # as TQDM_DISABLE=1 makes it, which tqdm reads when it is imported
    monkeypatch.setattr(builders, "tqdm", lambda **words: shown(**words, disable=True))
    folder = manifest(tmp_path / "corpus", "path,speaker\na.wav,x\nb.wav,x\n")
    with pytest.raises(EmoconvError, match=r"none of 2 clips can be read; .*a\.wav"):
        build(folder, tmp_path / "out", log=lambda line: None)
    assert not list((tmp_path / "out").rglob("1.0.0"))


def test_two_folders_of_one_name_do_not_replace_each_other(tmp_path):
    corpus, silent = CORPORA[MANIFEST], lambda line: None
    first, second = (planted(tmp_path / place / "corpus", corpus) for place in ("a", "b"))
    dataset = build(first, tmp_path / "out", log=silent)
    with pytest.raises(EmoconvError, match=rf"was built from {first}, not from {second}; remove"):
        build(second, tmp_path / "out", log=silent)
    (tmp_path / "link").symlink_to(first)
    assert build(tmp_path / "link", tmp_path / "out", log=silent) == dataset
    (dataset.parent / "built_from.txt").unlink()
    with pytest.raises(EmoconvError, match="was built from an unknown folder"):
        build(first, tmp_path / "out", log=silent)
    assert len(DatasetSource(dataset)) == 2


def test_a_dataset_that_is_a_link_is_not_replaced(tmp_path):
    folder = planted(tmp_path / "corpus", CORPORA[MANIFEST])
    dataset = build(folder, tmp_path / "out", log=lambda line: None)
    dataset.rename(tmp_path / "elsewhere")
    dataset.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmoconvError, match=f"{dataset}: a link, expected a folder"):
        build(folder, tmp_path / "out", log=lambda line: None)
    assert len(DatasetSource(tmp_path / "elsewhere")) == 2
