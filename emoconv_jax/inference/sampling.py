"""Sampling a batch of utterances under an emotion plan, as one compiled function.

The network is bound to its conditions here, so that everything in `diffusion` sees only
`score_of(xt, t, active)`. The active conditions of a segment are evaluated in one network call, as
extra rows of the batch. Weights, embeddings and seeds are traced; shapes, solver and segments are
static.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.bundles.parts import network_of
from emoconv_jax.diffusion import heads, solvers
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.shapes import Array, Float, Key

Segments = tuple[tuple[int, int, tuple[int, ...]], ...]


class Sampler:
    """The compiled reverse process of a bundle's score network.

    Attributes:
        sde: the forward process.
    """

    def __init__(self, config: BundleConfig, variables: Any):
        """Args: config: of the bundle. variables: of the score network."""
        self.sde = MeanRevertingSDE(config.diffusion.beta_0, config.diffusion.beta_1)
        self.head = config.score_network.head
        self.network: Any = network_of("score_network", config)
        self.variables = variables
        static = ("solver", "segments", "latent", "start", "on_step")
        self._sample = jax.jit(self._run, static_argnames=static)

    def __call__(
        self,
        x_source: Float[Any, "b f m"],
        average_voice: Float[Any, "b f m"],
        mask: Float[Any, "b f"],
        speaker: Float[Any, "b d"],
        emotions: Float[Any, "k e"],
        own_emotion: Float[Any, "b e"],
        weights: Float[Any, "s k"] | Float[Any, "s k f"],
        keys: Key[Array, " b"],
        *,
        solver: str,
        segments: Segments,
        latent: str = "noise",
        start: float = 1.0,
        on_step: Callable[[Any], None] | None = None,
    ) -> Float[Array, "b f m"]:
        """Draws the target log-mel of each utterance.

        Args:
            x_source: log-mel of the source. The first state reads it, and a reference block, which
                has the voice from it: the same at every time as the original's reference is, the
                mean of (3) of `diffusion.sde`.
            average_voice: Y.
            mask: 1 on real frames.
            speaker: d-vectors.
            emotions: embedding of each condition of the plan.
            own_emotion: embeddings of the sources, which an inversion runs under.
            weights: of the plan.
            keys: one per utterance.
            solver: a key of `diffusion.solvers.SOLVERS`.
            segments: of the plan.
            latent: what the reverse process sets out from, "noise" or the "source" inverted.
            start: diffusion time of that state, `solvers.LEAST_START` to 1.
            on_step: called with the step's number as each one ends.

        Returns:
            The log-mel, Y's length.
        """
        return self._sample(
            self.variables,
            x_source,
            average_voice,
            mask,
            speaker,
            emotions,
            own_emotion,
            weights,
            keys,
            solver=solver,
            segments=segments,
            latent=latent,
            start=start,
            on_step=on_step,
        )

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
        *,
        solver,
        segments,
        latent,
        start,
        on_step,
    ) -> Array:
        fixed = (variables, x_source, average_voice, mask, speaker)
        grid = solvers.time_grid(weights.shape[0], start)
        pairs = jax.vmap(jax.random.split)(keys)
        if latent == "source":
            own = functools.partial(self._scores, *fixed, lambda _: own_emotion)
            x_start = solvers.invert(
                self.sde, own, x_source, average_voice, mask, grid, on_step=on_step
            )
        else:
            x_start = solvers.start_state(self.sde, x_source, average_voice, pairs[:, 0], start)
        batch = x_source.shape[0]
        plan = functools.partial(
            self._scores,
            *fixed,
            lambda active: jnp.repeat(emotions[jnp.array(active)], batch, axis=0),
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
        )

    def _scores(
        self,
        variables,
        x_source,
        average_voice,
        mask,
        speaker,
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

        t_rows = jnp.broadcast_to(t, (count * batch,))
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
        )
        score = heads.score_from_output(self.head, self.sde, output, xt_rows, voice_rows, t_rows)
        return score.reshape(count, batch, *xt.shape[1:])
