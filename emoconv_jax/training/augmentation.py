"""What a recogniser hears of a clip while it learns: another voice, room, level each time.

A few actors in one studio teach a network their voices and their microphone. Each example is

    (1) warped      its mel bins stretched by up to 8 %: a longer or shorter vocal tract
    (2) equalised   a tilt of up to 4 dB and two slow waves of up to 3 dB over the bins
    (3) amplified   by up to `gain_db`, so that nothing lives on level alone
    (4) noisy       half of them: steady noise 15 to 50 dB below the clip's mean power
    (5) masked      one band of up to `masked_bands` bins at the floor

Source: (1) Jaitly and Hinton, VTLP (ICML workshop 2013), here on mel bins; (5) SpecAugment (arXiv
1904.08779); (2) and (4) and all strengths are ours.
"""

import math

import jax
import jax.numpy as jnp

from emoconv_jax.config import MelConfig
from emoconv_jax.shapes import Array, Float, Key

WARP = 0.08
TILT_DB, WAVE_DB, WAVES = 4.0, 3.0, (1, 2)
NOISY, NOISE_DB = 0.5, (-50.0, -15.0)
NEPERS = math.log(10) / 20  # per dB, of an amplitude and so of our log-mels


def augment(
    mel: Float[Array, "b f m"], keys: Key[Array, " b"], gain_db: float, masked_bands: int
) -> Float[Array, "b f m"]:
    """Returns each log-mel after (1) to (5).

    Args:
        mel: natural-log mel.
        keys: one per example.
        gain_db: gains are uniform in +-gain_db; a gain in dB adds gain ln(10)/20 to the log-mel.
        masked_bands: widths are uniform in 0..masked_bands.

    Returns:
        The same shape, never below the floor.
    """
    floor = math.log(MelConfig().floor)

    def one(example: Array, key: Array) -> Array:
        warp_key, equaliser_key, gain_key, noise_key, mask_key = jax.random.split(key, 5)
        gain = jax.random.uniform(gain_key, minval=-gain_db, maxval=gain_db) * NEPERS
        heard = _warped(example, warp_key) + _equaliser(example.shape[-1], equaliser_key) + gain
        heard = _masked(_noisy(heard, noise_key), mask_key, masked_bands, floor)
        return jnp.maximum(heard, floor)

    return jax.vmap(one)(mel, keys)


def _warped(mel: Float[Array, "f m"], key: Array) -> Float[Array, "f m"]:
    """Returns the mel with bin k read at k / (1 + w), |w| <= WARP."""
    factor = 1.0 + jax.random.uniform(key, minval=-WARP, maxval=WARP)
    at = jnp.clip(jnp.arange(mel.shape[-1]) / factor, 0.0, mel.shape[-1] - 1.0)
    below = jnp.minimum(at.astype(jnp.int32), mel.shape[-1] - 2)
    share = (at - below)[None]
    return mel[:, below] * (1.0 - share) + mel[:, below + 1] * share


def _equaliser(bins: int, key: Array) -> Float[Array, "1 m"]:
    """Returns what is added to every frame: a tilt and slow waves of random phase."""
    tilt_key, size_key, phase_key = jax.random.split(key, 3)
    x = jnp.linspace(-1.0, 1.0, bins)
    curve = jax.random.uniform(tilt_key, minval=-TILT_DB, maxval=TILT_DB) * x
    sizes = jax.random.uniform(size_key, (len(WAVES),), minval=-WAVE_DB, maxval=WAVE_DB)
    phases = jax.random.uniform(phase_key, (len(WAVES),), maxval=2 * math.pi)
    for number, size, phase in zip(WAVES, sizes, phases, strict=True):
        curve = curve + size * jnp.sin(math.pi * number * x + phase)
    return (curve * NEPERS)[None]


def _noisy(mel: Float[Array, "f m"], key: Array) -> Float[Array, "f m"]:
    """Returns the mel with steady noise added in power, or as it was."""
    chosen_key, level_key, colour_key = jax.random.split(key, 3)
    power = jax.nn.logsumexp(2.0 * mel) - math.log(mel.size)  # our mels are of amplitudes
    low, high = NOISE_DB
    level = 0.5 * power + jax.random.uniform(level_key, minval=low, maxval=high) * NEPERS
    noise = level + _equaliser(mel.shape[-1], colour_key)
    chosen = jax.random.bernoulli(chosen_key, NOISY)
    return jnp.where(chosen, 0.5 * jnp.logaddexp(2.0 * mel, 2.0 * noise), mel)


def _masked(
    mel: Float[Array, "f m"], key: Array, masked_bands: int, floor: float
) -> Float[Array, "f m"]:
    """Returns the mel with one band of bins at the floor."""
    width_key, start_key = jax.random.split(key)
    bins = jnp.arange(mel.shape[-1])
    width = jax.random.randint(width_key, (), 0, masked_bands + 1)
    start = jax.random.randint(start_key, (), 0, mel.shape[-1] - masked_bands)
    return jnp.where(((bins >= start) & (bins < start + width))[None], floor, mel)
