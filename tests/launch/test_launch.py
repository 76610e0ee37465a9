"""The scripts that start a run: what they would run, and that it is what was asked for.

No SLURM, TPU or Kubernetes is needed: a dry run prints the command or the manifest. That the real
run starts the same is checked with a program of that name that says what it was given.
"""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest
import yaml

from emoconv_jax.config import WhisperEmotionConfig

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
BIN = pathlib.Path(sys.executable).parent
FLAGS = ["--config=configs/small.py:recogniser", "--features=F", "--workdir=W"]
AWKWARD = [
    *FLAGS,
    "--config.network.width",
    "64",
    "--bundle=my bundle",
    '--vocoder=it\'s a "bundle"; $(touch hacked) `touch hacked` $HOME & $$(HOST) \\ * ~ ü',
    "",
    "-- two\nlines: {yaml} # no comment",
]
SETTINGS = {
    "train.sh": {},
    "slurm.sh": {},
    "tpu_pod.sh": {"TPU": "pod", "ZONE": "zone", "FOLDER": "my folder"},
    "jobset.sh": {"NAME": "run7", "IMAGE": "a/b:1", "HOSTS": "4", "GPUS": "8", "CLAIM": "speech"},
}
SCRIPTS = list(SETTINGS)
STARTED = {
    "train.sh": "emoconv",
    "slurm.sh": "srun",
    "tpu_pod.sh": "gcloud",
    "jobset.sh": "kubectl",
}
SRUN = ["srun", "--kill-on-bad-exit=1", "emoconv", "train", "--distributed"]


def run(script: str, flags: list[str], **settings: str) -> subprocess.CompletedProcess:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [LAUNCH / script, *flags],
        env=os.environ | {"PATH": path} | SETTINGS[script] | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )


def printed(script: str, flags: list[str], **settings: str) -> str:
    done = run(script, flags, DRY_RUN="1", **settings)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def words_of(line: str, **settings: str) -> list[str]:
    """Returns the words of a command line as a shell that runs it sees them."""
    done = subprocess.run(
        ["bash", "-c", f"said() {{ printf '%s\\0' \"$@\"; }}; said {line}"],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\0")[:-1]


def command_in(manifest: str, host: int) -> list[str]:
    """Returns the words that a pod would run, with Kubernetes' rules for variables."""
    spec = yaml.safe_load(manifest)["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    hosts = (word.replace("$$", "\0").replace("$(HOST)", str(host)) for word in words)
    return [word.replace("\0", "$") for word in hosts]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_run_and_says_how(script):
    text = (LAUNCH / script).read_text()
    header = [line for line in text.splitlines()[1:] if line.startswith("#")]
    assert any(f"launch/{script} " in line and "DRY_RUN=1" in line for line in header)
    assert "\nset -euo pipefail\n" in text
    assert os.access(LAUNCH / script, os.X_OK)


def test_shellcheck_finds_nothing():
    scripts = [str(path.relative_to(ROOT)) for path in sorted(LAUNCH.glob("*.sh"))]
    assert {f"launch/{script}" for script in SCRIPTS} <= set(scripts)
    done = subprocess.run(
        [BIN / "shellcheck", "--external-sources", *scripts],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("heads", ["", "1"])
def test_the_trainings_of_the_small_bundle_run_what_there_is(tmp_path, heads):
    done = subprocess.run(
        [LAUNCH / "train_small.sh", tmp_path, tmp_path / "work"],
        env=os.environ | {"DRY_RUN": "1", "HEADS": heads},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    scripts = [words[1] for words in lines if words[0] == "python"]
    assert scripts and all((ROOT / name).is_file() for name in scripts)
    trained = [words for words in lines if words[:2] == ["emoconv", "train"]]
    assert len(trained) == (3 if heads else 1)
    assert f"--config.network.emotion={WhisperEmotionConfig().embedding}" in trained[-1]
    assert ("--bundle" in trained[-1]) == (not heads)
    assert not (tmp_path / "work").exists()


def test_one_machine_runs_the_plain_command():
    line = printed("train.sh", AWKWARD)
    assert words_of(line) == ["emoconv", "train", *AWKWARD]
    plain = printed("train.sh", [*FLAGS, "--bundle=it's mine"])
    assert shlex.split(plain) == ["emoconv", "train", *FLAGS, "--bundle=it's mine"]


def test_slurm_runs_it_as_a_step_that_saves_before_the_time_limit():
    assert words_of(printed("slurm.sh", AWKWARD)) == [*SRUN, *AWKWARD]
    directives = []
    for line in (LAUNCH / "slurm.sh").read_text().splitlines():
        if not line.startswith("#"):  # sbatch reads no further
            break
        directives += [line.removeprefix("#SBATCH ")] if line.startswith("#SBATCH ") else []
    assert {"--requeue", "--signal=TERM@120"} <= set(directives)


def test_a_pod_runs_it_on_every_host(tmp_path):
    words = words_of(printed("tpu_pod.sh", AWKWARD))
    begin = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=zone", "--worker=all"]
    assert words[:-1] == begin
    remote = words[-1].removeprefix("--command=")
    # what a host's shell makes of it, in a folder like the one that is asked for
    activate = tmp_path / "my folder" / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text('PATH="$PWD/.venv/bin:$PATH"\n')
    says_its_words(activate.with_name("emoconv"))
    done = subprocess.run(["bash", "-c", remote], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split("\0")[:-1] == ["train", "--distributed", *AWKWARD]
    assert not list(tmp_path.rglob("hacked"))


def test_the_jobset_is_one_job_of_numbered_pods_that_find_the_first():
    manifest = yaml.safe_load(printed("jobset.sh", FLAGS))
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert manifest["metadata"]["name"] == "run7"
    assert manifest["spec"]["network"] == {"enableDNSHostnames": True, "subdomain": "run7"}
    (job,) = manifest["spec"]["replicatedJobs"]
    assert (job["name"], job["replicas"]) == ("hosts", 1)
    spec = job["template"]["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (4, 4, "Indexed")
    assert spec["backoffLimit"] == 0  # one pod that fails restarts all
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["image"] == "a/b:1"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert container["env"][0] == {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": index}}}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["data"] == "/data"
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "speech"}


def test_the_jobset_passes_flags_through_whole():
    # a pod's name is JOBSET-JOB-JOBINDEX-PODINDEX, its address that and the service's name
    hosts = ["--coordinator=run7-hosts-0-0.run7:8476", "--host=3", "--hosts=4"]
    manifest = printed("jobset.sh", AWKWARD)
    assert command_in(manifest, host=3) == ["emoconv", "train", *hosts, *AWKWARD]
    odd = yaml.safe_load(printed("jobset.sh", FLAGS, NAME="on", IMAGE="x\nkind: Pod", CLAIM="1"))
    assert odd["kind"] == "JobSet" and odd["metadata"]["name"] == "on"


@pytest.mark.parametrize(
    ("script", "settings", "message"),
    [
        ("tpu_pod.sh", {"TPU": ""}, "TPU: the name of the TPU"),
        ("jobset.sh", {"IMAGE": ""}, "IMAGE: "),
        ("jobset.sh", {"HOSTS": "0"}, "found HOSTS=0 GPUS=8, expected whole numbers"),
        ("jobset.sh", {"GPUS": "8\n}"}, "expected whole numbers"),
    ],
)
def test_what_is_missing_is_named(script, settings, message):
    done = run(script, FLAGS, DRY_RUN="1", **settings)
    assert done.returncode and message in done.stderr and not done.stdout


def says_its_words(path: pathlib.Path) -> None:
    """Makes a program that prints its arguments and what it reads, each with a zero behind."""
    path.write_text('#!/bin/sh\nprintf \'%s\\0\' "$@"\n[ "$1" != apply ] || cat\n')
    path.chmod(0o755)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_real_run_starts_what_the_dry_run_prints(script, tmp_path):
    says_its_words(tmp_path / STARTED[script])
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = run(script, AWKWARD, PATH=path)
    assert done.returncode == 0
    told = printed(script, AWKWARD)
    if script == "jobset.sh":
        assert done.stdout == f"apply\0-f\0-\0{told}"
    else:
        assert [STARTED[script], *done.stdout.split("\0")[:-1]] == words_of(told)


@pytest.mark.slow
def test_the_command_of_a_pod_is_one_that_runs(tmp_path):
    flags = ["--dry_run", FLAGS[0], f"--features={tmp_path}", f"--workdir={tmp_path / 'W'}"]
    words = command_in(printed("jobset.sh", flags), host=0)
    done = subprocess.run(
        [BIN / words[0], *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "recogniser: " in done.stdout
    assert not (tmp_path / "W").exists()
