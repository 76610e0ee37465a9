"""Fetches the public weights that a bundle converts with, once, into the user cache.

usage: emoconv fetch [BUNDLE] [--revision REVISION]

A bundle holds what was trained for it. Its speaker encoder, its vocoder and the Whisper encoder
that its heads read are public weights, fetched when they are first needed. This fetches all of them
at once: for a machine that will have no network, or for a container image.

    emoconv fetch                                     of data/bundles/emoconv-small
    EMOCONV_CACHE=/opt/emoconv emoconv fetch BUNDLE   to another folder, which EMOCONV_CACHE names
                                                      again when BUNDLE is used

Every file is checked by its sha256; one that is there is not fetched again.
"""

import pathlib

from absl import flags as absl_flags

from emoconv_jax.errors import UsageError

BUNDLE = "data/bundles/emoconv-small"


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    absl_flags.DEFINE_string(
        "revision", None, "branch, tag or commit of a bundle on the Hub", flag_values=flags
    )


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: the bundle, or nothing.

    Returns:
        The exit code.
    """
    if len(positional) > 1:
        raise UsageError(f"{positional[1]}: found a second bundle, expected one")
    from emoconv_jax.bundles import hub
    from emoconv_jax.bundles.format import read_config
    from emoconv_jax.inference.roles import fetch_public

    folder, _ = hub.fetch(positional[0] if positional else BUNDLE, flags.revision)
    for role, path in fetch_public(read_config(folder)).items():
        print(f"{role}: {path} ({_bytes(path) / 1e6:.0f} MB)")
    return 0


def _bytes(path: pathlib.Path) -> int:
    return sum(p.stat().st_size for p in (path.iterdir() if path.is_dir() else [path]))
