"""Suite-wide settings: shape-checked annotations, JAX's strictest rules, eight simulated devices.

Tests marked `corpora` read recorded speech under $EMOCONV_CORPORA, those marked `network` fetch
weights from a package index: where these are not to be had they are left out, and named at the end.
"""

import gc
import os
import pathlib
import tempfile

import numba_cache
import pytest
from jaxtyping import install_import_hook

install_import_hook("emoconv_jax", "beartype.beartype")

# tracing makes millions of small objects and few cycles; looking for these took a tenth of the time
# of test_loop.py
gc.set_threshold(100_000)

# librosa's compiled functions, see numba_cache.py
NUMBA_CACHE = tempfile.TemporaryDirectory(prefix="numba-")
os.environ["NUMBA_CACHE_DIR"] = NUMBA_CACHE.name
os.environ["NUMBA_OPT"] = "0"  # compiling them takes longer than all that they do in tests
NUMBA_FILLED = "EMOCONV_TEST_NUMBA_FILLED"  # names the cache to copy
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # nobody reads the programs' line numbers

# most tests use the first; those of parallel training, and the commands they start, use all
DEVICES = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DEVICES}".strip()

import jax  # noqa: E402  (after the hook, so that nothing of ours is imported unchecked)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


LEFT_OUT = {  # marker -> why its tests cannot run here
    "corpora": None if os.environ.get("EMOCONV_CORPORA") else "EMOCONV_CORPORA is not set",
    "network": "EMOCONV_OFFLINE is set" if os.environ.get("EMOCONV_OFFLINE") else None,
}
left_out: dict[str, str] = {}  # test -> why


def pytest_configure(config):
    if getattr(config.option, "numprocesses", None):  # before it starts the others
        filled, process = numba_cache.start()
        os.environ[NUMBA_FILLED] = filled.name
        config.add_cleanup(filled.cleanup)
        config.add_cleanup(process.wait)  # the last comes first


def pytest_runtest_setup():
    if filled := os.environ.get(NUMBA_FILLED):
        numba_cache.take(pathlib.Path(filled), pathlib.Path(NUMBA_CACHE.name))


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item):
    if "preparation" in item.fixturenames:  # whose d-vectors the public encoder makes
        item.add_marker(pytest.mark.network)


@pytest.hookimpl(trylast=True)  # of those that -m and -k leave
def pytest_collection_modifyitems(config, items):
    for item in list(items):
        if whys := [why for mark, why in LEFT_OUT.items() if why and mark in item.keywords]:
            left_out[item.nodeid] = whys[0]
            items.remove(item)
            config.hook.pytest_deselected(items=[item])
    # the longest first: of several processes none should be left with them at the end
    items.sort(key=lambda item: (item.path.parent.name != "training", "slow" not in item.keywords))


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = left_out


@pytest.hookimpl(optionalhook=True)  # of xdist, all of whose processes leave out the same
def pytest_testnodedown(node, error):
    left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter):
    for why in dict.fromkeys(left_out.values()):
        names = [name for name, other in left_out.items() if other == why]
        terminalreporter.section(f"{len(names)} left out: {why}")
        terminalreporter.write_line("\n".join(names))


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
    """Returns the converter of that bundle."""
    from emoconv_jax.inference.converter import EmotionConverter

    return EmotionConverter.from_pretrained(bundle_folder)


@pytest.fixture(scope="session")
def speech():
    """Returns 0.7 s of the project's sample: 22 050 Hz, no whole number of hops."""
    from tiny_bundle import read_speech

    return read_speech()
