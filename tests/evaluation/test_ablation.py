"""The ablation: what its runs differ by, its figures by hand, and all of it on a tiny store."""

import dataclasses
import json
import pathlib
import signal
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_bundle import CONFIG, make_bundle
from tiny_store import entries

from emoconv_jax.cli.main import main
from emoconv_jax.config import EMOTIONS, MelConfig, TrainingConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation import ablation
from emoconv_jax.evaluation.ablation import (
    FIGURES,
    GUIDANCES,
    Row,
    Settings,
    training_of,
)
from emoconv_jax.listeners.naturalness import Dnsmos
from emoconv_jax.pipeline.batches import Batch
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index
from emoconv_jax.training.trainees import make_trainee

TERMS = ("score", "reconstruction", "style")


def terms_of(variant: str, batch: Batch) -> dict[str, float]:
    """Returns the mean of every loss term that a variant's training sees of a network that says 0
    to all."""
    trainee = make_trainee(training_of(variant, 1, Settings("")))
    trainee.network = types.SimpleNamespace(apply=lambda _, xt, *conditions: jnp.zeros_like(xt))
    terms = trainee.terms({}, batch, jax.random.split(jax.random.key(0), 1))
    return {name: float(terms[name][0] / terms[name][1]) for name in TERMS if name in terms}


@pytest.mark.slow
def test_each_variant_is_trained_by_the_loss_of_its_name(bundle_folder):
    """Data and average voice of 0 make X_t = sigma N. To a score of 0, L_s is the mean of N^2,
    X_t is the mean, and X0_hat = sigma N / alpha. A velocity of 0 is the score -X_t, by which L_s
    is the mean of (N - sigma^2 N)^2 = alpha^4 N^2, and X0_hat = alpha sigma N."""
    image = np.zeros((1, 12, 80), np.float32)
    batch = Batch(
        mel=image,
        average_voice=image,
        mask=image[..., 0] + 1,
        index=np.zeros(1, np.int32),
        speaker=np.zeros((1, 256), np.float32),
        emotion=np.zeros((1, 256), np.float32),
    )
    score, xt, tweedie, velocity = (
        terms_of(name, batch) for name in ("score", "xt", "tweedie", "velocity")
    )
    assert set(score) == {"score"}
    assert score["score"] == xt["score"] == tweedie["score"]
    assert score["score"] == pytest.approx(1, abs=0.2)  # 960 squares: standard error .05
    alpha = (velocity["score"] / score["score"]) ** (1 / 4)
    t = (np.sqrt(0.05**2 - 4 * 19.95 * np.log(alpha)) - 0.05) / 19.95  # of .05 t + 19.95 t^2 / 2
    assert 0 < t < 1
    late = 1 - t**2  # lambda_t
    assert tweedie["reconstruction"] == pytest.approx(xt["reconstruction"] * late / alpha, rel=1e-3)
    assert velocity["reconstruction"] == pytest.approx(
        xt["reconstruction"] * late * alpha, rel=1e-3
    )
    styled = make_trainee(training_of("style", 1, Settings(str(bundle_folder), width=8)))
    params = jax.eval_shape(styled.init, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 1)
    assert set(TERMS) <= set(jax.eval_shape(styled.terms, params, batch, keys))
    assert styled.weights == {"score": 1.0, "reconstruction": 1.0, "style": 0.1}


def test_figures_of_a_constant_answer_are_the_papers():
    """4 to all of 1..7: L_abs 12 / 42, L_mse 28 / 7 / 36; 3 / 6 at the ends, (1 + 0 + 1) / 3 / 6
    in the middle. A clip that was not converted to numbers is left out. OVRL of 2 and 3 is 2.5."""
    heard = np.full((3, 7), 4.0)
    heard[1, 2] = np.nan
    found = ablation.figures(heard, [2.0, 3.0])
    wanted = {
        "l_abs": 12 / 42,
        "l_mse": 1 / 9,
        "l_abs_ends": 0.5,
        "l_abs_middle": 1 / 9,
        "tau": 0.0,
        "slope": 0.0,
        "ovrl": 2.5,
    }
    assert found == pytest.approx(wanted | {"clips": 2}) and list(found) == list(FIGURES)
    nothing = ablation.figures(heard[1:2], [])
    assert nothing.pop("clips") == 0 and np.isnan(list(nothing.values())).all()


def test_the_judge_hears_all_at_the_loudness_of_the_source():
    """Loudness is the mean magnitude: ln of (1 + 3) / 2 and of (2 + 6 + 4 + 4) / 4 = 4."""
    source, louder = np.log([[1.0, 3.0]]), np.log([[2.0, 6.0], [4.0, 4.0]])
    found = ablation.at_loudness_of(source, louder)
    assert found == pytest.approx(louder - np.log(2))


def test_a_table_has_mean_and_spread_over_seeds():
    """.2 and .3 have the mean .25 and the deviation .05 sqrt(2); a run that failed has none."""
    rows = [Row("xt", i, 1.0, dict.fromkeys(FIGURES, value)) for i, value in enumerate((0.2, 0.3))]
    failed = Row("score", 0, 1.0, dict.fromkeys(FIGURES, float("nan")))
    lines = ablation.table([*rows, failed]).splitlines()
    assert lines[2].startswith("| score, 1 | nan |")
    assert lines[3].startswith("| xt, 1 | 0.250 ± 0.071 |")


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """Eight training clips and one of an unseen voice, encoded by nobody."""
    folder, lengths = tmp_path / "features", [40] * 9
    generator = np.random.default_rng(0)
    clips = entries(
        lengths,
        lambda i: {
            "split": "a" if i < 8 else "validation",
            "speaker": "made/ann" if i < 8 else "made/bea",
            "emotion": EMOTIONS[i % len(EMOTIONS)],
            "arousal": 1.0 + i % 7,
        },
    )
    folder.mkdir()
    total, count = sum(lengths), len(lengths)
    for name in ("mel", "average_voice"):
        write_array(folder, name, generator.normal(-5, 1, (total, 80)))
    write_array(folder, "speaker", generator.normal(size=(count, 256)) / 16)
    write_array(folder, "emotion", generator.normal(size=(count, 256)))
    write_array(folder, "arousal", generator.uniform(1, 7, count))
    write_index(folder, MelConfig(), clips, [total])
    return FeatureStore(folder)


SMALL = {
    "width": 8,
    "frames": 16,
    "batch": 6,  # which the suite's eight devices do not divide
    "clips": 1,
    "spoken": 1,
    "solver_steps": 2,
    "seeds": 1,
}


@pytest.fixture
def judge(tmp_path) -> pathlib.Path:
    return make_bundle(tmp_path / "judge", dataclasses.replace(CONFIG, name="judge"))


def shallow(*run) -> TrainingConfig:
    """A run's configuration with a network of one resolution, which is compiled in a third of the
    time."""
    config = training_of(*run)
    return dataclasses.replace(config, network=config.network | {"multipliers": (1,)})


class Steady(Dnsmos):
    """Says the same of all, without a network."""

    def __init__(self):
        pass

    def __call__(self, audio, sample_rate_hz):
        return 3.0, 2.5


@pytest.mark.slow
def test_runs_are_measured_when_they_are_whole_once_and_kept(
    store, bundle_folder, judge, tmp_path, monkeypatch
):
    """A run is stopped by the signal that a cluster sends, goes on, and is measured at its end."""
    monkeypatch.setattr(ablation, "Dnsmos", Steady)
    monkeypatch.setattr(ablation, "training_of", shallow)
    out, settings = tmp_path / "out", Settings(str(bundle_folder), steps=6, **SMALL)
    parts = store, judge, out, settings, ["velocity"]

    def stop(line: str) -> None:
        if line.startswith("first step"):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(EmoconvError, match=r"stopped after step \d of 6; the same command"):
        ablation.measure(*parts, log=stop)
    assert (out / "rows.jsonl").read_text() == ""
    first = ablation.measure(*parts, log=lambda _: None)
    assert [row.guidance for row in first] == list(GUIDANCES)
    assert all(np.isfinite(list(row.figures.values())).all() for row in first)
    assert [row.figures["ovrl"] for row in first] == [2.5] * 2
    assert ablation.measure(*parts, log=lambda _: pytest.fail("trained again")) == first
    told = json.loads((out / "summary.json").read_text())
    assert [row["figures"] for row in told["rows"]] == [row.figures for row in first]
    assert "seeds" not in told  # those that are there stay when more are asked for
    other = make_bundle(tmp_path / "other", dataclasses.replace(CONFIG, name="other"))
    for changed in ((judge, dataclasses.replace(settings, steps=7)), (other, settings)):
        with pytest.raises(EmoconvError, match="other settings"):
            ablation.measure(store, changed[0], out, changed[1])


def test_the_conditioning_recogniser_cannot_judge(store, bundle_folder, tmp_path):
    settings = Settings(str(bundle_folder), steps=2, **SMALL)
    with pytest.raises(EmoconvError, match="conditions the runs, so it cannot judge"):
        ablation.measure(store, bundle_folder, tmp_path / "out", settings)


def test_a_judge_is_needed(capsys):
    flags = ["--what", "ablation", "--features", "F", "--out", "O"]
    assert main(["evaluate", *flags]) == 2
    assert "--second: missing" in capsys.readouterr().err
