"""Manifests: what a corpus folder may name, and one line with the line number for the rest."""

import pathlib

import pytest

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.manifest import Row, read_manifest


@pytest.fixture
def corpus(tmp_path) -> pathlib.Path:
    folder = tmp_path / "corpus"
    (folder / "a").mkdir(parents=True)
    for name in ("a/1.wav", "a/2.wav", "żółw 3.wav"):
        (folder / name).write_bytes(b"x")
    (tmp_path / "secret.wav").write_bytes(b"x")
    (folder / "a" / "loop.wav").symlink_to("loop.wav")
    return folder


def write(folder: pathlib.Path, *lines: str) -> pathlib.Path:
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_rows_in_order_with_the_columns_that_are_there(corpus):
    write(
        corpus,
        "text\tspeaker\tpath\tarousal\tmood",
        'He said "no\tx\ta/2.wav\t6.5\tunread',
        "",
        "\ty\tżółw 3.wav\t\t",
    )
    assert read_manifest(corpus) == [
        Row("corpus", "a/2.wav", "x", text='He said "no', arousal="6.5"),
        Row("corpus", "żółw 3.wav", "y"),
    ]


def test_windows_line_ends_marks_and_blanks_are_no_part_of_names(corpus):
    content = "\ufeffpath\tspeaker\temotion\r\n a/1.wav \tx \tcalm\r\n"
    (corpus / "manifest.tsv").write_text(content, encoding="utf-8", newline="")
    assert read_manifest(corpus) == [Row("corpus", "a/1.wav", "x", emotion="calm")]


def test_a_table_of_commas_may_quote_them_and_line_breaks_in_texts(corpus):
    content = (
        'path,speaker,text,split,valence\na/1.wav,x,"Yes, he said ""no""",dev,2\na/2.wav,y,,,\n'
    )
    (corpus / "manifest.csv").write_text(content, encoding="utf-8")
    rows = read_manifest(corpus)
    assert rows == [
        Row("corpus", "a/1.wav", "x", text='Yes, he said "no"', split="dev", valence="2"),
        Row("corpus", "a/2.wav", "y"),
    ]
    assert [row.line for row in rows] == [2, 3]
    (corpus / "manifest.tsv").write_text("path\tspeaker\n")
    with pytest.raises(
        EmoconvError, match=r"holds manifest\.tsv and manifest\.csv, allowed is one"
    ):
        read_manifest(corpus)


@pytest.mark.parametrize(
    "rows",
    [
        'a/1.wav,x,"he said\na/2.wav,y,\n',  # never closed
        'a/1.wav,x,"he said\na/2.wav,y,"hi"\n',  # closed by the next quote
    ],
)
def test_a_quote_left_open_is_refused_and_swallows_no_row(corpus, rows):
    (corpus / "manifest.csv").write_text("path,speaker,text\n" + rows)
    with pytest.raises(EmoconvError, match=r"manifest\.csv: cannot be read \("):
        read_manifest(corpus)


def test_a_folder_whose_name_would_break_a_table_is_refused(tmp_path):
    folder = tmp_path / "ta\tb"
    folder.mkdir()
    with pytest.raises(EmoconvError, match="the folder's name holds a line break, another control"):
        read_manifest(write(folder, HEADER, "a.wav\tx"))


def test_a_file_that_is_not_there_is_for_its_reader_to_find(corpus):
    write(corpus, HEADER, "a/9.wav\tx", "a\tx", "a/1.wav\tx", "a/1.wav\tx")
    assert [row.path for row in read_manifest(corpus)] == ["a/9.wav", "a", "a/1.wav", "a/1.wav"]


HEADER = "path\tspeaker"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["speaker\ttext", "x\ty"],
            "manifest.tsv: no column 'path'; found .*'text'",
        ),
        (["path\ttext", "a/1.wav\ty"], "manifest.tsv: no column 'speaker'"),
        ([HEADER], "manifest.tsv: lists no utterances"),
        ([""], "no column 'path'"),
        ([HEADER, "../secret.wav\tx"], "manifest.tsv:2: path '../secret.wav' lies outside"),
        ([HEADER, "a/../../secret.wav\tx"], "manifest.tsv:2: path .* lies outside"),
        ([HEADER, "a/1.wav\tx", "/etc/passwd\tx"], "manifest.tsv:3: path '/etc/passwd' lies out"),
        ([HEADER, ".\tx"], "manifest.tsv:2: path '.' lies outside"),
        ([HEADER, "\tx"], "manifest.tsv:2: path is empty"),
        ([HEADER, "a/1.wav"], "manifest.tsv:2: speaker is empty"),
        ([HEADER, "a/loop.wav\tx"], "manifest.tsv:2: path 'a/loop.wav' is no file name"),
        ([HEADER, "a/\u0085.wav\tx"], r"manifest.tsv:2: path 'a/.x85.wav' holds a line break, an"),
        ([HEADER, "a/1.wav\tx\tmore"], "manifest.tsv:2: more fields than the 2 of the header"),
        ([HEADER, "a/\0.wav\tx"], "manifest.tsv"),
        ([HEADER, "a" * 5000 + "\tx"], "manifest.tsv:2: "),
        ([HEADER, "a" * 200_000 + "\tx"], "manifest.tsv: cannot be read"),
    ],
)
def test_refusals_name_the_line(corpus, lines, message):
    write(corpus, *lines)
    with pytest.raises(EmoconvError, match=message.replace(".tsv", r"\.tsv")) as caught:
        read_manifest(corpus)
    assert str(caught.value).startswith(str(corpus))
    assert "\n" not in str(caught.value)


def test_a_link_that_leaves_the_folder_is_refused(corpus):
    (corpus / "link.wav").symlink_to(corpus.parent / "secret.wav")
    with pytest.raises(EmoconvError, match="lies outside"):
        read_manifest(write(corpus, HEADER, "link.wav\tx"))


def test_other_encodings_and_absent_manifests_are_refused(corpus):
    (corpus / "manifest.tsv").write_bytes("path\tspeaker\nż.wav\tx\n".encode("iso-8859-2"))
    with pytest.raises(EmoconvError, match="not UTF-8 text"):
        read_manifest(corpus)
    with pytest.raises(
        EmoconvError, match=r"a: holds no manifest\.tsv or manifest\.csv, one is needed"
    ):
        read_manifest(corpus / "a")
