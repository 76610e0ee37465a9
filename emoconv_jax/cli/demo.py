"""Converts one recording to arousal 1, 4 and 7 and to a mix, and makes a page of the result.

usage: emoconv demo [FILE] [--out demo_output]

Without FILE, the sample that comes with the project is converted. The folder gets the WAVs, a
picture of mel, pitch and energy side by side, and index.html to look at and listen to.
"""

import os
import pathlib

from absl import flags as absl_flags

from emoconv_jax.cli.convert import BAR, BUNDLE
from emoconv_jax.errors import EmoconvError, UsageError

SAMPLE = "data/samples/neutral.flac"
MIX = {"mix": {"happy": 0.6, "surprised": 0.4}, "intensity": 0.8}
TARGETS = {
    "arousal 1 (calm)": {"arousal": 1.0},
    "arousal 4": {"arousal": 4.0},
    "arousal 7 (excited)": {"arousal": 7.0},
    "happy .6 + surprised .4": MIX,
}
MOST_SECONDS = 60.0  # that a page can show
SOURCE = "source.wav"
FILES = ("arousal_1.wav", "arousal_4.wav", "arousal_7.wav", "mix.wav")


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    absl_flags.DEFINE_string("out", "demo_output", "folder of the result", flag_values=flags)
    absl_flags.DEFINE_string(
        "bundle", BUNDLE, "a folder, or ORG/NAME on the Hub", flag_values=flags
    )
    absl_flags.DEFINE_integer("steps", None, "of the solver (what suits it)", 1, flag_values=flags)
    absl_flags.DEFINE_integer("seed", 0, "of the noise", flag_values=flags)


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: at most one audio file.

    Returns:
        The exit code.
    """
    if len(positional) > 1:
        raise UsageError(f"{positional[1]}: one file at a time; `emoconv convert` takes many")
    source, out = pathlib.Path(positional[0] if positional else SAMPLE), pathlib.Path(flags.out)
    for name in (SOURCE, *FILES):
        if os.path.realpath(source) == os.path.realpath(out / name):
            raise UsageError(f"{source}: would be overwritten; choose another --out")
    from tqdm import tqdm

    from emoconv_jax.audio.reading import read_audio
    from emoconv_jax.audio.writing import write_audio
    from emoconv_jax.bundles.hub import Source, fetch
    from emoconv_jax.bundles.parts import open_bundle
    from emoconv_jax.evaluation.measures import measure
    from emoconv_jax.evaluation.page import HEADINGS, Item, draw, figures, write_page
    from emoconv_jax.inference.conversion import CAUTION
    from emoconv_jax.inference.converter import EmotionConverter
    from emoconv_jax.inference.request import Request
    from emoconv_jax.inference.resolved import resolve

    folder, commit = fetch(flags.bundle)
    config, banks = open_bundle(folder)
    common = {"steps": flags.steps, "seed": flags.seed}
    for target in TARGETS.values():  # wrong usage ends here
        resolve(Request(**target, **common), config, banks)
    mel = config.mel
    audio = read_audio(source, mel.sample_rate_hz, max_seconds=MOST_SECONDS)
    print("loading the networks", flush=True)
    converter = EmotionConverter(folder, config, banks, Source(flags.bundle, commit))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmoconvError(f"{out}: cannot be made a folder ({error.strerror})") from None
    write_audio(out / SOURCE, audio, mel.sample_rate_hz)
    found = [("source", SOURCE, audio)]
    total_s, title = len(TARGETS) * len(audio) / mel.sample_rate_hz, ""
    with tqdm(total=total_s, bar_format=BAR) as bar:
        bar.set_description("compiling (once)")

        def advance(finished_s: float) -> None:
            bar.set_description(title, refresh=False)
            bar.update(min(finished_s, total_s - bar.n))

        for (title, request), file in zip(TARGETS.items(), FILES, strict=True):
            converted = converter.convert(audio, on_progress=advance, **request, **common)
            converted.save(out / file)
            found.append((title, file, converted.audio))
    items = [
        Item(title, file, sound, measure(sound, mel, converter.emotion, converter.speaker))
        for title, file, sound in found
    ]
    draw(items, mel, out / "comparison.png")
    note = f"Source: {source.name}. The conversions are {CAUTION}."
    write_page(items, "comparison.png", note, out / "index.html")
    for row in (HEADINGS, *figures(items)):
        print(f"{row[0]:<26}" + "".join(f"{cell:>20}" for cell in row[1:]))
    print(f"\nlook and listen: {out / 'index.html'}")
    return 0
