"""Exports trained networks as parts of a bundle, the folder that `convert` loads.

usage: emoconv export RUN... --out BUNDLE [--features FEATURES]
       emoconv export --banks --features FEATURES --out BUNDLE [--rule paper]

The first form writes the averaged parameters of each run's newest checkpoint as the part that it
trained; other parts of BUNDLE stay as they are. A recogniser needs the features it was trained on
as well, whose mean and variance are part of it, and so does a head on Whisper, which is for the
very Whisper that they are of. The second form builds the target embeddings from the features that
`emoconv prepare --bundle` encoded, and beside each what the emotion does to pitch, energy and pace
within speakers. --rule local takes a level of arousal from a straight line through the utterances
around it, --rule paper as the mean of the fifth that is nearest (EmoConv-Diff). A model card,
README.md, is written by hand.
"""

import pathlib
import sys

from absl import flags as absl_flags

from emoconv_jax.errors import UsageError


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    absl_flags.DEFINE_string("out", None, "the bundle's folder", flag_values=flags)
    absl_flags.DEFINE_string("features", None, "what `prepare` wrote", flag_values=flags)
    absl_flags.DEFINE_bool("banks", False, "build the target embeddings", flag_values=flags)
    absl_flags.DEFINE_string("rule", "local", "of the banks: local or paper", flag_values=flags)


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: training runs.

    Returns:
        The exit code.
    """
    if flags.out is None:
        raise UsageError("--out: missing; name the bundle's folder")
    if bool(positional) == flags.banks:
        raise UsageError("give training runs, or --banks, one of the two")
    if flags.banks and flags.features is None:
        raise UsageError("--features: missing; banks are built from encoded features")
    from emoconv_jax.bundles.banks import RULES, save_banks
    from emoconv_jax.pipeline.store import FeatureStore
    from emoconv_jax.training.export import export
    from emoconv_jax.training.target_banks import banks_of

    if flags.rule not in RULES:
        raise UsageError(f"--rule: found {flags.rule!r}, allowed are {', '.join(RULES)}")
    if flags["rule"].present and not flags.banks:
        raise UsageError("--rule: belongs to --banks")
    store = FeatureStore(pathlib.Path(flags.features)) if flags.features else None
    out = pathlib.Path(flags.out)
    for workdir in positional:
        role, step = export(pathlib.Path(workdir), out, store)
        print(f"{role}: averaged parameters of step {step} -> {out}")
    if store and flags.banks:
        banks = banks_of(store, flags.rule, prosody=True)
        save_banks(out, banks)
        for name, made in banks.made_from.items():
            speakers = ", ".join(made["speakers"])
            print(f"{name}: {made['utterances']} utterances of {speakers}")
        if not banks.prosody:
            print(
                f"note: {store.folder} holds no prosody, so the banks tell none; prepare it afresh",
                file=sys.stderr,
            )
    return 0
