"""How a step is spread over devices: the one place that knows of meshes and replicas.

    jit     one program for a mesh of all devices with the axis "data"; the compiler divides it. The
            state is copied to every device or, with `shard_state`, divided among them
    pmap    one program per device, each with its share of the batch, which adds up sums, counts and
            gradients itself

Both run the same functions of `training.step` and give the same update. The devices may belong to
many processes: each gives its own examples, and the state is one global array to all of them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.experimental.multihost_utils import host_local_array_to_global_array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from emoconv_jax.config import TrainingConfig
from emoconv_jax.errors import UsageError
from emoconv_jax.pipeline.batches import Batch
from emoconv_jax.shapes import Array, Key
from emoconv_jax.training.state import TrainState, init_state
from emoconv_jax.training.step import evaluate_step, identity, train_step
from emoconv_jax.training.trainees import Terms, Trainee

AXIS = "data"
VALIDATION_BATCHES = 4
BACKWARD = 3  # a step by its forward pass: each product has two derivatives, of the same size
# On CPU, XLA otherwise takes barriers away before it looks for what is computed twice, and keeps
# what the backward pass would have computed again: at width 256 half of a step's temporaries.
CPU_OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
Metrics = dict[str, Array]


class Keys(NamedTuple):
    """The random keys of a run.

    Attributes:
        init: draws initial parameters.
        step: of all training steps.
        watch: of each batch of a validation, the same whenever it comes.
    """

    init: Key[Array, ""]
    step: Key[Array, ""]
    watch: tuple[Key[Array, ""], ...]


class Parallel:
    """The compiled functions of a run on its devices, and where their arguments lie.

    Attributes:
        devices: all of the run, those of other processes too.
        state_shardings: of a `TrainState`, one per leaf.
    """

    def __init__(
        self,
        config: TrainingConfig,
        trainee: Trainee,
        optimizer: optax.GradientTransformation,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Prepares the functions; they are compiled at their first call.

        Args:
            config: `batch`, `accumulate`, `ema`, `parallel` and `shard_state` are read.
            trainee: the network with its loss.
            optimizer: of the run.
            devices: what to run on; None is all there are.

        Raises:
            UsageError: a batch that cannot be divided evenly.
        """
        self.devices = list(jax.devices() if devices is None else devices)
        count = len(self.devices)
        if config.batch % (count * config.accumulate):
            raise UsageError(
                f"batch: found {config.batch}, expected a multiple of {count * config.accumulate} "
                f"({count} devices x accumulate {config.accumulate})"
            )
        self.trainee, self.optimizer = trainee, optimizer
        self._pmapped = config.parallel == "pmap"
        on_cpu = self.devices[0].platform == "cpu"
        self._compiler = CPU_OPTIONS if on_cpu else {}
        # in this order a process's devices follow each other, as its examples do
        self._mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._examples = NamedSharding(self._mesh, PartitionSpec(AXIS))
        self._copied = NamedSharding(self._mesh, PartitionSpec())
        self.state_shardings = self._place_state(config.shard_state)
        step = functools.partial(
            train_step,
            trainee=trainee,
            optimizer=optimizer,
            ema=config.ema,
            accumulate=config.accumulate,
        )
        evaluate = functools.partial(evaluate_step, trainee=trainee)
        self._copy = jax.jit(identity, out_shardings=self._copied)
        wrap = self._pmap if self._pmapped else self._jit
        self._step = wrap(step, self.state_shardings, (self.state_shardings, self._copied), (0,))
        self._evaluate = wrap(evaluate, self.state_shardings.ema_params, self._copied, ())

    def keys(self, seed: int) -> Keys:
        """Returns the keys of a run, on all devices.

        Args:
            seed: of the run.

        Returns:
            The keys.
        """

        def make() -> Keys:
            init, step, watch = jax.random.split(jax.random.key(seed), 3)
            return Keys(init, step, tuple(jax.random.split(watch, VALIDATION_BATCHES)))

        return jax.jit(make, out_shardings=self._copied)()

    def init(self, key: Key[Array, ""], initial: Any | None = None) -> TrainState:
        """Returns the state before the first step, where it belongs.

        Args:
            key: draws the parameters.
            initial: parameters to begin with instead.

        Returns:
            The state.
        """

        def make(key: Key[Array, ""], params: Any | None) -> TrainState:
            return init_state(self.trainee.init(key) if params is None else params, self.optimizer)

        return jax.jit(make, out_shardings=self.state_shardings)(key, initial)

    def abstract_state(self) -> TrainState:
        """Returns the state's shapes, types and places, which a checkpoint is restored to."""
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            self._state_shapes,
            self.state_shardings,
        )

    def put(self, batch: Batch) -> Batch:
        """Returns a batch on the devices.

        Args:
            batch: this process's examples.

        Returns:
            The same, as `step` and `evaluate` take it.
        """
        if self._pmapped:
            here = sum(d.process_index == jax.process_index() for d in self.devices)
            batch = jax.tree.map(lambda x: x.reshape(here, -1, *x.shape[1:]), batch)
        return jax.make_array_from_process_local_data(self._examples, batch)

    def step(
        self, state: TrainState, batch: Batch, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        """Does one update; the given state is used up.

        Args:
            state: before the step.
            batch: from `put`.
            key: of the run.

        Returns:
            The state after it and the metrics of `train_step`.
        """
        return self._step(state, batch, key)

    def evaluate(self, params: Any, batch: Batch, key: Key[Array, ""]) -> Terms:
        """Returns the terms of a batch over all devices.

        Args:
            params: usually the state's averaged ones.
            batch: from `put`.
            key: as for `evaluate_step`.

        Returns:
            name -> (sum, count).
        """
        return self._evaluate(params, batch, key)

    def flops_per_step(self, batch: Batch) -> float | None:
        """Returns the arithmetic of a step: three times that of the loss on the whole batch.

        What is computed again to save memory is not counted.

        Args:
            batch: this process's examples.

        Returns:
            Floating-point operations on all devices together, as XLA counts them for a CPU, because
            it does not for other devices; None where JAX was told to keep off the CPU.
        """
        try:
            cpu = jax.local_devices(backend="cpu")[0]
        except RuntimeError:
            return None
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                (x.shape[0] * jax.process_count(), *x.shape[1:]), x.dtype
            ),
            batch,
        )
        forward = jax.jit(functools.partial(evaluate_step, trainee=self.trainee))
        with jax.default_device(cpu):
            lowered = forward.lower(self._state_shapes.params, shapes, jax.random.key(0))
        flops = (lowered.cost_analysis() or {}).get("flops")
        return BACKWARD * float(flops) if flops else None

    def globally(self, tree: Any) -> Any:
        """Returns arrays of the state as global ones, which a checkpoint is made of.

        Args:
            tree: any part of a state.

        Returns:
            The same arrays, to all processes; pmap gives each process its own.
        """
        if not self._pmapped or jax.process_count() == 1:
            return tree
        return host_local_array_to_global_array(tree, self._mesh, PartitionSpec())

    def whole(self, tree: Any) -> Any:
        """Returns arrays of the state as NumPy arrays; every process has to call it.

        Args:
            tree: any part of a state.

        Returns:
            The same tree on the host.
        """
        return jax.tree.map(np.asarray, self._copy(self.globally(tree)))

    def _jit(self, function: Callable, states: Any, results: Any, donated: tuple) -> Callable:
        places = (states, self._examples, self._copied)
        return jax.jit(
            function,
            in_shardings=places,
            out_shardings=results,
            donate_argnums=donated,
            compiler_options=self._compiler,
        )

    def _pmap(self, function: Callable, states: Any, results: Any, donated: tuple) -> Callable:
        del states, results  # whole on every device
        return jax.pmap(
            functools.partial(function, reduce=lambda tree: jax.lax.psum(tree, AXIS)),
            axis_name=AXIS,
            in_axes=(None, 0, None),
            out_axes=None,
            donate_argnums=donated,
            devices=self.devices,
        )

    @functools.cached_property
    def _state_shapes(self) -> TrainState:
        return jax.eval_shape(
            lambda key: init_state(self.trainee.init(key), self.optimizer), jax.random.key(0)
        )

    def _place_state(self, divided: bool) -> Any:
        """Returns each leaf's sharding: divided along its longest even axis, if any, or copied."""
        count = len(self.devices)

        def place(leaf: jax.ShapeDtypeStruct) -> NamedSharding:
            even = [axis for axis, size in enumerate(leaf.shape) if size % count == 0]
            if not divided or not even:
                return self._copied
            longest = max(even, key=lambda axis: leaf.shape[axis])
            return NamedSharding(self._mesh, PartitionSpec(*[None] * longest, AXIS))

        return jax.tree.map(place, self._state_shapes)
