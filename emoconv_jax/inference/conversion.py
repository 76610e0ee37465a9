"""What a conversion gives: sound that can be saved, drawn and asked how it was made.

Converted speech has to be told from a recording. So a saved file says in its own metadata what made
it (the comment field: one JSON object), and in full in the JSON file beside it.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from emoconv_jax.audio.loudness import match_loudness
from emoconv_jax.audio.prosody import level_db, median_f0_hz
from emoconv_jax.audio.reading import SHORTEST_S
from emoconv_jax.audio.resampling import resample
from emoconv_jax.audio.writing import (
    MOST_COMMENT_BYTES,
    check_output,
    check_suffix,
    write_audio,
)
from emoconv_jax.config import MelConfig
from emoconv_jax.diffusion.plan import EmotionPlan
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import parse_json, read_json, write_text
from emoconv_jax.inference.conversion_picture import MOST_SHOWN_S, Picture, draw
from emoconv_jax.shapes import Float

CAUTION = "synthetic speech: converted by emoconv, not spoken by the person it sounds like"
SOFTWARE = "emoconv "  # how the field of that name begins
MOST_SIDECAR_BYTES = 16 << 20

_IN_METADATA = (
    "notice",
    "software",
    "bundle",
    "bundle_revision",
    "bundle_sha256",
    "match_loudness",
)
_LONGEST_VALUE = 300  # characters of JSON; a curve can have thousands of rows


@dataclasses.dataclass(frozen=True, eq=False)
class Conversion:
    """One converted recording.

    Attributes:
        audio: mono waveform in [-1, 1].
        sample_rate_hz: of it and of `source`.
        mel: the sampled log-mel, at the level of `audio`.
        source: what was converted, mono in [-1, 1]; as long as `audio`, but for the rate "follow".
        plan: the weights it was made with.
        provenance: what made it, JSON-ready.
        mel_config: settings of `mel`.
        wanted: prosody that was asked for at each frame; None where none was.
    """

    audio: Float[np.ndarray, " n"]
    sample_rate_hz: int
    mel: Float[np.ndarray, "f m"]
    source: Float[np.ndarray, " before"]
    plan: EmotionPlan
    provenance: dict[str, Any]
    mel_config: MelConfig = dataclasses.field(default_factory=MelConfig)
    wanted: Float[np.ndarray, "f 3"] | None = None

    @property
    def sample_rate(self) -> int:
        """The sample rate in Hz, under the name other audio libraries use."""
        return self.sample_rate_hz

    @property
    def duration_s(self) -> float:
        """The duration in seconds."""
        return len(self.audio) / self.sample_rate_hz

    def matched(self) -> "Conversion":
        """Returns the conversion made as loud as its source; its provenance says so.

        Raises:
            EmoconvError: pyloudnorm is not installed, or cannot measure one of the two.
        """
        try:
            audio = match_loudness(self.audio, self.source, self.sample_rate_hz)
        except EmoconvError as error:
            raise EmoconvError(f"{self.provenance.get('source', 'waveform')}: {error}") from error
        peaks = [float(np.abs(sound).max()) for sound in (audio, self.audio)]
        gain = peaks[0] / peaks[1] if peaks[1] > 0 else 1.0
        mel = np.maximum(self.mel + np.log(gain), np.log(self.mel_config.floor))
        provenance = {**self.provenance, "match_loudness": True}
        return dataclasses.replace(
            self, audio=audio, mel=mel.astype(np.float32), provenance=provenance
        )

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        sidecar: bool = True,
        sample_rate_hz: int | None = None,
        bits: int = 16,
    ) -> None:
        """Writes the audio, which says what made it, and beside it `<path>.json` with all of that.

        The audio gets its name last, so that what lies under that name is complete.

        Args:
            path: of the audio, WAV, FLAC or OGG by its suffix; its folder must exist.
            sidecar: whether to write the JSON; an older one is removed where not, as it would tell
                of another conversion.
            sample_rate_hz: of the file, 4000 to 384000 (OGG 192000); None is that of the
                conversion.
            bits: of a sample of WAV and FLAC, 16 or 24.

        Raises:
            UsageError: another suffix, sample rate or number of bits.
            EmoconvError: a file cannot be written, earlier ones stay as they were; or
                `<path>.json` is there and none of ours.
        """
        target = pathlib.Path(path)
        container = check_suffix(target)
        rate_hz = self.sample_rate_hz if sample_rate_hz is None else sample_rate_hz
        check_output(container.lower(), rate_hz, bits)
        check_sidecar(target)
        output = {"sample_rate_hz": rate_hz, "bits": None if container == "OGG" else bits}
        text = json.dumps({**self.provenance, "output": output}, indent=1, allow_nan=False) + "\n"
        beside = sidecar_of(target)

        def before() -> None:
            try:
                if sidecar:
                    write_text(beside, text)
                else:
                    beside.unlink(missing_ok=True)
            except OSError as error:
                raise EmoconvError(f"{beside}: cannot be written ({error.strerror})") from None

        write_audio(
            target,
            resample(self.audio, self.sample_rate_hz, rate_hz),
            rate_hz,
            bits=bits,
            software=str(self.provenance.get("software", SOFTWARE)),
            comment=self.comment(),
            before=before,
        )

    def comment(self) -> str:
        """Returns what a file's metadata say of it: the gist of the provenance, as JSON."""
        request = self.provenance.get("request", {})
        gist = {key: self.provenance[key] for key in _IN_METADATA if self.provenance.get(key)}
        gist |= {"emotion": wish(request), "seed": request.get("seed")}
        short = {key: value for key, value in request.items() if _is_short(value)}
        for candidate in ({**gist, "request": short}, gist, {"notice": CAUTION}):
            text = json.dumps(candidate, separators=(",", ":"))
            if len(text) <= MOST_COMMENT_BYTES:
                break
        return text

    def plot(
        self, path: str | os.PathLike[str], *, from_s: float | int = 0.0, title: str = ""
    ) -> None:
        """Draws mel, pitch and level of source and conversion, and the plan's weights.

        Args:
            path: of the picture, PNG or SVG by its suffix; its folder must exist.
            from_s: where it begins, in seconds; at most a minute is shown.
            title: above the picture; empty is what was asked for.

        Raises:
            UsageError: another suffix, or a beginning outside the conversion.
            EmoconvError: the picture cannot be written.
        """
        latest_s = self.duration_s - SHORTEST_S
        if not 0 <= from_s <= max(latest_s, 0.0):
            raise UsageError(f"from_s: found {from_s}, allowed is 0 to {latest_s:.2f}")
        picture = Picture(
            title or f"to {wish(self.provenance.get('request', {}))}",
            self.source,
            self.audio,
            self.mel,
            self.plan,
            self.mel_config,
            self.wanted,
        )
        draw(picture, pathlib.Path(path), float(from_s))

    def summary(self) -> str:
        """Returns what was made and how it differs from its source, as one paragraph."""
        made, request = self.provenance, self.provenance.get("request", {})
        start = slice(0, round(MOST_SHOWN_S * self.sample_rate_hz))
        before, after = (
            (median_f0_hz(sound, self.sample_rate_hz), level_db(sound, self.sample_rate_hz))
            for sound in (self.source[start], self.audio[start])
        )
        heard = "" if self.duration_s <= MOST_SHOWN_S else " (of the first minute)"
        told = {"solver": "by", "latent": "from", "guidance": "guidance", "seed": "seed"}
        said = [f"{word} {_plain(request[key])}" for key, word in told.items() if key in request]
        said += ["made as loud as its source"] if made.get("match_loudness") else []
        where = f" of {made['source']}" if made.get("source") else ""
        return (
            f"{self.duration_s:.1f} s{where} converted to {wish(request)} with "
            f"{made.get('bundle', 'a bundle')} ({made.get('software', SOFTWARE).strip()}): "
            f"{', '.join([f'{self.plan.steps} steps', *said])}; weights: {self.plan.summary()}. "
            f"Median pitch {_pitch(before[0])} before, {_pitch(after[0])} after; level of speech "
            f"{before[1]:.1f} dBFS before, {after[1]:.1f} after{heard}. "
            f"{_by_rule(made.get('prosody'))}"
            f"{made.get('notice', CAUTION).capitalize()}."
        )


def sidecar_of(path: pathlib.Path) -> pathlib.Path:
    """Returns the name of the JSON file beside a conversion.

    Args:
        path: of the audio.
    """
    return path.with_name(path.name + ".json")


def check_sidecar(path: pathlib.Path) -> None:
    """Refuses to write a conversion where the JSON file beside it is there and none of ours.

    Args:
        path: of the audio, which need not exist.

    Raises:
        EmoconvError: such a file; writing or removing it would lose what somebody else wrote.
    """
    beside = sidecar_of(path)
    if not os.path.lexists(beside) or beside.is_dir():  # writing says what is wrong with a folder
        return
    try:
        found = read_json(beside, "a sidecar", MOST_SIDECAR_BYTES)
    except EmoconvError:
        found = None
    if _ours(found) is None:
        raise EmoconvError(
            f"{beside}: is in the way and was not written by emoconv; move it, or choose another "
            "folder for the output"
        )


def wish(request: Mapping[str, Any]) -> str:
    """Returns what a request asks for, in a few words.

    Args:
        request: its fields, as provenance has them.

    Returns:
        Such as "arousal 6" or "happy .6, surprised .4 from neutral".
    """
    found = "another emotion"
    if request.get("arousal") is not None:
        found = f"arousal {request['arousal']:g}"
    elif request.get("curve"):
        found = f"a curve of {', '.join(request['curve']['names'])}"
    elif request.get("mix"):
        total = sum(request["mix"].values())
        shares = {name: f"{weight / total:.2g}" for name, weight in request["mix"].items()}
        found = ", ".join(f"{n} {share.removeprefix('0')}" for n, share in shares.items())
    elif request.get("emotion_ref"):
        found = f"the emotion of {pathlib.PurePath(request['emotion_ref']).name}"
    found += f" from {request['base']}" if request.get("base") else ""
    intensity = request.get("intensity")
    return found + (f" at intensity {intensity:g}" if intensity not in (None, 1) else "")


def made_by_emoconv(comment: str) -> dict[str, Any] | None:
    """Returns what made a file, where it is a conversion, from its comment field.

    Args:
        comment: as `audio.reading.read_header` finds it; anything may be in it.

    Returns:
        The JSON object that `Conversion.save` wrote there, or None where it was not written by
        that.
    """
    if len(comment) > MOST_COMMENT_BYTES:
        return None
    try:
        told = parse_json(comment, "comment")
    except EmoconvError:
        return None
    return _ours(told)


def _ours(told: Any) -> dict[str, Any] | None:
    return told if isinstance(told, dict) and told.get("notice") == CAUTION else None


def _is_short(value: Any) -> bool:
    return value is not None and len(json.dumps(value)) <= _LONGEST_VALUE


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _by_rule(told: Mapping[str, float] | None) -> str:
    """Returns what was asked of prosody as sentences, empty where nothing was."""
    if not told:
        return ""
    level, free = told["level_db"], told["level_unlimited_db"]
    limit = f" (limited, by the emotion {free:+.1f})" if abs(free - level) > 0.1 else ""
    before, after = told["seconds_before"], told["seconds_after"]
    pace = f" Length {before:.2f} s before, {after:.2f} s after." if before != after else ""
    return (
        f"Asked by rule: pitch {told['f0_octaves']:+.2f} octaves, its range times "
        f"{told['range_ratio']:.2f}, level {level:+.1f} dB{limit}.{pace} "
    )


def _pitch(f0_hz: float) -> str:
    return "unvoiced" if np.isnan(f0_hz) else f"{f0_hz:.0f} Hz"
