"""Times parts of emoconv on this machine. Let nothing else run beside it.

usage: emoconv bench [score_network] [--bundle BUNDLE] [--seconds 5] [--rounds 9]
       emoconv bench encoders [--seconds 5] [--rounds 9]
       emoconv bench batches [--features FEATURES]
       emoconv bench preparation --corpus CORPUS [--utterances 100]
       emoconv bench training [--config configs/paper.py:score_network] [--config.FIELD VALUE ...]
                     [--steps 1000] [--compute bfloat16] [--devices N] [--out FILE.json]
       emoconv bench conversion [--only speed,plans,memory,batches] [--out FILE.json]
                     [--bundle BUNDLE] [--source FILE] [--seconds 5] [--rounds 3] [--at 4,6,10,30]
                     [--minutes 10] [--steps 10]
       emoconv bench solvers [--only noise,source,brownian,posterior] [--out FILE.json]
                     [--bundle BUNDLE] [--corpus CORPUS] [--utterances 2] [--seconds 2.2]
                     [--at 4,6,10,20,30,50] [--reference_steps 500] [--seeds 16] [--guidance W]
                     [--nolisten]

score_network  one evaluation beside its PyTorch twin, in alternating runs. Both have the same
               random weights at the bundle's sizes and the same input; the outputs are compared
               first. Needs PyTorch (extra `bench`).
encoders       one pass of wav2vec2, of the speaker and the average-voice encoder and of the
               emotion recogniser, each at its published size with random weights, beside PyTorch
               (extra `bench`).
batches        crops per second of the plain and the tf.data reader, and seconds to the first batch
               at step 0 and at step 1 000 000; of FEATURES, else of a made-up store, also of one
               with 150 000 utterances. tf.data needs the extra `tensorflow`.
preparation    hours of speech that one core prepares in an hour, with and without alignment, and
               the peak memory of a worker.
training       real steps of a configuration on made-up batches, in bfloat16 and then in float32:
               seconds to compile and of a step, examples and FLOP per second, the share of the
               devices' peak, peak memory. FILE.json gets all of it, after each of the two. With
               --limit_s 200 both are done in ten minutes on anything that compiles in three.
conversion     whole conversions: seconds per second of audio by solver and steps; what EmoMix's
               plan of two emotions costs over one, in the sampler; time and memory of a file of
               --minutes in a process of its own; eight clips as one batch against single calls.
solvers        quality against steps on both spacings: distance of the deterministic solvers to 500
               steps of heun, from `noise` and from the `source`; of euler_maruyama to its own limit
               along one Brownian path; mean and spread of maximum_likelihood over seeds
               (`posterior`); and DNSMOS and a rough WER of all. A table, FILE.json and FILE.png.
               The utterances are English ones of CORPUS that have a text and are no longer than
               --seconds; without it the project's sample alone. Guidance is 1 from noise and the
               bundle's own from the source.

Of the last two, a FILE.json keeps the sections that a later run with --only leaves out.
"""

import math
import os
import pathlib
import statistics
import tempfile

from absl import flags as absl_flags
from ml_collections import config_flags

from emoconv_jax.cli.convert import BUNDLE
from emoconv_jax.cli.demo import SAMPLE
from emoconv_jax.config import TrainingConfig, from_dict
from emoconv_jax.errors import EmoconvError, UsageError

PAPER = "configs/paper.py:score_network"
SAID = "The queen wore a purple gown and a silver chain."  # in the sample
MANY = 150_000  # utterances: the size of MSP-Podcast, and of a thousand hours of long ones


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    absl_flags.DEFINE_string("bundle", BUNDLE, "whose sizes to take", flag_values=flags)
    absl_flags.DEFINE_float(
        "seconds",
        None,
        "of the utterance (5; of solvers 2.2 at most)",
        0.1,
        60.0,
        flag_values=flags,
    )
    whole = absl_flags.DEFINE_integer
    whole("rounds", None, "of measurement (9; of conversion 3)", 1, flag_values=flags)
    absl_flags.DEFINE_string("features", None, "an encoded feature folder", flag_values=flags)
    absl_flags.DEFINE_string("corpus", None, "what `prepare` reads", flag_values=flags)
    whole("utterances", None, "to prepare (100), or of solvers (2)", 1, flag_values=flags)
    config_flags.DEFINE_config_file("config", PAPER, "what to train", flag_values=flags)
    flags["config"].default = PAPER  # for the help, which would print every field
    whole("steps", None, "of training (1000), or of memory and batches (10)", 1, flag_values=flags)
    absl_flags.DEFINE_enum(
        "compute", "both", ["both", "bfloat16", "float32"], "type to train in", flag_values=flags
    )
    whole("devices", 0, "how many to train on; 0: all", 0, flag_values=flags)
    absl_flags.DEFINE_float(
        "limit_s", 0.0, "seconds of training in each type at most; 0: none", 0, flag_values=flags
    )
    absl_flags.DEFINE_string("out", None, "gets the figures as JSON", flag_values=flags)
    absl_flags.DEFINE_list("only", None, "sections to measure (all)", flag_values=flags)
    absl_flags.DEFINE_list("at", None, "numbers of solver steps", flag_values=flags)
    absl_flags.DEFINE_string("source", SAMPLE, "a clip to convert", flag_values=flags)
    absl_flags.DEFINE_float("minutes", 10.0, "of the long file", 0.01, 60.0, flag_values=flags)
    whole("reference_steps", 500, "of a solver's limit", 1, flag_values=flags)
    whole("seeds", 16, "of maximum_likelihood", 2, flag_values=flags)
    absl_flags.DEFINE_float("guidance", None, "of solvers' conversions", flag_values=flags)
    absl_flags.DEFINE_bool("listen", True, "to solvers' conversions", flag_values=flags)


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
        "conversion": _conversion,
        "solvers": _solvers,
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
    seconds, rounds = _clip(flags)
    found = compare(config, seconds, rounds, threads=os.cpu_count() or 1)
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
    seconds, rounds = _clip(flags)
    print(f"{seconds:g} s, {os.cpu_count()} cores, medians of {rounds} (ms)")
    print(f"{'':<16}{'emoconv':>10}{'PyTorch':>10}{'ratio':>8}   greatest difference")
    for name in ENCODERS:
        found = compare(name, seconds, rounds, threads=os.cpu_count() or 1)
        ours, twin = (statistics.median(times) * 1e3 for times in (found.ours_s, found.twin_s))
        print(
            f"{name:<16}{ours:>10.1f}{twin:>10.1f}{found.ratio:>8.2f}   "
            f"{found.difference:.1e} of {found.scale:.2g}"
        )


def _clip(flags: absl_flags.FlagValues) -> tuple[float, int]:
    """Returns the seconds of the input and the rounds, for the parts that time a network."""
    return flags.seconds or 5.0, flags.rounds or 9


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
    for found in measure(flags.corpus, flags.utterances or 100):
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
    found, out = jax.devices(), _out(flags)
    if flags.devices > len(found):
        raise UsageError(f"--devices: found {flags.devices}, allowed is 0 to {len(found)}")
    report = measure(
        from_dict(TrainingConfig, settings, "--config"),
        flags.steps or 1000,
        computes=COMPUTES if flags.compute == "both" else (flags.compute,),
        devices=found[: flags.devices or None],
        limit_s=flags.limit_s or math.inf,
        out=out,
    )
    print(report.table())
    if not report.figures:
        raise EmoconvError("nothing was measured: out of memory in each compute type")


def _conversion(flags: absl_flags.FlagValues) -> None:
    from emoconv_jax.audio.reading import read_audio
    from emoconv_jax.bench.conversion import SECTIONS, STEPS, Settings, measure, tiled
    from emoconv_jax.bundles.format import read_config

    sections, out = _sections(flags, SECTIONS), _out(flags)
    rate_hz = read_config(pathlib.Path(flags.bundle)).mel.sample_rate_hz
    audio = tiled(read_audio(flags.source, rate_hz), flags.seconds or 5.0, rate_hz)
    settings = Settings(
        audio,
        rounds=flags.rounds or 3,
        steps=_at(flags, STEPS),
        run_steps=flags.steps or 10,
        minutes=flags.minutes,
    )
    measure(flags.bundle, settings, sections, out)


def _solvers(flags: absl_flags.FlagValues) -> None:
    from emoconv_jax.audio.reading import read_audio
    from emoconv_jax.bench.solvers import SECTIONS, STEPS, Bench, Settings, measure
    from emoconv_jax.bench.walking import Speech, speech_of
    from emoconv_jax.inference.converter import EmotionConverter

    sections, out = _sections(flags, SECTIONS), _out(flags)
    settings = Settings(
        steps=_at(flags, STEPS),
        reference_steps=flags.reference_steps,
        seeds=flags.seeds,
        guidance=flags.guidance,
        listen=flags.listen,
    )
    converter = EmotionConverter.from_pretrained(flags.bundle)
    rate_hz = converter.config.mel.sample_rate_hz
    if flags.corpus is None:
        name, text = pathlib.Path(flags.source).name, SAID if flags.source == SAMPLE else ""
        speech = [Speech(name, text, read_audio(flags.source, rate_hz))]
    else:
        count, longest_s = flags.utterances or 2, flags.seconds or 2.2
        speech = speech_of(flags.corpus, count, longest_s, rate_hz)
    measure(Bench(converter, speech, settings), sections, out)


def _sections(flags: absl_flags.FlagValues, known: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the sections to measure."""
    for name in flags.only or ():
        if name not in known:
            raise UsageError(f"--only: found {name}, allowed are {', '.join(known)}")
    return tuple(flags.only or known)


def _at(flags: absl_flags.FlagValues, usual: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the numbers of steps to measure at, rising."""
    try:
        found = sorted({int(number) for number in flags.at or usual})
    except ValueError:
        raise UsageError(f"--at: found {','.join(flags.at)}, needed are whole numbers") from None
    if found[0] < 1:
        raise UsageError(f"--at: found {found[0]}, at least 1 is needed")
    return tuple(found)


def _out(flags: absl_flags.FlagValues) -> pathlib.Path | None:
    """Returns the file for the figures; one that cannot be is refused before all the work."""
    if not flags.out:
        return None
    out = pathlib.Path(flags.out)
    if not out.parent.is_dir():
        raise UsageError(f"--out: {out.parent} is no folder")
    return out
