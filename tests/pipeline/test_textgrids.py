import pathlib

import pytest
from praatio import textgrid

from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.alignment import _decoder
from emoconv_jax.pipeline.phones import PHONES, strip_stress
from emoconv_jax.pipeline.textgrids import IPA_PHONES, find_text_grid, read_text_grid

# Every phone that english_mfa and its dialects list in any version from 2.0.0 to 3.1.0.
# Source: dictionary/english/*/*/meta.json of github.com/MontrealCorpusTools/mfa-models
PUBLISHED = (
    "a aj aw aː b bʲ c cʰ cʷ d dʒ dʲ d̪ e ej eː f fʲ fʷ h i iː j k kp kʰ kʷ l m mʲ m̩ n n̩ o ow oː "
    "p pʰ pʲ pʷ s t tʃ tʰ tʲ tʷ t̪ u uː v vʲ vʷ w z æ ç ð ŋ ɐ ɑ ɑː ɒ ɒː ɔ ɔj ɖ ə əw ɚ ɛ ɛː ɜ ɜː ɝ "
    "ɟ ɟʷ ɡ ɡb ɡʷ ɪ ɫ ɫ̩ ɱ ɲ ɹ ɾ ɾʲ ɾ̃ ʃ ʈ ʈʲ ʈʷ ʉ ʉː ʊ ʋ ʎ ʒ ʔ θ"
)
# Source: entries of english_us_mfa in the same repository, whose words CMUdict holds too.
AMERICAN = {
    "about": "ə b aw t", "measure": "m ɛ ʒ ɚ", "jeans": "dʒ iː n z", "boy": "b ɔj", "you": "j ʉː",
    "cameo": "cʰ æ mʲ i ow", "abigail": "æ b ə ɟ ej ɫ", "abbey": "æ bʲ i", "abuts": "ə b ɐ t s",
    "abort": "ə b ɒ ɹ t", "aberdeen": "æ b ɚ dʲ i n", "school": "s k ʉː ɫ", "good": "ɡ ʊ d",
    "change": "tʃ ej n dʒ", "hang": "h æ ŋ", "vision": "vʲ ɪ ʒ ə n", "thing": "θ ɪ ŋ",
}  # fmt: skip

HEAD = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
INTERVALS = [(0.0, 0.25, ""), (0.25, 0.31, "HH"), (0.31, 0.5, "AY1"), (0.5, 0.75, "sil")]
READ = [("sil", 0.0, 0.25), ("HH", 0.25, 0.31), ("AY", 0.31, 0.5), ("sil", 0.5, 0.75)]


def long_form(intervals, tier="phones"):
    """As the manual of Praat prints it, written without a library."""
    end_s = intervals[-1][1]
    lines = [f"xmin = 0 \nxmax = {end_s} \ntiers? <exists> \nsize = 2 \nitem []: "]
    for number, (name, spans) in enumerate([("words", [(0.0, end_s, "hi")]), (tier, intervals)]):
        lines.append(f'    item [{number + 1}]:\n        class = "IntervalTier" ')
        lines.append(f'        name = "{name}" \n        xmin = 0 \n        xmax = {end_s} ')
        lines.append(f"        intervals: size = {len(spans)} ")
        for place, (start_s, stop_s, label) in enumerate(spans):
            lines.append(f"        intervals [{place + 1}]:\n            xmin = {start_s} ")
            lines.append(f'            xmax = {stop_s} \n            text = "{label}" ')
    return HEAD + "\n".join(lines) + "\n"


def short_form(intervals):
    end_s = intervals[-1][1]
    rows = "".join(f'{start_s}\n{stop_s}\n"{label}"\n' for start_s, stop_s, label in intervals)
    tier = f'"IntervalTier"\n"phones"\n0\n{end_s}\n{len(intervals)}\n'
    return f"{HEAD}0\n{end_s}\n<exists>\n1\n{tier}{rows}"


def write(folder, text, encoding="utf-8"):
    path = folder / "a.TextGrid"
    path.write_bytes(text.encode(encoding))
    return path


def spans_of(path):
    return [(span.phone, span.start_s, span.end_s) for span in read_text_grid(path)]


def spoken(folder, *labels):
    rows = [(i / 8, (i + 1) / 8, label) for i, label in enumerate(labels)]
    return [phone for phone, _, _ in spans_of(write(folder, long_form(rows)))]


@pytest.mark.parametrize("form", [long_form, short_form])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_both_forms_are_read_in_every_encoding(tmp_path, form, encoding):
    assert spans_of(write(tmp_path, form(INTERVALS), encoding)) == READ


def test_line_ends_of_windows_are_read(tmp_path):
    assert spans_of(write(tmp_path, long_form(INTERVALS).replace("\n", "\r\n"))) == READ


def test_what_the_aligner_writes_is_read(tmp_path):
    """The aligner saves with this library, blank spaces filled in."""
    grid = textgrid.Textgrid(0, 0.75)
    spoken_only = [interval for interval in INTERVALS if interval[2] not in ("", "sil")]
    grid.addTier(textgrid.IntervalTier("words", [(0.25, 0.5, "hi")], 0, 0.75))
    grid.addTier(textgrid.IntervalTier("phones", spoken_only, 0, 0.75))
    for kind in ("long_textgrid", "short_textgrid"):
        path = tmp_path / f"{kind}.TextGrid"
        grid.save(str(path), kind, includeBlankSpaces=True)
        assert spans_of(path) == READ


def test_stress_goes_and_every_silence_is_one(tmp_path):
    found = spoken(tmp_path, "", "sp", "SIL", "AH0", "ER2", "K", "<sil>")
    assert found == ["sil", "sil", "sil", "AH", "ER", "K", "sil"]


def test_every_published_phone_is_mapped_and_no_other(tmp_path):
    assert set(IPA_PHONES) == set(PUBLISHED.split())
    assert set(IPA_PHONES.values()) == set(PHONES) - {"sil"}
    assert set(spoken(tmp_path, *PUBLISHED.split())) == set(PHONES) - {"sil"}


def test_a_decomposed_letter_is_the_same_phone(tmp_path):
    assert spoken(tmp_path, "c\u0327", "iː") == ["HH", "IY"]


def test_no_symbol_of_one_alphabet_means_another_phone_in_the_other():
    for symbol, phone in IPA_PHONES.items():
        if symbol.upper() in PHONES:
            assert strip_stress(symbol) == phone


@pytest.mark.parametrize("word", sorted(AMERICAN))
def test_ipa_becomes_what_cmudict_writes(tmp_path, word):
    stated = _decoder().lookup_word(word)
    assert spoken(tmp_path, *AMERICAN[word].split()) == [strip_stress(p) for p in stated.split()]


def test_an_unknown_word_leaves_the_utterance_out(tmp_path):
    path = write(tmp_path, long_form([*INTERVALS[:2], (0.31, 0.75, "spn")]))
    with pytest.raises(EmoconvError, match=r"a\.TextGrid: at 0\.31 s: spn, a word"):
        read_text_grid(path)


def test_a_phone_of_another_language_is_named_with_its_file(tmp_path):
    with pytest.raises(EmoconvError, match=r"a\.TextGrid: at 0\.125 s: phone 'ʂ'"):
        spoken(tmp_path, "a", "ʂ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a TextGrid"),
        ('{"start": 0, "end": 1, "tiers": {}}', "not a TextGrid"),
        (HEAD, "damaged"),
        (long_form(INTERVALS, tier="A - phones"), "no tier 'phones'; found words, A - phones"),
        (long_form(INTERVALS, tier="words"), "damaged"),
        (long_form([(0.0, 0.5, "AA1"), (0.25, 0.75, "B")]), "damaged"),  # overlap
        (long_form([(0.0, 0.5, "AA1"), (0.75, 0.75, "B")]), "damaged"),  # lasts no time
        (long_form([(0.0, "1e400", "AA1")]), "damaged"),
        (short_form([(0.0, "nan", "AA1")]), "a.TextGrid: "),
        (short_form([(0.0, "inf", "AA1")]), "a.TextGrid: "),
        (short_form([(-0.5, 0.5, "AA1")]), "a phone from -0.5 to 0.5 s"),
        (short_form(INTERVALS).rsplit("\n", 4)[0] + "\n", r"ends at 0\.5 of 0\.75 s; cut off"),
        (long_form(INTERVALS).rsplit("intervals [4]", 1)[0], r"ends at 0\.5 of 0\.75 s; cut off"),
        (long_form(INTERVALS)[:-20], "damaged"),
        (short_form([(0.0, 1.0, "sil")]), "no phone but silence"),
        (HEAD + '0\n1\n<exists>\n1\n"TextTier"\n"phones"\n0\n1\n1\n0.5\n"AA1"\n', "no interval"),
        (HEAD + '0\n1\n<exists>\n1\n"IntervalTier"\n"phones"\n0\n1\n0\n', "no interval"),
        (short_form([(i, i + 1, "B") for i in range(30_001)]), "30001 intervals"),
        (HEAD + "0\n1\n" + '"TextTier"\n"x"\n0\n1\n0\n' * 1001, "1001 tiers"),
        (HEAD + "item [\n" * 1001, "1001 tiers"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(EmoconvError, match=message) as caught:
        read_text_grid(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_large_file_is_refused_unread(tmp_path):
    path = tmp_path / "large.TextGrid"
    with path.open("wb") as file:
        file.truncate(4 * 2**20 + 1)
    with pytest.raises(EmoconvError, match="4194305 bytes, allowed are up to 4194304"):
        read_text_grid(path)


def test_binary_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "a.TextGrid"
    with pytest.raises(EmoconvError, match="not a file"):
        read_text_grid(path)
    path.write_bytes(HEAD.encode() + bytes(range(256)))
    with pytest.raises(EmoconvError, match="damaged"):
        read_text_grid(path)


def test_a_text_grid_is_found_at_the_audios_path_or_by_speaker(tmp_path):
    assert find_text_grid(tmp_path, "s1", "wavs/one.v2.wav") is None
    by_speaker = tmp_path / "s1" / "one.v2.TextGrid"
    by_path = tmp_path / "wavs" / "one.v2.TextGrid"
    for place in (by_speaker, by_path):  # the path tells more than the name alone
        place.parent.mkdir()
        place.touch()
        assert find_text_grid(tmp_path, "s1", "wavs/one.v2.wav") == place
    assert find_text_grid(tmp_path, "s2", "two.wav") is None


@pytest.mark.parametrize(
    ("speaker", "path"),
    [
        ("../outside", "one.wav"),
        ("s1", "../outside/one.wav"),
        ("s1", "linked/one.wav"),
        ("linked", "one.wav"),
        ("s\0", "one.wav"),
        ("s1", "x" * 5000 + ".wav"),
        ("s1", "loop/one.wav"),
        ("", ""),
    ],
)
def test_the_search_does_not_leave_the_folder(tmp_path, speaker, path):
    folder, outside = tmp_path / "grids", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "one.TextGrid").touch()
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to(folder / "loop")
    assert find_text_grid(folder, speaker, path) is None


def test_an_absolute_path_is_outside(tmp_path):
    outside = tmp_path / "one.TextGrid"
    outside.touch()
    folder = tmp_path / "grids"
    folder.mkdir()
    path = str(pathlib.Path(outside).with_suffix(".wav"))
    assert find_text_grid(folder, str(tmp_path), path) is None
