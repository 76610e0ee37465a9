"""Exports trained networks as parts of a bundle, the folder that `convert` loads.

usage: emoconv export RUN... --out BUNDLE [--features FEATURES]
       emoconv export --banks --features FEATURES --out BUNDLE

The first form writes the averaged parameters of each run's newest checkpoint as the part that it
trained; other parts of BUNDLE stay as they are. A recogniser needs the features it was trained on
as well, whose mean and variance are part of it. The second form builds the target embeddings from
the features that `emoconv prepare --bundle` encoded. A model card, README.md, is written by hand.
"""

import pathlib

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
    from emoconv_jax.bundles.banks import save_banks
    from emoconv_jax.pipeline.store import FeatureStore
    from emoconv_jax.training.export import export
    from emoconv_jax.training.target_banks import banks_of

    store = FeatureStore(pathlib.Path(flags.features)) if flags.features else None
    out = pathlib.Path(flags.out)
    for workdir in positional:
        role, step = export(pathlib.Path(workdir), out, store)
        print(f"{role}: averaged parameters of step {step} -> {out}")
    if store and flags.banks:
        banks = banks_of(store)
        save_banks(out, banks)
        for name, made in banks.made_from.items():
            speakers = ", ".join(made["speakers"])
            print(f"{name}: {made['utterances']} utterances of {speakers}")
    return 0
