"""What arousal does to a clip by rule, where its sound begins and ends, and when its tokens are.

Per step of arousal from 4: F0 1.6 semitones, its range 15 %, speed 5 %, level 2.5 dB, and 1.5 dB
more above 1 kHz. Level is the clip's RMS, -28 dB of full scale at 4.
"""

import math
from collections.abc import Sequence

import numpy as np

from emoconv_jax.audio.resampling import resample

NEUTRAL = 4
SEMITONES, RANGE, SPEED, LEVEL_DB, TILT_DB = 1.6, 0.15, 0.05, 2.5, 1.5
NEUTRAL_DB = -28.0
HIGHEST_PEAK = 0.98  # above it the clip as a whole is softer than its level asks for
TILT_HZ = 1000.0  # half of the tilt; none half an octave below, all of it half an octave above
VOICED_HZ, SURELY_VOICED_HZ = 10.0, 50.0  # Kokoro's source is voiced from the first on
SAMPLE_RATE_HZ = 22_050
MARGIN_S = 0.1  # of silence at both ends
BLOCK_S = 0.01
AUDIBLE_DB = -45.0  # of a block against the loudest
LEAD_S = 0.055  # by which a token's sound comes before its frames
LEAST_PHONE_S = 0.025
FLAP, FLAP_TOKEN = "T", "ɾ"  # letters to phones write the first


def speed_of(arousal: int) -> float:
    """Returns the speed of speech, 1 at arousal 4.

    Args:
        arousal: 1 to 7.
    """
    return 1.0 + SPEED * (arousal - NEUTRAL)


def pitch_of(f0: np.ndarray, arousal: int) -> np.ndarray:
    """Moves and stretches a contour as arousal asks.

    Distances from the voiced median are stretched up to an octave only, so that the edges of
    voiced stretches, where Kokoro's contour runs down to nothing, do not run away.

    Args:
        f0: in Hz, voiceless below VOICED_HZ.
        arousal: 1 to 7.

    Returns:
        The contour, float32, voiceless where it was.
    """
    steps = arousal - NEUTRAL
    voiced = f0 >= VOICED_HZ
    sure = f0[f0 >= SURELY_VOICED_HZ]
    if sure.size == 0:
        return f0.astype(np.float32)
    octaves = np.log2(np.maximum(f0, VOICED_HZ) / np.median(sure))
    moved = SEMITONES * steps / 12 + RANGE * steps * np.clip(octaves, -1.0, 1.0)
    return np.where(voiced, np.maximum(f0 * 2.0**moved, VOICED_HZ), f0).astype(np.float32)


def tilted(audio: np.ndarray, decibels: float, sample_rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    """Raises what is above 1 kHz.

    Args:
        audio: mono.
        decibels: by which.
        sample_rate_hz: of it.

    Returns:
        The audio, as long as it was.
    """
    frequencies = np.fft.rfftfreq(len(audio), 1 / sample_rate_hz)
    octaves = np.log2(np.maximum(frequencies, 1.0) / TILT_HZ)
    gain = 10 ** (decibels * np.clip(octaves + 0.5, 0.0, 1.0) / 20)
    return np.fft.irfft(np.fft.rfft(audio) * gain, len(audio)).astype(np.float32)


def levelled(audio: np.ndarray, arousal: int) -> np.ndarray:
    """Brings a clip to the level of its arousal, never beyond HIGHEST_PEAK.

    Args:
        audio: mono, not silent.
        arousal: 1 to 7.

    Returns:
        The audio times one number.
    """
    rms = math.sqrt(float(np.mean(np.square(audio, dtype=np.float64))))
    gain = 10 ** ((NEUTRAL_DB + LEVEL_DB * (arousal - NEUTRAL)) / 20) / rms
    return (audio * min(gain, HIGHEST_PEAK / float(np.abs(audio).max()))).astype(np.float32)


def sound_span(audio: np.ndarray, sample_rate_hz: int = SAMPLE_RATE_HZ) -> tuple[float, float]:
    """Returns where the sound begins and ends, in seconds.

    Args:
        audio: mono, at least one block of 10 ms.
        sample_rate_hz: of it.
    """
    block = round(BLOCK_S * sample_rate_hz)
    count = len(audio) // block
    power = np.square(audio[: count * block], dtype=np.float64).reshape(count, block).mean(1)
    audible = np.flatnonzero(power >= power.max() * 10 ** (AUDIBLE_DB / 10))
    seconds = block / sample_rate_hz
    return float(audible[0] * seconds), float((audible[-1] + 1) * seconds)


def token_times(
    phones: str, frames: Sequence[int], frame_s: float, sound: tuple[float, float], seconds: float
) -> tuple[list[tuple[str, float, float]], float, float]:
    """Tells when each token is, and what to keep of the audio.

    Kokoro lets the last phone run on through the silence at the end. Here it ends with the sound,
    and the punctuation after it takes the rest.

    Args:
        phones: one letter for each token.
        frames: of each token, the start's and the end's included.
        frame_s: length of a frame.
        sound: where the audio's sound begins and ends.
        seconds: of the audio.

    Returns:
        (token, start, end) in seconds of what is kept, from 0 to its end without gaps, `sil` first;
        and the start and end of what is kept.
    """
    edges = np.cumsum([0, *frames]) * frame_s - LEAD_S
    first_s = max(0.0, min(edges[1], sound[0]) - MARGIN_S)
    spoken = len(phones.rstrip('.,!?;:—…"“”() '))  # tokens up to the last phone
    last_start_s = edges[spoken]
    speech_end_s = max(last_start_s + LEAST_PHONE_S, min(edges[spoken + 1], sound[1]))
    last_s = min(seconds, max(speech_end_s, sound[1]) + MARGIN_S)
    tokens = [("sil", first_s, edges[1])]
    tokens += [(phone, edges[n + 1], edges[n + 2]) for n, phone in enumerate(phones[: spoken - 1])]
    tokens += [(phones[spoken - 1], last_start_s, speech_end_s)]
    after = phones[spoken:].strip() or "sil"
    tokens += [(after[0], speech_end_s, last_s)]
    named = [(FLAP_TOKEN if token == FLAP else token, a, b) for token, a, b in tokens]
    return [(t, float(a - first_s), float(b - first_s)) for t, a, b in named], first_s, last_s


def finished(
    audio: np.ndarray,
    sample_rate_hz: int,
    phones: str,
    frames: Sequence[int],
    frame_s: float,
    arousal: int,
) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """Makes a clip of what the model said.

    Args:
        audio: of the model.
        sample_rate_hz: of it.
        phones: one letter for each token.
        frames: of each token, the start's and the end's included.
        frame_s: length of a frame.
        arousal: 1 to 7.

    Returns:
        The audio at 22 050 Hz, trimmed and at its level, and its tokens as in `token_times`.
    """
    audio = resample(audio, sample_rate_hz, SAMPLE_RATE_HZ)
    audio = tilted(audio, TILT_DB * (arousal - NEUTRAL))
    seconds = len(audio) / SAMPLE_RATE_HZ
    tokens, first_s, last_s = token_times(phones, frames, frame_s, sound_span(audio), seconds)
    kept = audio[round(first_s * SAMPLE_RATE_HZ) : round(last_s * SAMPLE_RATE_HZ)]
    return levelled(kept, arousal), tokens
