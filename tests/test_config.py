"""Configurations: JSON and back, refusals by name, and every file in configs/."""

import dataclasses
import functools
import importlib.util
import json
import pathlib
import shlex
import sys

import jax
import pytest
from absl import flags as absl_flags

from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.cli import train
from emoconv_jax.config import (
    NETWORKS,
    RecogniserConfig,
    ScoreNetworkConfig,
    TrainingConfig,
    VocoderConfig,
    from_dict,
    runs_of,
    to_dict,
)
from emoconv_jax.errors import EmoconvError
from emoconv_jax.training.trainees import blank_statistics, make_trainee

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize(
    "config",
    [
        VocoderConfig(resblock=2, resblock_dilations=((1, 2), (2, 6), (3, 12))),
        RecogniserConfig(maps=(4,), emotions=("neutral", "angry")),
        BundleConfig(name="żółw", licence="MIT"),
        TrainingConfig("recogniser", network={"linear": 8}, splits=("a",), learning_rate=1e-300),
    ],
)
def test_json_and_back_is_the_same(config):
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


def test_to_dict_holds_nothing_that_json_would_change():
    data = to_dict(TrainingConfig("recogniser", network={"maps": (4, 8), "deep": {"er": (1,)}}))
    assert data["network"] == {"maps": [4, 8], "deep": {"er": [1]}}
    assert json.loads(json.dumps(data)) == data


def test_absent_fields_keep_their_defaults():
    assert from_dict(VocoderConfig, {"mel": {"hop_samples": 128}}) == VocoderConfig(
        mel=dataclasses.replace(VocoderConfig().mel, hop_samples=128)
    )


def test_whole_numbers_are_floats_where_a_float_is_asked_for():
    found = from_dict(TrainingConfig, {"trainee": "recogniser", "clip": 2})
    assert (type(found.clip), found.clip) == (float, 2.0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "top: found list, expected an object"),
        ({"mell": {}}, "top.mell: unknown field, allowed are: mel, resblock"),
        ({"mel": {"hop": 1}}, "top.mel.hop: unknown field, allowed are: sample_rate_hz"),
        ({"mel": {"mels": 80.0}}, r"top.mel.mels: found float 80.0, expected int"),
        ({"mel": {"mels": True}}, r"top.mel.mels: found bool True, expected int"),
        ({"mel": {"floor": "1"}}, r"top.mel.floor: found str '1', expected float"),
        ({"mel": {"floor": float("nan")}}, r"top.mel.floor: found nan, expected a finite number"),
        ({"mel": {"floor": 10**400}}, r"top.mel.floor: found 10*, expected a finite number"),
        ({"mel": 3}, r"top.mel: found int, expected an object"),
        ({"upsample_rates": 8}, r"top.upsample_rates: found int, expected a list"),
        (
            {"resblock_dilations": [[1, 3], [1, "3"]]},
            r"top.resblock_dilations\[1\]\[1\]: found str",
        ),
    ],
)
def test_refusals_name_the_field(data, message):
    with pytest.raises(EmoconvError, match=message) as caught:
        from_dict(VocoderConfig, data, "top")
    assert "\n" not in str(caught.value)


def test_a_field_without_default_must_be_there():
    with pytest.raises(EmoconvError, match=r"^run\.json: trainee: missing"):
        from_dict(TrainingConfig, {}, "run.json:")


def load(path: pathlib.Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILES = {path.name: load(path) for path in CONFIGS}
RUNS = [(name, trainee) for name, module in FILES.items() for trainee in module.TRAINEES]


def config_of(file: str, trainee: str) -> TrainingConfig:
    return from_dict(TrainingConfig, FILES[file].get_config(trainee).to_dict())


@functools.cache
def leaves(trainee: str, network: str) -> list[jax.ShapeDtypeStruct]:
    """Returns the parameters' shapes of a network given as JSON; nothing is computed."""
    config = TrainingConfig(trainee, network=json.loads(network))
    trainee = make_trainee(config, blank_statistics(config))
    shapes = jax.eval_shape(trainee.init, jax.random.key(0))
    return jax.tree.leaves(shapes)


def sizes(file: str, trainee: str) -> list[jax.ShapeDtypeStruct]:
    return leaves(trainee, json.dumps(to_dict(config_of(file, trainee))["network"]))


def command_line(words: list[str], monkeypatch) -> absl_flags.FlagValues:
    """Returns the flags of `emoconv train` with these words, typed in the repository's root."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["emoconv", "train", *words])  # ml_collections reads it too
    flags = absl_flags.FlagValues()
    train.define(flags)
    assert flags(["emoconv train", *words]) == ["emoconv train"]
    return flags


@pytest.mark.parametrize(("file", "trainee"), RUNS)
def test_every_configuration_builds(file, trainee):
    config = config_of(file, trainee)
    assert config.trainee == trainee
    assert len(sizes(file, trainee)) > 5
    with pytest.raises(EmoconvError, match=r"config\.stepz: unknown field"):
        from_dict(TrainingConfig, to_dict(config) | {"stepz": 1})
    with pytest.raises(EmoconvError, match=r"network\.widht: unknown field"):
        make_trainee(dataclasses.replace(config, network={"widht": 8}))


@pytest.mark.parametrize(("file", "trainee"), RUNS)
def test_every_field_can_be_overridden_on_the_command_line(file, trainee):
    """A field absent from the file's ConfigDict would be refused by --config.FIELD."""
    found = FILES[file].get_config(trainee)
    assert set(found) == {field.name for field in dataclasses.fields(TrainingConfig)}
    assert set(found.network) == {field.name for field in dataclasses.fields(NETWORKS[trainee])}


def test_what_the_command_line_says_counts(monkeypatch):
    words = ["--config=configs/paper.py:score_network", "--config.compute=float32"]
    words += ["--config.network.width=16", "--config.network.multipliers=(1,2)", "--config.clip=2"]
    config = from_dict(TrainingConfig, command_line(words, monkeypatch).config.to_dict())
    assert (config.compute, config.clip) == ("float32", 2.0)
    assert make_trainee(config).network_config == ScoreNetworkConfig(
        width=16, multipliers=(1, 2), head="score", emotion=1024
    )


def test_a_run_has_what_its_file_changes_and_the_rest_of_the_base():
    get_config = runs_of({"score_network": {"network": {"width": 8}, "batch": 2}})
    found = from_dict(TrainingConfig, get_config("score_network").to_dict())
    base = config_of("base.py", "score_network")
    assert found == dataclasses.replace(base, batch=2, network=base.network | {"width": 8})
    with pytest.raises(ValueError, match="'recogniser': no such trainee, allowed are score_netw"):
        get_config("recogniser")
    with pytest.raises(ValueError, match="'': no such trainee"):  # --config without :TRAINEE
        get_config()


@pytest.mark.parametrize("wrong", [{"stepz": 1}, {"network": {"widht": 8}}])
def test_a_slip_in_a_file_is_not_passed_over(wrong):
    with pytest.raises(TypeError, match=r"unexpected keyword argument '(stepz|widht)'"):
        runs_of({"score_network": wrong})("score_network")


def test_the_papers_sizes_are_the_published_ones():
    """DiffVC's encoder, and its U-Net but for the 0.56 M of its RefBlock and what feeds from it."""
    trainees = FILES["paper.py"].TRAINEES
    count = {trainee: sum(leaf.size for leaf in sizes("paper.py", trainee)) for trainee in trainees}
    assert count["average_voice"] == 8_464_529
    assert count["score_network"] == pytest.approx(117_794_599, rel=0.006)


@pytest.mark.parametrize("file", FILES)
def test_every_file_opens_with_commands_that_work(file, monkeypatch):
    lines = [line.strip() for line in FILES[file].__doc__.splitlines()]
    commands = [shlex.split(line)[2:] for line in lines if line.startswith("emoconv train ")]
    seen = []
    for words in commands:
        assert words[0].startswith(f"--config=configs/{file}:")
        flags = command_line(words, monkeypatch)
        seen.append(flags.config.trainee)
        assert flags.features
        assert flags.workdir
    assert seen == list(FILES[file].TRAINEES)
    assert any(line.startswith("Result: ") for line in lines)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch", 0),
        ("frames", 0),
        ("steps", 0),
        ("seed", -1),
        ("ema", 2.0),
        ("bank_share", 50.0),
        ("emotion_dropout", -1.0),
        ("masked_bands", 200),
        ("learning_rate", -0.1),
    ],
)
def test_a_run_that_no_one_can_mean_is_refused_by_field(field, value):
    with pytest.raises(EmoconvError, match=rf"^{field}: found {value}, allowed is "):
        from_dict(TrainingConfig, {"trainee": "recogniser", field: value})
