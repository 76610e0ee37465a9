"""Judges of emotion: linear models on what a clip sounds like, which train and condition nothing.

    whisper      statistics over time of hidden states of Whisper's encoder
    functionals  those of `audio.functionals`: cepstra, energy, pitch and voicing

    (1) x' = (x - centre) / scale of the features x of a clip that was set to RMS .05
    (2) p(emotion) = softmax(x' W + b),  arousal = x' w + c

A folder of judges holds `judges.json` (what each hears, and what was fitted how), and
`judges.safetensors` (centre, scale, W, b, w, c of each).

Source: a linear probe of a frozen encoder shows what it knows (Alain and Bengio, arXiv 1610.01644).
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from emoconv_jax.audio.functionals import NAMES, functionals
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, replacing, write_text
from emoconv_jax.inference.encoders import Recognition
from emoconv_jax.inference.whisper import WhisperStates, load_whisper
from emoconv_jax.inference.whisper_features import level_set
from emoconv_jax.porting.whisper_files import MODEL_SHA256
from emoconv_jax.shapes import Float

JUDGES_FILE, TENSORS_FILE = "judges.json", "judges.safetensors"
FORMAT = 1
WHISPER, FUNCTIONALS = "whisper", "functionals"
KINDS = (WHISPER, FUNCTIONALS)
STATISTICS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda states: states.mean(axis=0),
    "deviation": lambda states: states.std(axis=0),
    "point10": lambda states: np.percentile(states, 10, axis=0),
    "point50": lambda states: np.percentile(states, 50, axis=0),
    "point90": lambda states: np.percentile(states, 90, axis=0),
}
MOST_JSON_BYTES = 1 << 20

Features = Callable[[np.ndarray, int], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """The linear models (2) of one judge.

    Attributes:
        centre: subtracted from the features.
        scale: divides them after that.
        weights: W.
        bias: b.
        arousal_weights: w.
        arousal_bias: c, one number.
    """

    centre: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    weights: Float[np.ndarray, "d e"]
    bias: Float[np.ndarray, " e"]
    arousal_weights: Float[np.ndarray, " d"]
    arousal_bias: Float[np.ndarray, "1"]

    def __call__(self, x: Float[np.ndarray, "*b d"]) -> tuple[np.ndarray, np.ndarray]:
        """Returns (probabilities, arousal) of features."""
        standard = (x - self.centre) / self.scale
        logits = standard @ self.weights + self.bias
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        arousal = np.asarray(standard @ self.arousal_weights + self.arousal_bias[0])
        return shares / shares.sum(axis=-1, keepdims=True), arousal


class PooledStates:
    """Statistics over time of hidden states of the public Whisper encoder."""

    def __init__(self, states: Sequence[int], statistics: Sequence[str]):
        """Loads the encoder, fetching it if need be.

        Args:
            states: which hidden states, as of `WhisperStates`.
            statistics: of STATISTICS.

        Raises:
            EmoconvError: the weights cannot be had, or a state that there is not.
        """
        self.statistics = tuple(statistics)
        params, config = load_whisper()
        if not all(0 <= state <= config.layers for state in states):
            raise EmoconvError(
                f"states: found {list(states)!r:.80}, allowed are 0 to {config.layers}"
            )
        self.width = len(self.statistics) * len(states) * config.hidden
        self._states = WhisperStates(params, config, states=tuple(states))

    def __call__(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> np.ndarray:
        """Returns them side by side, [statistic, state, channel] flattened.

        Args:
            audio: mono.
            sample_rate_hz: of it.
        """
        states = self._states(audio, sample_rate_hz)
        return np.stack([STATISTICS[name](states) for name in self.statistics]).ravel()


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """One judge.

    Attributes:
        name: of KINDS.
        emotions: that it names.
        features: waveform at its level and sample rate -> features.
        model: its linear models.
    """

    name: str
    emotions: tuple[str, ...]
    features: Features
    model: Linear

    def hear(self, audio: Float[np.ndarray, " n"], sample_rate_hz: int) -> Recognition:
        """Returns what it says of a waveform of any level.

        Args:
            audio: mono.
            sample_rate_hz: of it.

        Returns:
            Probabilities and arousal; the embedding is the features.
        """
        x = self.features(level_set(audio), sample_rate_hz)
        shares, arousal = self.model(x)
        probabilities = dict(zip(self.emotions, map(float, shares), strict=True))
        return Recognition(x.astype(np.float32), probabilities, float(arousal))


def is_judges(folder: pathlib.Path) -> bool:
    """Tells whether a folder holds judges.

    Args:
        folder: any.

    Returns:
        True if JUDGES_FILE is there.
    """
    return (folder / JUDGES_FILE).is_file()


def features_of(kind: str, settings: Mapping[str, Any], where: str = JUDGES_FILE) -> Features:
    """Returns what makes a judge's features.

    Args:
        kind: of KINDS.
        settings: `states` and `statistics` of WHISPER; none of FUNCTIONALS.
        where: for messages.

    Raises:
        EmoconvError: unknown kinds or statistics, another encoder, or weights that cannot be had.
    """
    if kind == FUNCTIONALS:
        return functionals
    if kind != WHISPER:
        raise EmoconvError(f"{where}: kind: found {kind!r:.80}, allowed are {', '.join(KINDS)}")
    if (encoder := settings.get("encoder", MODEL_SHA256)) != MODEL_SHA256:
        raise EmoconvError(
            f"{where}: encoder: found {encoder!r:.80}, allowed is {MODEL_SHA256}; fit it again"
        )
    for field, item in (("states", int), ("statistics", str)):
        given = settings.get(field)
        if not isinstance(given, list) or not given or not all(type(x) is item for x in given):
            raise EmoconvError(
                f"{where}: {field}: found {given!r:.80}, expected a list of {item.__name__}"
            )
    unknown = [name for name in settings["statistics"] if name not in STATISTICS]
    if unknown:
        allowed = ", ".join(STATISTICS)
        raise EmoconvError(f"{where}: statistics: found {unknown[0]!r:.80}, allowed are {allowed}")
    return PooledStates(settings["states"], settings["statistics"])


def _width(features: Features) -> int:
    """Returns how many features there are."""
    return features.width if isinstance(features, PooledStates) else len(NAMES)


def save_judges(
    folder: pathlib.Path,
    models: Mapping[str, Linear],
    settings: Mapping[str, Mapping[str, Any]],
    emotions: Sequence[str],
    heard: Mapping[str, Any],
) -> None:
    """Writes judges.

    Args:
        folder: made if absent.
        models: by kind.
        settings: of `features_of`, by kind, and whatever else says how it was fitted.
        emotions: that they name.
        heard: what they hear on real speech that they were not fitted on, JSON-ready.

    Raises:
        OSError: a file that cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{name}.{field.name}": np.ascontiguousarray(getattr(model, field.name), np.float32)
        for name, model in models.items()
        for field in dataclasses.fields(Linear)
    }
    with replacing(folder / TENSORS_FILE) as (partial,):
        save_file(tensors, str(partial))
    about = {
        "format": FORMAT,
        "emotions": list(emotions),
        "judges": {name: dict(settings[name]) for name in models},
        "heard": heard,
    }
    write_text(folder / JUDGES_FILE, json.dumps(about, indent=1, allow_nan=False) + "\n")


def load_judges(folder: pathlib.Path, only: str | None = None) -> dict[str, Judge]:
    """Returns the judges of a folder by kind.

    Args:
        folder: of `save_judges`.
        only: the one to load; None is all.

    Raises:
        EmoconvError: a file that is absent or damaged, a tensor that is missing or of another
            shape, another encoder, or weights that cannot be had; by file and field.
    """
    path, about = folder / TENSORS_FILE, read_about(folder)
    try:
        tensors = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise EmoconvError(f"{path}: cannot be read ({error}); fit the judges again") from None
    found = {}
    for kind, settings in about["judges"].items():
        if only in (None, kind):
            features = features_of(kind, settings, str(folder / JUDGES_FILE))
            model = _linear(tensors, kind, len(about["emotions"]), path)
            if len(model.centre) != _width(features):
                raise EmoconvError(
                    f"{path}: {kind}.centre: found {len(model.centre)} numbers, allowed are "
                    f"{_width(features)}; fit the judges again"
                )
            found[kind] = Judge(kind, tuple(about["emotions"]), features, model)
    if not found:
        raise EmoconvError(f"{folder / JUDGES_FILE}: judges: {only or 'any'} is missing")
    return found


def read_about(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what a folder of judges says of them: format, emotions, judges, heard.

    Args:
        folder: of `save_judges`.

    Raises:
        EmoconvError: absent, not JSON, of another format, or a field that is missing.
    """
    path = folder / JUDGES_FILE
    about = read_json(path, "expected a folder of judges", MOST_JSON_BYTES)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise EmoconvError(f"{path}: format: allowed is {FORMAT}; fit the judges again")
    for field, kind in (("emotions", list), ("judges", dict), ("heard", dict)):
        if not isinstance(about.get(field), kind):
            raise EmoconvError(f"{path}: {field}: expected a {kind.__name__}")
    if not all(isinstance(name, str) for name in about["emotions"]):
        raise EmoconvError(f"{path}: emotions: expected a list of str")
    for kind, settings in about["judges"].items():
        if not isinstance(settings, dict):
            raise EmoconvError(f"{path}: judges.{kind:.80}: expected a dict")
    return about


def fingerprint(folder: pathlib.Path) -> str:
    """Returns the SHA-256 of a folder of judges, as hex.

    Args:
        folder: of `save_judges`.
    """
    content = b"".join((folder / name).read_bytes() for name in (JUDGES_FILE, TENSORS_FILE))
    return hashlib.sha256(content).hexdigest()


def _linear(
    tensors: Mapping[str, np.ndarray], kind: str, emotions: int, path: pathlib.Path
) -> Linear:
    """Returns the models of one judge, their shapes checked."""
    width = len(tensors[f"{kind}.centre"]) if f"{kind}.centre" in tensors else 0
    shapes = {
        "centre": (width,),
        "scale": (width,),
        "weights": (width, emotions),
        "bias": (emotions,),
        "arousal_weights": (width,),
        "arousal_bias": (1,),
    }
    for name, shape in shapes.items():
        tensor = tensors.get(f"{kind}.{name}")
        if tensor is None or tensor.shape != shape or not np.isfinite(tensor).all():
            held = "nothing" if tensor is None else f"{tensor.shape}"
            raise EmoconvError(
                f"{path}: {kind}.{name}: found {held}, allowed is {shape} of finite numbers"
            )
    return Linear(**{name: tensors[f"{kind}.{name}"] for name in shapes})
