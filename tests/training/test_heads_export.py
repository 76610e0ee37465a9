"""A trained head as a part of a bundle: it fills its role and names its Whisper."""

import pytest
from runs import TINY, settings, train

from emoconv_jax.bundles.format import part_files, read_config
from emoconv_jax.bundles.parts import load_variables
from emoconv_jax.errors import UsageError
from emoconv_jax.training.export import export

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("trainee", ["whisper_emotion", "whisper_average_voice"])
def test_a_head_is_exported_with_its_encoder(store, tmp_path, trainee):
    target = "parallel" if trainee == "whisper_average_voice" else "phones"
    train(settings(trainee, steps=1, target=target), store, tmp_path / "run")
    with pytest.raises(UsageError, match=rf"^--features: missing; {trainee} "):
        export(tmp_path / "run", tmp_path / "bundle")
    assert export(tmp_path / "run", tmp_path / "bundle", store) == (trainee, 1)
    config = read_config(tmp_path / "bundle")
    assert trainee in (config.roles.emotion, config.roles.average_voice)
    assert getattr(config, trainee).encoder == store.encoder == "e" * 64
    assert getattr(config, trainee).hidden == TINY[trainee]["hidden"]
    statistics = load_variables(tmp_path / "bundle", trainee).get("statistics")
    assert (statistics is not None) == (trainee == "whisper_emotion")


def test_what_it_takes_the_role_of_is_gone_and_other_parts_stay(store, tmp_path):
    bundle = tmp_path / "bundle"
    for trainee in ("average_voice", "recogniser", "whisper_emotion"):
        train(settings(trainee, steps=1), store, tmp_path / trainee)
        export(tmp_path / trainee, bundle, store)
    held = {name: bool(part_files(bundle, name)) for name in TINY if name != "score_network"}
    assert held == {
        "average_voice": True,
        "recogniser": False,
        "whisper_emotion": True,
        "whisper_average_voice": False,
    }
