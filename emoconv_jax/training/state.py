"""What a training run carries from step to step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from emoconv_jax.config import TrainingConfig
from emoconv_jax.shapes import Array, Int


@struct.dataclass
class TrainState:
    """The whole state, a pytree of arrays; on disk it is the dict of these four.

    Attributes:
        step: updates done.
        params: of the trainee.
        ema_params: their exponential moving average, what is published.
        opt_state: of the optimiser.
    """

    step: Int[Array, "..."]  # a scalar; replicas add a leading axis outside of pmap
    params: Any
    ema_params: Any
    opt_state: Any


def make_optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """Returns Adam behind global-norm clipping, with a warm-up and a cosine to zero.

    Args:
        config: `learning_rate`, `warmup`, `steps` and `clip` are read.

    Returns:
        The optax transformation.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup,
        decay_steps=max(config.steps, config.warmup + 1),
    )
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(schedule))


def init_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step.

    Args:
        params: initial parameters.
        optimizer: from `make_optimizer`.

    Returns:
        Step 0; the average starts at the parameters.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),  # the step donates both
        opt_state=optimizer.init(params),
    )
