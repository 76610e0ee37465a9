"""The content look: does the average voice Y say the words, and nothing else.

usage: python -m benchmarks.quality.content BUNDLE [--corpora DIR] [--kokoro DIR] [--out FILE]

words      Whisper's word errors on Y alone through the vocoder, beside copy synthesis: LJ, and
           held-out sentences of Kokoro voices
error      mean squared difference of Y and the clip's log-mel, over frames and bins
phones     share of frames whose likeliest phone is the aligned one, where the average voice tells
           phones: LJ and unseen RAVDESS voices by forced alignment, Kokoro speech by its own times
probes     how often a linear probe of Y's mean and deviation names the emotion (voices left out)
           and the voice (clips left out) of RAVDESS 15-20, beside those of the log-mel and chance

FILE gets the figures as JSON.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks.quality.arithmetic import clustered, mean
from benchmarks.quality.clips import KOKORO, NEUTRAL_AROUSAL, SYNTHETIC, Clip, spread
from benchmarks.quality.command import CORPORA, LJ, clips_of
from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.bundles import hub
from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation.probes import accuracy
from emoconv_jax.files import write_text
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.whisper_features import level_set
from emoconv_jax.listeners.transcripts import errors, words
from emoconv_jax.listeners.whisper import Whisper
from emoconv_jax.pipeline.alignment import align_english, read_phone_table
from emoconv_jax.pipeline.phones import PhoneSpan, frame_phones

HEARD, PROBED = 24, 180  # clips of a corpus at most
PHONES_FILE = "phones.tsv"
UNSEEN = ("validation", "test")
SAID = (LJ, SYNTHETIC, KOKORO)  # whose words are counted: RAVDESS has two sentences

Spans = Callable[[Clip, np.ndarray], Sequence[PhoneSpan]]


class Said(NamedTuple):
    """The average voice of a clip.

    Attributes:
        mel: the clip's own log-mel.
        y: the average voice.
        phones: the likeliest phone of each frame; None where the role tells none.
    """

    mel: np.ndarray
    y: np.ndarray
    phones: np.ndarray | None


def said(converter: EmotionConverter, audio: np.ndarray) -> Said:
    """Returns the average voice of a clip.

    Args:
        converter: of the bundle.
        audio: mono, at its rate.
    """
    role: Any = converter.average_voice
    mel = log_mel(audio, converter.config.mel)
    if not hasattr(role, "of_states"):  # hears the log-mel alone
        return Said(mel, role(mel), None)
    states = role.states(mel, audio)
    return Said(mel, role.of_states(states), role.phones(states).argmax(axis=-1))


def chosen(clips: Sequence[Clip], corpus: str, count: int) -> list[Clip]:
    """Returns clips of a corpus that nothing was trained on.

    Args:
        clips: of the corpora.
        corpus: the corpus's name.
        count: how many at most.
    """
    own = [c for c in clips if c.corpus == corpus and c.split in UNSEEN]
    return spread([c for c in own if c.arousal in ("", NEUTRAL_AROUSAL)], count)


def spans_of(clips: Sequence[Clip]) -> Spans:
    """Returns what gives the phones of a clip: its corpus's own times, else forced alignment.

    Args:
        clips: of the corpora.
    """
    tables: dict[str, tuple[pathlib.Path, dict[str, list[PhoneSpan]]]] = {}
    for clip in clips:
        root = clip.path.parents[1]
        if clip.corpus not in tables and (root / PHONES_FILE).is_file():
            tables[clip.corpus] = root, read_phone_table(root / PHONES_FILE)

    def spans(clip: Clip, audio: np.ndarray) -> Sequence[PhoneSpan]:
        if clip.corpus in tables:
            root, table = tables[clip.corpus]
            return table[clip.path.relative_to(root).as_posix()]
        return align_english(audio, clip.text)

    return spans


def measured(
    converter: EmotionConverter, clips: Sequence[Clip], spans: Spans, whisper: Whisper | None
) -> dict[str, Any]:
    """Returns the figures of a corpus's clips, JSON-ready.

    Args:
        converter: of the bundle.
        clips: of one corpus.
        spans: of `spans_of`.
        whisper: counts the words; None leaves them out.
    """
    rate_hz = converter.config.mel.sample_rate_hz
    wrong, copied, squares, right, voices = [], [], [], [], []
    for clip in tqdm(clips, clips[0].corpus):
        audio = read_audio(clip.path, rate_hz)
        found = said(converter, audio)
        squares.append(float(np.square(found.y - found.mel).mean()))
        voices.append(clip.voice)
        if whisper is not None:
            wrong.append(_misheard(whisper, converter.vocoder(found.y), clip, rate_hz))
            copied.append(_misheard(whisper, converter.vocoder(found.mel), clip, rate_hz))
        if found.phones is not None:
            try:
                true = frame_phones(spans(clip, audio), len(found.mel), converter.config.mel)
            except EmoconvError:  # a number in the text, or a word that the dictionary lacks
                continue
            right.append([float((true == found.phones).sum()), float(len(true))])
    told: dict[str, Any] = {"clips": len(clips), "voices": len(set(voices))}
    told["squared_error"] = round(mean(squares), 4)
    for name, pairs in (("word_errors", wrong), ("word_errors_copy", copied)):
        told |= _rate(name, pairs, voices)
    if right:
        told["phones_right"] = round(_share(np.array(right)), 4)
    return told


def _misheard(whisper: Whisper, sound: np.ndarray, clip: Clip, rate_hz: int) -> list[float]:
    wanted = words(clip.text, clip.language)
    found = words(whisper(level_set(sound), rate_hz, clip.language), clip.language)
    return [float(errors(wanted, found)), float(len(wanted))]


def _share(pairs: np.ndarray) -> float:
    return float(pairs[:, 0].sum() / pairs[:, 1].sum())


def _rate(name: str, pairs: Sequence[list[float]], voices: Sequence[str]) -> dict[str, Any]:
    if not pairs:
        return {}
    rows = np.array(pairs)
    found = clustered(voices, lambda i: _share(rows[i]))
    assert found is not None
    interval = [round(found.low, 4), round(found.high, 4)]
    return {name: round(found.value, 4), f"{name}_interval": interval}


def probed(converter: EmotionConverter, clips: Sequence[Clip]) -> dict[str, Any]:
    """Returns what probes tell of voice and emotion, JSON-ready.

    Args:
        converter: of the bundle.
        clips: acted, of several voices.
    """
    rate_hz, rows = converter.config.mel.sample_rate_hz, {"average_voice": [], "mel": []}
    for clip in tqdm(clips, "probes"):
        found = said(converter, read_audio(clip.path, rate_hz))
        for name, frames in (("average_voice", found.y), ("mel", found.mel)):
            rows[name].append(np.concatenate([frames.mean(axis=0), frames.std(axis=0)]))
    emotion = np.array([clip.emotion for clip in clips])
    voice = np.array([clip.voice for clip in clips])
    told: dict[str, Any] = {"clips": len(clips)}
    for label, values, groups in (("emotion", emotion, voice), ("voice", voice, None)):
        sizes = np.unique(values, return_counts=True)[1]
        told[f"{label}_chance"] = round(float(sizes.max() / sizes.sum()), 4)
        for name, features in rows.items():
            figure = accuracy(np.array(features, np.float64), values, groups, 0)
            told[f"{label}_from_{name}"] = None if figure is None else round(figure.value, 4)
    return told


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the look, prints its figures and writes them.

    Args:
        argv: arguments; None are the process's.

    Returns:
        The exit code; what is wrong is printed in one line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.content",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("bundle", help="folder, or ORG/NAME on the Hub")
    add("--corpora", default=CORPORA, type=pathlib.Path)
    add("--kokoro", type=pathlib.Path)
    add("--out", type=pathlib.Path, help=".json")
    add("--limit", type=int, help="clips of each corpus at most: a trial of the look itself")
    args = parser.parse_args(argv)
    try:
        clips = clips_of(args.corpora, args.kokoro)
        converter = EmotionConverter.from_pretrained(hub.fetch(args.bundle, None)[0])
        told = _look(converter, clips, args.limit)
        text = json.dumps(told, indent=1) + "\n"
        if args.out:
            write_text(args.out, text)
    except (EmoconvError, ModuleNotFoundError, OSError) as error:
        print(f"content: {error}", file=sys.stderr)
        return 1
    print(text, end="")
    return 0


def _look(converter: EmotionConverter, clips: Sequence[Clip], limit: int | None) -> dict[str, Any]:
    whisper, told, spans = Whisper(), {}, spans_of(clips)
    for corpus in (*SAID, "ravdess"):
        own = chosen(clips, corpus, min(HEARD, limit or HEARD))
        if own:
            told[corpus] = measured(converter, own, spans, whisper if corpus in SAID else None)
    acted = [c for c in clips if c.corpus == "ravdess" and c.split in UNSEEN]
    told["probes"] = probed(converter, spread(acted, PROBED if limit is None else 10 * limit))
    return told


if __name__ == "__main__":
    sys.exit(main())
