"""Turns corpora into the features that training reads; running it again goes on where it stopped.

usage: emoconv prepare CORPUS... --out FEATURES [--splits FILE] [--workers N] [--bundle BUNDLE]
       emoconv prepare --out FEATURES --bundle BUNDLE
       emoconv prepare CORPUS... --out FEATURES --shard 3/16      (one job of an array)

A CORPUS is a folder in its published layout (RAVDESS, nEMO, ESD, MSP-Podcast, IEMOCAP, CREMA-D), a
folder with a manifest.tsv or manifest.csv (columns path, speaker, and any of gender, language,
emotion, intensity, arousal, valence, dominance, text, split), a dataset made by `emoconv build`, or
tfds:NAME (crema_d, libritts, vctk). Audio is WAV, FLAC or Ogg Vorbis. data/corpora.md describes
them all.

Phone times come from Montreal TextGrids or a corpus's phones.tsv, else, for English text, from
pocketsphinx, else from units found by clustering. With --bundle, its encoders of average voice and
emotion add what they say of every utterance, which the score network's training reads. Those that
hear waveforms (wav2vec2) need the corpora given again. Those on Whisper's encoder need its states,
which --whisper stores.

What cannot be used is listed with its reason in FEATURES/rejected.tsv, and the exit code is 1
unless --allow_rejects is given. A job of an array (--shard i/n) makes its share of the features and
exits with 0; when all are done, the same command without --shard completes the folder and counts.

The same corpora give the same bytes on one kind of CPU, however often the work was stopped and with
any --workers. Sounds that change under an unchanged manifest need a fresh --out. Splits, target and
smoothing may change from run to run; embeddings are then to be added again, which is quick.
"""

import math
import pathlib
import re

from absl import flags as absl_flags

from emoconv_jax.errors import UsageError

# the published splits, where the package lies in its repository
SPLITS = pathlib.Path(__file__).resolve().parents[2] / "data" / "splits"


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    absl_flags.DEFINE_string("out", None, "the feature folder", flag_values=flags)
    absl_flags.DEFINE_string(
        "splits",
        None,
        "file or folder that says which utterance trains; default: a corpus's own splits, then "
        "those of the project's data/splits, then its speakers by chance",
        flag_values=flags,
    )
    absl_flags.DEFINE_string("bundle", None, "encode with this bundle", flag_values=flags)
    absl_flags.DEFINE_integer("workers", 1, "processes", 1, flag_values=flags)
    absl_flags.DEFINE_string(
        "shard", None, "i/n: only the i-th of n shares of the features", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "runner", "local", ["local", "beam"], "beam: on Apache Beam (extra `beam`); FEATURES and "
        "CORPUS must be reachable from its machines", flag_values=flags
    )  # fmt: skip
    absl_flags.DEFINE_list("beam_options", [], "of Beam's pipeline", flag_values=flags)
    absl_flags.DEFINE_enum(
        "alignment", "auto", ["auto", "given", "units"], "given: only phone times that came with "
        "the corpus; units: those, else units", flag_values=flags
    )  # fmt: skip
    absl_flags.DEFINE_string(
        "text_grids", "", "folder of TextGrids, if they are not beside the audio", flag_values=flags
    )
    absl_flags.DEFINE_enum(
        "target",
        "mode",
        ["mode", "mean"],
        "what the average voice of a phone is",
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "smoothing",
        1.0,
        "of the mode, in log-mel; 0 is the published rule",
        0.0,
        10.0,
        flag_values=flags,
    )
    absl_flags.DEFINE_float(
        "max_seconds", 60.0, "longer utterances are rejected", 0.5, 600.0, flag_values=flags
    )
    absl_flags.DEFINE_boolean(
        "whisper", False, "store the states of Whisper's encoder (145 MB are fetched once), which "
        "the encoders trained on it read: 630 MB an hour of speech", flag_values=flags
    )  # fmt: skip
    absl_flags.DEFINE_boolean("allow_rejects", False, "exit with 0 all the same", flag_values=flags)


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: corpora.

    Returns:
        The exit code.
    """
    if flags.out is None:
        raise UsageError("--out: missing; name the feature folder")
    if not positional and not flags.bundle:
        raise UsageError("give corpora to prepare, --bundle to encode, or both")
    share = _share(flags.shard) if flags.shard else None
    if share and (flags.bundle or not positional):
        raise UsageError("--shard: goes with corpora and without --bundle")
    for name in ("smoothing", "max_seconds"):
        if math.isnan(getattr(flags, name)):
            raise UsageError(f"--{name}: found nan, a number is needed")
    from emoconv_jax.inference.whisper_features import ENCODER
    from emoconv_jax.pipeline.encoding import check_bundle, encode
    from emoconv_jax.pipeline.store import FeatureStore

    out, rejected = pathlib.Path(flags.out), 0
    if flags.bundle and positional:
        encoder = ENCODER if flags.whisper else ""
        bundle = pathlib.Path(flags.bundle)
        check_bundle(bundle, encoder=encoder, sources=True)  # hours before it is needed
    if positional:
        rejected = _prepare(flags, positional, out, share)
    if flags.bundle:
        encode(
            FeatureStore(out),
            pathlib.Path(flags.bundle),
            sources=positional,
            workers=flags.workers,
            runner=flags.runner,
            beam_options=flags.beam_options,
        )
    if rejected:
        print(f"{rejected} rejected, see {out / 'rejected.tsv'}")
    return 1 if rejected and not flags.allow_rejects else 0


def _prepare(
    flags: absl_flags.FlagValues,
    sources: list[str],
    out: pathlib.Path,
    share: tuple[int, int] | None,
) -> int:
    """Prepares the corpora; returns how many utterances were rejected."""
    from emoconv_jax.pipeline.extraction import Settings
    from emoconv_jax.pipeline.prepare import Running, Target, prepare
    from emoconv_jax.pipeline.splits import load_splits

    splits = load_splits(flags.splits) if flags.splits else {}
    published = load_splits(SPLITS) if SPLITS.is_dir() else {}
    settings = Settings(
        alignment=flags.alignment,
        text_grids=flags.text_grids,
        max_seconds=flags.max_seconds,
        whisper=flags.whisper,
    )
    running = Running(flags.workers, flags.runner, tuple(flags.beam_options), share)
    target = Target(mean=flags.target == "mean", smoothing=flags.smoothing)
    _, rejected = prepare(
        sources,
        out,
        splits,
        published=published,
        settings=settings,
        target=target,
        running=running,
    )
    return rejected


def _share(text: str) -> tuple[int, int]:
    """Returns (i, n) of "i/n", i counted from 1."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    share = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= share[0] <= share[1]:
        raise UsageError(f"--shard: found {text}, allowed is i/n with i from 1 to n")
    return share
