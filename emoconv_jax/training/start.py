"""How a run starts: whose work directory it is, and which state it sets out from.

Order of restoring, the first that there is:

    1. this run's own newest complete checkpoint
    2. a full state of another run, asked for by `--restore`
    3. parameters of a bundle, asked for by `--bundle`
    4. nothing: parameters drawn from the seed
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from emoconv_jax.checkpointing.checkpoints import Checkpoints
from emoconv_jax.config import TrainingConfig, from_dict, to_dict
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, write_text
from emoconv_jax.training.goodput import Goodput
from emoconv_jax.training.parallel import Parallel
from emoconv_jax.training.state import TrainState

CONFIG_FILE, CHECKPOINTS = "config.json", "checkpoints"
# what may change when a run continues: none of it changes an update by more than rounding
SAME_RUN = ("reader", "accumulate", "remat", "parallel", "shard_state")


def check(workdir: pathlib.Path, config: TrainingConfig, override: bool = False) -> None:
    """Refuses a work directory of a run with other settings; writes nothing.

    Args:
        workdir: of the run.
        config: what is asked for.
        override: lets a configuration differ.

    Raises:
        EmoconvError: a run with other settings; every difference is listed.
    """
    if override or not (workdir / CONFIG_FILE).exists():
        return
    differing = differences(read_config(workdir), config)
    if differing:
        raise EmoconvError(
            f"{workdir / CONFIG_FILE}: this run has {'; '.join(differing)}; use a fresh "
            "--workdir, or --override to go on with the new settings"
        )


def claim(workdir: pathlib.Path, config: TrainingConfig) -> None:
    """Writes a run's configuration; call it when the run has a state to set out from.

    Args:
        workdir: of the run; made if absent.
        config: what has passed `check`.

    Raises:
        EmoconvError: a directory that cannot be written.
    """
    path = workdir / CONFIG_FILE
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(to_dict(config), indent=1) + "\n")
    except OSError as error:
        raise EmoconvError(f"{path}: cannot be written ({error.strerror})") from None


def check_data(about: dict, data: str, override: bool = False) -> None:
    """Refuses to go on with other data than the run was trained on so far.

    Args:
        about: what was stored with the newest checkpoint.
        data: `selection.fingerprint` of what would be read now.
        override: lets them differ.

    Raises:
        EmoconvError: they differ.
    """
    stored = about.get("data", data)
    if stored != data and not override:
        raise EmoconvError(
            f"--features: this run was trained on {stored}, found {data}; give the same features, "
            "or --override to go on with these"
        )


def read_config(workdir: pathlib.Path) -> TrainingConfig:
    """Reads the configuration of a run.

    Args:
        workdir: of the run.

    Returns:
        The configuration.

    Raises:
        EmoconvError: not a run, or a file that is no such configuration.
    """
    path = workdir / CONFIG_FILE
    found = read_json(path, f"{workdir} is not a training run")
    return from_dict(TrainingConfig, found, f"{path}:")


def differences(found: TrainingConfig, asked: TrainingConfig) -> list[str]:
    """Returns the settings in which a run is not the one that is asked for.

    Args:
        found: of the run.
        asked: of the command.

    Returns:
        "name old -> new" for each, but for SAME_RUN; of the network, for each of its fields.
    """
    flat = [
        {name: value for name, value in data.items() if name != "network"}
        | {f"network.{name}": value for name, value in data["network"].items()}
        for data in (to_dict(found), to_dict(asked))
    ]
    names = [name for name in flat[0] | flat[1] if name not in SAME_RUN]
    return [
        f"{name} {flat[0].get(name, 'unset')} -> {flat[1].get(name, 'unset')}"
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    ]


def first_state(
    parallel: Parallel,
    checkpoints: Checkpoints,
    key: Any,
    log: Callable[[str], None],
    goodput: Goodput,
    *,
    other_run: pathlib.Path | None = None,
    initial: Any | None = None,
) -> tuple[TrainState, dict]:
    """Returns the state that a run sets out from, in the order of this module's docstring.

    Args:
        parallel: where the state lies.
        checkpoints: of this run.
        key: draws fresh parameters.
        log: takes a line that says where the state came from.
        goodput: counts the time, of restoring or of compiling what draws the parameters.
        other_run: work directory of a run whose newest state is wanted.
        initial: parameters.

    Returns:
        The state, and what was stored with it (nothing for a fresh one).

    Raises:
        EmoconvError: the checkpoints of this run are there but unreadable, the other run has none,
            or what was found is not the network's.
    """
    like = vars(parallel.abstract_state())
    with goodput.of("restoring"):
        found = checkpoints.restore(like, log)
        if found:
            state, about = TrainState(**found[0]), found[1]
            log(f"continuing at step {int(state.step)}")
            return state, about
        if other_run:
            with Checkpoints(other_run / CHECKPOINTS, reading=True) as others:
                found = others.restore(like, log)
            if not found:
                raise EmoconvError(f"{other_run / CHECKPOINTS}: holds no complete checkpoint")
            state = TrainState(**found[0])
            log(f"starting from {other_run} at step {int(state.step)}")
            return state, {}
    with goodput.of("compiling"):
        if initial is not None:
            log("starting from given parameters")
            initial = _fitting(initial, parallel)
        return parallel.init(key, initial), {}


def _fitting(initial: Any, parallel: Parallel) -> Any:
    """Returns the initial parameters, or names the first that the run's network has otherwise."""
    wanted = parallel.abstract_state().params
    shapes = [
        {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in flat}
        for flat in map(jax.tree.leaves_with_path, (initial, wanted))
    ]
    for name in sorted(set(shapes[0]) | set(shapes[1])):
        found, expected = (side.get(name, "nothing") for side in shapes)
        if found != expected:
            raise EmoconvError(
                f"--bundle: its tensor {name} is {found}, the run's network needs {expected}; "
                "--config.network must be the bundle's own"
            )
    return initial
