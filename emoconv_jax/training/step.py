"""The train step: pure, the same for every trainee and every way of running in parallel.

A trainee's loss is a weighted sum of terms, each given as (sum, count). With S_i, C_i the local
sum and count of term i and R the reduction over devices (the identity on one),

    L = sum_i w_i S_i / R(C_i),        gradient = R( dL/dparams ),                              (1)

so that a masked mean is the global one whatever the devices hold. A mean per device, averaged,
would not be.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from emoconv_jax.pipeline.batches import Batch
from emoconv_jax.shapes import Array, Key
from emoconv_jax.training.state import TrainState
from emoconv_jax.training.trainees import Terms, Trainee

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
    accumulate: int = 1,
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
        accumulate: micro-batches that the batch is worked off in; divides this device's examples.
        reduce: sums a pytree over devices.

    Returns:
        The state after it, and metrics: the loss, each term's mean (NaN where nothing counted), and
        the norms of gradient, update and parameters.
    """

    def terms_of(params: Any, part: Batch) -> Terms:
        return trainee.terms(params, part, example_keys(key, state.step, jnp.asarray(part.index)))

    def counts_of(part: Batch) -> dict[str, Array]:
        # no count depends on the network, which is therefore not computed here
        return {name: count for name, (_, count) in terms_of(state.params, part).items()}

    counts = reduce(_added(counts_of, batch, accumulate))

    def gradient_of(part: Batch) -> tuple[dict[str, Array], Any]:
        def objective(params: Any) -> tuple[Array, dict[str, Array]]:
            sums = {name: value for name, (value, _) in terms_of(params, part).items()}
            return _loss(trainee.weights, sums, counts), sums

        (_, sums), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        return sums, gradient

    sums, gradient = reduce(_added(gradient_of, batch, accumulate))
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
    averaged = jax.tree.map(
        lambda old, new: old + (1 - decay) * (new - old), state.ema_params, params
    )
    metrics = {name: value / counts[name] for name, value in sums.items()}
    metrics["loss"] = _loss(trainee.weights, sums, counts)
    metrics["gradient_norm"] = optax.tree.norm(gradient)
    metrics["update_norm"] = optax.tree.norm(updates)
    metrics["parameter_norm"] = optax.tree.norm(params)
    return TrainState(state.step + 1, params, averaged, opt_state), metrics


def _loss(weights: Mapping[str, float], sums: dict[str, Array], counts: dict[str, Array]) -> Array:
    """Returns L of eq. (1)."""
    terms = [
        weight * sums[name] / jnp.maximum(counts[name], 1.0)
        for name, weight in weights.items()
        if name in sums  # the ablation without reconstruction has no such term
    ]
    return sum(terms[1:], terms[0])


def _added(function: Callable[[Batch], Any], batch: Batch, parts: int) -> Any:
    """Returns the sum of what a function gives for each of some equal parts of a batch.

    Part i takes every parts-th example from i on: so each part is spread over the devices as the
    batch is.
    """
    if parts == 1:
        return function(batch)
    split = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], split))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    return jax.lax.scan(add, zeros, split)[0]


def evaluate_step(
    params: Any,
    batch: Batch,
    key: Key[Array, ""],
    *,
    trainee: Trainee,
    reduce: Reduce = identity,
) -> dict[str, tuple[Array, Array]]:
    """Returns the trainee's terms on a batch, with nothing dropped or perturbed but the noise.

    Args:
        params: usually the averaged ones.
        batch: this device's validation examples.
        key: fixed, so that figures of different steps compare.
        trainee: the network with its loss.
        reduce: sums a pytree over devices.

    Returns:
        name -> (sum, count).
    """
    keys = example_keys(key, jnp.zeros((), jnp.int32), jnp.asarray(batch.index))
    return reduce(trainee.terms(params, batch, keys, training=False))
