"""What to convert to: the request of a user, and what it means with a bundle."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from emoconv_jax.bundles.banks import NULL, Banks
from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW, LATENTS, DiffusionConfig
from emoconv_jax.diffusion import plan as plans
from emoconv_jax.diffusion.solvers import DETERMINISTIC, SOLVERS, time_grid
from emoconv_jax.errors import UsageError
from emoconv_jax.shapes import Float

DEFAULT_STEPS = 30  # DiffVC's ML-30, its best MOS
MOST_STEPS = 1000
SEEDS = 2**32
STRONGEST = 0.8  # above it the base emotion vanishes (EmoMix, section 2.2)
AROUSAL_PREFIX = "arousal "


@dataclasses.dataclass(frozen=True)
class Request:
    """What to convert to. Give `arousal`, or `mix` with or without `base` and `strength`.

    Attributes:
        arousal: 1 (calm) to 7 (excited), any real number.
        mix: emotion -> weight; non-negative, normalised to sum to one.
        base: the emotion that the early steps follow (EmoMix).
        strength: share of the mix against the base in the middle steps, 0..1.
        solver: of `diffusion.solvers`; None is "maximum_likelihood" from noise, "ddim" from the
            source.
        steps: of the solver.
        guidance: w of s_null + w (s - s_null); 1 is no guidance. None is the bundle's own.
        latent: what the conversion sets out from: "noise" draws the voice and melody anew, "source"
            inverts the source and keeps them, which takes one more run. None is the bundle's own.
        start: diffusion time at which it sets out, 0.001 to 1: the lower, the more of the source
            stays. None is the bundle's own.
        seed: of start state and solver noise.
    """

    arousal: float | int | None = None
    mix: Mapping[str, float | int] | None = None
    base: str | None = None
    strength: float | int | None = None
    solver: str | None = None
    steps: int = DEFAULT_STEPS
    guidance: float | int | None = None
    latent: str | None = None
    start: float | int | None = None
    seed: int = 0

    def plan(self) -> plans.EmotionPlan:
        """Returns the emotion plan of the request.

        Raises:
            UsageError: fields that contradict each other or are out of range, by name.
        """
        if self.solver is not None and self.solver not in SOLVERS:
            raise UsageError(f"solver: found {self.solver!r}, allowed are {', '.join(SOLVERS)}")
        if self.latent is not None and self.latent not in LATENTS:
            raise UsageError(f"latent: found {self.latent!r}, allowed are {', '.join(LATENTS)}")
        if not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"steps: found {self.steps}, allowed is 1..{MOST_STEPS}")
        if self.start is not None:
            time_grid(1, float(self.start))
        if (self.arousal is None) == (self.mix is None):
            raise UsageError("give arousal or mix, one of the two")
        if not 0 <= self.seed < SEEDS:
            raise UsageError(f"seed: found {self.seed}, allowed is 0..{SEEDS - 1}")
        if self.arousal is not None and not AROUSAL_LOW <= self.arousal <= AROUSAL_HIGH:
            raise UsageError(
                f"arousal: found {self.arousal}, allowed is {AROUSAL_LOW:g}..{AROUSAL_HIGH:g}"
            )
        if self.arousal is not None and (self.base is not None or self.strength is not None):
            raise UsageError("base and strength belong to a mix, not to an arousal")
        if self.strength is not None and self.base is None:
            raise UsageError("strength: needs a base emotion to be the strength against")
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise UsageError(f"strength: found {self.strength}, allowed is 0..1")
        if self.latent == "source" and self.solver not in (None, *DETERMINISTIC):
            raise UsageError(
                f"solver: found {self.solver!r}, which draws noise; from the source allowed are "
                f"{', '.join(DETERMINISTIC)}"
            )
        chosen = self._unguided()
        if self.guidance is None or self.guidance == 1:
            return chosen
        return plans.guided(chosen, NULL, self.guidance)

    def filled(self, diffusion: DiffusionConfig) -> "Request":
        """Returns the request with a bundle's own way to set out where it names none.

        Args:
            diffusion: of the bundle.
        """
        latent = self.latent or diffusion.latent
        return dataclasses.replace(
            self,
            arousal=None if self.arousal is None else float(self.arousal),
            solver=self.solver or ("ddim" if latent == "source" else "maximum_likelihood"),
            latent=latent,
            start=float(diffusion.start if self.start is None else self.start),
            guidance=float(diffusion.guidance if self.guidance is None else self.guidance),
        )

    @property
    def evaluations(self) -> int:
        """How many steps the filled request takes: an inversion takes as many as the way back."""
        return self.steps * (2 if self.latent == "source" else 1)

    def _unguided(self) -> plans.EmotionPlan:
        if self.arousal is not None:
            return plans.single(f"{AROUSAL_PREFIX}{self.arousal:g}", self.steps)
        assert self.mix is not None
        if self.base is None:
            return plans.mix(dict(self.mix), self.steps)
        strength = 0.5 if self.strength is None else self.strength
        return plans.emomix(self.base, dict(self.mix), strength, self.steps)

    def notes(self) -> list[str]:
        """Returns what a user should be told of the request before it runs."""
        found = []
        if self.mix is not None and sum(self.mix.values()) > 0:
            total = sum(self.mix.values())
            if abs(total - 1) > 1e-6:
                shares = ", ".join(f"{n} {w / total:.3g}" for n, w in self.mix.items())
                found.append(f"mix weights sum to {total:g}; normalised to {shares}")
        if self.strength is not None and self.strength > STRONGEST:
            found.append(f"strength {self.strength:g} is above {STRONGEST}: the base may vanish")
        return found


def resolve(
    request: Request, config: BundleConfig, banks: Banks
) -> tuple[Request, plans.EmotionPlan, Float[np.ndarray, "k e"]]:
    """Returns what a request means with a bundle.

    Args:
        request: what to convert to.
        config: of the bundle.
        banks: of the bundle.

    Returns:
        The request with nothing left open, its plan, and the plan's conditions as embeddings.

    Raises:
        UsageError: a field that makes no sense, or an emotion the bundle does not know.
    """
    request.plan()  # before a foreign default is mixed in, so that a message names what was asked
    request = request.filled(config.diffusion)
    plan = request.plan()
    vectors = [
        banks.arousal(float(request.arousal))
        if request.arousal is not None and name.startswith(AROUSAL_PREFIX)
        else banks.emotion(name)
        for name in plan.names
    ]
    return request, plan, np.stack(vectors)
