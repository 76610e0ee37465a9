"""Preparations that meet damage, other people's files, or inputs that do not belong together."""

import pathlib

import pytest
from tones import CLIPS, SETTINGS, make_corpus

from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.pipeline.extraction import Settings
from emoconv_jax.pipeline.prepare import Running, prepare
from emoconv_jax.pipeline.splits import load_splits


def quietly() -> Running:
    return Running(log=lambda line: None)


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("items.json", lambda path: path.write_text("[1, 2]")),
        ("items.json", lambda path: path.write_text("[]")),
        ("items.json", lambda path: path.write_text("{")),
        ("items.json", lambda path: path.write_text(path.read_text().replace("64,", "-64,"))),
        ("mel.f16", cut),
        ("aligned.i1", cut),
        ("speaker.f32", cut),
        ("prosody.f32", cut),
    ],
)
def test_a_damaged_shard_is_named(prepared, corpus, splits, name, damage):
    damage(prepared / "shards" / "00000" / name)
    with pytest.raises(EmoconvError, match=r"shards/00000.*(damaged|not JSON)"):
        prepare([str(corpus)], prepared, splits, settings=SETTINGS, running=quietly())


@pytest.mark.slow
def test_features_of_an_older_version_are_told(prepared, corpus, splits):
    (prepared / "shards" / "00000" / "prosody.f32").unlink()
    with pytest.raises(EmoconvError, match=r"prosody\.f32 not found.*fresh --out"):
        prepare([str(corpus)], prepared, splits, settings=SETTINGS, running=quietly())


@pytest.mark.slow
def test_nobody_elses_files_are_swept_away(prepared, corpus, splits):
    out = prepared
    kept = [out / "sub" / f".{'0' * 16}.part", out / ".mine.part", out / "shards" / ".my.part"]
    half = [out / f".{'0' * 16}.part", out / "shards" / f".00000.{'0' * 16}.part"]
    for path in (*kept, *half):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    prepare([str(corpus)], out, splits, settings=SETTINGS, running=quietly())
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in half)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda corpus: (corpus / "phones.tsv").write_text(TABLE),
            r"phones\.tsv: names no path",
        ),
        (lambda corpus: (corpus / "phones.tsv").mkdir(), r"phones\.tsv: not a file, expected"),
    ],
)
def test_phone_times_of_another_corpus_are_refused(tmp_path, splits, make, message):
    corpus = make_corpus(tmp_path / "corpus", CLIPS[:2])
    (corpus / "phones.tsv").unlink()
    make(corpus)
    with pytest.raises(EmoconvError, match=message):
        prepare([str(corpus)], tmp_path / "out", splits, running=quietly())


TABLE = "path\tphone\tstart_s\tend_s\nother.wav\ti\t0\t1\n"


def test_settings_that_name_nothing_of_the_corpus_are_refused(tmp_path, corpus):
    other = tmp_path / "other.json"
    other.write_text('{"elsewhere": {"splits": {"a": {}}}}')
    with pytest.raises(UsageError, match="--splits: names elsewhere, none of the corpora corpus"):
        prepare([str(corpus)], tmp_path / "out", load_splits(other), running=quietly())
    grids = Settings(text_grids=str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"--text_grids: .*nowhere is not a folder"):
        prepare([str(corpus)], tmp_path / "out", {}, settings=grids, running=quietly())
