"""Sampling a batch of utterances under an emotion plan, as one compiled function.

The network is bound to its conditions here, so that everything in `diffusion` sees only
`score_of(xt, t, active)`. The active conditions of a segment are evaluated in one network call, as
extra rows of the batch. Weights, embeddings and seeds are traced; shapes, solver and segments are
static.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.diffusion import heads, solvers
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.errors import UsageError
from emoconv_jax.models.products import compute_type
from emoconv_jax.models.prosody_inputs import CHANNELS
from emoconv_jax.models.score_networks import score_network_of
from emoconv_jax.shapes import Array, Float, Int, Key

DATA = "data"  # axis of the mesh that batches are divided along

Segments = tuple[tuple[int, int, tuple[int, ...]], ...]


class Sampler:
    """The compiled reverse process of a bundle's score network.

    Attributes:
        sde: the forward process.
        devices: that a batch is divided over.
    """

    def __init__(
        self,
        config: BundleConfig,
        variables: Any,
        *,
        compute: str = "float32",
        devices: Sequence[jax.Device] | None = None,
    ):
        """Takes the score network of a bundle.

        Args:
            config: of the bundle.
            variables: of the network.
            compute: "float32", "bfloat16" for what the network computes inside, or "auto", the
                faster one here; the state, the scores and the steps stay float32.
            devices: that a batch is divided over; None is the first CPU, or all accelerators of
                this process.
        """
        self.sde = MeanRevertingSDE(config.diffusion.beta_0, config.diffusion.beta_1)
        self.head = config.score_network.head
        network = config.score_network
        self.network: Any = score_network_of(network, compute_type(compute, network.kind))
        if devices is None:
            devices = jax.local_devices()
            devices = devices[:1] if devices[0].platform == "cpu" else devices
        self.devices = tuple(devices)
        self.mesh = Mesh(np.array(self.devices), (DATA,))
        self.variables = self._placed(variables)
        static = ("solver", "segments", "latent", "start", "spacing", "on_step")
        # the first state takes the place of the source's mel, which nobody else has
        self._sample: Any = jax.jit(self._run, static_argnames=static, donate_argnames="x_source")

    @property
    def compilations(self) -> int:
        """How many programs have been compiled: one for each shape, solver and pattern."""
        return self._sample._cache_size()

    def __call__(
        self,
        x_source: Float[Any, "b f m"],
        average_voice: Float[Any, "b f m"],
        mask: Float[Any, "b f"],
        speaker: Float[Any, "b d"],
        emotions: Float[Any, "k e"] | Float[Any, "k b e"],
        own_emotion: Float[Any, "b e"],
        weights: Float[Any, "s k"] | Float[Any, "s k f"] | Float[Any, "s k b f"],
        keys: Key[Array, " b"],
        first_frame: Int[Any, " b"] | None = None,
        prosody: Float[Any, "b f 3"] | None = None,
        own_prosody: Float[Any, "b f 3"] | None = None,
        present: Float[Any, "b 3"] | None = None,
        *,
        solver: str,
        segments: Segments,
        latent: str = "noise",
        latent_noise: float = 0.0,
        start: float = 1.0,
        spacing: str = "uniform_t",
        on_step: Callable[[Any], None] | None = None,
    ) -> Float[Array, "b f m"]:
        """Draws the target log-mel of each utterance.

        Args:
            x_source: log-mel of the source, for the first state and for a reference block.
            average_voice: Y.
            mask: 1 on real frames.
            speaker: d-vectors.
            emotions: embedding of each condition of the plan, the same for every utterance or not.
            own_emotion: embeddings of the sources, for an inversion.
            weights: of the plan; over frames where the emotion changes within the utterances, and
                for each of these where they are at different places of a file.
            keys: one per utterance.
            first_frame: number of each utterance's first frame in its file; None is 0.
            prosody: as stored, that the target is to have; None leaves it to the network.
            own_prosody: of the sources, for an inversion; None is `prosody`.
            present: 1.0 where a channel of both is given; None is all of them.
            solver: a key of `diffusion.solvers.SOLVERS`.
            segments: of the plan.
            latent: what the reverse process sets out from, "noise" or the "source" inverted.
            latent_noise: share of the variance of an inverted source that is drawn anew, 0 to 1.
            start: diffusion time of that state, `config.LEAST_START` to 1.
            spacing: of the steps' times, of `diffusion.grids.SPACINGS`.
            on_step: called with the step's number as each one ends.

        Returns:
            The log-mel, Y's length.

        Raises:
            UsageError: the devices do not divide the batch.
        """
        batch = len(mask)
        if batch % len(self.devices):
            raise UsageError(
                f"batch: found {batch}, allowed are multiples of {len(self.devices)} devices"
            )
        first = np.zeros(batch, np.int32) if first_frame is None else first_frame
        emotions = emotions if np.ndim(emotions) == 3 else np.stack([emotions] * batch, axis=1)
        weights_axis = 2 if np.ndim(weights) == 4 else None
        return self._sample(
            self.variables,
            self._placed(np.array(x_source), 0),  # a copy: what the caller has stays
            *(self._placed(a, 0) for a in (average_voice, mask, speaker)),
            self._placed(emotions, 1),
            self._placed(own_emotion, 0),
            self._placed(weights, weights_axis),
            self._placed(keys, 0),
            self._placed(first, 0),
            self._told(prosody, present, batch),
            self._told(prosody if own_prosody is None else own_prosody, present, batch),
            solver=solver,
            segments=segments,
            latent_noise=jnp.float32(latent_noise),
            latent=latent,
            start=start,
            spacing=spacing,
            on_step=on_step,
        )

    def _told(self, prosody: Any, present: Any, batch: int) -> dict[str, Any]:
        """Returns what the network is told of the target's prosody, on the devices."""
        if prosody is None or not self.network.config.prosody:
            return {}
        given = np.ones((batch, CHANNELS), np.float32) if present is None else present
        return {"prosody": self._placed(prosody, 0), "present": self._placed(given, 0)}

    def _placed(self, tree: Any, axis: int | None = None) -> Any:
        """Returns arrays on the devices, divided along an axis or, without one, copied to each."""
        spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, DATA)
        return jax.device_put(tree, NamedSharding(self.mesh, spec))

    def _run(
        self,
        variables,
        x_source,
        average_voice,
        mask,
        speaker,
        emotions,
        own_emotion,
        weights,
        keys,
        first_frame,
        told,
        own_told,
        *,
        latent_noise,
        solver,
        segments,
        latent,
        start,
        spacing,
        on_step,
    ) -> Array:
        fixed = (variables, x_source, average_voice, mask, speaker)
        grid = solvers.time_grid(weights.shape[0], start, spacing, self.sde)
        pairs = jax.vmap(jax.random.split)(keys)
        if latent == "source":
            own = functools.partial(self._scores, *fixed, own_told, lambda _: own_emotion)
            x_start = solvers.invert(
                self.sde, own, x_source, average_voice, mask, grid, solver, on_step
            )
            x_start = solvers.renewed(
                self.sde, x_start, x_source, average_voice, pairs[:, 0], latent_noise, start,
                first_frame,
            )  # fmt: skip
        else:
            x_start = solvers.start_state(
                self.sde, x_source, average_voice, pairs[:, 0], start, first_frame
            )
        batch, width = emotions.shape[1:]
        plan = functools.partial(
            self._scores,
            *fixed,
            told,
            lambda active: emotions[jnp.array(active)].reshape(len(active) * batch, width),
        )
        return solvers.sample(
            solver,
            self.sde,
            plan,
            segments,
            weights,
            x_start,
            average_voice,
            mask,
            pairs[:, 1],
            grid=grid,
            on_step=on_step,
            first_frame=first_frame,
        )

    def _scores(
        self,
        variables,
        x_source,
        average_voice,
        mask,
        speaker,
        told,
        emotion_rows,
        xt,
        t,
        active: tuple[int, ...],
    ) -> Float[Array, "k b f m"]:
        """Returns the score under each active condition, from one network call."""
        count, batch = len(active), xt.shape[0]
        reference = ()
        if self.network.config.reference_block:
            mean, _ = self.sde.marginal(x_source, average_voice, jnp.broadcast_to(t, (batch,)))
            reference = mean * mask[..., None], mask

        def rows(array: Array) -> Array:
            return jnp.tile(array, (count,) + (1,) * (array.ndim - 1))

        t_rows = rows(jnp.broadcast_to(t, (batch,)))
        xt_rows, voice_rows = rows(xt), rows(average_voice)
        output = self.network.apply(
            variables,
            xt_rows,
            voice_rows,
            rows(mask),
            t_rows,
            rows(speaker),
            emotion_rows(active),
            *map(rows, reference),
            **jax.tree.map(rows, told),
        )
        score = heads.score_from_output(self.head, self.sde, output, xt_rows, voice_rows, t_rows)
        return score.reshape(count, batch, *xt.shape[1:])
