"""Parts by role: templates from the configuration, variables from the folder."""

import dataclasses

import jax
import numpy as np
import pytest

from emoconv_jax.bundles.format import read_config, write_bundle
from emoconv_jax.bundles.parts import (
    ROLES,
    load_parameters,
    load_variables,
    network_of,
    template_of,
)
from emoconv_jax.errors import EmoconvError, UsageError


@pytest.mark.parametrize("role", ROLES)
def test_what_a_network_was_made_of_is_what_its_part_must_hold(tmp_path, tiny, role):
    generator = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape).astype(np.float32), template_of(role, tiny)
    )
    write_bundle(tmp_path, tiny, {role: variables})
    found = load_variables(tmp_path, role)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    jax.tree.map(np.testing.assert_array_equal, load_parameters(tmp_path, role), found["params"])


def test_the_recogniser_brings_its_statistics(tiny):
    assert set(template_of("recogniser", tiny)) == {"params", "statistics"}


def test_sizes_come_from_the_configuration(tmp_path, tiny):
    zeros = _zeros(template_of("score_network", tiny))
    write_bundle(tmp_path, tiny, {"score_network": zeros})
    wider = dataclasses.replace(
        tiny, score_network=dataclasses.replace(tiny.score_network, width=16)
    )
    with pytest.raises(
        EmoconvError, match=r"score_network-1-of-1\.safetensors: tensor params/.* has shape .* exp"
    ):
        load_variables(tmp_path, "score_network", wider)


def test_an_unknown_role_is_refused(tiny):
    with pytest.raises(UsageError, match="role: found 'banks', allowed are score_network, av"):
        network_of("banks", tiny)


@pytest.mark.parametrize(
    ("role", "field", "value"),
    [
        ("score_network", "groups", 5),
        ("score_network", "groups", 0),
        ("score_network", "width", -8),
        ("score_network", "multipliers", ()),
        ("average_voice", "heads", 3),
        ("average_voice", "heads", 0),
        ("average_voice", "channels", 0),
        ("average_voice", "postnet_groups", 3),
        ("recogniser", "bands", 0),
        ("recogniser", "hidden", -1),
    ],
)
def test_sizes_that_make_no_network_are_refused_in_one_line(tiny, role, field, value):
    changed = dataclasses.replace(getattr(tiny, role), **{field: value})
    with pytest.raises(EmoconvError, match=f"tiny: {role} has impossible sizes: ") as caught:
        template_of(role, dataclasses.replace(tiny, **{role: changed}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("field", "value"), [("heads", 3), ("heads", 0), ("width", 0)])
def test_sizes_of_no_network_over_frames_are_refused_too(tiny, field, value):
    over_frames = {"kind": "unet1d", "heads": 2, field: value}
    changed = dataclasses.replace(tiny.score_network, **over_frames)
    with pytest.raises(EmoconvError, match="tiny: score_network has impossible sizes: "):
        template_of("score_network", dataclasses.replace(tiny, score_network=changed))


def test_a_wav2vec2_of_long_windows_asks_for_no_memory(tiny):
    """A first layer of 24 000 samples and a second over as many of its frames: 576 million."""
    sizes = dataclasses.replace(
        tiny.wav2vec2, conv_channels=(2, 2), conv_kernels=(24000, 24000), conv_strides=(24000, 1)
    )
    with pytest.raises(EmoconvError, match=r"wav2vec2 has impossible sizes: .* needs 576000000 s"):
        template_of("wav2vec2", dataclasses.replace(tiny, wav2vec2=sizes))


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("wav2vec2", "layers", 24000),
        ("wav2vec2", "sample_rate_hz", 0),
        ("wav2vec2", "dimensions", 2),
        ("speaker", "mels", 41),
    ],
)
def test_a_foreign_configuration_keeps_to_what_the_encoders_can_be(
    tmp_path, tiny, part, field, value
):
    changed = dataclasses.replace(getattr(tiny, part), **{field: value})
    write_bundle(tmp_path, dataclasses.replace(tiny, **{part: changed}))
    with pytest.raises(EmoconvError, match=rf"{part}\.{field} is {value}, allowed is"):
        read_config(tmp_path)


def _zeros(template):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), template)
