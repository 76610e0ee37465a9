"""Times parts of emoconv on this machine. Let nothing else run beside it.

usage: emoconv bench [score_network] [--bundle BUNDLE] [--seconds 5] [--rounds 9]
       emoconv bench encoders [--seconds 5] [--rounds 9]
       emoconv bench batches [--features FEATURES]
       emoconv bench preparation --corpus CORPUS [--utterances 100]
       emoconv bench training [--config configs/paper.py:score_network] [--config.FIELD VALUE ...]
                     [--steps 1000] [--compute bfloat16] [--devices N] [--out FILE.json]

score_network  one evaluation beside its PyTorch twin, in alternating runs. Both have the same
               random weights at the bundle's sizes and the same input; the outputs are compared
               first. Needs PyTorch (extra `bench`).
encoders       one pass of wav2vec2, of the speaker and of the average-voice encoder, each at its
               published size with random weights, beside PyTorch (extra `bench`).
batches        crops per second of the plain and the tf.data reader, and seconds to the first batch
               at step 0 and at step 1 000 000; of FEATURES, else of a made-up store, also of one
               with 150 000 utterances. tf.data needs the extra `tensorflow`.
preparation    hours of speech that one core prepares in an hour, with and without alignment, and
               the peak memory of a worker.
training       real steps of a configuration on made-up batches, in bfloat16 and then in float32:
               seconds to compile and of a step, examples and FLOP per second, the share of the
               devices' peak, peak memory. FILE.json gets all of it, after each of the two. With
               --limit_s 200 both are done in ten minutes on anything that compiles in three.
"""

import math
import os
import pathlib
import statistics
import tempfile

from absl import flags as absl_flags
from ml_collections import config_flags

from emoconv_jax.cli.convert import BUNDLE
from emoconv_jax.config import TrainingConfig, from_dict
from emoconv_jax.errors import EmoconvError, UsageError

PAPER = "configs/paper.py:score_network"
MANY = 150_000  # utterances: the size of MSP-Podcast, and of a thousand hours of long ones


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    absl_flags.DEFINE_string("bundle", BUNDLE, "whose sizes to take", flag_values=flags)
    absl_flags.DEFINE_float("seconds", 5.0, "of the utterance", 0.1, 60.0, flag_values=flags)
    absl_flags.DEFINE_integer("rounds", 9, "of measurement", 1, flag_values=flags)
    absl_flags.DEFINE_string("features", None, "an encoded feature folder", flag_values=flags)
    absl_flags.DEFINE_string("corpus", None, "what `prepare` reads", flag_values=flags)
    absl_flags.DEFINE_integer("utterances", 100, "to prepare", 1, flag_values=flags)
    config_flags.DEFINE_config_file("config", PAPER, "what to train", flag_values=flags)
    flags["config"].default = PAPER  # for the help, which would print every field
    absl_flags.DEFINE_integer("steps", 1000, "of training to measure", 1, flag_values=flags)
    absl_flags.DEFINE_enum(
        "compute", "both", ["both", "bfloat16", "float32"], "type to train in", flag_values=flags
    )
    absl_flags.DEFINE_integer("devices", 0, "how many to train on; 0: all", 0, flag_values=flags)
    absl_flags.DEFINE_float(
        "limit_s", 0.0, "seconds of training in each type at most; 0: none", 0, flag_values=flags
    )
    absl_flags.DEFINE_string("out", None, "gets the training's figures", flag_values=flags)


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: the name of a part, or nothing.

    Returns:
        The exit code.
    """
    parts = {
        "score_network": _score_network,
        "encoders": _encoders,
        "batches": _batches,
        "preparation": _preparation,
        "training": _training,
    }
    name, *more = positional or ["score_network"]
    if name not in parts or more:
        raise UsageError(f"{' '.join(positional)}: allowed is one of {', '.join(parts)}")
    parts[name](flags)
    return 0


def _score_network(flags: absl_flags.FlagValues) -> None:
    try:
        from emoconv_jax.bench.score_network import compare
    except ModuleNotFoundError as error:
        raise _lacking(error) from None
    from emoconv_jax.bundles.format import read_config

    config = read_config(pathlib.Path(flags.bundle)).score_network
    found = compare(config, flags.seconds, flags.rounds, threads=os.cpu_count() or 1)
    print(f"score network, width {config.width}, {found.frames} frames, {os.cpu_count()} cores")
    print(f"greatest difference of the outputs: {found.difference:.1e}")
    for name, times in (("emoconv", found.ours_s), ("PyTorch twin", found.twin_s)):
        median, low, high = statistics.median(times), min(times), max(times)
        print(f"{name:<14}{median * 1e3:8.1f} ms   ({low * 1e3:.1f} .. {high * 1e3:.1f})")
    print(f"ratio of medians: {found.ratio:.2f} (ours computes {found.padded_frames} frames)")


def _encoders(flags: absl_flags.FlagValues) -> None:
    try:
        from emoconv_jax.bench.encoders import ENCODERS, compare
    except ModuleNotFoundError as error:
        raise _lacking(error) from None
    print(f"{flags.seconds:g} s, {os.cpu_count()} cores, medians of {flags.rounds} (ms)")
    print(f"{'':<16}{'emoconv':>10}{'PyTorch':>10}{'ratio':>8}   greatest difference")
    for name in ENCODERS:
        found = compare(name, flags.seconds, flags.rounds, threads=os.cpu_count() or 1)
        ours, twin = (statistics.median(times) * 1e3 for times in (found.ours_s, found.twin_s))
        print(
            f"{name:<16}{ours:>10.1f}{twin:>10.1f}{found.ratio:>8.2f}   "
            f"{found.difference:.1e} of {found.scale:.2g}"
        )


def _lacking(error: ModuleNotFoundError) -> EmoconvError:
    """Returns what to install."""
    return EmoconvError(f"{error.name} is not installed; `pip install -e .[bench]` has it")


def _batches(flags: absl_flags.FlagValues) -> None:
    from emoconv_jax.bench.batches import make_up, measure

    if flags.features:
        print(measure(pathlib.Path(flags.features)).table())
        return
    for utterances, empty in ((4000, False), (MANY, True)):
        with tempfile.TemporaryDirectory() as folder:
            make_up(pathlib.Path(folder), utterances, empty=empty)
            print(measure(pathlib.Path(folder)).table())


def _preparation(flags: absl_flags.FlagValues) -> None:
    from emoconv_jax.bench.preparation import measure

    if flags.corpus is None:
        raise UsageError("--corpus: missing; name what to prepare")
    ways = {"auto": "with alignment", "given": "without"}
    for found in measure(flags.corpus, flags.utterances):
        print(
            f"{ways[found.alignment]:<16}{found.hours_per_core_hour:6.1f} hours of speech per core "
            f"hour ({found.aligned} of {found.utterances} utterances aligned, "
            f"{found.speech_s:.0f} s), peak of a worker {found.peak_bytes / 1e9:.2f} GB"
        )


def _training(flags: absl_flags.FlagValues) -> None:
    import jax

    from emoconv_jax.bench.training import COMPUTES, measure

    try:
        settings = flags.config.to_dict()
    except OSError as error:  # ml_collections puts it off until the first use
        raise UsageError(f"--config: {error}") from None
    found, out = jax.devices(), None
    if flags.devices > len(found):
        raise UsageError(f"--devices: found {flags.devices}, allowed is 0 to {len(found)}")
    if flags.out:
        out = pathlib.Path(flags.out)
        if not out.parent.is_dir():  # better now than after all the work
            raise UsageError(f"--out: {out.parent} is no folder")
    report = measure(
        from_dict(TrainingConfig, settings, "--config"),
        flags.steps,
        computes=COMPUTES if flags.compute == "both" else (flags.compute,),
        devices=found[: flags.devices or None],
        limit_s=flags.limit_s or math.inf,
        out=out,
    )
    print(report.table())
    if not report.figures:
        raise EmoconvError("nothing was measured: out of memory in each compute type")
