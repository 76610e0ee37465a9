"""Prosody as networks see it: the comb against triangles of cosines, and channels that are away."""

import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from emoconv_jax.models.prosody_inputs import bins, comb, prosody_inputs

MELS = 80
EDGES = librosa.mel_frequencies(MELS + 2, fmin=0.0, fmax=8000.0)


def comb_at(f0_hz, mels=MELS):
    return np.asarray(comb(jnp.full((1, 1), f0_hz, jnp.float32), mels))[0, 0]


def test_bins_are_librosas():
    centres, reach = bins(MELS)
    np.testing.assert_allclose(centres, EDGES[1:-1], rtol=1e-9)
    np.testing.assert_allclose(reach, (EDGES[2:] - EDGES[:-2]) / 2, rtol=1e-9)


def test_harmonics_are_crests_and_what_is_between_them_troughs():
    """Of a voice whose harmonics lie far apart beside a bin: sinc^2(1/10) = .967."""
    centres, reach = bins(MELS)
    k = 9  # below 1 kHz, where bins are equally far apart
    harmonic, between = comb_at(centres[k])[k], comb_at(2 * centres[k])[k]
    assert reach[k] / centres[k] == pytest.approx(0.1)
    assert harmonic == pytest.approx((np.sin(0.1 * np.pi) / (0.1 * np.pi)) ** 2, abs=1e-5)
    assert between == pytest.approx(-((np.sin(0.05 * np.pi) / (0.05 * np.pi)) ** 2), abs=1e-5)


@pytest.mark.parametrize("f0_hz", [80.0, 151.0, 333.0, 600.0])
def test_a_bin_hears_the_mean_of_the_cosine_under_its_triangle(f0_hz):
    """Integrated numerically; the bins above 1 kHz lean a little, by 3 % of their width."""
    found = comb_at(f0_hz)
    for k in range(MELS):
        f = np.linspace(EDGES[k], EDGES[k + 2], 4001)
        rise = (f - EDGES[k]) / (EDGES[k + 1] - EDGES[k])
        fall = (EDGES[k + 2] - f) / (EDGES[k + 2] - EDGES[k + 1])
        weights = np.minimum(rise, fall)
        wanted = np.sum(weights * np.cos(2 * np.pi * f / f0_hz)) / np.sum(weights)
        assert found[k] == pytest.approx(wanted, abs=2e-3 if EDGES[k + 2] < 1000 else 0.06)
    assert np.abs(found).max() <= 1.0


def test_where_a_bin_holds_many_harmonics_nothing_is_left():
    assert np.abs(comb_at(60.0)[60:]).max() < 0.02


def inputs(present, log_f0=7.0, voicing=0.5, energy=-2.0, mask=1.0):
    prosody = jnp.broadcast_to(jnp.array([log_f0, voicing, energy])[None, None], (1, 4, 3))
    given = None if present is None else jnp.array([present])
    return prosody_inputs(prosody, given, jnp.full((1, 4), mask), MELS)


def test_channels_are_centred_and_scaled():
    found = inputs([1.0, 1.0, 1.0])
    np.testing.assert_allclose(found.pitch, -0.5)
    np.testing.assert_allclose(found.voicing, 0.5)
    np.testing.assert_allclose(found.energy, 1.0)
    np.testing.assert_allclose(found.comb[0, 2], 0.5 * comb_at(128.0), atol=1e-6)


@pytest.mark.parametrize("present", [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
def test_an_absent_channel_says_nothing(present):
    """Not even by the comb, which tells of F0 and of voicing."""
    first, second = inputs(present), inputs(present, 8.0 - present[0], 1 - 0.5 * present[1], -3.0)
    for name, channel in (("pitch", 0), ("voicing", 1), ("energy", 2)):
        assert np.any(np.asarray(getattr(first, name))) == bool(present[channel])
    if not present[2]:
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.any(np.asarray(first.comb)) == (present == [1.0, 1.0, 0.0])


def test_without_prosody_and_in_padding_there_is_nothing():
    nothing = prosody_inputs(None, None, jnp.ones((1, 4)), MELS)
    for found in (nothing, inputs(None), inputs([1.0] * 3, mask=0.0)):
        assert not any(np.any(np.asarray(array)) for array in found[:4])
    assert not np.any(np.asarray(nothing.present))


def test_an_utterance_without_voice_has_no_pitch():
    found = inputs([1.0, 1.0, 1.0], log_f0=0.0, voicing=0.0)
    assert not np.any(np.asarray(found.pitch)) and not np.any(np.asarray(found.comb))
