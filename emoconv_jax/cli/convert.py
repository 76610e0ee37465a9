"""Converts speech to another emotion: the same words, the same voice.

usage: emoconv convert IN... --out DIR --arousal 6
       emoconv convert IN... --out DIR --mix happy:0.6,surprised:0.4 [--base neutral --strength .7]

IN are audio files (WAV, FLAC, OGG, MP3; up to 60 s each). DIR gets one file per input, with a
.json beside it that says what made it. Arousal runs from 1 (calm) to 7 (excited), any number. A mix
names emotions with weights that are normalised to sum to one; with --base the early steps follow
the base emotion and --strength, 0..1, says how much of the mix the middle steps take.

The bundle is a folder or, as --bundle ORG/NAME --revision V, a repository on the Hugging Face Hub.

A file that fails is named, the others are converted, and the exit code is 1.
"""

import os
import pathlib
import sys

from absl import flags as absl_flags

from emoconv_jax.errors import EmoconvError, UsageError

BUNDLE = "data/bundles/emoconv-small"


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    text, number = absl_flags.DEFINE_string, absl_flags.DEFINE_float
    text("out", None, "folder for the converted files", flag_values=flags)
    text("bundle", BUNDLE, "the model: a folder, or ORG/NAME on the Hub", flag_values=flags)
    text("revision", None, "branch, tag or commit of a bundle on the Hub", flag_values=flags)
    text("format", "wav", "of the output: wav or flac", flag_values=flags)
    number("arousal", None, "target arousal, 1 calm .. 7 excited", flag_values=flags)
    text("mix", None, "emotions and weights, as happy:0.6,surprised:0.4", flag_values=flags)
    text("base", None, "emotion of the early steps of a mix", flag_values=flags)
    number("strength", None, "of the mix against the base, 0..1 (0.5)", flag_values=flags)
    text("solver", None, "how the reverse process is solved", flag_values=flags)
    absl_flags.DEFINE_integer("steps", 30, "of the solver", flag_values=flags)
    number(
        "guidance", None, "exaggerates the emotion above 1 (the bundle's own)", flag_values=flags
    )
    text(
        "latent",
        None,
        "what to set out from: source (keeps voice and melody, needs one more run) or noise "
        "(the bundle's own)",
        flag_values=flags,
    )
    number(
        "start",
        None,
        "how far back to set out, up to 1: the lower, the more of the source stays "
        "(the bundle's own)",
        flag_values=flags,
    )
    absl_flags.DEFINE_integer("seed", 0, "of the noise", flag_values=flags)


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
    if flags.format not in ("wav", "flac"):
        raise UsageError(f"--format: found {flags.format!r}, allowed are wav, flac")
    out = pathlib.Path(flags.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file, a folder is needed")
    targets = _targets([pathlib.Path(p) for p in positional], out, flags.format)
    from emoconv_jax.bundles.hub import Source, fetch
    from emoconv_jax.inference.converter import EmotionConverter, open_bundle
    from emoconv_jax.inference.request import Request, resolve

    request = {
        "arousal": flags.arousal,
        "mix": None if flags.mix is None else parse_mix(flags.mix),
        "base": flags.base,
        "strength": flags.strength,
        "solver": flags.solver,
        "steps": flags.steps,
        "guidance": flags.guidance,
        "latent": flags.latent,
        "start": flags.start,
        "seed": flags.seed,
    }
    wanted = Request(**request)
    wanted.plan()  # wrong usage ends here or, where the bundle's names decide, at `resolve`
    folder, commit = fetch(flags.bundle, flags.revision)
    config, banks = open_bundle(folder)
    wanted, _, _ = resolve(wanted, config, banks)
    for note in wanted.notes():
        print(note, file=sys.stderr)
    converter = EmotionConverter(folder, config, banks, Source(flags.bundle, commit))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmoconvError(f"{out}: cannot be made a folder ({error.strerror})") from None
    return _convert_all(converter, targets, request, wanted.evaluations)


def _convert_all(
    converter, targets: dict[pathlib.Path, pathlib.Path], request: dict, steps: int
) -> int:
    """Converts each file under one bar over utterances and steps; returns the exit code."""
    from tqdm import tqdm

    failed, label = 0, ""
    with tqdm(total=len(targets) * steps, unit="step") as bar:
        bar.set_description("compiling (once)")

        def advance(_: object) -> None:  # one for all files: another would be compiled anew
            bar.set_description(label, refresh=False)
            bar.update(1)

        for number, (source, target) in enumerate(targets.items(), start=1):
            label = f"{number}/{len(targets)} {source.name}"
            try:
                converter.convert(source, on_step=advance, **request).save(target)
                tqdm.write(str(target))
            except EmoconvError as error:
                failed += 1
                tqdm.write("emoconv: " + " ".join(str(error).split()), file=sys.stderr)
            bar.update(number * steps - bar.n)
    if failed:
        print(f"emoconv: {failed} of {len(targets)} failed", file=sys.stderr)
    return 1 if failed else 0


def _targets(
    sources: list[pathlib.Path], out: pathlib.Path, suffix: str
) -> dict[pathlib.Path, pathlib.Path]:
    """Returns where each source goes; two sources of one name would overwrite each other."""
    targets: dict[pathlib.Path, pathlib.Path] = {}
    for source in sources:
        target = out / f"{source.stem}.{suffix}"
        if target in targets.values():
            raise UsageError(f"{source}: another input is also called {source.stem}")
        if os.path.realpath(target) == os.path.realpath(source):
            raise UsageError(f"{source}: would be overwritten; choose another --out")
        targets[source] = target
    return targets
