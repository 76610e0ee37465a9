"""Parts by role: templates from the configuration, variables from the folder."""

import dataclasses

import jax
import numpy as np
import pytest

from emoconv_jax.bundles.format import save_part, write_config
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
    write_config(tmp_path, tiny)
    save_part(tmp_path, role, variables, np.float32)
    found = load_variables(tmp_path, role)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    jax.tree.map(np.testing.assert_array_equal, load_parameters(tmp_path, role), found["params"])


def test_the_recogniser_brings_its_statistics(tiny):
    assert set(template_of("recogniser", tiny)) == {"params", "statistics"}


def test_sizes_come_from_the_configuration(tmp_path, tiny):
    write_config(tmp_path, tiny)
    save_part(tmp_path, "score_network", _zeros(template_of("score_network", tiny)))
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


def _zeros(template):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), template)
