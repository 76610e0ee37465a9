"""Trains one network; running the same command again continues where it stopped.

usage: emoconv train --config configs/small.py:TRAINEE --features FEATURES --workdir RUN
                     [--config.FIELD VALUE ...] [--bundle BUNDLE | --restore OTHER_RUN]
       emoconv train --status --workdir RUN

TRAINEE is an emotion encoder, recogniser or whisper_emotion, an average voice, average_voice or
whisper_average_voice, and then score_network, which reads what the other two say of the corpora
(`emoconv prepare --bundle`). Those on Whisper read its states (`emoconv prepare --whisper`). RUN
gets config.json, metrics.jsonl, tensorboard and checkpoints. A run sets out from its own newest
checkpoint, else from the newest of OTHER_RUN with everything in it, else from the parameters of
BUNDLE, else from chance.

All accelerators of the machine are used; launch/ has scripts for many machines. SIGTERM and SIGINT
save before they stop, with exit code 0; a second SIGINT stops at once.

    tensorboard --logdir RUN/tensorboard         curves, and held-out speech as pictures and sound
    emoconv train --status --workdir RUN         step, crops, hours, last validation, expected end
"""

import pathlib
import time
import typing

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
    texts = {
        "features": "what `prepare` wrote",
        "workdir": "folder of this run",
        "bundle": "start from this bundle's parameters",
        "restore": "start from the newest checkpoint of this other run",
        "vocoder": "bundle whose vocoder makes the sounds in TensorBoard; default Griffin-Lim",
        "coordinator": "of many hosts: address:port of the first, which all can reach",
    }
    for name, text in texts.items():
        absl_flags.DEFINE_string(name, None, text, flag_values=flags)
    switches = {
        "override": "go on with settings that differ from those the run began with",
        "status": "say in one line how far the run in --workdir is, and do nothing",
        "dry_run": "check the settings, say what would be done, and do nothing",
        "distributed": "one of many hosts, found out from SLURM, a TPU pod or Kubernetes",
    }
    for name, text in switches.items():
        absl_flags.DEFINE_bool(name, False, text, flag_values=flags)
    counts = {
        "report": (10, "steps between lines of progress", 1),
        "validate": (200, "steps between validations; 0: never", 0),
        "listen": (1000, "steps between conversions to look at and listen to; 0: never", 0),
        "keep": (2, "how many of the newest checkpoints stay", 1),
        "keep_every": (0, "checkpoints of every so many steps are made and stay; 0: none", 0),
        "devices": (0, "how many devices to use; 0: all", 0),
        "host": (None, "of many hosts: the number of this one, from 0", 0),
        "hosts": (None, "of many hosts: how many there are", 1),
    }
    for name, (default, text, least) in counts.items():
        absl_flags.DEFINE_integer(name, default, text, least, flag_values=flags)
    absl_flags.DEFINE_float("save_s", 120.0, "seconds between checkpoints", 0, flag_values=flags)
    absl_flags.DEFINE_float(
        "hang_s", 1800.0, "end a run without a step for so many seconds; 0: never", 0,
        flag_values=flags,
    )  # fmt: skip


def run(flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs the command.

    Args:
        flags: parsed.
        positional: empty, see `cli.main.FLAGS_ONLY`.

    Returns:
        The exit code.
    """
    for name in ("workdir",) if flags.status else ("config", "features", "workdir"):
        if getattr(flags, name) is None:
            raise UsageError(f"--{name}: missing")
    if flags.status:
        from emoconv_jax.training.status import status_of

        print(status_of(pathlib.Path(flags.workdir)).line(time.time()))
        return 0
    if flags.bundle and flags.restore:
        raise UsageError("--restore and --bundle: found both, a run starts from one of them")
    try:
        settings = flags.config.to_dict()
    except OSError as error:  # ml_collections puts it off until the first use
        raise UsageError(f"--config: {error}") from None
    config = from_dict(TrainingConfig, settings, "--config")
    from emoconv_jax.training import hosts

    given = (flags.coordinator, flags.host, flags.hosts)
    if flags.distributed or any(value is not None for value in given):
        if flags.dry_run:
            print(
                f"not joining other hosts: {given if set(given) != {None} else 'found out by JAX'}"
            )
        else:
            hosts.start(*given)
    devices = _devices(flags.devices)
    if flags.dry_run:
        return _dry_run(config, devices, flags)
    from emoconv_jax.bundles.parts import load_parameters
    from emoconv_jax.pipeline.store import FeatureStore
    from emoconv_jax.training.listening import vocoder_of
    from emoconv_jax.training.loop import Care, train

    initial, other_run, vocode = None, None, None
    store = FeatureStore(pathlib.Path(flags.features))
    if flags.bundle:
        initial = load_parameters(pathlib.Path(flags.bundle), config.trainee)
    if flags.restore:
        other_run = pathlib.Path(flags.restore)
    if flags.vocoder:
        vocode = vocoder_of(pathlib.Path(flags.vocoder), store.mel_config)
    train(
        config,
        store,
        pathlib.Path(flags.workdir),
        initial=initial,
        other_run=other_run,
        care=Care(**{name: getattr(flags, name) for name in typing.get_type_hints(Care)}),
        devices=devices,
        vocode=vocode,
    )
    return 0


def _devices(count: int) -> list:
    """Returns the first devices, or refuses more than there are, and a share of many hosts'."""
    import jax

    found = jax.devices()
    if jax.process_count() > 1 and count not in (0, len(found)):
        raise UsageError(f"--devices: found {count}, many hosts use all, {len(found)}")
    if count > len(found):
        raise UsageError(f"--devices: found {count}, allowed is 0 to {len(found)}")
    return found[: count or None]


def _dry_run(config: TrainingConfig, devices: list, flags: absl_flags.FlagValues) -> int:
    """Builds the network's shapes and lays them out on the devices; prints what a run would do."""
    from emoconv_jax.training.loop import announcement
    from emoconv_jax.training.parallel import Parallel
    from emoconv_jax.training.state import make_optimizer
    from emoconv_jax.training.trainees import blank_statistics, make_trainee

    trainee = make_trainee(config, blank_statistics(config))
    print(announcement(config, Parallel(config, trainee, make_optimizer(config), devices)))
    for name in ("features", "workdir", "bundle", "restore"):
        path = getattr(flags, name)
        if path:
            print(f"{name}: {path} ({'there' if pathlib.Path(path).exists() else 'not there'})")
    print("dry run: no features were read, nothing was written")
    return 0
