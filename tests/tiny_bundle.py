"""Bundles small enough to make in a test: what `bundle_folder` in conftest.py is made of."""

import dataclasses
import functools
import json
import pathlib

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from emoconv_jax.audio.reading import read_audio
from emoconv_jax.bundles import banks
from emoconv_jax.bundles.format import BundleConfig, Roles, write_bundle
from emoconv_jax.bundles.parts import parts_of, template_of
from emoconv_jax.config import (
    EMOTIONS,
    AverageVoiceConfig,
    RecogniserConfig,
    ScoreNetworkConfig,
    SpeakerConfig,
    VocoderConfig,
    Wav2Vec2Config,
    WhisperAverageVoiceConfig,
    WhisperEmotionConfig,
)
from emoconv_jax.inference.whisper import load_whisper
from emoconv_jax.inference.whisper_roles import fingerprint
from emoconv_jax.models.whisper import WhisperConfig, WhisperEncoder

SAMPLE = pathlib.Path(__file__).parent.parent / "data" / "samples" / "neutral.flac"
# of prosody, per point of arousal: octaves, ln of range, nepers, ln of duration
CHANGE = np.array([0.2, 0.1, 0.3, -0.04], np.float32)
SPEECH_SAMPLES = 15_435  # 0.7 s, 60.3 hops: one padded length of 64 frames, so one compilation

# its embeddings are as wide as the recogniser's, so it can take its place in a bundle
WAV2VEC2 = Wav2Vec2Config(
    hidden=8,
    layers=1,
    heads=2,
    feed_forward=12,
    conv_channels=(4, 4),
    conv_kernels=(10, 8),
    conv_strides=(5, 8),
    position_kernel=4,
    position_groups=2,
)
CONFIG = BundleConfig(
    name="tiny",
    licence="CC0-1.0",
    score_network=ScoreNetworkConfig(
        width=8, multipliers=(1, 2), groups=4, condition_width=8, emotion=8
    ),
    average_voice=AverageVoiceConfig(
        channels=16, feed_forward=16, layers=1, postnet_width=8, postnet_groups=4
    ),
    recogniser=RecogniserConfig(maps=(4,) * 6, linear=8, hidden=4, embedding=8),
    speaker=SpeakerConfig(hidden=8, layers=2),
    vocoder=VocoderConfig(
        resblock=2, channels=16, resblock_kernels=(3,), resblock_dilations=((1, 3),)
    ),
    wav2vec2=WAV2VEC2,
    roles=Roles(speaker="bundle", vocoder="bundle"),
)
# a Whisper of two layers, and heads on it; its weights are written by `whisper_folder`
WHISPER = WhisperConfig(hidden=32, layers=2, heads=2, feed_forward=16, positions=256)
WITH_WHISPER = dataclasses.replace(
    CONFIG,
    name="heads",
    whisper_average_voice=WhisperAverageVoiceConfig(
        states=(1, 2), hidden=32, channels=8, dilations=(1,)
    ),
    whisper_emotion=WhisperEmotionConfig(states=(0, 2), pooled=3, hidden=32, embedding=8),
    roles=dataclasses.replace(
        CONFIG.roles, average_voice="whisper_average_voice", emotion="whisper_emotion"
    ),
)
# its score network runs over frames and is told of prosody
SUNG = dataclasses.replace(
    CONFIG,
    name="sung",
    score_network=ScoreNetworkConfig(
        kind="unet1d", width=16, layers=1, heads=2, condition_width=8, emotion=8, prosody=True
    ),
)
# speaker encoder and vocoder are the public ones, as in emoconv-small
WITH_PUBLIC_PARTS = dataclasses.replace(
    CONFIG, name="public", speaker=SpeakerConfig(), vocoder=VocoderConfig(), roles=Roles()
)
# a config.json as HiFi-GAN's owners publish it, of a small generator
HIFIGAN = {
    "resblock": "1", "upsample_rates": [8, 8, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 16, "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3, 5]], "num_mels": 80, "n_fft": 1024, "hop_size": 256,
    "win_size": 1024, "sampling_rate": 22050, "fmin": 0, "fmax": 8000,
}  # fmt: skip


def make_bundle(folder: pathlib.Path, config: BundleConfig = CONFIG) -> pathlib.Path:
    """Writes parts of random weights, and banks of random embeddings of 80 utterances."""
    generator, parts = np.random.default_rng(0), {}
    for role in parts_of(config):
        template = template_of(role, config)
        draw = functools.partial(_draw, generator)
        parts[role] = jax.tree_util.tree_map_with_path(draw, template)
    write_bundle(folder, config, parts, dtype=np.float16)
    count = 10 * len(EMOTIONS)
    labels = generator.uniform(1, 7, count)
    embeddings = generator.normal(size=(count, config.emotion_width))
    speakers = [f"made/{i % 3}" for i in range(count)]
    made = banks.build(embeddings, labels, labels, list(EMOTIONS) * 10, speakers)
    for level in banks.LEVELS:
        # means: a line through random ones ends far out, where random weights enlarge roundings
        nearest = np.argsort(np.abs(labels - level), kind="stable")[: banks.FEWEST]
        made.vectors[f"arousal/{level}"] = embeddings[nearest].mean(axis=0).astype(np.float32)
    if config.score_network.prosody:
        made.prosody = {name: CHANGE * 0.1 * i for i, name in enumerate(sorted(made.vectors))}
        made.prosody |= {f"arousal/{level}": CHANGE * (level - 3) for level in banks.LEVELS}
        made.prosody["emotion/neutral"] = np.zeros_like(CHANGE)
    banks.save_banks(folder, made)
    return folder


def whisper_folder(folder: pathlib.Path, seed: int = 0) -> pathlib.Path:
    """Writes Hugging Face's files of a small Whisper of random weights."""
    example = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((1, 2, 80), (1, 2))]
    shapes = jax.eval_shape(WhisperEncoder(WHISPER).init, jax.random.key(0), *example)["params"]
    draw = functools.partial(_draw, np.random.default_rng(seed))
    params = jax.tree_util.tree_map_with_path(draw, shapes)
    tensors = {}
    for path, values in flatten_dict(params).items():
        name = "model.encoder." + ".".join(path).replace("layers_", "layers.")
        name = name.replace(".kernel", ".weight").replace(".scale", ".weight")
        name = name.replace("embed_positions", "embed_positions.weight")
        if path[-1] == "kernel":
            values = values.transpose(2, 1, 0) if path[0].startswith("conv") else values.T
        tensors[name] = np.ascontiguousarray(values)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    sizes = {
        "model_type": "whisper",
        "num_mel_bins": WHISPER.mels,
        "d_model": WHISPER.hidden,
        "encoder_layers": WHISPER.layers,
        "encoder_attention_heads": WHISPER.heads,
        "encoder_ffn_dim": WHISPER.feed_forward,
        "max_source_positions": WHISPER.positions,
    }
    (folder / "config.json").write_text(json.dumps(sizes))
    return folder


def heads_config(whisper: pathlib.Path) -> BundleConfig:
    """Returns a bundle's configuration whose heads are for the Whisper in a folder."""
    encoder = fingerprint(load_whisper(whisper)[0])
    heads = {
        name: dataclasses.replace(getattr(WITH_WHISPER, name), encoder=encoder)
        for name in ("whisper_average_voice", "whisper_emotion")
    }
    return dataclasses.replace(WITH_WHISPER, **heads)


def _draw(generator: np.random.Generator, path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Draws weights that keep the size of what passes through; compiling `init` takes seconds."""
    name = path[-1].key
    if name in ("scale", "std") or leaf.ndim < 2:
        return np.full(leaf.shape, 1.0 if name in ("scale", "std", "g") else 0.0, np.float32)
    fan_in = np.prod(leaf.shape[:-1])
    return (generator.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)


def read_speech() -> np.ndarray:
    """Returns a voiced stretch of the sample."""
    audio = read_audio(SAMPLE, 22050)
    return audio[22050 : 22050 + SPEECH_SAMPLES]
