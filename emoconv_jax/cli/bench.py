"""Times parts of emoconv on this machine. Let nothing else run beside it.

usage: emoconv bench [pytorch] [--only cases,memory,scaling,devices] [--out FILE.json]
                     [--cases forward,training,...] [--widths 64,256] [--rounds 5]
                     [--compute float32] [--most_tflop N] [--diffvc DIR] [--notorch_compile]
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

pytorch        the same weights here and in PyTorch (extra `bench`), in alternating runs: the score
               network forward, its training step with Adam and 30 steps of sampling at --widths,
               average_voice, wav2vec2, speaker, recogniser, hifigan, and the mel beside librosa's.
               Time, ratio (below 1: emoconv is faster), also to torch.compile where there is a
               compiler, rate, share of the fastest matrix product, compile time, difference of the
               outputs; `memory` of each side alone; `scaling` with frames, batch and conditions;
               simulated `devices`. On a CPU cases of more than 10 TFLOP are left out unless
               --most_tflop says otherwise. With --diffvc the original code runs in place of the
               twin, from your checkout of huawei-noah/Speech-Backbones (needs einops). A table,
               FILE.json and FILE.png.
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

A FILE.json of pytorch, conversion or solvers keeps the sections that a later run with --only leaves
out.
"""

import math
import os
import pathlib
import tempfile

from absl import flags as absl_flags
from ml_collections import config_flags

from emoconv_jax.cli.convert import BUNDLE
from emoconv_jax.cli.demo import SAMPLE
from emoconv_jax.config import TrainingConfig, from_dict
from emoconv_jax.errors import EmoconvError, UsageError

PAPER = "configs/paper.py:score_network"
SAID = "The queen wore a purple gown and a silver chain."  # in the sample
MOST_TFLOP = 10.0  # of a case on a CPU, which does some 0.1 in a second
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
    whole("rounds", None, "of measurement (5; of conversion 3)", 1, flag_values=flags)
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
    absl_flags.DEFINE_list("cases", None, "of the comparison (all)", flag_values=flags)
    absl_flags.DEFINE_list("widths", None, "of the score network (64,256)", flag_values=flags)
    absl_flags.DEFINE_float(
        "most_tflop", None, "of a case; larger ones are left out", 0, flag_values=flags
    )
    absl_flags.DEFINE_string("diffvc", None, "DiffVC's original code", flag_values=flags)
    absl_flags.DEFINE_bool("torch_compile", True, "beside eager PyTorch", flag_values=flags)
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
        "pytorch": _pytorch,
        "batches": _batches,
        "preparation": _preparation,
        "training": _training,
        "conversion": _conversion,
        "solvers": _solvers,
    }
    name, *more = positional or ["pytorch"]
    if name not in parts or more:
        raise UsageError(f"{' '.join(positional)}: allowed is one of {', '.join(parts)}")
    parts[name](flags)
    return 0


def _pytorch(flags: absl_flags.FlagValues) -> None:
    # several processes share a GPU, of which the first would otherwise take three quarters
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    from emoconv_jax.bench.comparison.cases import KINDS, WIDTHS
    from emoconv_jax.bench.comparison.cases import cases as cases_of

    kinds = tuple(flags.cases or KINDS)
    widths = _whole(flags.widths, WIDTHS, "--widths")
    cases_of(kinds, widths)  # refuses before PyTorch is imported
    try:
        from emoconv_jax.bench.comparison.diffvc import estimator_of
        from emoconv_jax.bench.comparison.measuring import Settings
        from emoconv_jax.bench.comparison.sections import SECTIONS, measure
        from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin
    except ModuleNotFoundError as error:
        raise _lacking(error) from None
    sections, out = _sections(flags, SECTIONS), _out(flags)
    most = MOST_TFLOP if jax.default_backend() == "cpu" else math.inf
    settings = Settings(
        rounds=flags.rounds or 5,
        compute="bfloat16" if flags.compute == "bfloat16" else "float32",
        compile=flags.torch_compile,
        estimator=estimator_of(pathlib.Path(flags.diffvc)) if flags.diffvc else ScoreNetworkTwin,
        most_tflop=most if flags.most_tflop is None else flags.most_tflop,
    )
    measure(settings, sections, kinds, widths, flags.diffvc, out)


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
        steps=_whole(flags.at, STEPS, "--at"),
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
        steps=_whole(flags.at, STEPS, "--at"),
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


def _whole(given: list[str] | None, usual: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Returns whole numbers of a flag, rising."""
    try:
        found = sorted({int(number) for number in given or usual})
    except ValueError:
        raise UsageError(
            f"{name}: found {','.join(given or ())}, needed are whole numbers"
        ) from None
    if found[0] < 1:
        raise UsageError(f"{name}: found {found[0]}, at least 1 is needed")
    return tuple(found)


def _out(flags: absl_flags.FlagValues) -> pathlib.Path | None:
    """Returns the file for the figures; one that cannot be is refused before all the work."""
    if not flags.out:
        return None
    out = pathlib.Path(flags.out)
    if not out.parent.is_dir():
        raise UsageError(f"--out: {out.parent} is no folder")
    return out
