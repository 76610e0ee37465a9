"""How far a run is, told from files that a run's own `Progress` and `claim` have written."""

import pytest
from runs import settings, silent

from emoconv_jax.errors import EmoconvError
from emoconv_jax.training.goodput import Goodput
from emoconv_jax.training.progress import METRICS_FILE, Progress
from emoconv_jax.training.start import claim
from emoconv_jax.training.status import status_of

STEPS, REPORT, STEP_S = 40, 5, 3.0


@pytest.fixture
def workdir(tmp_path):
    """Returns a run of 40 steps, each of 3 s by its clock, stopped after 22; validated at 20."""
    now = [0.0]
    run, config = tmp_path / "run", settings("score_network", steps=STEPS)
    claim(run, config)
    with Progress(run, config, silent, report=REPORT, goodput=Goodput(lambda: now[0])) as progress:
        for number in range(1, 23):
            with progress.goodput.of("stepping"):
                now[0] += STEP_S
            progress.step(number, {"loss": 1.0})
            if number == 20:
                progress.validation(number, {"score": 0.25, "score/t_0.00-0.25": 0.5})
    return run, config.batch


def test_step_crops_hours_and_speed_are_those_of_the_run(workdir):
    run, batch = workdir
    status = status_of(run)
    # the last record is the account of time, which the end of a process writes
    assert (status.step, status.steps, status.crops) == (22, STEPS, 22 * batch)
    # windows of 5 steps to step 20
    assert status.hours == pytest.approx(20 * STEP_S / 3600)
    assert status.crops_per_s == pytest.approx(batch / STEP_S)
    assert status.left_s == pytest.approx((STEPS - 22) * STEP_S)
    assert (status.validated, status.validation["score"]) == (20, 0.25)


def test_the_line_names_what_a_reader_looks_for(workdir):
    run, batch = workdir
    status = status_of(run)
    line = status.line(status.recorded + 90)
    for text in (
        "score_network: step 22 of 40",
        f"{22 * batch} crops",
        "validation at 20: score 0.25",
        "last record 1 min 30 s ago",
    ):
        assert text in line
    assert "t_0.00" not in line and "\n" not in line


def test_a_torn_line_is_left_out(workdir):
    run, _ = workdir
    with (run / METRICS_FILE).open("a") as file:
        file.write('{"step": 4000, "loss"')
    assert status_of(run).step == 22


def test_a_run_without_records_says_so(tmp_path):
    claim(tmp_path, settings("score_network", steps=STEPS))
    with pytest.raises(EmoconvError, match="has recorded nothing yet"):
        status_of(tmp_path)


def test_another_folder_is_no_run(tmp_path):
    with pytest.raises(EmoconvError, match="not a training run"):
        status_of(tmp_path)
