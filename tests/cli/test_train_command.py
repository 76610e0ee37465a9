"""`emoconv train` as a process: stopped, continued, refused, dry; and `emoconv export` after it."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from emoconv_jax.bundles.format import read_config
from emoconv_jax.cli.main import main

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tests" / "training"))
from runs import make_store, settings  # noqa: E402

from emoconv_jax.config import to_dict  # noqa: E402

CONFIG = "from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({})\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """Features and the configuration of a long run of a tiny network."""
    place = tmp_path_factory.mktemp("train")
    make_store(place / "features")
    config = to_dict(settings("average_voice", steps=100_000))
    (place / "config.py").write_text(CONFIG.replace("{}", repr(config)))
    return place


def words(place: pathlib.Path, run: str = "run", *more: str) -> list[str]:
    return [
        *("train", "--config", str(place / "config.py"), "--features", str(place / "features")),
        *("--workdir", str(place / run), "--devices", "1", "--listen", "0", *more),
    ]


@pytest.fixture(scope="module")
def stopped(place) -> tuple[int, str]:
    """Returns the exit code and the output of a run that SIGTERM stopped after some steps."""
    command = [sys.executable, "-m", "emoconv_jax.cli.main", *words(place)]
    settings = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, **settings, **output) as run:
        assert run.stdout
        said = ""
        while "step 10/" not in said:
            line = run.stdout.readline()
            assert line, said
            said += line
        run.send_signal(signal.SIGTERM)
        return run.wait(timeout=120), said + run.stdout.read()


@pytest.mark.slow
def test_a_signal_saves_and_ends_with_0_and_the_account_of_the_time(place, stopped):
    code, said = stopped
    assert code == 0, said
    step = int(said.partition("stopped by SIGTERM after step ")[2].partition(",")[0])
    assert (place / "run" / "checkpoints" / str(step)).is_dir()
    assert "compiling" in said and "stepping" in said
    records = (place / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(records[0])["step"] == 10


@pytest.mark.slow
def test_settings_that_differ_are_listed_and_override_goes_on(place, stopped, monkeypatch, capsys):
    def train(*more: str) -> int:
        line = words(place, "run", *more)
        monkeypatch.setattr(sys, "argv", ["emoconv", *line])  # ml_collections reads it too
        return main(line)

    changed = ("--config.learning_rate", "0.5", "--config.network.channels", "32")
    assert train(*changed) == 1
    error = capsys.readouterr().err
    assert "network.channels 16 -> 32; " in error or "; network.channels 16 -> 32" in error
    assert "learning_rate 0.001 -> 0.5" in error and error.count("\n") == 1
    done = json.loads((place / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    soon = ("--config.steps", str(done + 3))
    assert train(*soon) == 1
    assert train(*soon, "--override") == 0
    out = capsys.readouterr().out
    assert f"continuing at step {done}" in out and f"done: {done + 3} steps" in out


@pytest.mark.slow
def test_another_run_a_bundle_or_nothing_is_what_a_run_starts_from(
    place, stopped, tmp_path, monkeypatch, capsys
):
    def train(run: str, *more: str) -> str:
        line = words(place, run, *more)
        monkeypatch.setattr(sys, "argv", ["emoconv", *line])
        code = main(line)
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    other = str(place / "run")
    step = max(int(p.name) for p in (place / "run" / "checkpoints").glob("[0-9]*"))
    last = ("--config.steps", str(step + 2))
    said = train("second", "--restore", other, *last)
    assert f"starting from {other} at step {step}" in said and f"done: {step + 2} steps" in said
    assert f"continuing at step {step + 2}" in train("second", "--restore", other, *last)
    nowhere = str(place / "features")
    assert "holds no complete checkpoint" in train("third", "--restore", nowhere, *last)
    assert not (place / "features" / "checkpoints").exists()
    assert not (place / "third").exists() or not (place / "third" / "config.json").exists()
    assert "found both" in train("third", "--restore", other, "--bundle", nowhere, *last)
    assert main(["export", other, "--out", str(tmp_path / "mine")]) == 0
    assert f"average_voice: averaged parameters of step {step}" in capsys.readouterr().out
    assert read_config(tmp_path / "mine").average_voice.channels == 16
    said = train("fourth", "--bundle", str(tmp_path / "mine"), "--config.steps", "1")
    assert "starting from given parameters" in said and "done: 1 steps" in said


def test_a_dry_run_says_what_would_be_done_and_does_nothing(place, monkeypatch, capsys):
    line = words(place, "dry", "--dry_run", "--bundle", "nowhere")
    monkeypatch.setattr(sys, "argv", ["emoconv", *line])
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "planned 100000 steps of 4 = 400000 examples of 32 frames" in out
    assert "1 x cpu" in out and "bundle: nowhere (not there)" in out
    assert not (place / "dry").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--devices", "9"), "--devices: found 9, allowed is 0 to 8"),
        (("--devices", "8"), "batch: found 4, expected a multiple of 8"),
        (("--keep", "0"), "keep"),
        (("--host", "1", "--hosts", "2"), "--coordinator"),
        (("--config.parallel", "magic"), "parallel: found 'magic', allowed is jit or pmap"),
        (("--config.accumulate", "3"), "accumulate: found 3, allowed is a divisor of batch 4"),
    ],
)
def test_what_no_run_can_mean_is_refused_in_a_line(place, monkeypatch, capsys, more, message):
    line = words(place, "refused", *more)
    monkeypatch.setattr(sys, "argv", ["emoconv", *line])
    assert main(line) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (place / "refused" / "checkpoints").exists()
