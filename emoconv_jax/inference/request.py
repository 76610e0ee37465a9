"""What to convert to: the request of a user, and what it means with a bundle.

The fields compose, in this order:

    (1)  the target: arousal, mix, curve, or the emotion of another recording
    (2)  base and strength: EmoMix's three phases from the base to the target
    (3)  intensity: so much of that, and neutral for the rest
    (4)  guidance: away from the negative

Prosody by rule follows (1) to (3), as the mean over the solver's steps; guidance is of the network
alone and moves nothing of it.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from emoconv_jax.bundles.banks import NULL, REFERENCE, arousal_name, condition_name
from emoconv_jax.config import LATENTS, DiffusionConfig
from emoconv_jax.diffusion import plan as plans
from emoconv_jax.diffusion.grids import SPACINGS, time_grid
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.diffusion.solvers import DETERMINISTIC, SOLVERS
from emoconv_jax.errors import UsageError
from emoconv_jax.inference.curve import Curve
from emoconv_jax.inference.fields import check_type, number_of, other_type, real, whole_of
from emoconv_jax.shapes import Float

# where a request leaves them open; docs/solvers.md says why
DEFAULT_SOLVERS = {"noise": "maximum_likelihood", "source": "dpmpp_2m"}
DEFAULT_STEPS, STEPS_OF = 30, {"dpmpp_2m": 10}
DEFAULT_SPACING, SPACING_OF = "uniform_t", {"dpmpp_2m": "log_snr"}
MOST_STEPS = 1000
SEEDS = 2**32
DEFAULT_STRENGTH = 0.5
STRONGEST = 0.8  # above it the base emotion vanishes (EmoMix, section 2.2)
NEUTRAL = "neutral"
USUAL_SDE = MeanRevertingSDE()
TARGETS = ("arousal", "mix", "curve")
NUMBERS = ("arousal", "strength", "intensity", "guidance", "latent_noise", "start", "prosody")
WHOLE = ("steps", "seed")
NAMES = ("base", "solver", "spacing", "latent", "rate")  # None leaves them open
RATES = ("keep", "follow")
SHARES = ("strength", "intensity", "latent_noise", "prosody")


@dataclasses.dataclass(frozen=True)
class Request:
    """What to convert to. Give `arousal`, `mix`, `curve` or `emotion_ref`.

    A condition is named by an emotion of the bundle, "arousal X", "null" (no emotion), "source"
    (what is heard in the source) or "reference" (what is heard in `emotion_ref`).

    Attributes:
        arousal: 1 (calm) to 7 (excited), any real number.
        mix: condition -> weight; non-negative, normalised to sum to one.
        emotion_ref: another recording, for its emotion. It is the target unless one of the
            others is; then they have to name "reference".
        curve: a target that changes within the utterance.
        base: the condition that the early steps follow (EmoMix).
        strength: share of the target against the base in the middle steps, 0..1; None is 0.5.
        intensity: share of all this against neutral on all steps, 0..1; None is 1.
        guidance: w of s_negative + w (s - s_negative); 1 is no guidance. None is the bundle's own.
        negative: the condition that guidance leads away from.
        solver: of `diffusion.solvers`; None is "maximum_likelihood" from noise, "dpmpp_2m" from the
            source.
        steps: of the solver; None is 10 of "dpmpp_2m", else 30.
        spacing: of the steps' times, "uniform_t" or "log_snr"; None is "log_snr" with "dpmpp_2m",
            else "uniform_t".
        latent: what the conversion sets out from: "noise" draws the voice and melody anew, "source"
            inverts the source and keeps them, which takes one more run. None is the bundle's own.
        latent_noise: share of the inverted source's variance that is drawn anew, 0..1: the more,
            the less of its old emotion stays, and of its voice. None is the bundle's own.
        start: diffusion time at which it sets out, 0.001 to 1: the lower, the more of the source
            stays. None is the bundle's own.
        seed: of start state and solver noise.
        prosody: how much of what the emotion does to pitch, energy and pace is asked of the network
            by rule, 0 (the source's melody stays) to 1; None is 1 where the bundle's score network
            takes prosody, and others refuse it.
        rate: "keep", as long as the source, or "follow", as fast as the emotion speaks; None is
            "keep".
    """

    arousal: float | int | None = None
    mix: Mapping[str, float | int] | None = None
    emotion_ref: str | os.PathLike[str] | None = None
    curve: Curve | None = None
    base: str | None = None
    strength: float | int | None = None
    intensity: float | int | None = None
    guidance: float | int | None = None
    negative: str = NULL
    solver: str | None = None
    steps: int | None = None
    spacing: str | None = None
    latent: str | None = None
    latent_noise: float | int | None = None
    start: float | int | None = None
    seed: int = 0
    prosody: float | int | None = None
    rate: str | None = None

    def __post_init__(self) -> None:
        """Refuses values of another type, and makes NumPy's numbers plain ones.

        Raises:
            UsageError: such a value, by field.
        """
        plain: dict[str, Any] = {}
        for field in NUMBERS:
            value = getattr(self, field)
            plain[field] = None if value is None else number_of(value, field)
        for field in WHOLE:
            value = getattr(self, field)
            plain[field] = None if value is None and field == "steps" else whole_of(value, field)
        if self.mix is not None:
            if not isinstance(self.mix, Mapping):
                raise other_type("mix", self.mix, "weights by condition")
            for name in self.mix:
                check_type(name, str, f"the key {name!r:.80} of mix", "the name of a condition")
            plain["mix"] = {name: number_of(w, f"mix.{name:.80}") for name, w in self.mix.items()}
        for field in NAMES:
            if getattr(self, field) is not None:
                check_type(getattr(self, field), str, field, "text")
        check_type(self.negative, str, "negative", "text")
        if self.emotion_ref is not None:
            check_type(self.emotion_ref, (str, os.PathLike), "emotion_ref", "a path")
        if self.curve is not None:
            check_type(self.curve, Curve, "curve", "a Curve")
        for field, value in plain.items():
            object.__setattr__(self, field, value)

    def plan(
        self,
        times_s: Float[np.ndarray, " f"] | None = None,
        sde: MeanRevertingSDE = USUAL_SDE,
    ) -> plans.EmotionPlan:
        """Returns the emotion plan of the request, guidance included.

        Args:
            times_s: middle of each frame of the utterance, which only a curve asks for; None is a
                sample of the curve's own rows.
            sde: of the bundle, which steps on log-SNR depend on.

        Raises:
            UsageError: fields that contradict each other or are out of range, by name.
        """
        self._check_run()
        self._check_target()
        return self._guided(self._composed(self._target(times_s), sde))

    def unguided(
        self,
        times_s: Float[np.ndarray, " f"] | None = None,
        sde: MeanRevertingSDE = USUAL_SDE,
    ) -> plans.EmotionPlan:
        """Returns the plan without guidance, which prosody by rule follows.

        Args:
            times_s: as of `plan`.
            sde: as of `plan`.
        """
        return self._composed(self._target(times_s), sde)

    def segments(self, sde: MeanRevertingSDE = USUAL_SDE) -> tuple[plans.Segment, ...]:
        """Returns the segments that every stretch of every utterance can be run under.

        Args:
            sde: as of `plan`.

        Raises:
            UsageError: as `plan`.
        """
        self.plan(sde=sde)
        target = self._target(None) if self.curve is None else self.curve.every(self._count)
        return self._guided(self._composed(target, sde)).segments()

    def filled(self, diffusion: DiffusionConfig, takes_prosody: bool = False) -> "Request":
        """Returns the request with a bundle's own way to set out where it names none.

        Args:
            diffusion: of the bundle.
            takes_prosody: whether its score network does; others leave that open.
        """
        latent = self.latent or diffusion.latent
        run = dataclasses.replace(self, solver=self.solver or DEFAULT_SOLVERS[latent])
        return dataclasses.replace(
            self,
            arousal=real(self.arousal),
            mix=None if self.mix is None else {n: float(w) for n, w in self.mix.items()},
            emotion_ref=None if self.emotion_ref is None else os.fspath(self.emotion_ref),
            strength=real(self.strength, None if self.base is None else DEFAULT_STRENGTH),
            intensity=real(self.intensity, 1.0),
            solver=run.solver,
            steps=run._count,
            spacing=run._spacing,
            latent=latent,
            latent_noise=real(self.latent_noise, diffusion.latent_noise),
            start=real(self.start, diffusion.start),
            guidance=real(self.guidance, diffusion.guidance),
            prosody=real(self.prosody, 1.0) if takes_prosody else None,
            rate=(self.rate or RATES[0]) if takes_prosody else None,
        )

    @property
    def evaluations(self) -> int:
        """How many steps the filled request takes: an inversion takes as many as the way back."""
        return self._count * (2 if self.latent == "source" else 1)

    @property
    def _count(self) -> int:
        """The number of steps, also of a request that leaves it open."""
        usual = STEPS_OF.get(self.solver or "", DEFAULT_STEPS)
        return usual if self.steps is None else self.steps

    @property
    def _spacing(self) -> str:
        """The spacing of the steps, also of a request that leaves it open."""
        return self.spacing or SPACING_OF.get(self.solver or "", DEFAULT_SPACING)

    def mentioned(self) -> Iterator[tuple[str, str]]:
        """Yields (field, condition) for every condition that a field names, in plans' form.

        Raises:
            UsageError: an arousal out of range.
        """
        listed = {
            "mix": self.mix or (),
            "curve": self.curve.names if self.curve and not self.curve.of_arousal else (),
            "base": () if self.base is None else (self.base,),
            "negative": (self.negative,),
        }
        for field, names in listed.items():
            yield from ((field, condition_name(name, field)) for name in names)

    def notes(self, sde: MeanRevertingSDE = USUAL_SDE) -> list[str]:
        """Returns what a user should be told of the request before it runs; one line each.

        Args:
            sde: as of `plan`.

        Raises:
            UsageError: as `plan`.
        """
        self.plan(sde=sde)
        found = []
        if self.mix is not None and abs(sum(self.mix.values()) - 1) > 1e-6:
            total = sum(self.mix.values())
            shares = ", ".join(f"{n} {w / total:.3g}" for n, w in self.mix.items())
            found.append(f"mix weights sum to {total:g}; normalised to {shares}")
        if self.strength is not None and self.strength > STRONGEST:
            found.append(f"strength {self.strength:g} is above {STRONGEST}: the base may vanish")
        against = f"(guidance {self.guidance or 0:g} against {self.negative})"
        if self.guidance in (None, 1):
            against = ""
            if self.negative != NULL:
                found.append(f"negative {self.negative} has no effect without guidance")
        over = "" if self.curve is None or self.curve.constant else "over the curve, "
        weights = self._composed(self._target(None), sde).summary()
        return [*found, f"weights: {over}{weights} {against}".rstrip()]

    def _check_run(self) -> None:
        """Refuses what the solver cannot do."""
        for field, value, allowed in (
            ("solver", self.solver, tuple(SOLVERS)),
            ("latent", self.latent, LATENTS),
            ("spacing", self.spacing, SPACINGS),
            ("rate", self.rate, RATES),
        ):
            if value is not None and value not in allowed:
                raise UsageError(f"{field}: found {value!r}, allowed are {', '.join(allowed)}")
        if not 1 <= self._count <= MOST_STEPS:
            raise UsageError(f"steps: found {self.steps}, allowed is 1..{MOST_STEPS}")
        if self.start is not None:
            time_grid(1, float(self.start))
        if not 0 <= self.seed < SEEDS:
            raise UsageError(f"seed: found {self.seed}, allowed is 0..{SEEDS - 1}")
        if self.latent == "source" and self.solver not in (None, *DETERMINISTIC):
            raise UsageError(
                f"solver: found {self.solver!r}, which draws noise; from the source allowed are "
                f"{', '.join(DETERMINISTIC)}"
            )

    def _check_target(self) -> None:
        """Refuses fields that contradict each other, before any of them is used."""
        given = [field for field in TARGETS if getattr(self, field) is not None]
        if len(given) > 1:
            raise UsageError(f"give one of {', '.join(TARGETS)}; found {' and '.join(given)}")
        if not given and self.emotion_ref is None:
            raise UsageError(f"give {', '.join(TARGETS)} or emotion_ref; found none of them")
        if self.strength is not None and self.base is None:
            raise UsageError("strength: needs a base emotion to be the strength against")
        for field in SHARES:
            share = getattr(self, field)
            if share is not None and not 0 <= share <= 1:
                raise UsageError(f"{field}: found {share}, allowed is 0..1")
        users = [field for field, name in self.mentioned() if name == REFERENCE]
        if self.emotion_ref is None and users:
            raise UsageError(f"emotion_ref: missing, the {REFERENCE!r} of {users[0]} is none yet")
        if self.emotion_ref is not None and given and not users:
            raise UsageError(
                f"emotion_ref: found beside {given[0]}, which is the target; leave out one of the "
                f"two, or name {REFERENCE!r} in mix, curve, base or negative"
            )

    def _composed(self, chosen: plans.EmotionPlan, sde: MeanRevertingSDE) -> plans.EmotionPlan:
        """Returns a target after (2) and (3)."""
        if self.base is not None:
            base = plans.single(condition_name(self.base, "base"), self._count)
            strength = DEFAULT_STRENGTH if self.strength is None else self.strength
            grid = time_grid(self._count, float(self.start or 1.0), self._spacing, sde)
            chosen = plans.emomix(base, chosen, strength, grid)
        return plans.softened(chosen, NEUTRAL, 1 if self.intensity is None else self.intensity)

    def _target(self, times_s: np.ndarray | None) -> plans.EmotionPlan:
        if self.arousal is not None:
            return plans.single(arousal_name(self.arousal), self._count)
        if self.curve is not None:
            return self.curve.plan(self._count, times_s)
        if self.mix is None:
            return plans.single(REFERENCE, self._count)
        whole = plans.mix(self.mix, self._count)  # which names what is wrong as the user wrote it
        names = [condition_name(name, "mix") for name in whole.names]
        if len(set(names)) < len(names):  # "arousal 3" and "arousal 3.0"
            raise UsageError(f"mix: found {', '.join(whole.names)}, each is allowed once")
        return plans.EmotionPlan(tuple(names), whole.weights)

    def _guided(self, chosen: plans.EmotionPlan) -> plans.EmotionPlan:
        guidance = 1 if self.guidance is None else self.guidance
        return plans.guided(chosen, condition_name(self.negative, "negative"), guidance)
