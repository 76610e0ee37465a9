"""Says what the encoders hear in recordings: voice, emotion, arousal.

usage: emoconv encode FILE... [--bundle BUNDLE] [--out FILE.npz | FILE.json] [--batch N]

Per file: the d-vector (speaker, 256 numbers of unit length), the emotion embedding, the probability
of each emotion and the arousal on 1 (calm) to 7 (excited); of a bundle whose emotion role is
wav2vec2, dominance and valence too, and no probabilities. FILE is WAV, FLAC, OGG or MP3 of any
sample rate, up to 60 s. Without --out one line of JSON per file is printed. A .npz holds arrays,
one row per file: files, speaker, emotion, arousal and what else there is.

Up to N files of similar length go through the networks together, which changes the time that it
takes and nothing else.

A file that fails is named, the others are encoded, and the exit code is 1.
"""

import json
import pathlib
import sys
import tempfile

from absl import flags as absl_flags

from emoconv_jax.errors import EmoconvError, UsageError

BUNDLE = "data/bundles/emoconv-small"
SUFFIXES = (".npz", ".json")


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    text = absl_flags.DEFINE_string
    text("bundle", BUNDLE, "the model: a folder, or ORG/NAME on the Hub", flag_values=flags)
    text("revision", None, "branch, tag or commit of a bundle on the Hub", flag_values=flags)
    text("out", None, "a file of all results, .npz or .json", flag_values=flags)
    absl_flags.DEFINE_integer(
        "batch", None, "files that go together at most (8; on a CPU 1)", 1, flag_values=flags
    )


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: audio files.

    Returns:
        The exit code.
    """
    if not positional:
        raise UsageError("no files given; see `emoconv encode --help`")
    out = pathlib.Path(flags.out) if flags.out else None
    if out and out.suffix not in SUFFIXES:
        raise UsageError(f"--out: found {out.name}, allowed are names in {' and '.join(SUFFIXES)}")
    if out:
        _check_writable(out)
    from tqdm import tqdm

    from emoconv_jax.inference.hearing import Ear, save

    ear = Ear.from_pretrained(flags.bundle, flags.revision)
    heard, failed = [], 0
    told = ear.hear_all(positional, flags.batch)
    for found in tqdm(told, "encoding", len(positional), disable=None if out else True):
        if isinstance(found, EmoconvError):
            print(f"emoconv: {found}", file=sys.stderr)
            failed += 1
        elif out is None:
            print(json.dumps(found))
        else:
            heard.append(found)
    if out and heard:
        save(out, heard)
        print(f"{out}: {len(heard)} files encoded")
    return 1 if failed else 0


def _check_writable(out: pathlib.Path) -> None:
    """Refuses a file that could not be written, before the work is done."""
    if out.is_dir():
        raise UsageError(f"--out: {out} is a folder, a file is needed")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise EmoconvError(f"--out: {out} cannot be written ({error.strerror})") from None
