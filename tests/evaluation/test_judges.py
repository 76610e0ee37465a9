"""Who hears what: loudness as it is and set equal, and machines that are not installed."""

import builtins

import numpy as np
import pytest
from tiny_bundle import SAMPLE

from emoconv_jax.audio.prosody import level_db
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.evaluation.judges import EQUAL_LEVEL_DB, Judges
from emoconv_jax.inference.encoders import Recognition

RATE_HZ = 22050


class HearsLevels:
    """A recogniser that takes the level for arousal."""

    def __init__(self, sign: float):
        self.sign = sign

    def hear(self, audio, sample_rate_hz):
        level = self.sign * float(level_db(audio, sample_rate_hz))
        return Recognition(np.zeros(256, np.float32), {"happy": level / 100}, level)


@pytest.fixture
def absent(monkeypatch):
    """Makes Python lack the packages of the listeners."""
    lacking = {"faster_whisper", "transformers", "speechmos", "distillmos", "onnxruntime"}
    found = builtins.__import__

    def importing(name, *args, **kwargs):
        if name.split(".")[0] in lacking:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)


def test_without_listeners_their_figures_are_left_out_and_named(absent, converter):
    """A sine of amplitude .1 has 20 lg .1 - 3.01 = -23.01 dBFS; at equal loudness -26."""
    judges = Judges(converter, HearsLevels(1.0))
    judges.recognisers["own"] = HearsLevels(-1.0)
    tone = (0.1 * np.sin(2 * np.pi * 200 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)
    found, _ = judges.hear(tone, "Dogs are sitting by the door.", "en")
    assert found["second_arousal"] == pytest.approx(-23.01, abs=0.05)
    assert found["second_arousal_equal_level"] == pytest.approx(EQUAL_LEVEL_DB, abs=0.05)
    assert found["own_arousal"] == pytest.approx(23.01, abs=0.05)
    assert found["own_happy_equal_level"] == pytest.approx(-EQUAL_LEVEL_DB / 100, abs=1e-3)
    assert found["level_db"] == pytest.approx(-23.01, abs=0.05)
    assert not {"words", "ovrl", "distillmos"} & set(found)
    for name in ("words", "DNSMOS", "DistillMOS"):
        assert any(note.startswith(f"{name}: absent") for note in judges.notes)


@pytest.mark.network
@pytest.mark.slow
def test_words_and_characters_that_were_not_said_are_errors(converter):
    """The sample says "silver": one word, of which four letters are not those of "golden".
    Whisper may mishear another one."""
    judges = Judges(converter, None)
    assert not any(note.startswith("words: absent") for note in judges.notes)
    wanted = "The queen wore a purple gown and a golden chain."
    found, vectors = judges.hear(read_audio(SAMPLE), wanted, "en")
    assert (found["words"], found["characters"]) == (10, len(wanted) - 1)
    assert list(vectors) == list(judges.speakers) and "own" in vectors
    for name, machine in (("ovrl", "DNSMOS"), ("distillmos", "DistillMOS")):
        absent = any(note.startswith(f"{machine}: absent") for note in judges.notes)
        assert absent if name not in found else 1 <= found[name] <= 5
    assert found["word_errors"] in (1, 2) and found["character_errors"] >= 4
