"""The measurement of training: what it counts and how its figures follow from each other."""

import dataclasses
import importlib.util
import json
import pathlib
import re
import sys

import jax
import numpy as np
import pytest

from emoconv_jax.bench.batches import make_up
from emoconv_jax.bench.training import COMPUTES, Figures, made_up_batches, measure
from emoconv_jax.cli.main import main
from emoconv_jax.config import NETWORKS, TrainingConfig, from_dict, to_dict
from emoconv_jax.pipeline.batches import Batches
from emoconv_jax.pipeline.store import FeatureStore
from emoconv_jax.training import goodput
from emoconv_jax.training.trainees import make_trainee

SMOKE = pathlib.Path(__file__).parents[2] / "configs" / "smoke.py"
STEPS = 3
LESS = {  # of the networks: what is left compiles in seconds
    "recogniser": {"maps": (4,)},
    "average_voice": {"layers": 1, "prenet_layers": 1},
    "score_network": {"multipliers": (1,)},
}


def smoke(trainee: str, **changes) -> TrainingConfig:
    spec = importlib.util.spec_from_file_location("smoke", SMOKE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = from_dict(TrainingConfig, module.get_config(trainee).to_dict())
    return dataclasses.replace(config, network=config.network | LESS[trainee], **changes)


def run(config: TrainingConfig, steps: int = STEPS, devices: int = 1, **more):
    lines: list[str] = []
    more = {"devices": jax.devices()[:devices], "progress_s": 0, "log": lines.append} | more
    return measure(config, steps, **more), lines


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Returns the report of a trainee in both types, its lines and its file."""
    out = tmp_path_factory.mktemp("bench") / "figures.json"
    report, lines = run(smoke("recogniser"), out=out)
    return report, lines, json.loads(out.read_text())


@pytest.mark.slow
def test_the_file_holds_every_figure_of_both_types(measured):
    report, _, file = measured
    assert list(file["figures"]) == list(COMPUTES)
    assert file["failures"] == {}
    assert file["config"] == to_dict(report.config)
    assert (file["platform"], file["device"], file["devices"]) == ("cpu", "cpu", 1)
    assert file["versions"]["jax"] == jax.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", file["date"])
    for compute in COMPUTES:
        found = file["figures"][compute]
        assert found == dataclasses.asdict(report.figures[compute])
        assert list(found) == [field.name for field in dataclasses.fields(Figures)]
        assert found.pop("utilisation") is None  # nobody states the peak of a CPU
        assert found.pop("peak_of") == "process"
        assert all(value > 0 for value in found.values())


@pytest.mark.slow
def test_the_rates_follow_from_the_time_of_a_step(measured):
    report, _, _ = measured
    for found in report.figures.values():
        assert found.steps == STEPS
        assert found.low_s <= found.median_s <= found.high_s
        assert found.low_s <= found.mean_s <= found.high_s
        assert found.examples_per_s * found.mean_s == pytest.approx(report.config.batch)
        assert found.flops_per_s * found.mean_s == pytest.approx(report.flops_per_step)


@pytest.mark.slow
def test_the_table_shows_figures_that_agree(measured):
    """By what is printed alone: examples/s x ms of a step, and examples/s x GFLOP of an example."""
    report, _, _ = measured
    head, columns, *rows = report.table().splitlines()
    assert columns.split() == list(COMPUTES)
    gflop = float(re.search(r"([\d.e+-]+) GFLOP per example", head)[1])
    table = {row[:36].strip(): row[36:].split() for row in rows}
    for i in range(2):
        rate = float(table["examples/s"][i])
        assert rate * float(table["step, mean (ms)"][i]) / 1e3 == pytest.approx(8, rel=0.02)
        assert rate * gflop / 1e3 == pytest.approx(float(table["TFLOP/s"][i]), rel=0.02)
    assert table["steps"] == ["3", "3"]
    assert table["utilisation"] == ["-", "-"]


@pytest.mark.slow
def test_parameters_are_those_of_the_network(measured):
    report, _, _ = measured
    trainee = make_trainee(report.config, {"mean": np.zeros((3, 40)), "std": np.ones((3, 40))})
    shapes = jax.eval_shape(trainee.init, jax.random.key(0))
    assert report.parameters == sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.slow
def test_both_types_learn_the_same(measured):
    """The same draws and batches: after six updates the losses differ by bfloat16's rounding."""
    report, _, _ = measured
    rounded, exact = (report.figures[compute].loss for compute in COMPUTES)
    assert rounded == pytest.approx(exact, rel=0.02)
    assert rounded != exact


@pytest.mark.slow
def test_progress_is_told_with_the_time_that_is_left(measured):
    _, lines, _ = measured
    for compute in COMPUTES:
        own = [line for line in lines if line.startswith(f"{compute}: ")]
        assert own[0] == f"{compute}: compiling"
        steps = [line for line in own if re.search(r"step \d/3, \S+ ms a step, ETA \d+ s$", line)]
        assert steps


@pytest.mark.slow
def test_the_utilisation_is_of_the_peak_and_the_limit_ends_a_run(monkeypatch):
    monkeypatch.setitem(goodput.TPUS, "cpu", 1e9)
    report, _ = run(smoke("recogniser"), steps=10**6, computes=["float32"], limit_s=0)
    found = report.figures["float32"]
    assert found.steps == 1  # begun before the limit; none begins after it
    assert report.peak_flops == 1e9
    assert found.utilisation == pytest.approx(report.flops_per_step / found.mean_s / 1e9)
    assert f"{100 * found.utilisation:.1f} %" in report.table()


def test_the_peak_is_that_of_all_devices(monkeypatch):
    monkeypatch.setitem(goodput.TPUS, "cpu", 1e9)
    report, _ = run(smoke("recogniser", parallel="pmap"), devices=8, computes=[])
    assert (report.devices, report.peak_flops) == (8, 8e9)
    assert "by pmap on 8 x cpu" in report.table()


@pytest.mark.slow
def test_too_little_memory_is_told_and_the_other_type_is_tried(tmp_path):
    """A layer of 2^44 columns: 2^54 bytes, more than any process can address."""
    config = smoke("recogniser")
    config = dataclasses.replace(config, network=config.network | {"feed_forward": 1 << 44})
    report, lines = run(config, out=tmp_path / "figures.json")
    assert list(report.failures) == list(COMPUTES)
    assert not report.figures
    told = [line for line in lines if "out of memory at batch 8" in line]
    assert [line.split(":")[0] for line in told] == list(COMPUTES)
    assert list(json.loads((tmp_path / "figures.json").read_text())["failures"]) == list(COMPUTES)
    assert "out of memory" in report.table()


def test_batches_are_as_a_run_reads_them(tmp_path):
    make_up(tmp_path, 6, frames=80)
    store = FeatureStore(tmp_path)
    config = smoke("score_network", batch=4)
    real = Batches(
        store, np.arange(6), config.trainee, batch=4, frames=config.frames, seed=config.seed
    ).at(0)
    made = made_up_batches(config, from_dict(NETWORKS["score_network"], config.network))
    assert len({batch.mel.tobytes() for batch in made}) == len(made)

    def shapes(batch):
        return {k: v if v is None else (v.shape, v.dtype) for k, v in batch._asdict().items()}

    assert shapes(made[0]) == shapes(real)


@pytest.mark.slow
def test_the_command_measures_and_refuses(tmp_path, monkeypatch, capsys):
    words = ["bench", "training", f"--config={SMOKE}:recogniser", "--compute=float32"]
    words += ["--config.seed=5", "--config.network.maps=(4,)", "--steps=2", "--devices=1"]

    def emoconv(*more: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["emoconv", *words, *more])  # ml_collections reads it too
        code = main([*words, *more])
        return code, *capsys.readouterr()

    code, out, _ = emoconv(f"--out={tmp_path / 'figures.json'}")
    assert code == 0
    assert "batches of 8 x 32 frames" in out
    file = json.loads((tmp_path / "figures.json").read_text())
    assert (file["config"]["seed"], file["figures"]["float32"]["steps"]) == (5, 2)
    code, _, error = emoconv(f"--out={tmp_path / 'absent' / 'figures.json'}")
    assert (code, error.count("\n")) == (2, 1)
    assert "absent is no folder" in error
    code, _, error = emoconv("--devices=99")
    assert (code, error) == (2, "emoconv: --devices: found 99, allowed is 0 to 8\n")
