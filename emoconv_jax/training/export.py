"""From a training run to a part of a bundle: its averaged parameters."""

import dataclasses
import pathlib

import jax
import numpy as np

from emoconv_jax.bundles.agreement import WHISPER_HEADS
from emoconv_jax.bundles.format import (
    CONFIG_FILE,
    BundleConfig,
    part_files,
    read_config,
    write_bundle,
)
from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.training import start
from emoconv_jax.training.parallel import Parallel
from emoconv_jax.training.selection import choose, fingerprint, statistics_of
from emoconv_jax.training.state import make_optimizer
from emoconv_jax.training.trainees import make_trainee

NEED_FEATURES = {
    "recogniser": "has its statistics measured on them",
    "whisper_emotion": "has its statistics measured on them",
    "whisper_average_voice": "is for the Whisper whose states they hold",
}
ROLE_OF = {  # that a part fills from its export on
    "recogniser": "emotion",
    "whisper_emotion": "emotion",
    "average_voice": "average_voice",
    "whisper_average_voice": "average_voice",
}
LICENCE = "CC-BY-NC-SA-4.0"  # of models trained on RAVDESS and nEMO


def export(
    workdir: pathlib.Path, bundle: pathlib.Path, store: FeatureStore | None = None
) -> tuple[str, int]:
    """Writes a run's averaged parameters as the part of a bundle that the run trained.

    Args:
        workdir: of the run, on any number of devices.
        bundle: the bundle's folder; made if absent. Its other parts are kept, but for one that this
            takes the role of.
        store: the features the run read; a recogniser's statistics and the fingerprint of the
            Whisper that a head hears come from it.

    Returns:
        The role and the step.

    Raises:
        EmoconvError: not a run, one without a checkpoint, or other features than the run read.
        UsageError: a recogniser or a head on Whisper, and no store.
    """
    run = start.read_config(workdir)
    if run.trainee in NEED_FEATURES and store is None:
        raise UsageError(f"--features: missing; {run.trainee} {NEED_FEATURES[run.trainee]}")
    statistics = statistics_of(run, store) if store else None
    trainee = make_trainee(run, statistics)
    one = dataclasses.replace(run, parallel="jit", shard_state=False)
    parallel = Parallel(one, trainee, make_optimizer(run), jax.devices()[:1])
    with Checkpoints(workdir / start.CHECKPOINTS, reading=True) as checkpoints:
        found = checkpoints.restore(vars(parallel.abstract_state()))
    if not found:
        raise EmoconvError(f"{workdir / start.CHECKPOINTS}: holds no complete checkpoint")
    state, about = found
    if store:
        start.check_data(about, fingerprint(store, choose(store, run, run.splits)))
    if (bundle / CONFIG_FILE).is_file():
        config = read_config(bundle)
    else:
        config = BundleConfig(name=bundle.name, licence=LICENCE)
    variables = {"params": state["ema_params"]}
    if statistics is not None:
        variables["statistics"] = statistics
    # what was imported in its place is gone
    kept = tuple(entry for entry in config.imported if entry.part != run.trainee)
    network = trainee.network_config
    if run.trainee in WHISPER_HEADS:
        assert store is not None  # NEED_FEATURES has them all
        network = dataclasses.replace(network, encoder=store.encoder)
    filled = {role: run.trainee} if (role := ROLE_OF.get(run.trainee)) else {}
    roles = dataclasses.replace(config.roles, **filled)
    trained = {run.trainee: network, "imported": kept, "roles": roles}
    parts = {run.trainee: jax.tree.map(np.asarray, variables)}
    write_bundle(bundle, dataclasses.replace(config, **trained), parts, dtype=np.float16)
    if role and (before := getattr(config.roles, role)) != run.trainee:
        for path in part_files(bundle, before):  # nothing reads it any more
            path.unlink()
    return run.trainee, int(state["step"])
