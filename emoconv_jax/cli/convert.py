"""Converts speech to another emotion: the same words, the same voice.

usage: emoconv convert IN... --out DIR --arousal 6
       emoconv convert IN... --out DIR --mix happy:0.6,surprised:0.4 [--intensity .8]
       emoconv convert IN... --out DIR --emotion_ref angry_voice.wav
       emoconv convert IN... --out DIR --curve curve.csv

IN are audio files (WAV, FLAC, OGG, MP3; up to an hour each), folders, which are searched to any
depth, or globs in quotes. The tree below a folder, or below the part of a glob without wildcards,
is kept in DIR. Hidden names and DIR itself are left out of a search.

    emoconv convert in.wav --out converted --arousal 6
    emoconv convert recordings --out converted --mix sad --format flac --skip_existing
    emoconv convert 'corpus/**/neutral/*.wav' --out angry --mix angry --sample_rate_hz 16000

Every output says in its metadata that it is converted speech, and what made it; the .json beside
it says so in full (--nosidecar leaves it out).

Arousal runs from 1 (calm) to 7 (excited), any number. A mix names emotions with weights that are
normalised to sum to one; --intensity 0..1 mixes all of it with neutral. With --base, by EmoMix's
rule, the early steps follow the base emotion and --strength, 0..1, says how much of the mix the
middle steps take; the early ones decide most, so expect little of the mix. --emotion_ref takes the
emotion of another recording, of any voice. A curve changes the emotion within the recording: a CSV
file whose first line is `seconds,arousal` or `seconds,happy,neutral`, with a line per time and
straight lines in between. Where an emotion is named, "arousal 5", "source" (what is heard in the
source), "reference" (in --emotion_ref) and "null" (none) may stand as well.

Of a bundle whose score network takes prosody, the emotion's change of pitch, its range and energy
is asked for too, against what is heard in the source; --prosody 0..1 scales it, 0 leaves the
source's melody. --rate follow takes on the emotion's pace as well, and changes the length.

--guidance W exaggerates all of this: W times as far from --negative as it is, 1 is no guidance.
The run prints the weights that it uses.

The bundle is a folder or, as --bundle ORG/NAME --revision V, a repository on the Hugging Face Hub.

A file that fails is named, the others are converted, and the exit code is 1. Ctrl-C leaves whole
files only; the same command with --skip_existing goes on from there.
"""

import dataclasses
import os
import pathlib
import sys
import tempfile
from typing import Any

from absl import flags as absl_flags

from emoconv_jax.config import COMPUTES
from emoconv_jax.errors import EmoconvError, UsageError

BUNDLE = "data/bundles/emoconv-small"
BAR = "{desc}{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}, {remaining} left]"


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    _define_output(flags)
    text, number = absl_flags.DEFINE_string, absl_flags.DEFINE_float
    text("bundle", BUNDLE, "the model: a folder, or ORG/NAME on the Hub", flag_values=flags)
    text("revision", None, "branch, tag or commit of a bundle on the Hub", flag_values=flags)
    number("arousal", None, "target arousal, 1 calm .. 7 excited", flag_values=flags)
    text("mix", None, "emotions and weights, as happy:0.6,surprised:0.4", flag_values=flags)
    text("base", None, "emotion of the early steps of a mix", flag_values=flags)
    number("strength", None, "of the mix against the base, 0..1 (0.5)", flag_values=flags)
    text("emotion_ref", None, "a recording, for its emotion; up to 60 s", flag_values=flags)
    text("curve", None, "CSV file: emotion over time", flag_values=flags)
    number("intensity", None, "of all this against neutral, 0..1 (1)", flag_values=flags)
    number(
        "guidance", None, "exaggerates the emotion above 1 (the bundle's own)", flag_values=flags
    )
    text("negative", "null", "what guidance leads away from", flag_values=flags)
    number("prosody", None, "of the emotion's melody and level, 0..1 (1)", flag_values=flags)
    text("rate", None, "keep the length, or follow the emotion's pace (keep)", flag_values=flags)
    _define_solver(flags)


def _define_solver(flags: absl_flags.FlagValues) -> None:
    text, number = absl_flags.DEFINE_string, absl_flags.DEFINE_float
    text(
        "solver",
        None,
        "probability_flow, euler_maruyama, maximum_likelihood, ddim, heun or dpmpp_2m (what suits "
        "--latent)",
        flag_values=flags,
    )
    whole = absl_flags.DEFINE_integer
    whole("steps", None, "of the solver (10 of dpmpp_2m, else 30)", flag_values=flags)
    text(
        "spacing",
        None,
        "of the steps: uniform_t or log_snr (log_snr of dpmpp_2m, else uniform_t)",
        flag_values=flags,
    )
    text(
        "latent",
        None,
        "what to set out from: source (keeps voice and melody, needs one more run) or noise "
        "(the bundle's own)",
        flag_values=flags,
    )
    number(
        "latent_noise",
        None,
        "share of the source's latent that is drawn anew, 0..1 (the bundle's own)",
        flag_values=flags,
    )
    number(
        "start",
        None,
        "how far back to set out, up to 1: the lower, the more of the source stays "
        "(the bundle's own)",
        flag_values=flags,
    )
    whole("seed", 0, "of the noise", flag_values=flags)
    text(
        "compute",
        "float32",
        "or bfloat16, a little less exact, or auto: the faster one here",
        flag_values=flags,
    )


def _define_output(flags: absl_flags.FlagValues) -> None:
    text, whole, yes = absl_flags.DEFINE_string, absl_flags.DEFINE_integer, absl_flags.DEFINE_bool
    text("out", None, "folder for the converted files", flag_values=flags)
    text("format", "wav", "of the output: wav, flac or ogg", flag_values=flags)
    whole("sample_rate_hz", None, "of the output (the bundle's own)", flag_values=flags)
    whole("bits", 16, "of a sample of wav and flac: 16 or 24", flag_values=flags)
    yes(
        "match_loudness",
        False,
        "makes each output as loud as its source (`pip install -e .[loudness]`)",
        flag_values=flags,
    )
    yes("skip_existing", False, "leaves alone what is there already", flag_values=flags)
    yes("sidecar", True, "writes FILE.json: all of what made the output", flag_values=flags)
    yes("plot", False, "writes FILE.png: mel, pitch, level and weights", flag_values=flags)
    whole(
        "batch",
        None,
        "stretches of speech at once (1 on a CPU, 8 per accelerator)",
        flag_values=flags,
    )


def parse_mix(text: str) -> dict[str, float]:
    """Reads `happy:0.6,surprised:0.4`.

    Args:
        text: emotions with weights; a name alone weighs 1.

    Returns:
        Emotion -> weight.

    Raises:
        UsageError: an entry that is not NAME or NAME:NUMBER, or a name given twice.
    """
    weights: dict[str, float] = {}
    for entry in text.split(","):
        name, colon, weight = entry.strip().partition(":")
        try:
            if "_" in weight:  # Python would read 1_0 as 10
                raise ValueError
            value = float(weight) if colon else 1.0
        except ValueError:
            raise UsageError(f"--mix: {weight!r} is not a number, in {entry!r}") from None
        if not name or name in weights:
            raise UsageError(
                f"--mix: {'a name is missing' if not name else name + ' twice'}: {text!r}"
            )
        weights[name] = value
    return weights


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: input files.

    Returns:
        0, or 1 where an input failed.
    """
    if not positional:
        raise UsageError("no input files; see `emoconv convert --help`")
    if not flags.out:
        raise UsageError("--out: missing; name the folder for the converted files")
    _check_output(flags)
    from emoconv_jax.audio.loudness import check_installed
    from emoconv_jax.audio.reading import read_header
    from emoconv_jax.bundles.hub import Source, fetch
    from emoconv_jax.bundles.parts import open_bundle
    from emoconv_jax.cli.inputs import find_inputs, targets_of
    from emoconv_jax.inference.conversion import check_sidecar
    from emoconv_jax.inference.converter import VOICE_SECONDS, EmotionConverter
    from emoconv_jax.inference.request import Request
    from emoconv_jax.inference.resolved import resolve

    out = pathlib.Path(flags.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file, a folder is needed")
    if flags.match_loudness:
        check_installed()
    others = [path for path in (flags.emotion_ref, flags.curve) if path and "\0" not in path]
    targets = targets_of(find_inputs(positional, out), out, flags.format, others)
    request = _request(flags)
    wanted = Request(**request)
    wanted.plan()  # wrong usage ends here or, where the bundle's names decide, at `resolve`
    if flags.emotion_ref is not None:
        read_header(flags.emotion_ref, max_seconds=VOICE_SECONDS)
    folder, commit = fetch(flags.bundle, flags.revision)
    config, banks = open_bundle(folder)
    resolved = resolve(wanted, config, banks)
    count = _Count()
    if flags.skip_existing:
        left = {target: path for target, path in targets.items() if not os.path.exists(target)}
        count.skipped, targets = len(targets) - len(left), left
    for target in targets:
        check_sidecar(target)
    if targets:
        converter = EmotionConverter(
            folder, config, banks, Source(flags.bundle, commit), flags.compute
        )
        _prepare_folder(out)
        for note in resolved.notes():
            print(note, file=sys.stderr)
        _convert_all(converter, targets, request, flags, count)
    else:
        print(count, file=sys.stderr)
    return 1 if count.failed else 0


@dataclasses.dataclass
class _Count:
    """How far a job is."""

    converted: int = 0
    skipped: int = 0
    failed: int = 0
    left: int = 0

    def __str__(self) -> str:
        told = f"{self.converted} converted, {self.skipped} skipped, {self.failed} failed"
        return told + (f", {self.left} not begun or not finished" if self.left else "")


def _request(flags: absl_flags.FlagValues) -> dict[str, Any]:
    """Returns the fields of `Request` that the flags ask for."""
    from emoconv_jax.inference.curve import read_curve

    return {
        "arousal": flags.arousal,
        "mix": None if flags.mix is None else parse_mix(flags.mix),
        "base": flags.base,
        "strength": flags.strength,
        "emotion_ref": flags.emotion_ref,
        "curve": None if flags.curve is None else read_curve(pathlib.Path(flags.curve)),
        "intensity": flags.intensity,
        "guidance": flags.guidance,
        "negative": flags.negative,
        "solver": flags.solver,
        "steps": flags.steps,
        "spacing": flags.spacing,
        "latent": flags.latent,
        "latent_noise": flags.latent_noise,
        "start": flags.start,
        "seed": flags.seed,
        "prosody": flags.prosody,
        "rate": flags.rate,
    }


def _check_output(flags: absl_flags.FlagValues) -> None:
    """Refuses an output that no file could have."""
    from emoconv_jax.audio.writing import check_output

    if "\0" in flags.out:
        raise UsageError(f"--out: found {flags.out!r}, which is no name of a folder")
    if flags.compute not in COMPUTES:
        raise UsageError(f"--compute: found {flags.compute!r}, allowed are {', '.join(COMPUTES)}")
    try:
        check_output(flags.format, flags.sample_rate_hz, flags.bits)
    except UsageError as error:
        raise UsageError(f"--{error}") from None
    if flags.format == "ogg" and flags["bits"].present:
        raise UsageError("--bits: belongs to wav and flac; ogg has none")
    if flags.batch is not None and flags.batch < 1:
        raise UsageError(f"--batch: found {flags.batch}, at least 1 is needed")


def _prepare_folder(out: pathlib.Path) -> None:
    """Makes the output folder and tries that it can be written to, before hours of work."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmoconvError(f"{out}: cannot be made a folder ({error.strerror})") from None
    try:
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise EmoconvError(f"{out}: no file can be written there ({error.strerror})") from None


def _convert_all(
    converter: Any,
    targets: dict[pathlib.Path, pathlib.Path],
    request: dict[str, Any],
    flags: absl_flags.FlagValues,
    count: _Count,
) -> None:
    """Converts each file under one bar over all their seconds, and counts what becomes of it."""
    from tqdm import tqdm

    sources, made = list(targets.values()), list(targets)
    seconds = _seconds(sources)
    total_s = max(sum(seconds), 0.1)
    output = {
        "sidecar": flags.sidecar,
        "sample_rate_hz": flags.sample_rate_hz,
        "bits": flags.bits,
    }
    count.left, over_s = len(sources), 0.0  # of files that are done
    try:
        with tqdm(total=total_s, bar_format=BAR, smoothing=0.05) as bar:
            bar.set_description("compiling (once)")
            told = False

            def advance(finished_s: float) -> None:
                nonlocal told
                if not told:
                    told = True
                    bar.unpause()  # compiling says nothing of the time that is left
                    bar.set_description(f"0/{len(sources)} files")
                bar.update(min(finished_s, total_s - bar.n))

            results = converter.convert_many(
                sources, batch=flags.batch, on_progress=advance, **request
            )
            for number, found in results:
                target = made[number]
                try:
                    _save(found, target, output, flags)
                    count.converted += 1
                    tqdm.write(str(target))
                except EmoconvError as error:
                    count.failed += 1
                    tqdm.write("emoconv: " + " ".join(str(error).split()), file=sys.stderr)
                count.left -= 1
                over_s += seconds[number]
                bar.update(max(min(over_s, total_s) - bar.n, 0.0))  # of what failed too
                bar.set_description(f"{len(sources) - count.left}/{len(sources)} files")
    finally:
        print(count, file=sys.stderr)


def _save(
    found: Any, target: pathlib.Path, output: dict[str, Any], flags: absl_flags.FlagValues
) -> None:
    """Writes a conversion, its folders and its picture; raises what a source failed with.

    The audio comes last: --skip_existing takes it for a sign that all of it is there.
    """
    if isinstance(found, EmoconvError):
        raise found
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmoconvError(f"{target.parent}: cannot be made a folder ({error.strerror})") from None
    made = found.matched() if flags.match_loudness else found
    if flags.plot:
        made.plot(target.with_name(target.name + ".png"))
    made.save(target, **output)


def _seconds(sources: list[pathlib.Path]) -> list[float]:
    """Returns how long each file says it is, for the bar; says which are conversions already."""
    from emoconv_jax.audio.reading import read_header
    from emoconv_jax.inference.conversion import made_by_emoconv
    from emoconv_jax.inference.converter import MOST_DECODED_BYTES, MOST_SECONDS

    seconds = []
    for source in sources:
        try:
            header = read_header(
                source, max_seconds=MOST_SECONDS, max_decoded_bytes=MOST_DECODED_BYTES
            )
        except EmoconvError:  # told when its turn comes
            seconds.append(0.0)
            continue
        seconds.append(header.duration_s)
        if made_by_emoconv(header.comment):
            print(f"note: {source} is itself a conversion, not a recording", file=sys.stderr)
    return seconds
