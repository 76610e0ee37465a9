"""However a preparation runs, and however often it is killed, its files are the same bytes."""

import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from tones import SETTINGS, make_corpus

from emoconv_jax.cli.main import main
from emoconv_jax.errors import EmoconvError
from emoconv_jax.pipeline.prepare import Running, prepare
from emoconv_jax.pipeline.shard_runner import WORKER_ENVIRONMENT, map_shards
from emoconv_jax.pipeline.splits import load_splits
from emoconv_jax.pipeline.store import INDEX, SHARDS

pytestmark = pytest.mark.slow
CHILD = """
import sys, pathlib
from emoconv_jax.pipeline.extraction import Settings
from emoconv_jax.pipeline.prepare import Running, prepare
from emoconv_jax.pipeline.splits import load_splits
if __name__ == "__main__":
    corpus, out, splits, workers = sys.argv[1:]
    prepare([corpus], pathlib.Path(out), load_splits(splits),
            settings=Settings(shard_utterances=2), running=Running(workers=int(workers)))
"""


def run(corpus: pathlib.Path, out: pathlib.Path, **options) -> int:
    options.setdefault("log", lambda line: None)
    splits = load_splits(corpus.parent / "splits.json")
    _, rejected = prepare([str(corpus)], out, splits, settings=SETTINGS, running=Running(**options))
    return rejected


def digest(folder: pathlib.Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(preparation) -> dict[str, str]:
    return digest(preparation.folder)


def test_an_undisturbed_preparation_is_whole(undisturbed):
    shards = {path.split("/")[1] for path in undisturbed if path.startswith(SHARDS)}
    assert shards == {"00000", "00001", "00002", "00003"}
    assert {INDEX, "targets.f32", "speaker.f32", "rejected.tsv", "plan.json"} <= set(undisturbed)


def test_killed_again_and_again_it_continues_to_the_same_bytes(corpus, undisturbed, tmp_path):
    """Killed when the first shards appear, and again in two worker processes a shard later."""
    script, out = tmp_path / "child.py", tmp_path / "out"
    script.write_text(CHILD)
    for count, workers in ((1, 1), (3, 2)):
        words = [str(corpus), str(out), str(corpus.parent / "splits.json"), str(workers)]
        child = subprocess.Popen(
            [sys.executable, str(script), *words],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while child.poll() is None and len(list(out.glob(f"{SHARDS}/[0-9]*"))) < count:
            time.sleep(0.005)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        assert len(list(out.glob(f"{SHARDS}/[0-9]*"))) >= count
    assert not (out / INDEX).exists()
    run(corpus, out)
    found = {path: value for path, value in digest(out).items() if ".part" not in path}
    assert found == undisturbed
    # what the killed left half-written is gone as well
    assert not [path for path in out.rglob("*") if ".part" in path.name]


def test_the_threads_of_the_caller_change_nothing(corpus, undisturbed, tmp_path):
    """A caller without the workers' environment, one thread per core, for one worker."""
    script, out = tmp_path / "child.py", tmp_path / "out"
    script.write_text(CHILD)
    plain = {name: v for name, v in os.environ.items() if name not in WORKER_ENVIRONMENT}
    # how the suite has programs compiled is another matter
    flags = os.environ.get("XLA_FLAGS", "").split()
    plain["XLA_FLAGS"] = " ".join(set(flags) - {WORKER_ENVIRONMENT["XLA_FLAGS"]})
    words = [str(corpus), str(out), str(corpus.parent / "splits.json"), "1"]
    subprocess.run(
        [sys.executable, str(script), *words], check=True, capture_output=True, env=plain
    )
    assert digest(out) == undisturbed


def test_the_jobs_of_an_array_make_the_same(corpus, undisturbed, tmp_path):
    out = tmp_path / "out"
    for job in (2, 3, 1):
        run(corpus, out, share=(job, 3))
        assert not (out / INDEX).exists()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("mel.f16")}
    run(corpus, out)
    assert digest(out) == undisturbed
    assert {path: path.stat().st_mtime_ns for path in times} == times  # none was made twice


def test_beam_makes_the_same(corpus, undisturbed, tmp_path):
    run(corpus, tmp_path / "out", runner="beam")
    assert digest(tmp_path / "out") == undisturbed


def test_a_built_dataset_gives_the_features_of_its_folder(corpus, undisturbed, tmp_path):
    """All clips are mono of 16 bits, which a dataset keeps exactly; it has no phone times."""
    from emoconv_jax.pipeline.datasets import build

    dataset = build(corpus, tmp_path / "datasets", log=lambda line: None)
    run_on = prepare(
        [str(dataset)],
        tmp_path / "out",
        load_splits(corpus.parent / "splits.json"),
        settings=SETTINGS,
        running=Running(log=lambda line: None),
    )
    assert run_on[1] == 0
    found = digest(tmp_path / "out")
    same = [name for name in undisturbed if name.endswith(("mel.f16", "speaker.f32"))]
    assert len(same) == 9  # four shards, and all the d-vectors
    assert {name: found[name] for name in same} == {name: undisturbed[name] for name in same}


@pytest.mark.network
def test_the_command_ends_with_one_for_rejects_and_with_zero_if_they_are_allowed(
    tmp_path, capsys, monkeypatch
):
    corpus = make_corpus(tmp_path / "corpus")
    (corpus / "low.flac").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    words = ["prepare", "corpus", "--out", "features", "--splits", "splits.json"]
    assert main(words) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 rejected, see features/rejected.tsv"
    assert (tmp_path / "features" / INDEX).exists()
    assert main([*words, "--allow_rejects"]) == 0


def die(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_worker_that_dies_ends_the_run_with_a_word_about_it():
    with pytest.raises(EmoconvError, match=r"a worker process died .* again to continue"):
        list(map_shards(die, [1, 2, 3], "test", 3, workers=2))


def test_processes_keep_the_order_of_the_jobs():
    words = ["x" * n for n in (3, 1, 2, 5, 4)] * 4
    assert list(map_shards(len, words, "test", len(words), workers=2)) == list(map(len, words))
