"""What a request means with a bundle: its conditions, their embeddings, what they do to prosody."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from emoconv_jax.bundles.banks import CHANGES, HEARD, NULL, REFERENCE, SOURCE, Banks, arousal_name
from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW, MelConfig
from emoconv_jax.diffusion import plan as plans
from emoconv_jax.diffusion.sde import MeanRevertingSDE
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.inference.request import Request
from emoconv_jax.shapes import Float


@dataclasses.dataclass(frozen=True, eq=False)
class Resolved:
    """What a request means with a bundle; `resolve` makes it.

    Attributes:
        request: with nothing left open.
        names: of the conditions, in the order of the plan and of the embeddings.
        mel: says how long a frame is.
        sde: the forward process.
        known: embedding of every condition that is not heard in a recording.
        banks: of the bundle.
    """

    request: Request
    names: tuple[str, ...]
    mel: MelConfig
    sde: MeanRevertingSDE
    known: Mapping[str, Float[np.ndarray, " e"]]
    banks: Banks

    def plan(
        self,
        frames: int | None = None,
        first_frame: int = 0,
        places: Float[np.ndarray, " g"] | None = None,
    ) -> plans.EmotionPlan:
        """Returns the emotion plan for an utterance, or for a stretch of it.

        Args:
            frames: of the utterance or stretch, padding included; None is a plan to look at before
                they are known. A plan without a curve does not depend on them.
            first_frame: where the stretch begins in the utterance.
            places: of its frames in the utterance, where its pace is not the source's; what is
                padded stays at the last.

        Returns:
            The plan, of the conditions `names`; over frames where the request has a curve that
            changes.
        """
        if frames is None:
            return self.request.plan(sde=self.sde)
        if places is None:
            places = first_frame + np.arange(frames, dtype=np.float64)
        padded = np.pad(places, (0, frames - len(places)), mode="edge")
        return self.request.plan(self._times_s(padded), self.sde)

    def changes(
        self,
        frames: int,
        first_frame: int,
        source: Float[np.ndarray, "4"],
        reference: Float[np.ndarray, "4"] | None = None,
    ) -> Float[np.ndarray, "f 4"]:
        """Returns what is asked of the source's prosody at each frame, by rule.

        The plan's weights before guidance, in the mean over the steps, times what each condition
        changes against neutral less what the source's own emotion does: sad speech is not made
        sadder. No emotion (`null`) and the source's own ask for nothing.

        Args:
            frames: of the stretch.
            first_frame: where it begins in the utterance.
            source: change of the emotion heard in the source, of `heard`.
            reference: of that heard in `emotion_ref`; None asks for nothing either.

        Returns:
            The changes, scaled by the request's `prosody`.
        """
        share = self.request.prosody
        if not share or not self.banks.prosody:
            return np.zeros((frames, CHANGES))
        times_s = self._times_s(first_frame + np.arange(frames, dtype=np.float64))
        plan = self.request.unguided(times_s, self.sde)
        weights = plan.weights.astype(np.float64).mean(axis=0)
        rows = []
        for name in plan.names:
            told = reference if name == REFERENCE else None
            if name not in (NULL, *HEARD):
                told = self.banks.change(name)
            rows.append(np.zeros(CHANGES) if told is None else told.astype(np.float64) - source)
        asked = np.einsum("k...,kc->...c", weights, np.stack(rows))
        return share * np.broadcast_to(asked, (frames, CHANGES))

    def heard(self, arousal: float) -> Float[np.ndarray, "4"]:
        """Returns what an emotion that was heard does to prosody: the bank at its arousal.

        Args:
            arousal: as an emotion encoder tells it; beyond 1..7 it counts as the end.
        """
        return self.banks.change(arousal_name(float(np.clip(arousal, AROUSAL_LOW, AROUSAL_HIGH))))

    def notes(self) -> list[str]:
        """Returns what a user should be told before it runs, of the bundle too; one line each.

        Raises:
            UsageError: as `Request.plan`.
        """
        found = self.request.notes(self.sde)
        if self.request.prosody and not self.banks.prosody:
            found.append("the bundle's banks tell no changes of prosody, so that none is asked for")
        return found

    def _times_s(self, places: Float[np.ndarray, " f"]) -> Float[np.ndarray, " f"]:
        """Returns the middles of frames in seconds."""
        return (places + 0.5) * self.mel.hop_samples / self.mel.sample_rate_hz

    def embeddings(
        self, own: Float[np.ndarray, "b e"], reference: Float[np.ndarray, " e"] | None = None
    ) -> Float[np.ndarray, "k b e"]:
        """Returns the embedding of each condition for each utterance.

        Args:
            own: what is heard in each source.
            reference: what is heard in `emotion_ref`; needed where `names` has "reference".

        Raises:
            EmoconvError: a reference is needed and not given.
        """
        if REFERENCE in self.names and reference is None:
            raise EmoconvError("reference: none given, the plan has one among its conditions")
        heard = {SOURCE: own, REFERENCE: reference}
        rows = [heard[name] if name in HEARD else self.known[name] for name in self.names]
        return np.stack([np.broadcast_to(row, own.shape) for row in rows]).astype(np.float32)


def resolve(request: Request, config: BundleConfig, banks: Banks) -> Resolved:
    """Returns what a request means with a bundle.

    Args:
        request: what to convert to.
        config: of the bundle.
        banks: of the bundle.

    Returns:
        The request with nothing left open, its plan and embeddings.

    Raises:
        UsageError: a field that makes no sense, or an emotion the bundle does not know.
    """
    request.plan()  # before a foreign default is mixed in, so that a message names what was asked
    takes_prosody = config.score_network.prosody
    for field in ("prosody", "rate"):
        found = getattr(request, field)
        if found is not None and not takes_prosody:
            raise UsageError(
                f"{field}: found {found}, bundle {config.name} has a score network that takes no "
                "prosody; leave it out"
            )
    request = request.filled(config.diffusion, takes_prosody)
    sde = MeanRevertingSDE(config.diffusion.beta_0, config.diffusion.beta_1)
    names = request.plan(sde=sde).names
    wanted = dict.fromkeys([*names, *(name for _, name in request.mentioned())])
    known = {name: banks.condition(name) for name in wanted if name not in HEARD}
    return Resolved(request, names, config.mel, sde, known, banks)
