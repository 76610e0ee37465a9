"""From training runs to a bundle: averaged parameters of each run, and the banks."""

import dataclasses
import json
import pathlib

import jax
import numpy as np

from emoconv_jax.bundles import banks as bank_file
from emoconv_jax.bundles.format import (
    CONFIG_FILE,
    BundleConfig,
    read_config,
    save_part,
    write_config,
)
from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.config import TrainingConfig, from_dict
from emoconv_jax.errors import EmoconvError
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
    if not path.is_file():
        raise EmoconvError(f"{path}: not found; {workdir} is not a training run")
    run = from_dict(TrainingConfig, json.loads(path.read_text(encoding="utf-8")), str(path))
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
    write_config(bundle, dataclasses.replace(config, **{run.trainee: trainee.network_config}))
    variables = {"params": state.ema_params}
    if statistics is not None:
        variables["statistics"] = statistics
    save_part(bundle, run.trainee, jax.tree.map(np.asarray, variables))
    return run.trainee, int(state.step)


def build_banks(bundle: pathlib.Path, store: FeatureStore, split: str = "a") -> bank_file.Banks:
    """Builds and writes a bundle's banks from one split of encoded features.

    Args:
        bundle: the bundle's folder.
        store: encoded with the bundle's recogniser.
        split: the recogniser's training split; never validation or test.

    Returns:
        The banks.

    Raises:
        EmoconvError: the split has no utterance with an emotion.
    """
    chosen = store.select(lambda u: u.split == split and bool(u.emotion))
    if not len(chosen):
        raise EmoconvError(f"{store.folder}: no utterance with an emotion in split {split!r}")
    banks = loop.build_banks(store, chosen)
    bank_file.save_banks(bundle, banks)
    return banks
