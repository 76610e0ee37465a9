"""Times one evaluation of the score network beside its PyTorch twin, in alternating runs.

usage: emoconv bench [--bundle BUNDLE] [--seconds 5] [--rounds 9]

Both have the same random weights at the bundle's sizes and the same input; the outputs are compared
first. Needs PyTorch (extra `bench`). Let nothing else run beside it.
"""

import os
import pathlib
import statistics

from absl import flags as absl_flags

from emoconv_jax.cli.convert import BUNDLE
from emoconv_jax.errors import EmoconvError


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    absl_flags.DEFINE_string("bundle", BUNDLE, "whose sizes to take", flag_values=flags)
    absl_flags.DEFINE_float("seconds", 5.0, "of the utterance", 0.1, 60.0, flag_values=flags)
    absl_flags.DEFINE_integer("rounds", 9, "of measurement", 1, flag_values=flags)


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: empty, see `cli.main.FLAGS_ONLY`.

    Returns:
        The exit code.
    """
    try:
        from emoconv_jax.bench.score_network import compare
    except ModuleNotFoundError as error:
        raise EmoconvError(
            f"{error.name} is not installed; `pip install -e .[bench]` has it"
        ) from None
    from emoconv_jax.bundles.format import read_config

    config = read_config(pathlib.Path(flags.bundle)).score_network
    found = compare(config, flags.seconds, flags.rounds, threads=os.cpu_count() or 1)
    print(f"score network, width {config.width}, {found.frames} frames, {os.cpu_count()} cores")
    print(f"greatest difference of the outputs: {found.difference:.1e}")
    for name, times in (("emoconv", found.ours_s), ("PyTorch twin", found.twin_s)):
        median, low, high = statistics.median(times), min(times), max(times)
        print(f"{name:<14}{median * 1e3:8.1f} ms   ({low * 1e3:.1f} .. {high * 1e3:.1f})")
    print(f"ratio of medians: {found.ratio:.2f} (ours computes {found.padded_frames} frames)")
    return 0
