"""From a training run to a part of a bundle: its averaged parameters."""

import dataclasses
import pathlib

import jax
import numpy as np

from emoconv_jax.bundles.format import (
    CONFIG_FILE,
    BundleConfig,
    read_config,
    save_part,
    write_config,
)
from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.config import TrainingConfig, from_dict
from emoconv_jax.files import read_json
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.training import loop
from emoconv_jax.training.state import TrainState, init_state, make_optimizer
from emoconv_jax.training.trainees import make_trainee

LICENCE = "CC-BY-NC-SA-4.0"  # of models trained on RAVDESS and nEMO


def export(workdir: pathlib.Path, bundle: pathlib.Path, store: FeatureStore) -> tuple[str, int]:
    """Writes a run's averaged parameters as the part of a bundle that the run trained.

    Args:
        workdir: of the run.
        bundle: the bundle's folder; made if absent, its other parts are kept.
        store: the features the run read; the recogniser's statistics come from it.

    Returns:
        The role and the step.

    Raises:
        EmoconvError: not a run, or one without a checkpoint.
    """
    path = workdir / loop.CONFIG_FILE
    found = read_json(path, f"{workdir} is not a training run")
    run = from_dict(TrainingConfig, found, str(path))
    statistics = loop.statistics_of(run, store)
    trainee = make_trainee(run, statistics)
    like = jax.eval_shape(
        lambda key: vars(init_state(trainee.init(key), make_optimizer(run))), jax.random.key(0)
    )
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = TrainState(**checkpoints.restore(like))
    if (bundle / CONFIG_FILE).is_file():
        config = read_config(bundle)
    else:
        config = BundleConfig(name=bundle.name, licence=LICENCE)
    variables = {"params": state.ema_params}
    if statistics is not None:
        variables["statistics"] = statistics
    save_part(bundle, run.trainee, jax.tree.map(np.asarray, variables))
    write_config(bundle, dataclasses.replace(config, **{run.trainee: trainee.network_config}))
    return run.trainee, int(state.step)
