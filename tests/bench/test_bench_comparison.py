"""The comparison with PyTorch: both sides compute the same, and what is told of them is right."""

import dataclasses
import functools
import json
import math
import os
import sys

import numpy as np
import pytest
from tiny_bundle import CONFIG

from emoconv_jax.bench.comparison import measuring, ours, scaling, sections, theirs
from emoconv_jax.bench.comparison.alone import peak_of
from emoconv_jax.bench.comparison.cases import UNET, Case, cases
from emoconv_jax.bench.comparison.diffvc import estimator_of
from emoconv_jax.bench.comparison.measuring import Settings, apart, compare
from emoconv_jax.bench.comparison.scaling import exponent
from emoconv_jax.bench.comparison.table import table
from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin
from emoconv_jax.cli.main import main
from emoconv_jax.config import MelConfig, ScoreNetworkConfig
from emoconv_jax.errors import EmoconvError, UsageError

UNET_SIZES = ScoreNetworkConfig(
    width=16,
    condition_width=16,
    speaker=8,
    multipliers=(1, 2),
    emotion=0,
    reference_block=True,
    head="score",
)
SIZES = {
    **dict.fromkeys(UNET, UNET_SIZES),
    "average_voice": CONFIG.average_voice,
    "wav2vec2": CONFIG.wav2vec2,
    "speaker": CONFIG.speaker,
    "recogniser": CONFIG.recogniser,
    "hifigan": CONFIG.vocoder,
    "mel": MelConfig(),
}


def tiny(kind: str) -> Case:
    return Case(kind, 16, 2, 16, seconds=0.3, config=SIZES[kind], steps=3)


def pair(case: Case, **more):
    network = theirs.network_of(case, **more)
    tensors = network and {name: one.numpy() for name, one in network.state_dict().items()}
    return ours.run_of(case, tensors), theirs.run_of(case, **more)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sampling", "average_voice", "speaker", "hifigan", "wav2vec2"])
def test_both_sides_compute_the_same(kind):
    """What the benchmark gives either side; tests/models compare the networks themselves."""
    found, expected = (run() for run in pair(tiny(kind)))
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5 * np.abs(b).max())
    assert expected[0].std() > 0.01 * np.abs(expected[0]).max()  # it says something


@pytest.mark.slow
def test_both_sides_learn_the_same():
    """Adam's first step moves every weight by its rate whatever the size of its gradient, so a
    second loss that agrees to 1e-3 and differs from the first says that both did it."""
    first, second = zip(*[(run(), run()) for run in pair(tiny("training"))], strict=True)
    for a, b in zip(*first, strict=True):  # the loss, and the norm of its gradient
        np.testing.assert_allclose(a, b, rtol=2e-4)
    np.testing.assert_allclose(second[0][0], second[1][0], rtol=1e-3)
    assert abs(second[1][0] - first[1][0]) > 1e-2 * abs(first[1][0])


@pytest.mark.slow
def test_the_recogniser_takes_the_windows_of_a_long_utterance():
    """Of 428 frames begin windows of 258 at 0, 129 and 258; the last reaches the end."""
    case = dataclasses.replace(tiny("recogniser"), seconds=5)
    found, expected = (run() for run in pair(case))
    sizes = CONFIG.recogniser
    assert [a.shape for a in found] == [(3, sizes.embedding), (3, len(sizes.emotions)), (3,)]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


@pytest.mark.slow
def test_operations_are_counted():
    """A convolution of k taps from i to o channels at n positions is 2 k i o n operations, as is
    that of the generator's first layer; a gradient costs about twice the forward pass."""
    frames, rates = 24, (8, 8, 2, 2)  # .3 s is 25.8 frames, cut to a multiple of 4
    sizes, count = CONFIG.vocoder, 2 * 7 * 80 * 16 * 24
    channels, positions = sizes.channels, frames
    for rate, taps in zip(rates, sizes.upsample_kernels, strict=True):
        count += 2 * taps * channels * (channels // 2) * positions  # transposed: of inputs
        channels, positions = channels // 2, positions * rate
        count += 2 * 2 * 3 * channels * channels * positions  # two dilated ones of three taps
    count += 2 * 7 * channels * positions
    assert theirs.flop_of(tiny("hifigan")) == count
    assert theirs.flop_of(tiny("mel")) is None
    assert theirs.flop_of(tiny("speaker")) is None
    forward, training, sampling = (theirs.flop_of(tiny(kind)) or math.nan for kind in UNET)
    assert sampling == pytest.approx(3 * forward)
    assert training / forward == pytest.approx(3, rel=0.05)


@pytest.mark.slow
def test_what_is_compared_and_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sections, "cases", lambda *_: [tiny("forward")])
    # a process of its own for the case is enough, and a smaller product
    monkeypatch.setattr(sections, "apart", lambda function, *arguments: function(*arguments))
    monkeypatch.setitem(measuring.CEILING_SIZES, "cpu", 512)
    out = tmp_path / "report.json"
    settings = Settings(rounds=2, compile=False)
    found = sections.measure(settings, ["cases"], out=out)["cases"]
    [network] = found["rows"]
    assert len(network["ours_s"]) == len(network["pytorch_s"]) == 2
    assert network["ratio"] == pytest.approx(
        np.median(network["ours_s"]) / np.median(network["pytorch_s"])
    )
    assert network["compiled_s"] is None
    assert network["difference"] < 1e-4 * network["scale"]
    assert found["ceiling"] > network["flop"] / min(network["ours_s"])
    assert json.loads(out.read_text())["cases"]["rows"] == found["rows"]
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert f"{network['ratio']:.2f}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_case_that_is_too_large_is_named_and_not_run():
    """And one whose operations nobody counts is run."""
    settings = Settings(rounds=2, compile=False, apart=False, most_tflop=1e-6)
    row, mel = compare([tiny("forward"), tiny("mel")], settings)
    assert "ours_s" not in row and row["flop"] > 1e6
    assert len(mel["ours_s"]) == 2 and mel["flop"] is None
    about = {"ceiling": 1.0, "rounds": 1, "compute": "float32", "pytorch": "2"}
    about |= {"original": False, "pytorch_device": "cpu", "rows": [row, mel]}
    assert "left out" in table("cases", about)


@pytest.mark.slow
def test_sides_that_differ_are_refused_before_they_are_timed():
    class Other(ScoreNetworkTwin):
        def forward(self, *args):
            return 1.001 * super().forward(*args)

    with pytest.raises(EmoconvError, match="forward, width 16, 2 x 16: the outputs differ by"):
        compare([tiny("forward")], Settings(estimator=Other, apart=False))


def test_a_process_that_ends_before_it_answers_is_told():
    with pytest.raises(EmoconvError, match="_exit: its process has ended"):
        apart(os._exit, 1)


def test_an_exponent_is_the_slope_of_logarithms():
    sizes = [128, 256, 1024]
    assert exponent(sizes, [3e-5 * n**1.5 for n in sizes]) == pytest.approx(1.5)


@pytest.mark.slow
def test_conditions_and_devices_are_measured_through_the_sampler(monkeypatch):
    monkeypatch.setattr(scaling, "DEVICES", (2,))
    small = dataclasses.replace(UNET_SIZES, multipliers=(1,), width=8)
    rows = scaling.simulated(8, rounds=1, config=small)
    assert [(row["devices"], len(row["ours_s"])) for row in rows] == [(2, 1)]
    monkeypatch.setattr(scaling, "Case", functools.partial(Case, config=small))
    monkeypatch.setattr(scaling, "FRAMES", (8,))  # of one number there is no exponent
    monkeypatch.setattr(scaling, "BATCHES", (1,))
    monkeypatch.setattr(scaling, "CONDITIONS", (1, 2))
    found = scaling.growth(8, Settings(rounds=1, compile=False, apart=False))
    assert [row["frames"] for row in found["frames"]["rows"]] == [8]
    assert [row["conditions"] for row in found["conditions"]["rows"]] == [1, 2]
    assert "ours_exponent" in found["conditions"] and "ours_exponent" not in found["frames"]
    assert "n^" in table("scaling", found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "kind", "copies"), [("ours", "forward", 1), ("pytorch", "training", 4)]
)
def test_memory_is_that_of_one_side_alone(side, kind, copies):
    """The libraries hold more than 100 MB. A network of width 32 has some 2.9 M weights, of which
    training holds four times as much: weights, gradients and both moments."""
    case = Case(kind, 32, 1, 16)
    network = theirs.network_of(case)
    assert network is not None
    weights = sum(one.numel() for one in network.parameters())
    found = peak_of(side, case, "float32")
    assert found["import_bytes"] > 1e8
    assert copies * 4 * weights < found["peak_bytes"] < 1e9
    assert found["of"] in ("process", "device")


ORIGINAL = '''
from emoconv_jax.bench.twins.score_network import ScoreNetworkTwin
from emoconv_jax.config import ScoreNetworkConfig

class GradLogPEstimator(ScoreNetworkTwin):
    """Takes what DiffVC's class takes: `b m f`, masks `b 1 f`, references `b 1 m r`."""

    def __init__(self, dim_base, dim_cond, use_ref_t, dim_mults):
        super().__init__(ScoreNetworkConfig(width=dim_base, condition_width=dim_cond, speaker=8,
            multipliers=dim_mults, emotion=0, reference_block=use_ref_t, head="score"))

    def forward(self, x, x_mask, mean, ref, ref_mask, c, t):
        empty = c[:, :0]
        return super().forward(x.transpose(1, 2), mean.transpose(1, 2), x_mask[:, 0], t, c, empty,
            ref[:, 0].transpose(1, 2), ref_mask[:, 0]).transpose(1, 2)
'''


@pytest.mark.slow
def test_the_original_code_takes_the_twins_place(tmp_path):
    for inside in ("own", "repository/DiffVC"):
        (tmp_path / inside / "model").mkdir(parents=True)
        (tmp_path / inside / "model" / "diffusion.py").write_text(ORIGINAL)
        start = tmp_path / inside / "model" / "__init__.py"
        start.write_text("import not_needed_for_the_network")
    own, estimator = (estimator_of(tmp_path / name) for name in ("own", "repository"))
    assert not isinstance(theirs.network_of(tiny("forward"), own), ScoreNetworkTwin)
    network = theirs.network_of(tiny("forward"), estimator)
    assert not isinstance(network, ScoreNetworkTwin)
    found, expected = (run() for run in pair(tiny("forward"), estimator=estimator))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)


def test_a_folder_without_the_original_is_refused(tmp_path):
    with pytest.raises(EmoconvError, match=r"no model/diffusion\.py"):
        estimator_of(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "diffusion.py").write_text("import a_package_that_is_not_there")
    with pytest.raises(EmoconvError, match="needs a_package_that_is_not_there"):
        estimator_of(tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cases", "vocoder"], "--cases: found vocoder, allowed are forward"),
        (["--widths", "12"], "--widths: found 12, allowed are multiples of 8"),
        (["--widths", "wide"], "--widths: found wide, needed are whole numbers"),
        (["--only", "speed"], "--only: found speed, allowed are cases"),
    ],
)
def test_wrong_words_are_refused_in_one_line(words, told, capsys):
    assert main(["bench", *words]) == 2
    assert told in capsys.readouterr().err
    with pytest.raises(UsageError):
        cases(("vocoder",))


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_a_missing_library_is_named_with_what_has_it(library, monkeypatch, capsys):
    for name in list(sys.modules):
        if name.startswith("emoconv_jax.bench.") and not name.endswith(".cases"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)  # so Python says that it is not there
    assert main(["bench"]) == 1
    told = capsys.readouterr().err
    assert f"{library} is not installed; `pip install -e .[bench]` has it" in told
