"""The ablation: what its runs differ by, its figures by hand, and all of it on a tiny store."""

import dataclasses
import json
import pathlib
import signal

import numpy as np
import pytest
from tiny_bundle import CONFIG, make_bundle
from tiny_store import entries

from emoconv_jax.cli.main import main
from emoconv_jax.config import EMOTIONS, MelConfig
from emoconv_jax.errors import EmoconvError
from emoconv_jax.evaluation import ablation
from emoconv_jax.evaluation.ablation import (
    FIGURES,
    GUIDANCES,
    VARIANTS,
    Row,
    Settings,
    training_of,
)
from emoconv_jax.pipeline.store import FeatureStore, write_array, write_index


def test_runs_differ_by_what_their_names_say():
    settings = Settings("a_bundle")
    runs = {name: dataclasses.asdict(training_of(name, 1, settings)) for name in VARIANTS}
    base = runs["tweedie"]

    def changed(name: str) -> set[str]:
        return {key for key, value in runs[name].items() if value != base[key]}

    assert changed("score") == {"loss"} and changed("xt") == {"loss"}
    assert changed("style") == {"style_weight", "style_recogniser"}
    assert changed("velocity") == {"network"}
    assert runs["velocity"]["network"] == base["network"] | {"head": "velocity"}
    assert base["network"]["head"] == "score" and base["seed"] == 1


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


def test_runs_are_measured_when_they_are_whole_once_and_kept(store, bundle_folder, judge, tmp_path):
    """A run is stopped by the signal that a cluster sends, goes on, and is measured at its end."""
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
