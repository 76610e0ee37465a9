"""What a training run carries from step to step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from emoconv_jax.config import TrainingConfig


@struct.dataclass
class TrainState:
    """The whole state, a pytree of arrays; on disk it is the dict of these four.

    Attributes:
        step: updates done.
        params: of the trainee.
        ema_params: their exponential moving average, what is published.
        opt_state: of the optimiser.
    """

    step: Any  # an int32 scalar; in trees of shardings and of shapes what stands for it
    params: Any
    ema_params: Any
    opt_state: Any


def schedule_of(config: TrainingConfig) -> optax.Schedule:
    """Returns the learning rate of each step: a warm-up, then a cosine to zero.

    Args:
        config: `learning_rate`, `warmup` and `steps` are read.

    Returns:
        Function of the updates done before the step.
    """
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup,
        decay_steps=max(config.steps, config.warmup + 1),
    )


def make_optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """Returns Adam, or AdamW, behind global-norm clipping, at the rates of `schedule_of`.

    Args:
        config: of the run.

    Returns:
        The optax transformation.
    """
    rate = schedule_of(config)
    adam = optax.adam(rate, b2=config.b2)
    if config.weight_decay:  # apart, so that a run without keeps the state that it was saved with
        adam = optax.adamw(rate, b2=config.b2, weight_decay=config.weight_decay, mask=_matrices)
    return optax.chain(optax.clip_by_global_norm(config.clip), adam)


def _matrices(params: Any) -> Any:
    """Returns which parameters decay: not biases, and not the scales of normalisations."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


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
