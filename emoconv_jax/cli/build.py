"""Builds a TFDS dataset from a corpus folder, which `emoconv prepare` reads in its place.

usage: emoconv build CORPUS_FOLDER --out DATASETS [--corpus NAME] [--allow_rejects]

The folder is that of RAVDESS, nEMO, ESD, MSP-Podcast, IEMOCAP or CREMA-D as published, or any
folder with a manifest.tsv or manifest.csv; data/corpora.md tells what is expected and how labels
are read. The layout is found out; --corpus names it where two would do. The dataset holds the audio
and every label in files that are quick to read and easy to copy.

Audio is WAV, FLAC or Ogg Vorbis. What cannot be read is left out and listed in rejected.tsv beside
the dataset; of files that are not there one line says the first and how many more. The exit code is
then 1, or 0 with --allow_rejects. A build that was stopped leaves no dataset; run it again.
"""

import pathlib

from absl import flags as absl_flags

from emoconv_jax.errors import UsageError


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    absl_flags.DEFINE_string("out", None, "where datasets are kept", flag_values=flags)
    absl_flags.DEFINE_string("corpus", None, "the folder's layout", flag_values=flags)
    absl_flags.DEFINE_bool(
        "allow_rejects", False, "exit with 0 though clips were left out", flag_values=flags
    )


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: the corpus folder.

    Returns:
        The exit code.
    """
    if not flags.out:
        raise UsageError("--out: missing; name the folder where datasets are kept")
    if len(positional) != 1:
        raise UsageError(f"{len(positional)} corpus folders given, expected one")
    from emoconv_jax.pipeline.datasets import LEFT_OUT, build

    left_out: list[str] = []

    def log(line: str) -> None:
        left_out.extend([line] if line.startswith(LEFT_OUT) else [])
        print(line)

    build(pathlib.Path(positional[0]), pathlib.Path(flags.out), flags.corpus, log)
    return 1 if left_out and not flags.allow_rejects else 0
