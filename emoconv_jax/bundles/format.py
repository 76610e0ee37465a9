"""A bundle: the folder in which a model is published and from which it is loaded.

    config.json              what fills each role, the mel, the noise schedule, names, licence
    <role>-<i>-of-<n>.safetensors   parameters, flattened names 'a/b/c', float16
    banks.safetensors        target embeddings (see `bundles.banks`)
    README.md                the model card

Tensors and JSON only: loading a bundle cannot run code. Names, shapes and types are checked against
the configuration before any array is built.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from emoconv_jax.bundles.headers import check_header
from emoconv_jax.bundles.limits import check_limits
from emoconv_jax.config import (
    AverageVoiceConfig,
    DiffusionConfig,
    MelConfig,
    RecogniserConfig,
    ScoreNetworkConfig,
    SpeakerConfig,
    VocoderConfig,
    Wav2Vec2Config,
    WhisperAverageVoiceConfig,
    WhisperEmotionConfig,
    from_dict,
    to_dict,
)
from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import read_json, replacing

CONFIG_FILE = "config.json"
FORMAT = 1
SHARD_BYTES = 14_000_000  # small enough for any Git host
HEADER_BYTES = 200  # that a tensor's entry in a file's header takes at most, beside its name
CONFIG_BYTES = 1 << 20
HASH_BLOCK_BYTES = 1 << 20
FLOAT_TYPES = ("F16", "F32")


@dataclasses.dataclass(frozen=True)
class Roles:
    """Which implementation fills a role.

    Attributes:
        average_voice: "average_voice", DiffVC's encoder, or "whisper_average_voice", a head on
            Whisper's.
        emotion: "recogniser", the ACRNN, "wav2vec2", the dimensional recogniser, or
            "whisper_emotion", a head on Whisper's encoder.
        speaker: "registry", public weights that are fetched once, or "bundle", tensors in it.
        vocoder: the same.
    """

    average_voice: str = "average_voice"
    emotion: str = "recogniser"
    speaker: str = "registry"
    vocoder: str = "registry"


@dataclasses.dataclass(frozen=True)
class Imported:
    """Where a part came from.

    Attributes:
        part: "average_voice", "vocoder" ...
        format: a key of `inference.importing.FORMATS`.
        source: name of the file.
        sha256: of it.
        licence: of its weights, "unknown" where nobody said.
    """

    part: str
    format: str
    source: str
    sha256: str
    licence: str


@dataclasses.dataclass(frozen=True)
class BundleConfig:
    """The content of `config.json`.

    Attributes:
        name: of the bundle.
        licence: SPDX identifier of the weights.
        format: of the folder, 1.
        mel: settings that every part and the vocoder share.
        roles: which implementation fills the roles that have several.
        imported: where parts that were not trained here came from, one entry per part.
    """

    name: str
    licence: str
    format: int = FORMAT
    mel: MelConfig = dataclasses.field(default_factory=MelConfig)
    diffusion: DiffusionConfig = dataclasses.field(default_factory=DiffusionConfig)
    score_network: ScoreNetworkConfig = dataclasses.field(default_factory=ScoreNetworkConfig)
    average_voice: AverageVoiceConfig = dataclasses.field(default_factory=AverageVoiceConfig)
    recogniser: RecogniserConfig = dataclasses.field(default_factory=RecogniserConfig)
    speaker: SpeakerConfig = dataclasses.field(default_factory=SpeakerConfig)
    vocoder: VocoderConfig = dataclasses.field(default_factory=VocoderConfig)
    wav2vec2: Wav2Vec2Config = dataclasses.field(default_factory=Wav2Vec2Config)
    whisper_average_voice: WhisperAverageVoiceConfig = dataclasses.field(
        default_factory=WhisperAverageVoiceConfig
    )
    whisper_emotion: WhisperEmotionConfig = dataclasses.field(default_factory=WhisperEmotionConfig)
    roles: Roles = dataclasses.field(default_factory=Roles)
    imported: tuple[Imported, ...] = ()

    @property
    def emotion_width(self) -> int:
        """Width of the embeddings that the emotion role gives."""
        widths = {"recogniser": self.recogniser.embedding, "wav2vec2": self.wav2vec2.hidden}
        return widths.get(self.roles.emotion, self.whisper_emotion.embedding)


def read_config(folder: pathlib.Path) -> BundleConfig:
    """Reads and checks a bundle's `config.json`.

    Args:
        folder: of the bundle.

    Returns:
        The configuration.

    Raises:
        EmoconvError: not a bundle, unknown fields, another format, a value out of range, or a
            vocoder whose mel is not the bundle's.
    """
    path = folder / CONFIG_FILE
    expected = f"a bundle is a folder with a {CONFIG_FILE}"
    data = read_json(path, expected, most_bytes=CONFIG_BYTES)
    # First, because another format may have other fields.
    if isinstance(data, dict) and data.get("format", FORMAT) != FORMAT:
        raise EmoconvError(f"{path}: format is {data['format']!r:.40}, this version reads {FORMAT}")
    config = from_dict(BundleConfig, data, f"{path}:")
    check_limits(config, str(path))
    check_mel(config.vocoder.mel, config.mel, f"{path}: vocoder.mel", "the bundle's mel")
    if config.score_network.prosody:  # whose comb lies on these frequencies
        check_mel(config.mel, MelConfig(), f"{path}: mel", "a score network with prosody")
    return config


def check_mel(found: MelConfig, needed: MelConfig, what: str, whose: str) -> None:
    """Refuses two mels that differ, by the first field in which they do.

    Args:
        found: one of them.
        needed: the other.
        what: the first one's place, for the message.
        whose: the second one's.

    Raises:
        EmoconvError: they differ.
    """
    for field in dataclasses.fields(MelConfig):
        one, other = getattr(found, field.name), getattr(needed, field.name)
        if one != other:
            raise EmoconvError(
                f"{what}.{field.name} is {one}, {whose} has {other}; they must agree"
            )


def fingerprint(folder: pathlib.Path) -> str:
    """Returns the SHA-256 of a bundle's configuration and tensors, names included.

    Args:
        folder: of the bundle.

    Raises:
        EmoconvError: a name of such a file that is a folder, pipe or device.
    """
    digest = hashlib.sha256()
    for path in sorted([folder / CONFIG_FILE, *folder.glob("*.safetensors")]):
        if not path.is_file():
            raise EmoconvError(f"{path}: not a regular file")
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with open(path, "rb") as file:
            while block := file.read(HASH_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def write_bundle(
    folder: pathlib.Path,
    config: BundleConfig,
    parts: Mapping[str, Any] | None = None,
    *,
    dtype: Any = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Writes `config.json`, parts and other files beside their places, then renames all of them.

    An error while they are written leaves the folder as it was. A process that is killed between
    the renames may leave old and new files side by side; loading refuses those whose numbers of
    shards differ or that do not fit the configuration, and writing again mends them.

    Args:
        folder: of the bundle; made if absent. What is not named stays as it is.
        config: the content of `config.json`.
        parts: role -> nested dict of arrays.
        dtype: the type they are stored in; None is float16 where that loses nothing, else float32.
        files: name -> content.

    Raises:
        EmoconvError: a value that the type cannot hold, by the tensor's name.
        OSError: a file cannot be written.
    """
    parts, content = parts or {}, dict(files or {})
    shards: dict[str, dict[str, np.ndarray]] = {}
    for role, params in parts.items():
        shards |= _shards(role, params, dtype or narrowest(params))
    content[CONFIG_FILE] = (json.dumps(to_dict(config), indent=1) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(*(folder / name for name in (*shards, *content))) as partial:
        for path, shard in zip(partial, shards.values(), strict=False):
            path.write_bytes(save(shard))
        for path, text in zip(partial[len(shards) :], content.values(), strict=True):
            path.write_bytes(text)
    for role in parts:
        for old in part_files(folder, role):
            if old.name not in shards:
                old.unlink()


def _shards(role: str, params: Any, dtype: Any) -> dict[str, dict[str, np.ndarray]]:
    """Divides a part over files of at most SHARD_BYTES, or of a single tensor, by file name."""
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for path, values in flatten_dict(params).items():
        name = "/".join(path)
        with np.errstate(over="ignore"):
            # safetensors writes memory as it lies: a transposed view would come back scrambled
            array = np.array(values, dtype=dtype, order="C")
        if not np.isfinite(array).all():
            raise EmoconvError(f"{role}: tensor {name} holds values that {array.dtype} cannot")
        size += array.nbytes + HEADER_BYTES + len(name)
        if size > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = array.nbytes + HEADER_BYTES + len(name)
        shards[-1][name] = array
    return {
        f"{role}-{number}-of-{len(shards)}.safetensors": shard
        for number, shard in enumerate(shards, 1)
    }


def narrowest(params: Any) -> Any:
    """Returns the type that stores parameters without changing any: float16 where it can.

    Args:
        params: nested dict of arrays.

    Returns:
        np.float16 or np.float32.
    """
    leaves: Any = flatten_dict(params).values()
    with np.errstate(over="ignore"):
        exact = all(np.array_equal(a, np.asarray(a, np.float16)) for a in leaves)
    return np.float16 if exact else np.float32


def part_files(folder: pathlib.Path, role: str) -> list[pathlib.Path]:
    """Returns the shards of a role, in order of their names.

    Args:
        folder: of the bundle.
        role: the file name's stem.

    Returns:
        Paths; empty where the bundle lacks the role.
    """
    return sorted(folder.glob(f"{role}-*-of-*.safetensors"))


def check_shards(files: Sequence[pathlib.Path]) -> None:
    """Refuses shards of one role that say different numbers of shards.

    Args:
        files: as `part_files` returns them.

    Raises:
        EmoconvError: they do, by two files that differ.
    """
    for path in files:
        if path.name.rpartition("-of-")[2] != files[0].name.rpartition("-of-")[2]:
            raise EmoconvError(
                f"{files[0]}: {path.name} beside it is of another write; "
                "import or export the part again"
            )


def load_part(folder: pathlib.Path, role: str, template: Any) -> dict[str, Any]:
    """Reads one role's parameters after checking every name, shape and type.

    Args:
        folder: of the bundle.
        role: the file name's stem.
        template: nested dict of `jax.ShapeDtypeStruct`, from `jax.eval_shape` of the network.

    Returns:
        The nested dict in float32.

    Raises:
        EmoconvError: a missing, extra or wrong-shaped tensor, by name; a damaged file; or shards of
            different writes.
    """
    files = part_files(folder, role)
    check_shards(files)
    if not files:
        raise EmoconvError(f"{folder}: no {role}-*.safetensors; the bundle lacks this part")
    return load_tensors(files, template, f"{folder}: {role}")


def load_tensors(files: list[pathlib.Path], template: Any, where: str) -> dict[str, Any]:
    """Reads safetensors files that together hold exactly the template's leaves.

    Args:
        files: the shards.
        template: nested dict of shapes.
        where: for messages.

    Returns:
        The nested dict in float32.

    Raises:
        EmoconvError: as `load_part`.
    """
    leaves: Any = flatten_dict(template)
    wanted = {"/".join(path): tuple(leaf.shape) for path, leaf in leaves.items()}
    arrays: dict[str, np.ndarray] = {}
    for path in files:
        try:
            check_header(path)
            with safe_open(path, framework="numpy") as file:
                for name in sorted(file.keys()):
                    _check(file.get_slice(name), name, wanted, str(path))
                    if name in arrays:
                        raise EmoconvError(f"{path}: tensor {name} is stored twice")
                    arrays[name] = file.get_tensor(name).astype(np.float32)
                    if not np.isfinite(arrays[name]).all():
                        raise EmoconvError(f"{path}: tensor {name} holds NaN or infinity")
        except (SafetensorError, OSError) as error:
            raise EmoconvError(f"{path}: damaged file ({error})") from None
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise EmoconvError(f"{where}: tensor {missing[0]} is missing ({len(missing)} in all)")
    return unflatten_dict({tuple(name.split("/")): array for name, array in arrays.items()})


def _check(view: Any, name: str, wanted: dict[str, tuple[int, ...]], where: str) -> None:
    """Refuses a tensor by its header, before its data is read."""
    shape = tuple(view.get_shape())
    if name not in wanted:
        raise EmoconvError(f"{where}: unexpected tensor {name!r:.80} {shape!r:.80}")
    if shape != wanted[name]:
        raise EmoconvError(
            f"{where}: tensor {name} has shape {shape!r:.80}, expected {wanted[name]}"
        )
    if view.get_dtype() not in FLOAT_TYPES:
        allowed = ", ".join(FLOAT_TYPES)
        raise EmoconvError(f"{where}: tensor {name} is {view.get_dtype()}, allowed are {allowed}")
