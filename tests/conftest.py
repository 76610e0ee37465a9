"""Suite-wide settings: shape-checked annotations, JAX's strictest rules, eight simulated devices.

Tests marked `corpora` read recorded speech under $EMOCONV_CORPORA; without it they are deselected.
"""

import gc
import os
import pathlib
import tempfile

import pytest
from jaxtyping import install_import_hook

install_import_hook("emoconv_jax", "beartype.beartype")

# tracing makes millions of small objects and few cycles; looking for these took a tenth of the time
# of test_loop.py
gc.set_threshold(100_000)

# librosa's compiled functions: processes that fill one cache at the same time can damage it, and
# every later run of that environment then crashes
NUMBA_CACHE = tempfile.TemporaryDirectory(prefix="numba-")
os.environ["NUMBA_CACHE_DIR"] = NUMBA_CACHE.name
os.environ["NUMBA_OPT"] = "0"  # compiling them takes longer than all that they do in tests
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # nobody reads the programs' line numbers

# most tests use the first; those of parallel training, and the commands they start, use all
DEVICES = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES}".strip()

import jax  # noqa: E402  (after the hook, so that nothing of ours is imported unchecked)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def pytest_collection_modifyitems(config, items):
    # the longest first: of several processes none should be left with them at the end
    items.sort(key=lambda item: item.path.parent.name != "training")
    if os.environ.get("EMOCONV_CORPORA"):
        return
    wanting = [item for item in items if item.get_closest_marker("corpora")]
    config.hook.pytest_deselected(items=wanting)
    items[:] = [item for item in items if item not in wanting]


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory) -> pathlib.Path:
    """Returns a whole bundle of tiny networks with random weights; nothing may change it."""
    from tiny_bundle import make_bundle

    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory) -> None:
    """Shares compiled networks among the tests, all workers and the commands that they start."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers of this run
    settings = {
        "jax_compilation_cache_dir": str(folder / "compiled"),
        "jax_compilation_cache_max_size": 10**10,  # any limit makes JAX lock the cache
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


@pytest.fixture(scope="session")
def converter(bundle_folder):
    """Returns the converter of that bundle, with the real speaker encoder and vocoder."""
    from emoconv_jax.inference.converter import EmotionConverter

    return EmotionConverter.from_pretrained(bundle_folder)


@pytest.fixture(scope="session")
def speech():
    """Returns 0.7 s of the project's sample: 22 050 Hz, no whole number of hops."""
    from tiny_bundle import read_speech

    return read_speech()
