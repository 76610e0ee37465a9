"""Turns corpus folders into the features that training reads.

usage: emoconv prepare CORPUS... --out FEATURES [--splits FILE] [--workers N]
       emoconv prepare --out FEATURES --bundle BUNDLE

A corpus folder holds a `manifest.tsv` (columns path, speaker, and any of gender, language, emotion,
intensity, text, arousal) and, where phone times are known, a `phones.tsv`. English text without
phone times is aligned with pocketsphinx.

The second form adds what a bundle's average-voice encoder and recogniser say of every utterance,
which the score network's training reads.
"""

import pathlib

from absl import flags as absl_flags

from emoconv_jax.errors import EmoconvError, UsageError

SPLITS = "data/splits/emoconv-small.json"


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    absl_flags.DEFINE_string("out", None, "the feature folder", flag_values=flags)
    absl_flags.DEFINE_string("splits", SPLITS, "which utterance trains", flag_values=flags)
    absl_flags.DEFINE_string("bundle", None, "encode with this bundle", flag_values=flags)
    absl_flags.DEFINE_integer("workers", 1, "processes that read audio", 1, flag_values=flags)


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: corpus folders.

    Returns:
        The exit code.
    """
    if flags.out is None:
        raise UsageError("--out: missing; name the feature folder")
    if bool(positional) == bool(flags.bundle):
        raise UsageError("give corpus folders to prepare, or --bundle to encode, one of the two")
    from emoconv_jax.bundles.format import read_config
    from emoconv_jax.inference.encoders import AverageVoiceRole, EmotionRole
    from emoconv_jax.pipeline.prepare import encode, prepare
    from emoconv_jax.pipeline.store import FeatureStore

    out = pathlib.Path(flags.out)
    if positional:
        folders = [pathlib.Path(p) for p in positional]
        prepare(folders, out, pathlib.Path(flags.splits), workers=flags.workers)
        return 0
    bundle, store = pathlib.Path(flags.bundle), FeatureStore(out)
    if read_config(bundle).mel != store.mel_config:
        raise EmoconvError(f"{bundle}: its mel is not that of {out}; they must agree")
    emotion = EmotionRole.from_bundle(bundle)
    encode(store, AverageVoiceRole.from_bundle(bundle), emotion.embed)
    return 0
