"""Fits the judges on split b and writes them, with what they hear on speech of other voices.

usage: python -m benchmarks.quality.fit_judges --corpora DIR --out data/bundles/emoconv-judge

Split b of the split file: voices on which nothing is trained that conditions a conversion of
validation or test clips by emotion. States, statistics and penalties were chosen by
cross-validation that leaves one voice of split b out at a time; penalties are chosen in every run.

whisper      10, 50 and 90 % point of hidden states 3 and 5 of Whisper's encoder, in their first 250
             principal directions; the conditioning head has mean and deviation of 2 to 4
functionals  those of emoconv_jax/audio/functionals.py
"""

import argparse
import pathlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from tqdm import tqdm

from benchmarks.quality import real_speech
from benchmarks.quality.clips import ACTED, Clip, read_clips
from benchmarks.quality.command import CORPORA, JUDGES
from emoconv_jax.audio.reading import read_audio
from emoconv_jax.config import EMOTIONS
from emoconv_jax.errors import EmoconvError
from emoconv_jax.inference.whisper_features import level_set
from emoconv_jax.listeners.emotion import (
    FUNCTIONALS,
    WHISPER,
    Features,
    Linear,
    features_of,
    save_judges,
)
from emoconv_jax.porting.whisper_files import MODEL_SHA256
from emoconv_jax.shapes import Float

RATE_HZ = 22_050
FITTED_ON = "b"
HEARD_ON = ("validation", "test")
PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # C of the classes
RIDGES = (30.0, 100.0, 300.0, 1e3, 3e3, 1e4)  # alpha of arousal
WORSE = 0.02  # of r that a smaller alpha may cost: the smaller, the more its arousal moves
DIRECTIONS = 250  # of the features, those of the greatest variance
SETTINGS: Mapping[str, dict[str, Any]] = {
    WHISPER: {
        "states": [3, 5],
        "statistics": ["point10", "point50", "point90"],
        "encoder": MODEL_SHA256,
    },
    FUNCTIONALS: {},
}


def features(clips: Sequence[Clip], make: Features, label: str) -> Float[np.ndarray, "n d"]:
    """Returns the features of clips.

    Args:
        clips: to read.
        make: of `listeners.emotion.features_of`.
        label: of the progress bar.
    """
    rows = [make(level_set(read_audio(clip.path, RATE_HZ)), RATE_HZ) for clip in tqdm(clips, label)]
    return np.array(rows, np.float64)


def fit(x: Float[np.ndarray, "n d"], clips: Sequence[Clip], penalty: float, ridge: float) -> Linear:
    """Returns linear models of some clips; every voice and emotion weighs alike.

    Args:
        x: features.
        clips: acted.
        penalty: C of the logistic regression, per mean clip.
        ridge: alpha of the ridge regression.
    """
    centre, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    basis = _directions((x - centre) / scale)
    standard, weights = (x - centre) / scale @ basis.T, weights_of(clips)
    labels = np.array([EMOTIONS.index(clip.emotion) for clip in clips])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=penalty, max_iter=300, tol=1e-3)
        model.fit(standard, labels, sample_weight=weights)
    arousal = Ridge(alpha=ridge).fit(
        standard, [real_speech.truth(clip) for clip in clips], sample_weight=weights
    )
    known = model.classes_.astype(int)
    coefficients = np.zeros((len(EMOTIONS), len(basis)))
    bias = np.full(len(EMOTIONS), -30.0)  # an emotion that nobody acted is never heard
    coefficients[known], bias[known] = model.coef_, model.intercept_
    turned = basis.T @ coefficients.T, bias, basis.T @ arousal.coef_
    parts = (centre, scale, *turned, np.array([arousal.intercept_]))
    return Linear(*(np.asarray(part, np.float32) for part in parts))


def _directions(standard: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "k d"]:
    """Returns the principal directions, rows of length 1; DIRECTIONS at most."""
    n, d = standard.shape
    gram = standard @ standard.T if n < d else standard.T @ standard
    values, vectors = np.linalg.eigh(gram)
    kept = np.flatnonzero(values > 1e-9 * values.max())[::-1][:DIRECTIONS]
    if n >= d:
        return vectors[:, kept].T
    return (standard.T @ (vectors[:, kept] / np.sqrt(values[kept]))).T


def weights_of(clips: Sequence[Clip]) -> Float[np.ndarray, " n"]:
    """Returns a weight per clip, 1 on average, that makes the cells of voice and emotion alike.

    Args:
        clips: acted.
    """
    cells = [(clip.voice, clip.emotion) for clip in clips]
    counts = {cell: cells.count(cell) for cell in set(cells)}
    found = np.array([1 / counts[cell] for cell in cells])
    return found / found.mean()


def left_out(
    x: Float[np.ndarray, "n d"],
    clips: Sequence[Clip],
    score: Callable[[Linear, np.ndarray, Sequence[Clip]], float],
    penalty: float,
    ridge: float,
) -> float:
    """Returns the mean score on voices that were left out, one after the other.

    Args:
        x: features.
        clips: acted.
        score: of a model on features and clips.
        penalty: as of `fit`.
        ridge: as of `fit`.
    """
    voice, found = np.array([clip.voice for clip in clips]), []
    for name in sorted(set(voice)):
        inside = [clip for clip in clips if clip.voice != name]
        outside = [clip for clip in clips if clip.voice == name]
        model = fit(x[voice != name], inside, penalty, ridge)
        found.append(score(model, x[voice == name], outside))
    return float(np.mean(found))


def chosen(x: Float[np.ndarray, "n d"], clips: Sequence[Clip]) -> tuple[Linear, dict[str, float]]:
    """Returns the models of the penalties that are best on voices left out.

    Args:
        x: features.
        clips: acted, of two voices or more.

    Returns:
        Fitted on all clips; and `penalty`, `ridge`, with the scores of both: `emotions_named` and
        `arousal_r`.
    """
    named = {p: left_out(x, clips, _named, p, RIDGES[0]) for p in PENALTIES}
    penalty = max(named, key=lambda p: named[p])
    heard = {r: left_out(x, clips, _correlation, penalty, r) for r in RIDGES}
    ridge = min(r for r in RIDGES if heard[r] >= max(heard.values()) - WORSE)
    told = {
        "penalty": penalty,
        "ridge": ridge,
        "emotions_named": round(named[penalty], 4),
        "arousal_r": round(heard[ridge], 4),
    }
    return fit(x, clips, penalty, ridge), told


def _named(model: Linear, x: np.ndarray, clips: Sequence[Clip]) -> float:
    """Returns the share of clips whose emotion is named."""
    told = model(x)[0].argmax(axis=-1)
    return float(
        np.mean([EMOTIONS[i] == clip.emotion for i, clip in zip(told, clips, strict=True)])
    )


def _correlation(model: Linear, x: np.ndarray, clips: Sequence[Clip]) -> float:
    """Returns Pearson's r of heard and true arousal."""
    return float(np.corrcoef(model(x)[1], [real_speech.truth(clip) for clip in clips])[0, 1])


def heard_by(model: Linear, x: np.ndarray, clips: Sequence[Clip]) -> dict[str, dict[str, Any]]:
    """Returns what a judge hears on clips, by CORPUS/SPLIT.

    Args:
        model: of the judge.
        x: features.
        clips: acted.
    """
    shares, arousal = model(x)
    named = [EMOTIONS[i] for i in shares.argmax(axis=-1).tolist()]
    return real_speech.by_group(clips, named, arousal.tolist())


def main(argv: Sequence[str] | None = None) -> int:
    """Fits, writes and prints what the judges hear.

    Args:
        argv: arguments; None are the process's.

    Returns:
        The exit code; what is wrong is printed in one line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.fit_judges",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpora", type=pathlib.Path, default=CORPORA)
    parser.add_argument("--out", type=pathlib.Path, default=JUDGES)
    args = parser.parse_args(argv)
    try:
        print(write(read_clips([args.corpora / name for name in ACTED]), args.out))
    except (EmoconvError, OSError) as error:
        print(f"fit_judges: {error}", file=sys.stderr)
        return 1
    return 0


def write(clips: Sequence[Clip], out: pathlib.Path) -> str:
    """Fits the judges on the clips of split b and writes them.

    Args:
        clips: of the acted corpora.
        out: folder, made if absent.

    Returns:
        What they hear on the other splits, as Markdown.

    Raises:
        EmoconvError: no clips of two voices in split b, a clip that cannot be read, or weights that
            cannot be had.
        OSError: a file that cannot be written.
    """
    inside = [clip for clip in clips if clip.split == FITTED_ON]
    outside = [clip for clip in clips if clip.split in HEARD_ON]
    if len({clip.voice for clip in inside}) < 2:
        raise EmoconvError(
            f"split {FITTED_ON}: found fewer than two voices; where are the corpora?"
        )
    models, settings, heard = {}, {}, {}
    for kind, own in SETTINGS.items():
        make = features_of(kind, own)
        model, told = chosen(features(inside, make, f"{kind}: split {FITTED_ON}"), inside)
        models[kind] = model
        settings[kind] = {**own, "fitted_on": real_speech.groups(inside), "left_out_voices": told}
        heard[kind] = heard_by(model, features(outside, make, f"{kind}: other voices"), outside)
    save_judges(out, models, settings, EMOTIONS, heard)
    return real_speech.table(heard)


if __name__ == "__main__":
    sys.exit(main())
