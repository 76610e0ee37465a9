"""Corpora as they are published, on small trees: what each label becomes, and what is odd in them.

The trees' names and lines are those of the corpora's own files and documentation.
"""

import os
import pathlib

import pytest

from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.pipeline.corpora.layouts import LAYOUTS, passed_over, read_corpus
from emoconv_jax.pipeline.labels import emotion_name
from emoconv_jax.pipeline.manifest import Row, read_manifest
from emoconv_jax.pipeline.splits import UNUSED


def plant(folder: pathlib.Path, *files: str, **texts: str) -> pathlib.Path:
    """Makes files: empty ones by path, and those with content by the last part of theirs."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts.get(path.stem, ""), encoding="utf-8")
    return folder


def test_ravdess_names_are_read_and_songs_and_strangers_passed_over(tmp_path):
    plant(
        tmp_path,
        "Actor_12/03-01-06-02-02-01-12.wav",
        "Actor_01/03-01-01-01-01-02-01.WAV",
        "Actor_01/03-02-03-01-01-02-01.wav",  # a song
        "Actor_01/._03-01-03-01-01-02-01.wav",
        "Actor_01/copy.wav",
        "Actor_01/notes.txt",
        ".Trashes/03-01-01-01-01-01-09.wav",
    )
    assert read_corpus(tmp_path) == [
        Row(
            *("ravdess", "Actor_01/03-01-01-01-01-02-01.WAV", "01", "M", "en", "neutral"),
            *("normal", "Kids are talking by the door"),
        ),
        Row(
            *("ravdess", "Actor_12/03-01-06-02-02-01-12.wav", "12", "F", "en", "fearful"),
            *("strong", "Dogs are sitting by the door"),
        ),
    ]


@pytest.mark.corpora
def test_ravdess_names_say_what_a_manifest_made_elsewhere_says():
    folder = pathlib.Path(os.environ["EMOCONV_CORPORA"]) / "ravdess"
    by_path = sorted(read_manifest(folder), key=lambda row: row.path)
    assert read_corpus(folder, "ravdess") == by_path


NEMO = (
    "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
    "WR0_surprised_64.wav\tsurprised\tUcho wykrywa.\tucho wykrywa\t        WR0\tmale\t23\n"
    "EB0_fear_13.wav\tfear\t„Żołwica” to.\tżołwica to\t        EB0\tfemale\t27\n"
)


def test_nemo_takes_labels_from_its_table(tmp_path):
    plant(tmp_path, "data.tsv", "samples/EB0_fear_13.wav", data=NEMO)
    assert read_corpus(tmp_path) == [
        Row(
            *("nemo", "samples/EB0_fear_13.wav", "EB0", "F", "pl", "fearful"),
            text="„Żołwica” to.",
        ),
        Row(
            *("nemo", "samples/WR0_surprised_64.wav", "WR0", "M", "pl", "surprised"),
            text="Ucho wykrywa.",
        ),
    ]
    assert [row.line for row in read_corpus(tmp_path)] == [3, 2]


def test_esd_with_and_without_sets_and_in_each_encoding(tmp_path):
    plant(
        tmp_path,
        "0011/Surprise/evaluation/0011_001401.wav",
        "0011/Neutral/0011_000001.wav",
        "0016/Sad/train/0016_001051.wav",
        "0002/Happy/test/0002_000701.wav",
        "0003/Angry/train/0003_000351.wav",
        "0020/Angry/train/0020_000351.wav",
        "0020/Angry/train/._0020_000351.wav",
        "0020/extra.wav",
        "ReadMe.txt",
    )
    (tmp_path / "0011/0011.txt").write_text(
        "0011_000001\tThe nine the eggs, I keep.\tNeutral\n\n0011_001401 no tabs Surprise\n",
        encoding="utf-8-sig",
    )
    (tmp_path / "0016/0016.txt").write_bytes(  # with a tab more than needed
        "0016_001051\tIt’s “so”.\tSad\t\r\n".encode("cp1252")
    )
    (tmp_path / "0002/0002.txt").write_bytes("0002_000701\t打远一看\t快乐\n".encode("gb2312"))
    (tmp_path / "0003/0003.txt").write_bytes("0003_000351\t打远一看\t生气\n".encode("utf-16"))
    rows = {row.path: row for row in read_corpus(tmp_path)}
    assert {p: (r.gender, r.language, r.emotion, r.text, r.line) for p, r in rows.items()} == {
        "0002/Happy/test/0002_000701.wav": ("F", "zh", "happy", "打远一看", 1),
        "0003/Angry/train/0003_000351.wav": ("F", "zh", "angry", "打远一看", 1),
        "0011/Neutral/0011_000001.wav": ("M", "en", "neutral", "The nine the eggs, I keep.", 1),
        "0011/Surprise/evaluation/0011_001401.wav": ("M", "en", "surprised", "", 0),
        "0016/Sad/train/0016_001051.wav": ("F", "en", "sad", "It’s “so”.", 1),
        "0020/Angry/train/0020_000351.wav": ("M", "en", "angry", "", 0),
    }
    assert {row.split for row in rows.values()} == {""}
    assert list(rows) == sorted(rows)


DIALOGUE = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes02F_impro01_F000\texc\t[2.5000, 5.0000, 1.0000]
C-E2:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes02F_impro01_M001\txxx\t[5.5000, 3.0000, 0.5000]
[12.0100 - 13.3925]\tSes02F_impro01_F001\thap\t[3.0000, 2.3333, 3.0000]
[14.0100 - 15.3925]\tSes02F_impro01_F002\tfru\t[3.0000, 3.0000, 3.0000]
"""
SAID = """Ses02F_impro01_F000 [006.2901-008.2357]: Excuse me. [LAUGHTER] Yes.
F: a stray remark
Ses02F_impro01_MXX0 [009.0000-009.5000]: Mm.
"""


def iemocap(folder: pathlib.Path, dialogue: str = DIALOGUE) -> pathlib.Path:
    dialog = folder / "Session2/dialog"
    plant(folder, "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt", Ses02F_impro01=dialogue)
    plant(dialog, "EmoEvaluation/._Ses02F_impro01.txt", "EmoEvaluation/Categorical/e1.anvil")
    return plant(dialog, "transcriptions/Ses02F_impro01.txt", Ses02F_impro01=SAID).parents[1]


def test_iemocap_merges_excited_and_keeps_ratings_without_agreement(tmp_path):
    first, second, third, fourth = read_corpus(iemocap(tmp_path))
    wav = "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_"
    assert first == Row(
        *("iemocap", f"{wav}F000.wav", "Ses02F", "F", "en", "happy"),
        text="Excuse me. Yes.",
        arousal="7",  # 1 + 1.5 (5 - 1)
        valence="3.25",  # 1 + 1.5 (2.5 - 1)
        dominance="1",
    )
    assert first.line == 3
    assert (second.path, second.emotion) == (f"{wav}F001.wav", "happy")
    assert float(second.arousal) == pytest.approx(1 + 1.5 * 1.3333)
    assert (third.path, third.emotion, third.arousal) == (f"{wav}F002.wav", "", "4")
    assert (fourth.speaker, fourth.gender, fourth.emotion) == ("Ses02M", "M", "")
    assert (fourth.valence, fourth.arousal, fourth.dominance) == ("7", "4", "1")


MSP = (
    "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
    "MSP-PODCAST_0001_0008.wav,N,2.2,4,4.6,127,Male,Train\n"
    "MSP-PODCAST_0002_0033.wav,X,5.8,1.5,7,Unknown,Unknown,Train\n"
    "MSP-PODCAST_0003_0039.wav,U,,,,128,Female,Development\n"
    "MSP-PODCAST_0004_0001.wav,,3,3,3,129,Female,Test2\n"
    "MSP-PODCAST_0005_0001.wav,C,3,3,3,Unknown,Male,Test1\n"
)


@pytest.mark.parametrize("place", ["Labels/labels_consensus.csv", "labels_consensus.csv"])
def test_msp_podcast_ratings_and_sets(tmp_path, place):
    plant(tmp_path, place, labels_consensus=MSP)
    plant(tmp_path, "Transcripts/MSP-PODCAST_0001_0008.txt")
    (tmp_path / "Transcripts/MSP-PODCAST_0001_0008.txt").write_text(" so\n it goes\n")
    rows = read_corpus(tmp_path)
    assert rows[0] == Row(
        *("msp_podcast", "Audios/MSP-PODCAST_0001_0008.wav", "127", "M", "en", "neutral"),
        text="so it goes",
        arousal="2.2",
        valence="4",
        dominance="4.6",
        split="a",
    )
    assert [row.emotion for row in rows] == ["neutral", "", "surprised", "", ""]
    assert [row.split for row in rows] == ["a", UNUSED, "validation", "test", UNUSED]
    assert [row.speaker for row in rows] == ["127", "unknown", "128", "129", "unknown"]
    assert [row.arousal for row in rows] == ["2.2", "5.8", "", "3", "3"]
    assert [row.line for row in rows] == [2, 3, 4, 5, 6]


ACTORS = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'


@pytest.mark.parametrize("inside", [True, False])
def test_crema_d_from_the_repository_and_from_its_audio_alone(tmp_path, inside):
    plant(
        tmp_path,
        "AudioWAV/1001_DFA_ANG_XX.wav",
        "AudioWAV/1002_IEO_HAP_HI.wav",
        "AudioWAV/1002_IEO_SAD_LO.wav",
        "AudioWAV/1040_ITH_SAD_X.wav",  # published so
        "VideoDemographics.csv",
        VideoDemographics=ACTORS,
    )
    before = "AudioWAV/" if inside else ""
    rows = read_corpus(tmp_path if inside else tmp_path / "AudioWAV")
    assert rows[0] == Row(
        *("crema_d", f"{before}1001_DFA_ANG_XX.wav", "1001", "M" if inside else "", "en", "angry"),
        text="Don't forget a jacket",
    )
    assert [(row.emotion, row.intensity, row.text) for row in rows[1:]] == [
        ("happy", "strong", "It's eleven o'clock"),
        ("sad", "low", "It's eleven o'clock"),
        ("sad", "", "I think I have a doctor's appointment"),
    ]
    assert rows[1].gender == ""


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"Actor_01/03-01-09-01-01-01-01.wav": ""}, "03-01-09.*emotion '09' unknown, allowed are"),
        ({"A/03-01-01-03-01-01-01.wav": ""}, "intensity '03' unknown"),
        ({"0011/Neutral/0011_000001.wav": "", "0011/Bored/x/0011_000002.wav": ""}, "'Bored'"),
        ({"0011/Neutral/0012_000001.wav": ""}, "a clip of 0012 in the folder of 0011"),
        ({"1001_DFA_CAL_XX.wav": ""}, "1001_DFA_CAL_XX.wav: emotion 'CAL' unknown"),
        ({"1001_ABC_SAD_XX.wav": ""}, "sentence 'ABC' unknown"),
        ({"labels_consensus.csv": MSP.replace(",N,", ",Z,")}, r"consensus.csv:2: emotion 'Z'"),
        ({"labels_consensus.csv": MSP.replace("Test2", "Test9")}, r"csv:5: Split_Set 'Test9'"),
        ({"labels_consensus.csv": MSP.replace("2.2", "7.2")}, "csv:2: EmoAct '7.2', allowed are 1"),
        ({"labels_consensus.csv": MSP.replace("2.2", "nan")}, "csv:2: EmoAct 'nan'"),
        ({"labels_consensus.csv": "FileName\nx\n"}, "no column 'EmoClass'"),
        (
            {"labels_consensus.csv": MSP.replace("MSP-PODCAST_0001", "../../MSP")},
            "csv:2: FileName '../../MSP_0008.wav', expected the name of a file",
        ),
        (
            {"labels_consensus.csv": MSP.replace("MSP-PODCAST_0001_0008.wav", "/etc/passwd")},
            "csv:2: FileName '/etc/passwd', expected the name of a file",
        ),
        ({"labels_consensus.csv": MSP.replace("MSP-PODCAST_0001_0008.wav", " ")}, "2: FileName ''"),
        (
            {"data.tsv": NEMO.replace("EB0_fear_13.wav", ""), "samples/x": ""},
            r"data.tsv:3: file_id '', expected the name of a file",
        ),
        (
            {"data.tsv": NEMO.replace("        EB0", "   "), "samples/x": ""},
            r"data.tsv:3: speaker_id is empty",
        ),
        ({"A/03-01-01-01-01-01-25.wav": ""}, "actor '25' unknown, allowed are '01', '02'"),
        ({"A/03-01-01-01-01-01-00.wav": ""}, "actor '00' unknown"),
        ({"A/٠٣-01-01-01-01-01-01.wav": ""}, "unknown layout"),
        ({"data.tsv": NEMO.replace("\tfear\t", "\tfears\t"), "samples/x": ""}, r"tsv:3: .*'fears'"),
        ({"a/03-01-01-01-01-01-01.wav": "", "b/03-01-01-01-01-01-01.wav": ""}, "same clip twice"),
        ({"Actor_01/03-02-03-01-01-02-01.wav": ""}, "no utterances in the layout of ravdess"),
        ({"a/1.wav": "", "labels.txt": ""}, "unknown layout, expected manifest.tsv or manifest.cs"),
        (
            {"1001_DFA_ANG_XX.wav": "", "03-01-01-01-01-01-01.wav": ""},
            "holds crema_d and ravdess; name one",
        ),
    ],
)
def test_what_is_refused(tmp_path, files, message):
    for name, text in files.items():
        plant(tmp_path, name)
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(EmoconvError, match=message):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[6.29 - 8.23]\tSes02F_impro01_F000\tbored\t[2, 2, 2]", "'bored' unknown"),
        ("[6.29 - 8.23]\tSes02F_impro01_F000\tneu\t[2, 2]", "no evaluation"),
        ("  [6.29 - 8.23]\tSes02F_impro01_F000\tneu", "no evaluation"),
        ("[6.29 - 8.23]\tSes02F_impro01_F000\tneu\t[2, 7, 2]", "activation ' 7', allowed are 0.5"),
    ],
)
def test_iemocap_names_the_line_it_refuses(tmp_path, line, message):
    folder = iemocap(tmp_path, f"% header\n{line}\n")
    with pytest.raises(EmoconvError, match=rf"EmoEvaluation/Ses02F_impro01\.txt:2: .*{message}"):
        read_corpus(folder)


def test_links_and_names_that_are_none_are_refused_by_name(tmp_path):
    folder = plant(tmp_path / "corpus", "Actor_01/03-01-01-01-01-01-01.wav")
    plant(tmp_path, "secret/03-01-01-01-01-02-01.wav")
    (folder / "Actor_02").symlink_to(tmp_path / "secret")
    with pytest.raises(EmoconvError, match="path 'Actor_02' lies outside"):
        read_corpus(folder)
    (folder / "Actor_02").unlink()
    (folder / "Actor_03").symlink_to("Actor_01")
    assert len(read_corpus(folder)) == 1  # a link to what is inside shows nothing new
    (folder / "Actor_03").unlink()
    (folder / "circle.wav").symlink_to("circle.wav")
    with pytest.raises(EmoconvError, match=r"'circle.wav' is no file name"):
        read_corpus(folder)
    (folder / "circle.wav").unlink()
    (folder / "Actor\n05").mkdir()
    plant(folder, "Actor\n05/03-01-01-01-01-01-05.wav")
    with pytest.raises(EmoconvError, match=r"Actor\\n05.*line break"):
        read_corpus(folder)


LABEL_FILES = {
    "nemo": ("data.tsv", NEMO, "samples/x.txt"),
    "msp_podcast": ("labels_consensus.csv", MSP, "Audios/x.txt"),
    "iemocap": ("Session2/dialog/EmoEvaluation/Ses02F_impro01.txt", DIALOGUE, "x.txt"),
    "said": (
        "Session2/dialog/transcriptions/Ses02F_impro01.txt",
        SAID,
        "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt",
    ),
    "spoken": ("Transcripts/MSP-PODCAST_0001_0008.txt", "so", "labels_consensus.csv"),
    "esd": ("0011/0011.txt", "0011_000001\tSo.\tNeutral", "0011/Neutral/0011_000001.wav"),
    "crema_d": ("VideoDemographics.csv", ACTORS, "1001_DFA_ANG_XX.wav"),
}


@pytest.mark.parametrize("corpus", LABEL_FILES)
def test_label_files_are_files_of_the_folder(corpus, tmp_path):
    name, text, beside = LABEL_FILES[corpus]
    folder = plant(tmp_path / "corpus", name, beside, Ses02F_impro01=DIALOGUE, labels_consensus=MSP)
    (folder / name).write_text(text, encoding="utf-8")
    assert read_corpus(folder)
    (folder / name).rename(tmp_path / "secret")
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(EmoconvError, match=rf"'{name}' lies outside the corpus folder"):
        read_corpus(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)  # which would wait for somebody to write
    if corpus in ("nemo", "msp_podcast"):  # told by that file, which has to be one
        with pytest.raises(EmoconvError, match="unknown layout"):
            read_corpus(folder)
    else:
        with pytest.raises(EmoconvError, match=f"{name}: not a regular file"):
            read_corpus(folder)
    (folder / name).unlink()
    with (folder / name).open("wb") as file:
        file.truncate(64 * 2**20 + 1)  # of zeros, which take no space
    with pytest.raises(EmoconvError, match=f"{name}: 67108865 bytes, at most 67108864 allowed"):
        read_corpus(folder)


def test_a_stray_clip_of_another_corpus_does_not_make_two(tmp_path):
    plant(tmp_path / "c", "0011/Neutral/0011_000001.wav", "x/03-01-01-01-01-01-01.wav")
    assert [row.corpus for row in read_corpus(tmp_path / "c")] == ["esd"]
    assert passed_over(tmp_path / "c", read_corpus(tmp_path / "c")) == [
        "x/03-01-01-01-01-01-01.wav"
    ]


def test_an_unrelated_link_does_not_stop_the_recognition(tmp_path):
    plant(tmp_path / "elsewhere", "x.wav")
    folder = plant(tmp_path / "c", "data.tsv", "samples/EB0_fear_13.wav", data=NEMO)
    (folder / "a link").symlink_to(tmp_path / "elsewhere")
    assert len(read_corpus(folder)) == 2


def test_a_name_that_is_not_utf_8_is_refused(tmp_path):
    plant(tmp_path, "03-01-01-01-01-01-01.wav")
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"")
    with pytest.raises(EmoconvError, match=r"caf\\udce9.wav"):
        read_corpus(tmp_path)


def test_a_manifest_comes_first_and_a_name_decides(tmp_path):
    plant(tmp_path, "03-01-01-01-01-01-01.wav", "manifest.tsv", manifest="path\tspeaker\nx\ty\n")
    assert read_corpus(tmp_path) == [Row(tmp_path.name, "x", "y")]
    assert read_corpus(tmp_path, "ravdess")[0].speaker == "01"
    with pytest.raises(EmoconvError, match=r"expected .* the layout of esd"):
        read_corpus(tmp_path, "esd")
    with pytest.raises(UsageError, match=r"'savee': unknown, allowed are manifest, .*ravdess"):
        read_corpus(tmp_path, "savee")
    with pytest.raises(EmoconvError, match="not a folder"):
        read_corpus(tmp_path / "manifest.tsv")


def test_every_table_leads_to_names_of_the_vocabulary():
    for layout in LAYOUTS.values():
        assert {emotion_name(name) for name in layout.EMOTIONS.values() if name}
