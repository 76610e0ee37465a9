"""Imports public weights of other systems as parts of a bundle, without running anything in them.

usage: emoconv import --format FORMAT SOURCE --out BUNDLE [--licence SPDX] [--parts PART,...]

FORMAT and SOURCE:
    diffvc         vc.pt, or enc.pt alone, of DiffVC: score network, average voice
    hifigan        a generator of HiFi-GAN (V1, V2, V3) with its config.json beside it: vocoder
    ge2e           pretrained.pt of Resemblyzer or Real-Time-Voice-Cloning: speaker encoder
    wav2vec2-dim   a Hugging Face folder of a dimensional wav2vec2: emotion
    safetensors    a bundle of emoconv, to take parts from

BUNDLE keeps its other parts, so that for example DiffVC's average-voice encoder can stand in a copy
of another bundle; its config.json says which implementation fills each role, and where imported
parts came from; a part that another bundle has from elsewhere keeps that origin. A score network
brings its noise schedule along, an emotion encoder of another bundle that bundle's target
embeddings. Every tensor is used exactly once, or the import fails with a list. Licences are those
of the weights: say what you know with --licence.
"""

import pathlib

from absl import flags as absl_flags

from emoconv_jax.errors import EmoconvError, UsageError


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    text = absl_flags.DEFINE_string
    text("format", None, "what SOURCE is", flag_values=flags)
    text("out", None, "the bundle's folder; made if absent", flag_values=flags)
    text("licence", None, "of the weights, as CC-BY-4.0; default what is known", flag_values=flags)
    absl_flags.DEFINE_list(
        "parts", [], "which parts to take; default all that SOURCE uses", flag_values=flags
    )


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: the source.

    Returns:
        The exit code.
    """
    for name in ("format", "out"):
        if getattr(flags, name) is None:
            raise UsageError(f"--{name}: missing")
    if len(positional) != 1:
        raise UsageError(f"found {len(positional)} sources, give one")
    # as of a variable that is not set; a path of them would be the current folder
    for name, text in (("--out", flags.out), ("SOURCE", positional[0])):
        if not text.strip():
            raise UsageError(f"{name}: found {text!r}, give a path")
    from emoconv_jax.inference.importing import import_weights

    written = import_weights(
        flags.format,
        pathlib.Path(positional[0]),
        pathlib.Path(flags.out),
        licence=flags.licence,
        only=flags.parts,
    )
    for entry, note in written:
        print(f"{entry.part}: from {entry.source} ({entry.format}, licence {entry.licence})")
        print(f"    sha256 {entry.sha256}" + (f"; {note}" if note else ""))
    reason = _fault(pathlib.Path(flags.out))
    print(
        f"{flags.out}: written; "
        + (f"it does not convert yet: {reason}" if reason else "it converts")
    )
    return 0


def _fault(bundle: pathlib.Path) -> str:
    """Returns why a bundle does not convert speech yet; nothing where it does."""
    from emoconv_jax.bundles.contents import check_bundle, lacking

    try:
        if name := lacking(bundle):
            return f"{name} is missing"
        check_bundle(bundle)
    except EmoconvError as error:
        return str(error)
    return ""
