"""Solver steps on a few utterances, compiled once per algorithm, whatever grid they are on.

`diffusion.solvers.sample` compiles a whole run, which is right where one run is repeated; here
hundreds of runs differ in steps and spacing. The steps and coefficients are the same
(`diffusion.algorithms`), the loop is in Python.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.audio.reading import conform
from emoconv_jax.diffusion.grids import Grid, time_grid
from emoconv_jax.diffusion.noise import frame_noise
from emoconv_jax.diffusion.solvers import INVERSION_START, SOLVERS, mixed, start_state
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.inference.encoders import log_floor, pad
from emoconv_jax.inference.lengths import bucket
from emoconv_jax.inference.request import Request
from emoconv_jax.inference.resolved import resolve
from emoconv_jax.pipeline.sources import read_row, rows_of
from emoconv_jax.shapes import Array, Float, Key

SHORTEST_S = 1.0  # of an utterance worth converting

NoiseAt = Callable[[int], Array]
"""Number of a step to its noise, `b f m`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Speech:
    """An utterance to convert.

    Attributes:
        name: of it.
        text: what is said; empty where not known.
        audio: at the bundle's sample rate.
    """

    name: str
    text: str
    audio: Float[np.ndarray, " n"]


def speech_of(
    source: str, count: int, longest_s: float | int, sample_rate_hz: int, seed: int = 0
) -> list[Speech]:
    """Returns utterances of a corpus, of different speakers as far as there are any.

    Args:
        source: what `prepare` reads.
        count: of utterances.
        longest_s: seconds that one may have.
        sample_rate_hz: wanted.
        seed: of the choice.

    Returns:
        English utterances with a text if there are any such, else any; at most `count`.

    Raises:
        EmoconvError: the corpus cannot be read, or none is so short.
    """
    rows = list(enumerate(rows_of(source)))
    told = [(i, row) for i, row in rows if row.text and row.language in ("", "en")]
    drawn = np.random.default_rng(seed).permutation(len(told or rows))
    order = [(told or rows)[place] for place in drawn]
    found: list[Speech] = []
    taken: set[str] = set()
    for again in (False, True):
        for number, row in order:
            name = f"{row.corpus}/{row.path}"
            fresh = row.speaker not in taken or (again and name not in {s.name for s in found})
            if len(found) == count or not fresh:
                continue
            try:
                audio, rate_hz = read_row(source, number, row, longest_s)
                audio = conform(audio, rate_hz, sample_rate_hz)
            except EmoconvError:  # longer, or damaged
                continue
            if len(audio) >= SHORTEST_S * sample_rate_hz:
                found.append(Speech(name, row.text if told else "", audio))
                taken.add(row.speaker)
    if not found:
        raise EmoconvError(f"{source}: no utterance of {SHORTEST_S:g} to {longest_s:g} s")
    return found


class Walk:
    """Runs of solvers on a batch of utterances.

    Attributes:
        mel: log-mels of the sources, padded.
        mask: 1.0 on real frames.
        frames: of each.
        start: diffusion time that runs set out from.
        guidance: of the request.
        conditions: that every step evaluates.
    """

    def __init__(
        self,
        converter: EmotionConverter,
        speech: Sequence[Speech],
        request: Request,
        on_evaluations: Callable[[int], Any] = lambda _: None,
    ):
        """Encodes the utterances.

        Args:
            converter: of the bundle.
            speech: one or more.
            request: whose weights are the same on all steps; its solver, steps and spacing are not
                read.
            on_evaluations: called with the number of network evaluations, per utterance, of every
                finished step.
        """
        config, rate_hz = converter.config, converter.config.mel.sample_rate_hz
        mels = [log_mel(one.audio, config.mel) for one in speech]
        spoken = zip(mels, speech, strict=True)
        voices = [converter.average_voice(mel, one.audio) for mel, one in spoken]
        self.frames = [len(mel) for mel in mels]
        size = bucket(max(self.frames))
        padded = [pad(mel, log_floor(config), size) for mel in mels]
        self.mel = np.concatenate([mel for mel, _ in padded])
        self.mask = np.concatenate([mask for _, mask in padded])
        self.voice = np.concatenate([pad(voice, 0.0, size)[0] for voice in voices])
        self.speaker = np.stack([converter.speaker(one.audio, rate_hz) for one in speech])
        heard = [converter.emotion.hear(one.audio, rate_hz).embedding for one in speech]
        self.own = np.stack(heard)
        resolved = resolve(request, config, converter.banks)
        assert resolved.request.start and resolved.request.guidance is not None  # filled
        self.start, self.guidance = float(resolved.request.start), resolved.request.guidance
        self.weights = resolved.plan().weights[0]
        self.emotions = resolved.embeddings(self.own)
        self.conditions = len(self.weights)
        self.sampler, self._on_evaluations = converter.sampler, on_evaluations
        # where JAX likes: a state that came from elsewhere than the weights is compiled for anew
        self._variables = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), self.sampler.variables)
        self._step: Any = jax.jit(self._run_step, static_argnames="step")
        self._noise: Any = jax.jit(frame_noise, static_argnums=2)

    def grid(self, steps: int, spacing: str) -> Grid:
        """Returns the times of a run.

        Args:
            steps: of it.
            spacing: of the times.
        """
        return time_grid(steps, self.start, spacing, self.sampler.sde)

    def from_noise(self, seed: int) -> tuple[Float[Array, "b f m"], NoiseAt]:
        """Returns a state drawn anew, and the noise of the steps that follow.

        Args:
            seed: of both, which differ from one utterance to the next.

        Returns:
            The state at `start`, and a function of the step's number.
        """
        keys = jax.random.split(jax.random.key(seed), len(self.mel))
        pairs = jax.vmap(jax.random.split)(keys)
        mel, voice = jnp.asarray(self.mel), jnp.asarray(self.voice)
        state = start_state(self.sampler.sde, mel, voice, pairs[:, 0], self.start)
        return state, self.noise_of(pairs[:, 1])

    def noise_of(self, keys: Key[Array, " b"]) -> NoiseAt:
        """Returns the noise that the converter's sampler draws.

        Args:
            keys: one per utterance.
        """
        shape = self.mel.shape[1:]
        return lambda step: self._noise(keys, step, shape)

    def inverted(self, grid: Grid, solver: str) -> Float[Array, "b f m"]:
        """Returns the sources' own state at the start of a grid, as `solvers.invert` does.

        Args:
            grid: falling times of the run that follows.
            solver: of both runs.
        """
        rising = grid[::-1].copy()
        rising[0] = min(INVERSION_START, rising[1] / 2)
        return self._walked(solver, rising, jnp.asarray(self.mel), self.own[None], np.ones(1), None)

    def __call__(
        self,
        solver: str,
        grid: Grid,
        state: Float[Array, "b f m"],
        noise: NoiseAt | None = None,
    ) -> Float[np.ndarray, "b f m"]:
        """Runs a solver.

        Args:
            solver: of SOLVERS.
            grid: falling times.
            state: at the first of them.
            noise: of each step, where the solver draws any.

        Returns:
            The log-mels; zero on padding.
        """
        found = self._walked(solver, grid, state, self.emotions, self.weights, noise)
        return np.asarray(found)

    def _walked(
        self,
        solver: str,
        grid: Grid,
        state: Array,
        emotions: np.ndarray,
        weights: np.ndarray,
        noise: NoiseAt | None,
    ) -> Array:
        algorithm, real = SOLVERS[solver], jnp.asarray(self.mask)[..., None]
        table = algorithm.coefficients(self.sampler.sde, grid)
        voice = real * self.voice
        u = real * state - voice
        memory = jnp.zeros_like(u) if algorithm.remembers else None
        for number in range(len(grid) - 1):
            drawn = None
            if algorithm.draws_noise:
                assert noise is not None
                drawn = real * noise(number)
            times = tuple(np.float32(t) for t in grid[number : number + 2])
            row = {name: np.float32(values[number]) for name, values in table.items()}
            u, memory = self._step(
                self._variables,
                jnp.asarray(emotions, jnp.float32),
                jnp.asarray(weights, jnp.float32),
                u,
                memory,
                times,
                row,
                drawn,
                step=algorithm.step,
            )
            asked = algorithm.scores_per_step if grid[number + 1] > 0 else 1
            u.block_until_ready()
            self._on_evaluations(asked * len(weights))
        return voice + u

    def _run_step(self, variables, emotions, weights, u, memory, times, row, noise, *, step):
        active = tuple(range(len(weights)))
        real = jnp.asarray(self.mask)[..., None]
        voice, batch = real * jnp.asarray(self.voice), len(self.mel)

        def rows(_: Any) -> Array:
            return emotions.reshape(len(active) * batch, -1)

        def score_at(residual: Array, t: Array) -> Array:
            scores = self.sampler._scores(  # the network as the sampler binds it
                variables,
                jnp.asarray(self.mel),
                voice,
                jnp.asarray(self.mask),
                jnp.asarray(self.speaker),
                {},  # of prosody
                rows,
                voice + residual,
                t,
                active,
            )
            return real * mixed(scores, weights)

        return step(u, memory, score_at, times, row, noise)
