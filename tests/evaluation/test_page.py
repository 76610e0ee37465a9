"""The page: whatever a file is called, it stays text."""

import html.parser
import math
import urllib.parse

import numpy as np
import pytest

from emoconv_jax.config import MelConfig
from emoconv_jax.evaluation.measures import Measures
from emoconv_jax.evaluation.page import HEADINGS, Item, draw, figures, write_page

NASTY = '<script>alert("1")</script>&amp;\'.wav'


def item(title="source", file="a.wav", speaker=(1.0, 0.0), **changes) -> Item:
    tone = (0.1 * np.sin(np.arange(11025) / 20)).astype(np.float32)
    values = {"arousal": 3.456, "f0_hz": 123.4, "level_db": -20.26}
    measures = Measures(**(values | changes), speaker=np.array(speaker))
    return Item(title, file, tone, measures)


class Reader(html.parser.HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.sources += [value for name, value in attrs if name == "src"]

    def handle_data(self, data):
        self.texts.append(data)


def test_titles_files_and_notes_are_escaped(tmp_path):
    path = tmp_path / "index.html"
    write_page([item(), item(NASTY, NASTY)], NASTY + ".png", f"Source: {NASTY}", path)
    page = Reader(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert NASTY in page.texts
    assert f"Source: {NASTY}" in page.texts
    assert [urllib.parse.unquote(s) for s in page.sources] == ["a.wav", NASTY, NASTY + ".png"]
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]


@pytest.mark.parametrize("file", ["javascript:alert(1).wav", "a?b#c.wav", "100%.wav", "//x/y.wav"])
def test_a_file_name_is_a_relative_address(tmp_path, file):
    write_page([item(file=file)], "p.png", "", tmp_path / "index.html")
    source = Reader((tmp_path / "index.html").read_text()).sources[0]
    parts = urllib.parse.urlsplit(source)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert urllib.parse.unquote(parts.path) == file


def test_figures_are_rounded_and_similarity_is_to_the_first():
    rows = figures([item(), item("b", speaker=(0.6, 0.8), f0_hz=math.nan)])
    assert rows == [
        ("source", "3.46", "123", "-20.3", "1.00"),
        ("b", "3.46", "unvoiced", "-20.3", "0.60"),
    ]
    assert len(HEADINGS) == len(rows[0])


def test_the_picture_is_drawn_even_of_titles_that_look_like_tex(tmp_path):
    path = tmp_path / "comparison.png"
    draw([item("$\\frac{"), item("b" * 50)], MelConfig(), path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert [p.name for p in tmp_path.iterdir()] == ["comparison.png"]
