"""Trains one network; running the same command again continues where it stopped.

usage: emoconv train --config configs/small.py:TRAINEE --features FEATURES --workdir RUN
                     [--config.FIELD VALUE ...] [--bundle BUNDLE]

TRAINEE is recogniser, average_voice or score_network, in this order: the score network reads what
the other two say of the corpora (`emoconv prepare --bundle`). RUN gets config.json, metrics.jsonl
and checkpoints. SIGTERM and SIGINT save before they stop.
"""

import pathlib

from absl import flags as absl_flags
from ml_collections import config_flags

from emoconv_jax.config import TrainingConfig, from_dict
from emoconv_jax.errors import UsageError


def define(flags: absl_flags.FlagValues) -> None:
    """Declares the command's flags.

    Args:
        flags: gets them.
    """
    config_flags.DEFINE_config_file("config", None, "the run's settings", flag_values=flags)
    absl_flags.DEFINE_string("features", None, "what `prepare` wrote", flag_values=flags)
    absl_flags.DEFINE_string("workdir", None, "folder of this run", flag_values=flags)
    absl_flags.DEFINE_string(
        "bundle", None, "start from this bundle's weights, not from scratch", flag_values=flags
    )


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: empty, see `cli.main.FLAGS_ONLY`.

    Returns:
        The exit code.
    """
    for name in ("config", "features", "workdir"):
        if getattr(flags, name) is None:
            raise UsageError(f"--{name}: missing")
    try:
        settings = flags.config.to_dict()
    except OSError as error:  # ml_collections puts it off until the first use
        raise UsageError(f"--config: {error}") from None
    config = from_dict(TrainingConfig, settings, "--config")
    from emoconv_jax.bundles.parts import load_parameters
    from emoconv_jax.pipeline.store import FeatureStore
    from emoconv_jax.training.loop import train

    initial = None
    if flags.bundle:
        initial = load_parameters(pathlib.Path(flags.bundle), config.trainee)
    store, workdir = FeatureStore(pathlib.Path(flags.features)), pathlib.Path(flags.workdir)
    train(config, store, workdir, initial=initial)
    return 0
