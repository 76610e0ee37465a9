"""The train step: pure, the same for every trainee and every way of running in parallel.

A trainee's loss is a weighted sum of terms, each given as (sum, count). With S_i, C_i the local
sum and count of term i and R the reduction over devices (the identity on one),

    L = sum_i w_i S_i / R(C_i),        gradient = R( dL/dparams ),                              (1)

so that a masked mean is the global one whatever the devices hold. A mean per device, averaged,
would not be.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from emoconv_jax.pipeline.batches import Batch
from emoconv_jax.shapes import Array, Key
from emoconv_jax.training.state import TrainState
from emoconv_jax.training.trainees import Trainee

Reduce = Callable[[Any], Any]


def identity(tree: Any) -> Any:
    """Returns its argument: the reduction over one device, or under jit.

    Args:
        tree: any pytree.

    Returns:
        The same tree.
    """
    return tree


def example_keys(key: Key[Array, ""], step: Array, index: Array) -> Key[Array, " b"]:
    """Returns one key per global example, so that no draw depends on the number of devices.

    Args:
        key: of the run.
        step: the step's number.
        index: positions of the examples in the global batch.

    Returns:
        Typed keys [b].
    """
    step_key = jax.random.fold_in(key, step)
    return jax.vmap(lambda i: jax.random.fold_in(step_key, i))(index)


def train_step(
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    *,
    trainee: Trainee,
    optimizer: optax.GradientTransformation,
    ema: float,
    reduce: Reduce = identity,
) -> tuple[TrainState, dict[str, Array]]:
    """Does one update, eq. (1).

    Args:
        state: before the step.
        batch: this device's examples.
        key: of the run; the step's number is folded in here.
        trainee: the network with its loss.
        optimizer: as in `state.opt_state`.
        ema: decay of the averaged parameters; at most (1 + n) / (10 + n) at step n, so that the
            first steps do not linger.
        reduce: sums a pytree over devices.

    Returns:
        The state after it, and metrics: the loss, each term's mean and the gradient norm.
    """
    keys = example_keys(key, state.step, jnp.asarray(batch.index))

    def objective(params: Any) -> tuple[Array, dict[str, tuple[Array, Array]]]:
        terms = trainee.terms(params, batch, keys)
        total = jnp.zeros(())
        for name, (value, count) in terms.items():
            everyone = reduce(jax.lax.stop_gradient(count))
            total = total + trainee.weights.get(name, 1.0) * value / jnp.maximum(everyone, 1.0)
        return total, terms

    (loss, terms), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
    loss, terms, grads = reduce((loss, terms, grads))
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
    averaged = jax.tree.map(
        lambda old, new: old + (1 - decay) * (new - old), state.ema_params, params
    )
    metrics = {name: value / jnp.maximum(count, 1.0) for name, (value, count) in terms.items()}
    metrics |= {"loss": loss, "gradient_norm": optax.tree.norm(grads)}
    return TrainState(state.step + 1, params, averaged, opt_state), metrics


def evaluate_step(
    params: Any, batch: Batch, key: Key[Array, ""], *, trainee: Trainee
) -> dict[str, tuple[Array, Array]]:
    """Returns the trainee's terms on a batch, with nothing dropped or perturbed but the noise.

    Args:
        params: usually the averaged ones.
        batch: validation examples.
        key: fixed, so that figures of different steps compare.
        trainee: the network with its loss.

    Returns:
        name -> (sum, count).
    """
    keys = example_keys(key, jnp.zeros((), jnp.int32), jnp.asarray(batch.index))
    return trainee.terms(params, batch, keys, training=False)
