"""What a conversion is compared with: speech that was changed less, or without a network.

    source           the recording itself
    copy_synthesis   its mel through the vocoder: what the vocoder alone costs
    average_voice    its average voice Y through the vocoder: what is left without voice and emotion
    signal           pitch, its range, rate, level and tilt moved by rule towards the target arousal
    level            level alone moved by that rule: a trick that a recogniser may fall for

A rule moves by the difference d of target and heard arousal of the source:

    (1)  log F0' = m + s (log F0 - m) + 1.6 d semitones,  s = 1 + .15 d,  m the utterance's median
    (2)  rate' = rate (1 + .05 d),  level' = level + 2.5 d dB,  tilt' = tilt + 1.5 d dB above 1 kHz

Source: the steps of (1) and (2) are those that the project's synthetic speech was made with; the
analysis and synthesis are WORLD's (Morise, Yokomori and Ozawa, IEICE Trans. E99-D(7), 2016).
"""

from typing import Any

import numpy as np

from emoconv_jax.audio.mel import log_mel
from emoconv_jax.inference.converter import EmotionConverter
from emoconv_jax.shapes import Float

SEMITONES, RANGE, RATE, LEVEL_DB, TILT_DB = 1.6, 0.15, 0.05, 2.5, 1.5  # per step of arousal
TILT_HZ = 1000.0
LEAST_RANGE, LEAST_RATE = 0.1, 0.5  # of a rule far below the source
LOWEST_F0_HZ, HIGHEST_F0_HZ = 50.0, 900.0  # that WORLD is asked for
FRAME_MS = 5.0
PEAK = 0.99

SOURCE = "source"
UNCHANGED = (SOURCE, "copy_synthesis", "average_voice")  # of no target
BY_RULE = ("signal", "level")  # towards an arousal


def unchanged(
    name: str, audio: Float[np.ndarray, " n"], converter: EmotionConverter
) -> Float[np.ndarray, " m"]:
    """Returns a yardstick that has no target.

    Args:
        name: of UNCHANGED.
        audio: the source at the mel's sample rate.
        converter: whose vocoder and average voice are used.

    Returns:
        A waveform at the same rate.
    """
    if name == "source":
        return audio
    mel = log_mel(audio, converter.config.mel)
    if name == "average_voice":
        mel = converter.average_voice(mel, audio)
    return converter.vocoder(mel)


def signal(audio: Float[np.ndarray, " n"], rate_hz: int, steps: float) -> Float[np.ndarray, " m"]:
    """Returns speech moved by (1) and (2).

    Args:
        audio: the source.
        rate_hz: its sample rate.
        steps: d, of arousal.

    Returns:
        A waveform, shorter or longer than the source.
    """
    import pyworld

    world: Any = pyworld
    x = audio.astype(np.float64)
    f0, times = world.harvest(
        x, rate_hz, f0_floor=LOWEST_F0_HZ, f0_ceil=HIGHEST_F0_HZ, frame_period=FRAME_MS
    )
    envelope = world.cheaptrick(x, f0, times, rate_hz)
    noisiness = world.d4c(x, f0, times, rate_hz)
    voiced = f0 > 0
    if voiced.any():
        semitones = 12 * np.log2(f0[voiced])
        middle, spread = np.median(semitones), max(1 + RANGE * steps, LEAST_RANGE)
        f0[voiced] = 2 ** ((middle + spread * (semitones - middle) + SEMITONES * steps) / 12)
    frequencies = np.linspace(0, rate_hz / 2, envelope.shape[1])
    tilt_db = np.where(frequencies > TILT_HZ, TILT_DB * steps, 0.0)
    envelope = envelope * 10 ** (tilt_db / 10)[None]
    pace = max(1 + RATE * steps, LEAST_RATE)
    at = np.round(np.arange(0, len(f0) - 1, pace)).astype(int)
    y = world.synthesize(
        *(np.ascontiguousarray(one[at]) for one in (f0, envelope, noisiness)), rate_hz, FRAME_MS
    )
    return level(y.astype(np.float32), steps)


def level(audio: Float[np.ndarray, " n"], steps: float) -> Float[np.ndarray, " n"]:
    """Returns speech with its level alone moved by (2), as far as full scale allows.

    Args:
        audio: the source.
        steps: d, of arousal.

    Returns:
        A waveform of the same length.
    """
    loud = audio * np.float32(10 ** (LEVEL_DB * steps / 20))
    return loud * min(1.0, PEAK / max(float(np.abs(loud).max()), 1e-9))
