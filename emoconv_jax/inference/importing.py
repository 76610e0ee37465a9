"""Foreign checkpoints as parts of a bundle: read, ported by table, written with their origin.

    diffvc         vc.pt, or enc.pt alone: score network with its reference block, average voice
    hifigan        a generator, config.json beside it
    ge2e           pretrained.pt of Resemblyzer or Real-Time-Voice-Cloning
    wav2vec2-dim   a Hugging Face folder: config.json and model.safetensors or pytorch_model.bin
    safetensors    a bundle of ours, or some of its parts

Sizes that a file does not state are read off its tensors' shapes. PyTorch files go through the
restricted reader, so that nothing in them is run; every tensor is used exactly once, or the import
fails with what is missing, unexpected and misshaped.
"""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from emoconv_jax.bundles.banks import BANKS_FILE, Banks, banks_content, load_banks
from emoconv_jax.bundles.format import (
    CONFIG_FILE,
    BundleConfig,
    Imported,
    Roles,
    check_mel,
    part_files,
    read_config,
    write_bundle,
)
from emoconv_jax.bundles.headers import check_header
from emoconv_jax.bundles.limits import check_limits
from emoconv_jax.bundles.parts import PARTS, load_variables, parts_of
from emoconv_jax.config import DiffusionConfig, MelConfig, Wav2Vec2Config
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import MOST_FOREIGN_BYTES, read_json
from emoconv_jax.porting.diffvc import (
    AVERAGE_VOICE_PREFIX,
    SCORE_NETWORK_PREFIX,
    average_voice_sizes,
    port_average_voice,
    port_score_network,
    score_network_sizes,
)
from emoconv_jax.porting.registry import SOURCES
from emoconv_jax.porting.speaker import port_speaker, speaker_sizes
from emoconv_jax.porting.torch_file import read_torch_file
from emoconv_jax.porting.vocoder import port_vocoder, vocoder_sizes
from emoconv_jax.porting.wav2vec2 import check_public, config_of, port_wav2vec2

JSON_BYTES = 1 << 20
UNKNOWN = "unknown"
LICENCES = {source.sha256: source.licence for source in SOURCES.values()}
WAV2VEC2_LICENCE = "CC-BY-NC-SA-4.0"  # of the public weights, by its model card
MEL_PARTS = ("score_network", "average_voice", "recogniser", "vocoder")  # they must share one mel
ROLE_OF_PART = {
    "wav2vec2": {"emotion": "wav2vec2"},
    "recogniser": {"emotion": "recogniser"},
    "speaker": {"speaker": "bundle"},
    "vocoder": {"vocoder": "bundle"},
}
Tensors = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part as it was read.

    Attributes:
        name: one of PARTS.
        sizes: its configuration, a field of `BundleConfig`.
        variables: Linen collections.
        mel: the log-mel it reads or writes; None where it has none or one of its own.
        diffusion: the noise schedule of a score network, and how it converts by default.
        note: what else was found out about it.
        licence: where the file itself tells.
        origin: where a bundle that it is taken from has it from.
    """

    name: str
    sizes: Any
    variables: dict[str, Any]
    mel: MelConfig | None = None
    diffusion: DiffusionConfig | None = None
    note: str = ""
    licence: str = UNKNOWN
    origin: Imported | None = None


@dataclasses.dataclass(frozen=True)
class Found:
    """What a source holds: the files that were read, the parts, target embeddings."""

    files: Sequence[pathlib.Path]
    parts: Sequence[Part]
    banks: Banks | None = None


def import_weights(
    kind: str,
    source: pathlib.Path,
    bundle: pathlib.Path,
    *,
    licence: str | None = None,
    only: Sequence[str] = (),
) -> list[tuple[Imported, str]]:
    """Writes a foreign checkpoint's networks as parts of a bundle; its other parts stay.

    A score network brings its noise schedule along, an emotion encoder of another bundle that
    bundle's banks.

    Args:
        kind: a key of FORMATS.
        source: the file or folder.
        bundle: the bundle's folder; made if absent.
        licence: of the weights; None is what is known of the file.
        only: the parts wanted; empty is all that the source uses.

    Returns:
        What was written, with a note on each. A part that a bundle has from elsewhere keeps that
        origin.

    Raises:
        UsageError: an unknown format or part, or a bundle that is its own source.
        EmoconvError: a part that the source lacks, a file that is refused, by name and field, a mel
            that is not that of the bundle's other parts, or files that cannot be written; the
            bundle stays as it was.
    """
    if kind not in FORMATS:
        raise UsageError(f"--format: found {kind!r}, allowed are {', '.join(FORMATS)}")
    for name in only:
        if name not in PARTS:
            raise UsageError(f"--parts: found {name!r}, allowed are {', '.join(PARTS)}")
    if source.resolve() == bundle.resolve():
        raise UsageError(f"--out: {bundle} is the source, give another folder")
    only = tuple(dict.fromkeys(only))
    found = FORMATS[kind](source, only)
    parts = [part for part in found.parts if not only or part.name in only]
    there = {part.name for part in parts}
    if absent := [name for name in only if name not in there]:
        raise EmoconvError(f"{source}: has no {', '.join(absent)}")
    if not parts:
        raise EmoconvError(f"{source}: has none of {', '.join(PARTS)}")
    sha256 = _sha256(found.files)
    name = source.name or source.resolve().name
    written = []
    for part in parts:
        known = LICENCES.get(sha256, part.licence)
        entry = part.origin or Imported(part.name, kind, name, sha256, licence=known)
        written.append(dataclasses.replace(entry, licence=licence or entry.licence))
    config = _config(bundle, source, parts, written)
    check_limits(config, str(source))
    banks = {BANKS_FILE: banks_content(found.banks)} if found.banks else {}
    notes = [part.note or _note(bundle, part, banks) for part in parts]
    variables = {part.name: part.variables for part in parts}
    try:
        write_bundle(bundle, config, variables, files=banks)
    except OSError as error:
        raise EmoconvError(f"{bundle}: cannot be written ({error.strerror})") from None
    return list(zip(written, notes, strict=True))


def _note(bundle: pathlib.Path, part: Part, banks: Mapping[str, bytes]) -> str:
    """Returns what a user has to do about the banks where an emotion encoder is replaced."""
    if "emotion" not in ROLE_OF_PART.get(part.name, {}) or not (bundle / BANKS_FILE).is_file():
        return ""
    if banks:
        return "the banks were replaced by its own"
    return "the banks are another encoder's; build them anew with `emoconv export --banks`"


def _sha256(files: Sequence[pathlib.Path]) -> str:
    """Returns the hash of a file, or of the hashes of several."""
    hashes = []
    for path in files:
        with open(path, "rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _config(
    bundle: pathlib.Path, source: pathlib.Path, parts: Sequence[Part], written: Sequence[Imported]
) -> BundleConfig:
    """Returns the bundle's configuration with the new parts in their roles."""
    if (bundle / CONFIG_FILE).is_file():
        config = read_config(bundle)
    else:
        name = bundle.resolve().name
        config = BundleConfig(name=name, licence=written[0].licence)
    names = {part.name for part in parts}
    staying = [name for name in MEL_PARTS if name not in names and part_files(bundle, name)]
    mel = config.mel if staying else None
    for part in parts:
        if part.mel and mel:
            check_mel(part.mel, mel, f"{source}: {part.name}: mel", "the bundle's mel")
        mel = mel or part.mel
    mel = mel or config.mel
    roles, changed = dataclasses.asdict(config.roles), {}
    for part in parts:
        roles |= ROLE_OF_PART.get(part.name, {})
        changed |= {"diffusion": part.diffusion} if part.diffusion else {}
    kept = [entry for entry in config.imported if entry.part not in names]
    changed |= {"mel": mel, "vocoder": dataclasses.replace(config.vocoder, mel=mel)}
    changed |= {part.name: part.sizes for part in parts}
    changed["imported"] = tuple(sorted([*kept, *written], key=lambda entry: entry.part))
    return dataclasses.replace(config, roles=Roles(**roles), **changed)


def float_tensors(value: Any, path: pathlib.Path, entry: str = "") -> Tensors:
    """Returns a file's dictionary of tensors, or that of one of its entries, checked.

    Args:
        value: what was read.
        path: of the file, for messages.
        entry: where the tensors lie below a key of this name.

    Raises:
        EmoconvError: no dictionary of tensors, or one that is not of finite floats, by its name.
    """
    if entry and isinstance(value, dict) and entry in value:
        value = value[entry]
    named = isinstance(value, dict) and all(
        isinstance(k, str) and isinstance(v, np.ndarray) for k, v in value.items()
    )
    if not named or not value:
        raise EmoconvError(f"{path}: no dictionary of tensors" + (f" {entry!r}" if entry else ""))
    for name, tensor in value.items():
        if tensor.dtype.kind != "f":
            raise EmoconvError(f"{path}: tensor {name!r:.80} is {tensor.dtype}, expected floats")
        if not np.isfinite(tensor).all():
            raise EmoconvError(f"{path}: tensor {name!r:.80} holds NaN or infinity")
    return value


def _ported(
    name: str,
    sizes: Any,
    port: Callable[[Tensors, Any, str], dict[str, Any]],
    tensors: Tensors,
    path: pathlib.Path,
    **told: Any,
) -> Part:
    """Returns a part whose sizes were checked before a network of them was thought of."""
    own = {"mel": sizes.mel} if name == "vocoder" else {}
    check_limits(BundleConfig(name, UNKNOWN, **own, **{name: sizes}), str(path))
    return Part(name, sizes, {"params": port(tensors, sizes, str(path))}, **own, **told)


def _diffvc(source: pathlib.Path, _: Sequence[str]) -> Found:
    """Reads vc.pt (names `encoder.encoder.*`, `decoder.estimator.*`) or enc.pt (`encoder.*`)."""
    tensors = float_tensors(read_torch_file(source), source, "model")
    whole = any(name.startswith(SCORE_NETWORK_PREFIX) for name in tensors)
    voice, network, others = {}, {}, []
    for name, tensor in tensors.items():
        if not whole:
            voice[name] = tensor
        elif name.startswith(SCORE_NETWORK_PREFIX):
            network[name.removeprefix(SCORE_NETWORK_PREFIX)] = tensor
        elif name.startswith(AVERAGE_VOICE_PREFIX):
            voice[name.removeprefix(AVERAGE_VOICE_PREFIX)] = tensor
        else:
            others.append(name)
    if others:
        raise EmoconvError(f"{source}: unexpected: {', '.join(map(repr, others[:8]))}")
    parts = []
    if voice:
        sizes = average_voice_sizes(voice, str(source))
        mel = MelConfig(mels=sizes.mels)
        parts.append(_ported("average_voice", sizes, port_average_voice, voice, source, mel=mel))
    if network:
        sizes = score_network_sizes(network, str(source))
        note = "with its reference block" if sizes.reference_block else ""
        told: dict[str, Any] = {"mel": MelConfig(mels=sizes.mels), "diffusion": DiffusionConfig()}
        parts.append(
            _ported("score_network", sizes, port_score_network, network, source, note=note, **told)
        )
    return Found([source], parts)


def _hifigan(source: pathlib.Path, _: Sequence[str]) -> Found:
    """Reads a generator; its sizes and mel are in config.json in the same folder."""
    path = source
    if source.is_dir():
        found = [p for p in sorted(source.iterdir()) if p.is_file() and p.name != CONFIG_FILE]
        if len(found) != 1:
            raise EmoconvError(f"{source}: {len(found)} files beside {CONFIG_FILE}, name the one")
        path = found[0]
    config_path = path.parent / CONFIG_FILE
    data = read_json(config_path, "HiFi-GAN's config.json is needed", most_bytes=JSON_BYTES)
    sizes = vocoder_sizes(data, str(config_path))
    tensors = float_tensors(read_torch_file(path), path, "generator")
    return Found([path], [_ported("vocoder", sizes, port_vocoder, tensors, path)])


def _ge2e(source: pathlib.Path, _: Sequence[str]) -> Found:
    tensors = float_tensors(read_torch_file(source), source, "model_state")
    sizes = speaker_sizes(tensors, str(source))
    return Found([source], [_ported("speaker", sizes, port_speaker, tensors, source)])


def _wav2vec2(source: pathlib.Path, _: Sequence[str]) -> Found:
    """Reads a Hugging Face folder; weights of the public size are held against the golden check."""
    config_path = source / CONFIG_FILE
    data = read_json(config_path, "a Hugging Face folder is needed", most_bytes=JSON_BYTES)
    sizes = config_of(data, str(config_path))
    path = source / "model.safetensors"
    if path.is_file():
        tensors = float_tensors(read_safetensors(path), path)
    else:
        path = source / "pytorch_model.bin"
        if not path.is_file():
            raise EmoconvError(f"{source}: neither model.safetensors nor pytorch_model.bin in it")
        tensors = float_tensors(read_torch_file(path), path)
    part = _ported("wav2vec2", sizes, port_wav2vec2, tensors, path)
    if sizes == Wav2Vec2Config():
        try:
            check_public(part.variables["params"], sizes)
            told = {"note": "the public weights: the golden check passed"}
            told["licence"] = WAV2VEC2_LICENCE
        except EmoconvError as error:
            told = {"note": f"not the public weights: {error}"}
        part = dataclasses.replace(part, **told)
    return Found([path], [part])


def read_safetensors(
    path: pathlib.Path, left_out: re.Pattern[str] | None = None
) -> dict[str, np.ndarray]:
    """Reads a foreign safetensors file.

    Args:
        path: of the file.
        left_out: matches whole names of tensors that are not read.

    Returns:
        Name -> array, of the file's types.

    Raises:
        EmoconvError: a damaged file, one that is too large, or of a type that arrays do not have.
    """
    try:
        check_header(path)
        if path.stat().st_size > MOST_FOREIGN_BYTES:
            raise EmoconvError(
                f"{path}: {path.stat().st_size} bytes, at most {MOST_FOREIGN_BYTES} allowed"
            )
        with safe_open(path, framework="numpy") as file:
            names = [n for n in sorted(file.keys()) if not (left_out and left_out.fullmatch(n))]
            return {name: file.get_tensor(name) for name in names}
    # the last two: of a type that arrays do not have, as float8
    except (SafetensorError, OSError, TypeError, AttributeError) as error:
        raise EmoconvError(
            f"{path}: damaged file, or not of float16 or float32 ({error})"
        ) from None


def _own(source: pathlib.Path, only: Sequence[str]) -> Found:
    """Reads the parts that a bundle's roles use, or those wanted, and its banks."""
    config = read_config(source)
    origins = {entry.part: entry for entry in config.imported}
    parts, files, banks = [], [], None
    for name in only or parts_of(config):
        here = part_files(source, name)
        if not here:
            continue
        files += here
        told: dict[str, Any] = {"mel": config.mel} if name in MEL_PARTS else {}
        if name == "score_network":
            told["diffusion"] = config.diffusion
        told |= {"licence": config.licence, "origin": origins.get(name)}
        variables = load_variables(source, name, config)
        parts.append(Part(name, getattr(config, name), variables, **told))
        if name == config.roles.emotion and (source / BANKS_FILE).is_file():
            banks = load_banks(source, config.emotion_width)
            files.append(source / BANKS_FILE)
    return Found(files, parts, banks)


FORMATS: dict[str, Callable[[pathlib.Path, Sequence[str]], Found]] = {
    "diffvc": _diffvc,
    "hifigan": _hifigan,
    "ge2e": _ge2e,
    "wav2vec2-dim": _wav2vec2,
    "safetensors": _own,
}
