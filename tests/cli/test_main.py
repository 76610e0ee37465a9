"""The entry point: help, exit codes, one line per fault, and nothing heavy for a question."""

import pathlib
import resource
import subprocess
import sys

import pytest

from emoconv_jax.cli.convert import parse_mix
from emoconv_jax.cli.main import COMMANDS, main
from emoconv_jax.errors import UsageError

SPLITS = pathlib.Path(__file__).parent.parent.parent / "data" / "splits" / "emoconv-small.json"
HEAVY = ("jax", "tensorflow", "torch", "transformers", "librosa", "soundfile")


@pytest.fixture
def emoconv(monkeypatch, capsys):
    """Runs the command line in this process; returns exit code, stdout and stderr."""

    def run(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["emoconv", *map(str, words)])
        code = main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_lists_every_command(emoconv, word):
    code, out, err = emoconv(word)
    assert (code, err) == (0, "")
    assert all(f"  {name} " in out for name in COMMANDS)


def test_no_words_are_wrong_usage_but_helpful(emoconv):
    code, out, _ = emoconv()
    assert code == 2
    assert "usage: emoconv COMMAND" in out


def test_version_is_the_packages_own(emoconv):
    import emoconv_jax

    assert emoconv("--version") == (0, emoconv_jax.__version__ + "\n", "")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("words", [["--help"], ["in.wav", "--nonsense", "3", "-h"]])
def test_every_command_explains_itself_and_its_flags(emoconv, command, words):
    code, out, err = emoconv(command, *words)
    assert (code, err) == (0, "")
    assert f"usage: emoconv {command}" in out
    assert "\nflags\n  --" in out


@pytest.mark.parametrize("question", ["--help", "--version"])
def test_a_question_loads_nothing_heavy_and_takes_under_a_second(question):
    code = (
        "import sys; from emoconv_jax.cli.main import main; "
        f"assert main([{question!r}]) == 0; "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stderr == "[]\n"
    assert done.stdout
    # Processor time, which does not depend on what else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frob"], "frob: no such command, allowed are convert, demo"),
        (["--frob"], "--frob: no such command"),
        (["convert", "--frob"], "Unknown command line flag 'frob'"),
        (["convert", "a.wav", "--steps"], "Missing value for flag --steps"),
        (["convert", "a.wav", "--steps", "1.5"], "invalid literal for int"),
        (["convert", "a.wav", "--arousal", "high"], "could not convert string to float"),
        (["convert", "--out", "x", "--arousal", "3"], "no input files"),
        (["convert", "a.wav", "--arousal", "3"], "--out: missing"),
        (["convert", "a.wav", "--out=", "--arousal", "3"], "--out: missing"),
        (["prepare", "a"], "--out: missing"),
        (["prepare", "--out", "x"], "give corpora to prepare, --bundle to encode, or both"),
        (["prepare", "a", "--out", "x", "--shard", "0/3"], "--shard: found 0/3, allowed is i/n"),
        (["prepare", "a", "--out", "x", "--shard", "4/3"], "--shard: found 4/3"),
        (["prepare", "a", "--out", "x", "--shard", "1"], "--shard: found 1, allowed"),
        (["prepare", "--out", "x", "--bundle", "b", "--shard", "1/2"], "--shard: goes with corp"),
        (["prepare", "a", "--out", "x", "--alignment", "none"], "auto"),
        (["prepare", "a", "--out", "x", "--workers", "0"], "not a positive"),
        (["train"], "--config: missing"),
        (["train", "--config", "configs/absent.py", "--features", "f", "--workdir", "w"], "absent"),
        (["train", "--config", "configs/small.py:nobody"], "ValueError: 'nobody': no such trainee"),
        (["train", "--config", "configs/small.py:recogniser", "--config.stepz", "3"], "stepz"),
        (["train", "--config", "configs/small.py:recogniser", "--config.steps", "x"], "int"),
        (["export", "--banks", "--out", "x"], "--features: missing"),
        (["export", "--out", "x", "--features", "f"], "give training runs, or --banks"),
        (["export", "run", "--banks", "--out", "x", "--features", "f"], "one of the two"),
        (["evaluate", "x"], "x: unexpected argument"),
        (["evaluate"], "--features: missing"),
        (["demo", "a.wav", "b.wav"], "b.wav: one file at a time"),
        (["bench", "x"], "x: allowed is one of pytorch, batches, preparation"),
        (["bench", "preparation"], "--corpus: missing"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(emoconv, words, message):
    code, out, err = emoconv(*words)
    assert (code, out) == (2, "")
    assert err.startswith("emoconv: ")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "absent", "--out", "x", "--splits", SPLITS], "absent: not a folder"),
        (["prepare", "a", "--out", "x", "--splits", "absent.json"], "absent.json: not found"),
        (["export", "--banks", "--out", "x", "--features", "absent"], "absent/index.json: not fou"),
        (["prepare", "--out", "absent", "--bundle", "b"], "absent/index.json: not found"),
        (
            ["evaluate", "--features=f", "--corpora=c", "--out=o", "--bundle=b"],
            "'b': no such folder; ",
        ),
        (["demo", "--bundle", "absent", "--out", "x"], "'absent': no such folder; allowed are"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(
    emoconv, tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    code, _, err = emoconv(*words)
    assert code == 1
    assert message in err
    assert err.startswith("emoconv: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_flag_given_twice_has_its_last_value(emoconv):
    words = ["convert", "a.wav", "--out", "x", "--arousal", "3", "--steps", "5", "--steps", "0"]
    assert "steps: found 0" in emoconv(*words)[2]


def test_after_two_dashes_everything_is_a_file(emoconv):
    assert "--out: missing" in emoconv("convert", "--", "--frob")[2]


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("happy:0.6,surprised:0.4", {"happy": 0.6, "surprised": 0.4}),
        ("sad", {"sad": 1.0}),
        (" happy:3 , sad:-1 ", {"happy": 3.0, "sad": -1.0}),
        ("happy:.5,sad:1e-3", {"happy": 0.5, "sad": 0.001}),
    ],
)
def test_mixes_are_read(text, weights):
    assert parse_mix(text) == weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a name is missing"),
        (":1", "a name is missing"),
        ("happy:1,", "a name is missing"),
        ("happy:1,,sad:1", "a name is missing"),
        ("happy:", "'' is not a number"),
        ("happy:much", "'much' is not a number"),
        ("happy:1:2", "'1:2' is not a number"),
        ("happy:1,happy:2", "happy twice"),
    ],
)
def test_mixes_that_are_none_are_usage_errors(text, message):
    with pytest.raises(UsageError, match=message):
        parse_mix(text)
