"""Configurations: JSON and back, refusals by name, and every file in configs/."""

import dataclasses
import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest

from emoconv_jax.bundles.format import BundleConfig
from emoconv_jax.config import (
    RecogniserConfig,
    TrainingConfig,
    VocoderConfig,
    from_dict,
    to_dict,
)
from emoconv_jax.errors import EmoconvError
from emoconv_jax.training.trainees import make_trainee

CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))


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


def every_run() -> list[tuple[str, str]]:
    return [(path.name, name) for path in CONFIGS for name in load(path).TRAINEES]


@pytest.mark.parametrize(("file", "trainee"), every_run())
def test_every_configuration_builds(file, trainee):
    settings = load(CONFIGS[0].parent / file).get_config(trainee).to_dict()
    config = from_dict(TrainingConfig, settings)
    assert config.trainee == trainee
    statistics = {"mean": np.zeros((3, 40)), "std": np.ones((3, 40))}
    shapes = jax.eval_shape(make_trainee(config, statistics).init, jax.random.key(0))
    assert len(jax.tree.leaves(shapes)) > 10
    with pytest.raises(EmoconvError, match=r"config\.stepz: unknown field"):
        from_dict(TrainingConfig, settings | {"stepz": 1})
    with pytest.raises(EmoconvError, match=r"network\.widht: unknown field"):
        make_trainee(dataclasses.replace(config, network={"widht": 8}))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_field_can_be_overridden_on_the_command_line(path):
    """A field absent from the file's ConfigDict would be refused by --config.FIELD."""
    module = load(path)
    fields = {field.name for field in dataclasses.fields(TrainingConfig)}
    for trainee in module.TRAINEES:
        assert set(module.get_config(trainee)) == fields


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch", 0),
        ("frames", 0),
        ("steps", 0),
        ("seed", -1),
        ("ema", 2.0),
        ("bank_share", 50.0),
        ("condition_dropout", -1.0),
        ("masked_bands", 200),
        ("learning_rate", -0.1),
    ],
)
def test_a_run_that_no_one_can_mean_is_refused_by_field(field, value):
    with pytest.raises(EmoconvError, match=rf"^{field}: found {value}, allowed is "):
        from_dict(TrainingConfig, {"trainee": "recogniser", field: value})
