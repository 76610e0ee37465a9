"""Banks: the target embedding of each arousal level and each emotion.

Rule: EmoConv-Diff (section 2.3) takes the mean over the "top 20 %" samples of an arousal. Ours
ranks the utterances by d = (|label - c| + |prediction - c|) / 2, keeps the nearest 20 % for level c
(at least 20), and takes the value at c of a straight line through them:

    (1) w_i = (1 - (d_i / h)^3)^3, h the distance of the farthest that is kept
    (2) x_i = (label_i + prediction_i) / 2, which the embeddings e_i are regressed on with weights w
    (3) bank(c) = e_mean + slope (c - x_mean)

since at the ends of the scale all samples lie on one side: the mean of the nearest to 1 sounds like
the mean of the nearest to 2. That is the rule "local"; the rule "paper" is EmoConv-Diff's, the mean
over the fifth of all utterances whose labels are nearest to c. An emotion's bank is the mean over
its utterances (EmoMix, section 2.2). Beside each embedding stands what the emotion does to prosody,
see `bundles.prosody_banks`; bundles of older versions have no such numbers.

Source of (1) to (3): locally weighted regression, Cleveland (JASA 74(368), 1979).

A condition's name, anywhere in a request, is an emotion of the bundle; "arousal X", X any number in
1..7; "null", no emotion; "source", what is heard in the source; or "reference", what is heard in
another recording. The last two have no bank, and no emotion may take one of these names.
"""

import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from emoconv_jax.bundles.headers import check_header
from emoconv_jax.config import AROUSAL_HIGH, AROUSAL_LOW
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import parse_json, replacing
from emoconv_jax.shapes import Float, Int

BANKS_FILE = "banks.safetensors"
LEVELS = tuple(range(int(AROUSAL_LOW), int(AROUSAL_HIGH) + 1))
LEVEL_NAMES = tuple(f"arousal/{level}" for level in LEVELS)
RULES = ("local", "paper")
PROSODY = "prosody/"  # begins the name of a tensor of changes
CHANGES = 4  # numbers in it
SHARE = 0.2
FEWEST = 20
LEAST_SPREAD = 1e-4  # variance of arousal that a slope can be told from
NULL = "null"  # the condition that training drops the emotion to: all zeros
SOURCE, REFERENCE = "source", "reference"
HEARD = (SOURCE, REFERENCE)
AROUSAL = "arousal "
# a word that a terminal shows as it is, and not the name of another condition
WORD = re.compile(r"\w[\w -]{0,39}")
EMOTION = re.compile(rf"emotion/(?!(?:{NULL}|{SOURCE}|{REFERENCE})$|{AROUSAL}){WORD.pattern}")


def arousal_name(level: float | int) -> str:
    """Returns the name of an arousal's condition.

    Args:
        level: 1 (calm) to 7 (excited), any real number.

    Returns:
        Such as "arousal 3" or "arousal 2.75"; two levels never share one.

    Raises:
        UsageError: outside 1..7.
    """
    if not AROUSAL_LOW <= level <= AROUSAL_HIGH:  # also refuses NaN
        raise UsageError(f"arousal: found {level}, allowed is {AROUSAL_LOW:g}..{AROUSAL_HIGH:g}")
    level = float(level)
    return f"{AROUSAL}{level:g}" if float(f"{level:g}") == level else f"{AROUSAL}{level!r}"


def condition_name(name: str, field: str) -> str:
    """Returns a condition's name in the one form that plans know: "arousal 3.0" as "arousal 3".

    Args:
        name: as the user wrote it; whether a bundle has the emotion is not asked.
        field: of the request, for the message.

    Raises:
        UsageError: an arousal that is no number in 1..7.
    """
    if not name.startswith(AROUSAL):
        return name
    try:
        return arousal_name(float(name.removeprefix(AROUSAL)))
    except (ValueError, UsageError):
        raise UsageError(
            f"{field}: found {name!r:.80}, allowed are {AROUSAL}{AROUSAL_LOW:g} to "
            f"{AROUSAL}{AROUSAL_HIGH:g}"
        ) from None


class Banks:
    """Target embeddings by name.

    Attributes:
        vectors: "arousal/<level>" and "emotion/<name>" -> [e].
        made_from: the same names -> how many utterances and which speakers.
        prosody: the same names -> change of prosody, as of `bundles.prosody_banks`; empty where
            the banks are of an older version.
    """

    def __init__(
        self,
        vectors: dict[str, np.ndarray],
        made_from: dict[str, dict],
        prosody: dict[str, np.ndarray] | None = None,
    ):
        """Args: vectors, made_from and prosody: as the attributes."""
        self.vectors, self.made_from, self.prosody = vectors, made_from, prosody or {}

    @property
    def emotions(self) -> tuple[str, ...]:
        """The names of the emotions that have a bank."""
        return tuple(n.removeprefix("emotion/") for n in self.vectors if n.startswith("emotion/"))

    def condition(self, name: str) -> Float[np.ndarray, " e"]:
        """Returns the embedding of a condition that needs no recording.

        Args:
            name: as `condition_name` returns it.

        Returns:
            The vector.

        Raises:
            UsageError: an unknown name.
        """
        if name.startswith(AROUSAL):
            return self.arousal(float(name.removeprefix(AROUSAL)))
        return self.emotion(name)

    def emotion(self, name: str) -> Float[np.ndarray, " e"]:
        """Returns an emotion's embedding; `null` is the one that training drops to.

        Args:
            name: of the emotion.

        Returns:
            The vector.

        Raises:
            UsageError: an unknown name.
        """
        if name == NULL:
            return np.zeros_like(next(iter(self.vectors.values())))
        if f"emotion/{name}" not in self.vectors:
            raise UsageError(
                f"emotion {name!r:.80} is unknown, allowed are {', '.join(self.emotions)}, and "
                f"{AROUSAL}{AROUSAL_LOW:g} to {AROUSAL_HIGH:g}, {NULL}, {', '.join(HEARD)}"
            )
        return self.vectors[f"emotion/{name}"]

    def arousal(self, level: float) -> Float[np.ndarray, " e"]:
        """Returns the embedding of an arousal, interpolated between whole levels.

        Args:
            level: 1 (calm) to 7 (excited), any real number.

        Returns:
            The vector.

        Raises:
            UsageError: outside 1..7.
        """
        return _between(self.vectors, level)

    def change(self, name: str) -> Float[np.ndarray, "4"]:
        """Returns what a condition that needs no recording does to prosody.

        Args:
            name: as `condition_name` returns it, of an emotion that the banks have.

        Returns:
            Its change against neutral; zeros for `null`, and where the banks tell none.
        """
        if not self.prosody or name == NULL:
            return np.zeros(CHANGES, np.float32)
        if name.startswith(AROUSAL):
            return _between(self.prosody, float(name.removeprefix(AROUSAL)))
        return self.prosody[f"emotion/{name}"]


def _between(levels: dict[str, np.ndarray], level: float) -> np.ndarray:
    """Returns the vector at an arousal, on straight lines between whole levels."""
    if not AROUSAL_LOW <= level <= AROUSAL_HIGH:  # also refuses NaN
        raise UsageError(f"arousal: found {level}, allowed is {AROUSAL_LOW:g}..{AROUSAL_HIGH:g}")
    low = min(int(level), LEVELS[-2])
    part = level - low
    below, above = levels[f"arousal/{low}"], levels[f"arousal/{low + 1}"]
    return ((1 - part) * below + part * above).astype(np.float32)


def nearest_to_level(
    labels: Float[np.ndarray, " u"], predictions: Float[np.ndarray, " u"], level: float | int
) -> tuple[Int[np.ndarray, " chosen"], Float[np.ndarray, " chosen"]]:
    """Returns the utterances that make a level's bank, and their weights, eq. 1.

    Args:
        labels: arousal on 1..7.
        predictions: the recogniser's, same scale.
        level: of the bank.

    Returns:
        Indices, best first, and weights that sum to 1.
    """
    distance = (np.abs(labels - level) + np.abs(predictions - level)) / 2
    chosen = np.argsort(distance, kind="stable")[: max(FEWEST, round(SHARE * len(labels)))]
    found = distance[chosen]
    # a little wider than the farthest, which counts too where all are equally far
    weights = (1 - (found / (1.001 * found[-1] + 1e-9)) ** 3) ** 3
    return chosen, weights / weights.sum()


def nearest_labels(
    labels: Float[np.ndarray, " u"], level: float | int
) -> Int[np.ndarray, " chosen"]:
    """Returns the utterances that make a level's bank by the paper's rule.

    Args:
        labels: arousal on 1..7, of all utterances.
        level: of the bank.

    Returns:
        Indices of the fifth of them whose labels are nearest, best first.
    """
    order = np.argsort(np.abs(labels - level), kind="stable")
    return order[: max(1, round(SHARE * len(labels)))]


def at_level(
    embeddings: Float[np.ndarray, "u e"],
    arousal: Float[np.ndarray, " u"],
    weights: Float[np.ndarray, " u"],
    level: float | int,
) -> Float[np.ndarray, " e"]:
    """Returns what a weighted straight line through embeddings has at a level, eq. 3.

    Args:
        embeddings: of the utterances.
        arousal: of each; where all have the same, the mean is all that can be said.
        weights: of each, with the sum 1.
        level: of the bank.

    Returns:
        The embedding.
    """
    middle, mean = weights @ arousal, weights @ embeddings
    off = weights * (arousal - middle)
    spread = off @ (arousal - middle)
    slope = off @ embeddings / spread if spread > LEAST_SPREAD else np.zeros_like(mean)
    return mean + slope * (level - middle)


def build(
    embeddings: Float[np.ndarray, "u e"],
    labels: Float[np.ndarray, " u"],
    predictions: Float[np.ndarray, " u"],
    emotions: Sequence[str],
    speakers: Sequence[str],
    rule: str = "local",
) -> Banks:
    """Builds every bank from training utterances.

    Args:
        embeddings: of the recogniser.
        labels: arousal on 1..7, or -1 where there is none.
        predictions: the recogniser's arousal.
        emotions: of each utterance, from the vocabulary, or empty.
        speakers: of each utterance.
        rule: of the levels, one of RULES.

    Returns:
        The banks of levels 1..7 and of each emotion present, without their prosody.

    Raises:
        EmoconvError: no utterance has an arousal.
        UsageError: another rule.
    """
    if rule not in RULES:
        raise UsageError(f"rule: found {rule!r:.80}, allowed are {', '.join(RULES)}")
    rated = np.flatnonzero(labels >= AROUSAL_LOW)
    if not len(rated):
        raise EmoconvError("banks: no utterance has an arousal, some of each level are needed")
    vectors, groups = {}, {}
    for level in LEVELS:
        if rule == "paper":
            rows = groups[f"arousal/{level}"] = rated[nearest_labels(labels[rated], level)]
            vectors[f"arousal/{level}"] = embeddings[rows].mean(axis=0, dtype=np.float64)
            continue
        chosen, weights = nearest_to_level(labels[rated], predictions[rated], level)
        rows = groups[f"arousal/{level}"] = rated[chosen]
        arousal = (labels[rows] + predictions[rows]) / 2
        vectors[f"arousal/{level}"] = at_level(embeddings[rows], arousal, weights, level)
    for name in sorted(set(emotions) - {""}):
        rows = groups[f"emotion/{name}"] = np.flatnonzero(np.array(emotions) == name)
        vectors[f"emotion/{name}"] = embeddings[rows].mean(axis=0, dtype=np.float64)
    return Banks(
        {name: vector.astype(np.float32) for name, vector in vectors.items()},
        {
            name: {"utterances": len(rows), "speakers": sorted({speakers[int(i)] for i in rows})}
            for name, rows in groups.items()
        },
    )


def save_banks(folder: pathlib.Path, banks: Banks) -> None:
    """Writes `banks.safetensors`.

    Args:
        folder: of the bundle.
        banks: what to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / BANKS_FILE) as (partial,):
        partial.write_bytes(banks_content(banks))


def banks_content(banks: Banks) -> bytes:
    """Returns the content of `banks.safetensors`.

    Args:
        banks: what to write.
    """
    notes = {name: json.dumps(made) for name, made in banks.made_from.items()}
    changes = {PROSODY + name: change for name, change in banks.prosody.items()}
    return save(banks.vectors | changes, metadata=notes)


def load_banks(folder: pathlib.Path, width: int) -> Banks:
    """Reads `banks.safetensors`.

    Args:
        folder: of the bundle.
        width: of an embedding.

    Returns:
        The banks.

    Raises:
        EmoconvError: absent, damaged, a level missing, or a vector of another name, shape or type.
    """
    path = folder / BANKS_FILE
    if not path.is_file():
        raise EmoconvError(f"{path}: not found; the bundle has no target embeddings")
    vectors: dict[str, np.ndarray] = {}
    prosody: dict[str, np.ndarray] = {}
    try:
        check_header(path)
        with safe_open(path, framework="numpy") as file:
            notes = file.metadata() or {}
            for name in sorted(file.keys()):
                view, bank = file.get_slice(name), name.removeprefix(PROSODY)
                if bank not in LEVEL_NAMES and not EMOTION.fullmatch(bank):
                    raise EmoconvError(
                        f"{path}: unexpected tensor {name!r:.80}, allowed are arousal/1 to "
                        f"arousal/7 and emotion/NAME, and {PROSODY} before these"
                    )
                kept, size = (vectors, width) if bank == name else (prosody, CHANGES)
                if list(view.get_shape()) != [size] or view.get_dtype() != "F32":
                    raise EmoconvError(
                        f"{path}: {name} is {view.get_dtype()} {view.get_shape()}, expected F32 "
                        f"[{size}]"
                    )
                kept[bank] = file.get_tensor(name)
        made_from = {
            name: parse_json(text, f"{path}: damaged file: note {name!r:.80}")
            for name, text in notes.items()
        }
    except (SafetensorError, OSError) as error:
        raise EmoconvError(f"{path}: damaged file ({error})") from None
    for name in LEVEL_NAMES:
        if name not in vectors:
            raise EmoconvError(f"{path}: tensor {name} is missing")
    if prosody and set(prosody) != set(vectors):
        odd = min(set(prosody) ^ set(vectors))
        absent = "embedding" if odd in prosody else "change of prosody"
        raise EmoconvError(f"{path}: {odd!r:.80} has no {absent}, every bank has both or none has")
    for name, made in made_from.items():
        if name not in vectors or not isinstance(made, dict):
            raise EmoconvError(f"{path}: damaged file: note {name!r:.80} describes no tensor")
    for kept, before in ((vectors, ""), (prosody, PROSODY)):
        for name, vector in kept.items():
            if not np.isfinite(vector).all():
                raise EmoconvError(f"{path}: tensor {before}{name} holds NaN or infinity")
    return Banks(vectors, made_from, prosody)
