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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from emoconv_jax.bundles.format import (
    CONFIG_FILE,
    BundleConfig,
    Imported,
    Roles,
    narrowest,
    part_files,
    read_config,
    save_part,
    write_config,
)
from emoconv_jax.bundles.headers import check_header
from emoconv_jax.bundles.limits import check_limits
from emoconv_jax.bundles.parts import PARTS, load_variables
from emoconv_jax.config import MelConfig, Wav2Vec2Config
from emoconv_jax.errors import EmoconvError, UsageError
from emoconv_jax.files import read_json
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
Tensors = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part as it was read.

    Attributes:
        name: one of PARTS.
        sizes: its configuration, a field of `BundleConfig`.
        variables: Linen collections.
        note: what else was found out about it.
        licence: where the file itself tells.
    """

    name: str
    sizes: Any
    variables: dict[str, Any]
    note: str = ""
    licence: str = UNKNOWN


def import_weights(
    kind: str,
    source: pathlib.Path,
    bundle: pathlib.Path,
    *,
    licence: str | None = None,
    only: Sequence[str] = (),
) -> list[tuple[Imported, str]]:
    """Writes a foreign checkpoint's networks as parts of a bundle; its other parts stay.

    Args:
        kind: a key of FORMATS.
        source: the file or folder.
        bundle: the bundle's folder; made if absent.
        licence: of the weights; None is what is known of the file.
        only: the parts wanted; empty is all that the source has.

    Returns:
        What was written, with a note on each.

    Raises:
        UsageError: an unknown format or part.
        EmoconvError: a file that is refused, by name and field.
    """
    if kind not in FORMATS:
        raise UsageError(f"--format: found {kind!r}, allowed are {', '.join(FORMATS)}")
    for name in only:
        if name not in PARTS:
            raise UsageError(f"--parts: found {name!r}, allowed are {', '.join(PARTS)}")
    files, parts = FORMATS[kind](source)
    parts = [part for part in parts if not only or part.name in only]
    if not parts:
        raise EmoconvError(f"{source}: has none of {', '.join(only or PARTS)}")
    sha256 = _sha256(files)
    written = [
        Imported(
            part=part.name,
            format=kind,
            source=source.name or str(source.resolve().name),
            sha256=sha256,
            licence=licence or LICENCES.get(sha256, part.licence),
        )
        for part in parts
    ]
    config = _config(bundle, parts, written)
    check_limits(config, str(source))
    for part in parts:
        save_part(bundle, part.name, part.variables, narrowest(part.variables))
    write_config(bundle, config)
    return [(entry, part.note) for entry, part in zip(written, parts, strict=True)]


def _sha256(files: Sequence[pathlib.Path]) -> str:
    """Returns the hash of a file, or of the hashes of several."""
    hashes = []
    for path in files:
        with open(path, "rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _config(
    bundle: pathlib.Path, parts: Sequence[Part], written: Sequence[Imported]
) -> BundleConfig:
    """Returns the bundle's configuration with the new parts in their roles."""
    if (bundle / CONFIG_FILE).is_file():
        config = read_config(bundle)
    else:
        name = bundle.resolve().name
        config = BundleConfig(name=name, licence=written[0].licence)
    roles = {
        "wav2vec2": {"emotion": "wav2vec2"},
        "recogniser": {"emotion": "recogniser"},
        "speaker": {"speaker": "bundle"},
        "vocoder": {"vocoder": "bundle"},
    }
    chosen: dict[str, str] = {}
    for part in parts:
        chosen |= roles.get(part.name, {})
        if part.name == "vocoder" and part.sizes.mel != config.mel:
            if part_files(bundle, "score_network") or part_files(bundle, "average_voice"):
                field = next(
                    f.name
                    for f in dataclasses.fields(MelConfig)
                    if getattr(part.sizes.mel, f.name) != getattr(config.mel, f.name)
                )
                found, needed = getattr(part.sizes.mel, field), getattr(config.mel, field)
                raise EmoconvError(
                    f"{bundle}: the vocoder's mel has {field} {found}, the bundle's {needed}; "
                    "they must agree"
                )
            config = dataclasses.replace(config, mel=part.sizes.mel)
    kept = [entry for entry in config.imported if entry.part not in {p.name for p in parts}]
    return dataclasses.replace(
        config,
        **{part.name: part.sizes for part in parts},
        roles=Roles(**(dataclasses.asdict(config.roles) | chosen)),
        imported=tuple(sorted([*kept, *written], key=lambda entry: entry.part)),
    )


def _tensors(value: Any, path: pathlib.Path, entry: str = "") -> Tensors:
    """Returns a PyTorch file's dictionary of tensors, or that of one of its entries."""
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


def _diffvc(source: pathlib.Path) -> tuple[list[pathlib.Path], list[Part]]:
    """Reads vc.pt (names `encoder.encoder.*`, `decoder.estimator.*`) or enc.pt (`encoder.*`)."""
    tensors = _tensors(read_torch_file(source), source, "model")
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
        params = port_average_voice(voice, sizes, str(source))
        parts.append(Part("average_voice", sizes, {"params": params}))
    if network:
        sizes = score_network_sizes(network, str(source))
        params = port_score_network(network, sizes, str(source))
        note = "with its reference block" if sizes.reference_block else ""
        parts.append(Part("score_network", sizes, {"params": params}, note))
    return [source], parts


def _hifigan(source: pathlib.Path) -> tuple[list[pathlib.Path], list[Part]]:
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
    check_limits(BundleConfig("vocoder", UNKNOWN, mel=sizes.mel, vocoder=sizes), str(config_path))
    tensors = _tensors(read_torch_file(path), path, "generator")
    params = port_vocoder(tensors, sizes, str(path))
    return [path], [Part("vocoder", sizes, {"params": params})]


def _ge2e(source: pathlib.Path) -> tuple[list[pathlib.Path], list[Part]]:
    tensors = _tensors(read_torch_file(source), source, "model_state")
    sizes = speaker_sizes(tensors, str(source))
    params = port_speaker(tensors, sizes, str(source))
    return [source], [Part("speaker", sizes, {"params": params})]


def _wav2vec2(source: pathlib.Path) -> tuple[list[pathlib.Path], list[Part]]:
    """Reads a Hugging Face folder; weights of the public size are held against the golden check."""
    config_path = source / CONFIG_FILE
    data = read_json(config_path, "a Hugging Face folder is needed", most_bytes=JSON_BYTES)
    sizes = config_of(data, str(config_path))
    path = source / "model.safetensors"
    if path.is_file():
        tensors = _tensors(_read_safetensors(path), path)
    else:
        path = source / "pytorch_model.bin"
        if not path.is_file():
            raise EmoconvError(f"{source}: neither model.safetensors nor pytorch_model.bin in it")
        tensors = _tensors(read_torch_file(path), path)
    params = port_wav2vec2(tensors, sizes, str(path))
    note, licence = "", UNKNOWN
    if sizes == Wav2Vec2Config():
        try:
            check_public(params, sizes)
            note, licence = "the public weights: the golden check passed", WAV2VEC2_LICENCE
        except EmoconvError as error:
            note = f"not the public weights: {error}"
    return [path], [Part("wav2vec2", sizes, {"params": params}, note, licence)]


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        check_header(path)
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: bfloat16 has no array type
        raise EmoconvError(
            f"{path}: damaged file, or not of float16 or float32 ({error})"
        ) from None


def _own(source: pathlib.Path) -> tuple[list[pathlib.Path], list[Part]]:
    """Reads a bundle, or the parts that are there of one."""
    config = read_config(source)
    parts, files = [], []
    for name in PARTS:
        here = part_files(source, name)
        if here:
            files += here
            variables = load_variables(source, name, config)
            parts.append(Part(name, getattr(config, name), variables, licence=config.licence))
    return files, parts


FORMATS: dict[str, Callable[[pathlib.Path], tuple[list[pathlib.Path], list[Part]]]] = {
    "diffvc": _diffvc,
    "hifigan": _hifigan,
    "ge2e": _ge2e,
    "wav2vec2-dim": _wav2vec2,
    "safetensors": _own,
}
