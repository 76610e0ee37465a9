"""Prosody as a network sees it: F0, voicing, energy, and the harmonics of F0 on the mel axis.

A harmonic voice of pitch F0 has energy at the multiples of F0. Its comb

    c(f) = cos(2 pi f / F0)                                                                     (1)

is 1 at harmonics and -1 between them. A mel bin hears a triangle of frequencies around its centre
f_k, from f_k - d_k to f_k + d_k, and so the mean of (1) under that triangle,

    c_k = cos(2 pi f_k / F0) sinc^2(d_k / F0),    sinc(x) = sin(pi x) / (pi x)                  (2)

which dies away where several harmonics fall into one bin. It is multiplied by the voicing.
"""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from emoconv_jax.audio.columns import LOG2_F0, LOG_ENERGY, VOICING
from emoconv_jax.config import MelConfig
from emoconv_jax.shapes import Array, Float

CHANNELS = 3
LOWEST_F0 = 20.0  # Hz, so that no division is by zero where a frame has no F0
PITCH_CENTRE = 7.5  # log2 of 181 Hz, between voices of both sexes
ENERGY_CENTRE, ENERGY_SCALE = -4.0, 2.0  # nepers: of speech at -35 dBFS; its usual spread
BREAK_HZ, LINEAR_HZ, STEPS = 1000.0, 200.0 / 3.0, 27.0 / math.log(6.4)  # of Slaney's mel scale


class ProsodyInputs(NamedTuple):
    """What a network reads of the prosody; channels that are absent are zero.

    Attributes:
        pitch: log2 F0 less `PITCH_CENTRE`, 0 where nothing is voiced.
        voicing: 0 to 1.
        energy: log energy, centred and scaled.
        comb: eq. (2), absent without both F0 and voicing.
        present: 1.0 where a channel is given.
    """

    pitch: Float[Array, "b f"]
    voicing: Float[Array, "b f"]
    energy: Float[Array, "b f"]
    comb: Float[Array, "b f m"]
    present: Float[Array, "b 3"]


def prosody_inputs(
    prosody: Float[Array, "b f 3"] | None,
    present: Float[Array, "b 3"] | None,
    mask: Float[Array, "b f"],
    mels: int,
) -> ProsodyInputs:
    """Returns stored prosody as a network reads it.

    Args:
        prosody: log2 F0 (0 where nothing is voiced), voicing and log energy of each frame.
        present: 1.0 where a channel is given; None, or no prosody, is none of them.
        mask: 1.0 on real frames.
        mels: of the log-mel, which spans the frequencies of `config.MelConfig`.
    """
    if prosody is None or present is None:
        prosody = jnp.zeros((*mask.shape, CHANNELS), mask.dtype)
        present = jnp.zeros((len(mask), CHANNELS), mask.dtype)
    real = mask[:, :, None] * present[:, None]
    log_f0, voicing, energy = (prosody[:, :, i] for i in range(CHANNELS))
    pitch = jnp.where(log_f0 > 0, log_f0 - PITCH_CENTRE, 0.0) * real[:, :, LOG2_F0]
    harmonic = voicing * real[:, :, VOICING] * real[:, :, LOG2_F0] * (log_f0 > 0)
    return ProsodyInputs(
        pitch=pitch,
        voicing=voicing * real[:, :, VOICING],
        energy=(energy - ENERGY_CENTRE) / ENERGY_SCALE * real[:, :, LOG_ENERGY],
        comb=comb(jnp.exp2(log_f0), mels) * harmonic[:, :, None],
        present=present,
    )


def comb(f0_hz: Float[Array, "b f"], mels: int) -> Float[Array, "b f m"]:
    """Returns eq. (2), -1 to 1.

    Args:
        f0_hz: of each frame.
        mels: how many bins `config.MelConfig`'s frequencies are divided into.
    """
    centres, reach = bins(mels)
    f0_hz = jnp.maximum(f0_hz, LOWEST_F0)[:, :, None]
    damping = jnp.square(jnp.sinc(jnp.asarray(reach, f0_hz.dtype)[None, None] / f0_hz))
    return jnp.cos(2 * jnp.pi * jnp.asarray(centres, f0_hz.dtype)[None, None] / f0_hz) * damping


@functools.cache
def bins(mels: int) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Returns f_k and d_k of the mel bins in Hz; Slaney's scale, as `audio.mel` has it.

    Args:
        mels: how many.
    """
    config = MelConfig()
    mel = np.linspace(_mel_of(config.low_hz), _mel_of(config.high_hz), mels + 2)
    first_log = BREAK_HZ / LINEAR_HZ
    above = BREAK_HZ * np.exp((np.maximum(mel, first_log) - first_log) / STEPS)
    edges = np.where(mel < first_log, mel * LINEAR_HZ, above)
    return edges[1:-1], (edges[2:] - edges[:-2]) / 2


def _mel_of(hz: float) -> float:
    """Returns Slaney's mel of a frequency: linear to 1 kHz, then 27 steps per factor of 6.4."""
    if hz < BREAK_HZ:
        return hz / LINEAR_HZ
    return BREAK_HZ / LINEAR_HZ + STEPS * math.log(hz / BREAK_HZ)
