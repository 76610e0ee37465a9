"""The measurement of conversions: its arithmetic and what it runs, not how fast this machine is."""

import json
import sys

import numpy as np
import pytest

from emoconv_jax.bench import conversion
from emoconv_jax.bench.conversion import Settings, measure, table, tiled
from emoconv_jax.bench.report import save_section
from emoconv_jax.bench.timing import Times, in_turn, watched
from emoconv_jax.errors import EmoconvError


def test_a_ratio_is_of_medians_and_its_spread_of_rounds():
    found = Times((3.0, 1.0, 8.0)).over(Times((1.0, 2.0, 4.0)))
    assert found == (3.0 / 2.0, 0.5, 3.0)


def test_jobs_run_in_turn_after_each_has_run_once():
    ran = []
    jobs = {name: (lambda name=name: ran.append(name)) for name in "ab"}
    times = in_turn(jobs, 2, "")
    assert ran == list("ab" * 3)
    assert [len(times[name].runs_s) for name in "ab"] == [2, 2]  # the first round is not counted
    assert all(0 <= run_s < 1 for run_s in times["a"].runs_s)


def test_a_clip_is_repeated_or_cut_to_length():
    clip = np.arange(10, dtype=np.float32)
    assert tiled(clip, 2.5, 10).tolist() == [*range(10), *range(10), *range(5)]
    assert tiled(clip, 0.4, 10).tolist() == [0, 1, 2, 3]


def test_a_commands_memory_is_its_own():
    """This process, with JAX in it, holds more than the first of the two; the second asks for 300
    MB and touches them."""
    _, small, printed = watched([sys.executable, "-c", "print('words', 1)"])
    spent_s, large, _ = watched([sys.executable, "-c", "x = bytearray(b'1') * 300_000_000"])
    assert printed == "words 1\n"
    assert 1e6 < small < 1e8
    assert 3e8 < large < 4.5e8
    assert spent_s > 0
    with pytest.raises(EmoconvError, match="ended with exit code 3"):
        watched([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_report_keeps_the_sections_that_are_not_measured(tmp_path):
    out = tmp_path / "report.json"
    save_section(out, "speed", {"rows": [1]})
    save_section(out, "plans", {"rows": [2]})
    save_section(out, "speed", {"rows": [3]})
    report = json.loads(out.read_text())
    assert {name: section["rows"] for name, section in report.items()} == {
        "speed": [3],
        "plans": [2],
    }
    assert report["speed"]["machine"]["versions"]["jax"]
    out.write_text("[]")
    with pytest.raises(EmoconvError, match="no report of a benchmark"):
        save_section(out, "speed", {})


@pytest.mark.slow
def test_every_section_measures_what_it_says(bundle_folder, speech, tmp_path):
    out, lines = tmp_path / "report.json", []
    settings = Settings(
        speech,
        rounds=1,
        steps=(2,),
        plan_steps=(10,),
        run_steps=1,
        minutes=0.02,
        clips=2,
        solvers=("heun",),
    )
    found = measure(str(bundle_folder), settings, conversion.SECTIONS, out, lines.append)
    assert json.loads(out.read_text()).keys() == found.keys() == set(conversion.SECTIONS)
    speed = found["speed"]["rows"]
    assert [(r["solver"], r["steps"]) for r in speed] == [("heun", 2), ("bundle", 2)]
    for row in speed:
        assert row["seconds_per_second"] == pytest.approx(row["runs_s"][0] / (len(speech) / 22050))
    noise, own = found["plans"]["rows"]
    assert noise["counted"] == pytest.approx((4 * 1 + 4 * 2 + 2 * 1) / 10)  # EmoMix at T = 10
    assert own["counted"] == pytest.approx(1.4)  # this bundle sets out from noise, unguided
    assert noise["ratio"] == noise["emomix_s"][0] / noise["single_s"][0]
    (file,) = found["memory"]["rows"]
    assert file["seconds_per_second"] == pytest.approx(file["spent_s"] / 1.2)
    assert file["peak_bytes"] > 1e8  # Python with JAX alone has more
    (batch,) = found["batches"]["rows"]
    assert batch["ratio"] == batch["batch_s"][0] / batch["single_s"][0]
    assert "".join(lines).count("aim") == 2
    assert "heun" in table("speed", speed)
