"""What a run shows, read back from its files: JSON lines and TensorBoard's own reader."""

import contextlib
import json
import math
import pathlib
import resource
import statistics
import sys
import types

import numpy as np
import pytest
from runs import settings, silent
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emoconv_jax.errors import EmoconvError
from emoconv_jax.training.goodput import Goodput, peak_flops
from emoconv_jax.training.progress import Progress

# TensorBoard's own switch: it reads files without TensorFlow, which takes seconds to import
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")

STEPS, REPORT = 24, 5
SPEED = ("examples_per_s", "flops_utilisation")


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


def metrics_at(step: int) -> dict[str, float]:
    """Metrics whose sums in another order differ in the last bits; one band has no examples."""
    draw = np.random.default_rng(step).normal(size=4)
    return {
        "loss": float(np.exp(draw[0])),
        "score/t_0.00-0.25": math.nan if step % 3 else float(draw[1]),
        "gradient_norm": float(np.exp(3 * draw[2])),
    } | ({"learning_rate": float(draw[3])} if step % REPORT == 0 else {})


@pytest.fixture
def progress():
    """Returns what opens the progress of a run; those that a test leaves open end as killed."""
    opened: list[Progress] = []

    def of_a_run(workdir: pathlib.Path, log=silent, **more) -> Progress:
        workdir.mkdir(exist_ok=True)
        config = settings("score_network", steps=STEPS)
        opened.append(Progress(workdir, config, log, **{"report": REPORT} | more))
        return opened[-1]

    yield of_a_run
    for one in opened:
        with contextlib.suppress(ValueError):  # closed already
            one.__exit__(KeyboardInterrupt)


def records(workdir: pathlib.Path) -> list[dict]:
    """The run's records without speeds and times."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    found = [{k: v for k, v in record.items() if k not in SPEED} for record in found]
    return [record for record in found if not any(k.startswith("goodput") for k in record)]


def events(workdir: pathlib.Path) -> EventAccumulator:
    return EventAccumulator(str(workdir / "tensorboard")).Reload()


def run(shown: Progress, first: int, last: int) -> Progress:
    with shown:
        for step in range(first, last + 1):
            shown.step(step, metrics_at(step))
    return shown


def test_records_are_means_over_the_steps_that_had_the_metric(progress, tmp_path):
    run(progress(tmp_path), 1, STEPS)
    found = records(tmp_path)
    assert [record["step"] for record in found] == [5, 10, 15, 20, 24]
    for record in found:
        window = [metrics_at(i) for i in range(max(record["step"] - 4, 1), record["step"] + 1)]
        if record["step"] == STEPS:
            window = [metrics_at(i) for i in range(21, 25)]
        for name in ("loss", "score/t_0.00-0.25", "gradient_norm", "learning_rate"):
            values = [m[name] for m in window if name in m and math.isfinite(m[name])]
            assert record.get(name) == (pytest.approx(statistics.fmean(values)) if values else None)
    assert "learning_rate" not in found[-1]  # of step 25, which never was


def test_tensorboard_has_the_scalars_of_the_records(progress, tmp_path):
    run(progress(tmp_path), 1, STEPS)
    found, board = records(tmp_path), events(tmp_path)
    for name in ("loss", "score/t_0.00-0.25", "gradient_norm", "learning_rate"):
        wanted = [(record["step"], np.float32(record[name])) for record in found if name in record]
        assert [(e.step, np.float32(e.value)) for e in board.Scalars(name)] == wanted


@pytest.mark.parametrize("cut", range(1, STEPS))
def test_a_run_killed_anywhere_writes_the_records_of_the_undisturbed_one(progress, tmp_path, cut):
    """Saved at `cut`, killed three steps later: sums in JSON, bit for bit, nothing twice."""
    run(progress(tmp_path / "whole"), 1, STEPS)
    killed = progress(tmp_path / "cut")
    for step in range(1, cut + 1):
        killed.step(step, metrics_at(step))
    saved = json.loads(json.dumps(killed.window()))
    for step in range(cut + 1, min(cut + 4, STEPS) + 1):
        killed.step(step, metrics_at(step))
    killed.validation(min(cut + 4, STEPS), {"loss": 1.0})
    run(progress(tmp_path / "cut", first=cut, window=saved), cut + 1, STEPS)
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    boards = [events(tmp_path / name).Scalars("loss") for name in ("whole", "cut")]
    told = [[(e.step, e.value) for e in board] for board in boards]
    assert told[0] == told[1]


def test_steps_that_are_not_finite_are_counted_and_told(progress, tmp_path):
    lines: list[str] = []
    shown = progress(tmp_path, lines.append)
    losses = [1.0, math.nan, 2.0, math.inf, 3.0]
    for step, loss in enumerate(losses, start=1):
        shown.step(step, {"loss": loss, "gradient_norm": math.nan if step == 3 else 1.0})
    for step in range(6, 11):
        shown.step(step, {"loss": math.nan})
    assert records(tmp_path) == [
        {"step": 5, "loss": 2.0, "gradient_norm": 1.0, "steps_not_finite": 3},
        {"step": 10, "steps_not_finite": 5},
    ]
    assert "NOT FINITE in 3 steps" in lines[1]


def test_what_lies_beyond_the_checkpoint_and_torn_lines_are_dropped(progress, tmp_path):
    path, lines = tmp_path / "metrics.jsonl", []
    whole = '{"step": 5, "loss": 0.1}\n{"step": 7, "validation/loss": 0.2}\n'
    path.write_text(whole + '{"step": 8}\n{"step": 10, "loss": 0.3}\nnot\n[]\n{"step": 6, "lo')
    progress(tmp_path, lines.append, first=7)
    assert path.read_text() == whole
    assert lines == [f"{path}: 5 lines beyond step 7 dropped"]
    path.write_text(whole + '{"step": 6}')  # whole, but a torn line may look so: 6 of 60
    progress(tmp_path, lines.append, first=7)
    assert path.read_text() == whole


def test_a_file_that_holds_nothing_wrong_is_not_rewritten(progress, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5}\n')
    before = path.stat().st_ino
    progress(tmp_path, first=5)
    assert path.stat().st_ino == before


def test_speed_is_of_the_last_window_and_the_rest_of_the_whole(progress, tmp_path):
    """Batches of 4. First step (compiling) 100 s, then 2 s a step, from step 11 on 4 s a step.

    At step 10 validation takes 30 s: no part of the speed, but of how long the run will take.
    """
    clock, lines = Clock(), []
    goodput = Goodput(clock)
    shown = progress(tmp_path, lines.append, goodput=goodput, flops_per_step=3e12, peak_flops=10e12)
    for step in range(1, STEPS + 1):
        with goodput.of("compiling" if step == 1 else "stepping"):
            clock.pass_s(100.0 if step == 1 else 2.0 if step <= 10 else 4.0)
        shown.step(step, {"loss": 0.5, "score/t_0.00-0.25": 0.4, "parameter_norm": 9.0})
        if step == 10:
            with goodput.of("validating"):
                clock.pass_s(30.0)
    text = (tmp_path / "metrics.jsonl").read_text().splitlines()
    found = [(r["examples_per_s"], r["flops_utilisation"]) for r in map(json.loads, text)]
    assert found == [(2.0, 0.15), (2.0, 0.15), (1.0, 0.075), (1.0, 0.075), (1.0, 0.075)]
    assert lines == [
        "first step after 1 min 40 s",
        "step 5/24  loss 0.5  2 examples/s  MFU 15.0 %  ETA 38 s",  # 19 steps of 2 s
        "step 10/24  loss 0.5  2 examples/s  MFU 15.0 %  ETA 28 s",
        "step 15/24  loss 0.5  1 examples/s  MFU 7.5 %  ETA 44 s",  # 9 of (18 + 30 + 20) / 14 s
        "step 20/24  loss 0.5  1 examples/s  MFU 7.5 %  ETA 19 s",  # 4 of (18 + 30 + 40) / 19 s
        "step 24/24  loss 0.5  1 examples/s  MFU 7.5 %",
    ]


def test_a_first_step_that_ends_a_window_has_no_speed(progress, tmp_path):
    lines: list[str] = []
    shown = progress(tmp_path, lines.append, first=4, flops_per_step=1.0, peak_flops=1.0)
    shown.step(5, {"loss": 0.5})
    assert lines[1] == "step 5/24  loss 0.5"
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 5, "loss": 0.5}


def test_the_line_is_short_and_begins_with_the_loss(progress, tmp_path):
    lines: list[str] = []
    shown = progress(tmp_path, lines.append, report=1)
    values = {"gradient_norm": 0.25, "score": 1e-5, "score/t_0.00-0.25": 1.0}
    values |= {"parameter_norm": 3.0, "update_norm": 1.0, "learning_rate": 1e-4, "loss": 12345.6}
    shown.step(1, values)
    assert lines[1] == "step 1/24  loss 1.235e+04  score 1e-05  gradient norm 0.25"
    assert records(tmp_path) == [{"step": 1, **values}]


def test_validation_pictures_and_sounds_are_kept(progress, tmp_path):
    lines: list[str] = []
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    tone = np.sin(np.arange(2205) / 7).astype(np.float32)
    with progress(tmp_path, lines.append) as shown:
        shown.validation(20, {"score": 0.5, "accuracy": math.nan})
        shown.picture(20, "listening_1", image)
        shown.sound(20, "listening_1/arousal_6", tone, 22050)
    assert lines[0] == "validation at 20: score 0.5  accuracy nan"
    assert records(tmp_path) == [{"step": 20, "validation/score": 0.5}]
    board = events(tmp_path)
    assert board.Scalars("validation/score")[0].step == 20
    (picture,) = board.Images("listening_1")
    assert (picture.step, picture.height, picture.width) == (20, 20, 30)
    assert np.array_equal(pixels(picture.encoded_image_string), image)
    (sound,) = board.Audio("listening_1/arousal_6")
    assert (sound.step, sound.sample_rate, sound.length_frames) == (20, 22050.0, 2205)
    samples = np.frombuffer(sound.encoded_audio_string[44:], np.int16) / 2**15
    np.testing.assert_allclose(samples, tone, atol=1e-4)


def pixels(png: bytes) -> np.ndarray:
    import io

    from PIL import Image

    return np.array(Image.open(io.BytesIO(png)))


def test_all_processes_but_one_are_quiet_and_keep_the_same_window(progress, tmp_path):
    with progress(tmp_path / "quiet", pytest.fail, quiet=True) as quiet:
        loud = progress(tmp_path / "loud")
        for step in range(1, 8):
            quiet.step(step, metrics_at(step))
            loud.step(step, metrics_at(step))
        quiet.validation(7, {"loss": 1.0})
        quiet.picture(7, "x", np.zeros((2, 2, 3), np.uint8))
        quiet.sound(7, "x", np.zeros(9, np.float32), 22050)
        assert quiet.window() == loud.window() != {}
    assert not list((tmp_path / "quiet").iterdir())


@pytest.fixture
def full_disk():
    """Stops every file from growing beyond 100 kB, which fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("file", ["metrics.jsonl", "tensorboard"])
def test_a_full_disk_ends_the_run_by_name(progress, tmp_path, full_disk, file):
    path = tmp_path / file
    if file == "metrics.jsonl":
        path.write_text('{"step": 0, "x": "' + 99_970 * "x" + '"}\n')
    with pytest.raises(EmoconvError) as caught, progress(tmp_path) as shown:
        if file == "tensorboard":
            shown.sound(1, "loud", np.zeros(100_000, np.float32), 22050)
        for step in range(1, STEPS + 1):
            shown.step(step, metrics_at(step))
    assert str(caught.value) == f"{path}: cannot be written (File too large)"


def test_a_folder_in_the_place_of_a_file_is_named(progress, tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(EmoconvError, match=r"metrics\.jsonl: cannot be written \(Is a directory\)"):
        progress(tmp_path)
    (tmp_path / "metrics.jsonl").rmdir()
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(EmoconvError, match=r"tensorboard: cannot be written \(File exists\)"):
        progress(tmp_path)


def test_what_ended_the_run_is_what_is_raised(progress, tmp_path, full_disk):
    with pytest.raises(ZeroDivisionError), progress(tmp_path):
        (tmp_path / "metrics.jsonl").write_text(100_000 * "x")
        raise ZeroDivisionError


def test_every_second_counts_once_and_the_parts_sum_to_the_whole():
    clock = Clock()
    goodput = Goodput(clock)
    clock.pass_s(1.0)
    with goodput.of("validating"):
        clock.pass_s(2.0)
        with goodput.of("compiling"):
            clock.pass_s(4.0)
        clock.pass_s(8.0)
        with pytest.raises(ValueError), goodput.of("waiting for data"):
            clock.pass_s(16.0)
            raise ValueError
    clock.pass_s(32.0)
    with goodput.of("stepping"):
        clock.pass_s(64.0)
        spent_s = goodput.spent_s()  # while it runs
    assert spent_s == {
        "stepping": 64.0,
        "other": 33.0,
        "waiting for data": 16.0,
        "validating": 10.0,
        "compiling": 4.0,
    }
    assert goodput.total_s() == 127.0
    assert goodput.working_s() == 64.0 + 33.0 + 16.0
    assert goodput.line() == (
        "time: 127.0 s = stepping 64.0 s (50.4 %), other 33.0 s (26.0 %), waiting for data 16.0 s "
        "(12.6 %), validating 10.0 s (7.9 %), compiling 4.0 s (3.1 %)"
    )


@pytest.mark.parametrize("stopped", [False, True])
def test_the_account_ends_the_run_however_it_ends(progress, tmp_path, stopped):
    clock, lines = Clock(), []
    goodput = Goodput(clock)

    class Stopped(RuntimeError):
        pass

    try:
        with progress(tmp_path, lines.append, goodput=goodput) as shown:
            with goodput.of("waiting for data"):
                clock.pass_s(3.0)
            shown.step(1, {"loss": 0.5})
            clock.pass_s(1.0)
            if stopped:
                raise Stopped
    except Stopped:
        assert stopped
    assert lines[-1] == "time: 4.0 s = waiting for data 3.0 s (75.0 %), other 1.0 s (25.0 %)"
    account = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert account == {"step": 1, "goodput/waiting_for_data_s": 3.0, "goodput/other_s": 1.0}
    (table,) = events(tmp_path).Tensors("goodput/text_summary")
    assert b"| waiting for data | 3.0 | 75.0 % |" in table.tensor_proto.string_val[0]


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA B200", 2250),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla V100-PCIE-32GB", 112),
        ("Tesla T4", 65),
        ("TPU v2", 22.5),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("cpu", None),
        ("TPU v4 lite", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_peaks_are_found_by_the_names_that_jax_gives(kind, tera):
    assert peak_flops(kind) == (None if tera is None else pytest.approx(tera * 1e12))
