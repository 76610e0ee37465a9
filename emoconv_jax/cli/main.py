"""The entry point `emoconv`: finds the command, parses its flags, turns errors into exit codes.

Exit codes: 0 done (and --help), 1 a job failed, 2 wrong usage. A command is a module with
`define(flags)`, `run(flags, positional) -> exit code` and a docstring that teaches; it is imported
only when it is called, so that `emoconv --help` answers at once.
"""

import importlib
import io
import keyword
import sys
from types import ModuleType

from absl import flags as absl_flags

from emoconv_jax.errors import EmoconvError, UsageError

COMMANDS = {
    "convert": "convert speech to another emotion",
    "demo": "convert a sample to several emotions and show the result as a page",
    "fetch": "fetch the public weights that a bundle converts with, for use without a network",
    "build": "turn a corpus folder into a TFDS dataset",
    "prepare": "turn corpora into training features",
    "data_report": "show what prepared features hold, and what will hurt",
    "train": "train an encoder, a head on Whisper or the score network",
    "export": "write what a run has trained as a part of a bundle",
    "import": "take public weights of other systems into a bundle",
    "encode": "say what the encoders hear in recordings: voice, emotion, arousal",
    "evaluate": "measure conversions of held-out speech",
    "bench": "time the networks, training, batches or preparation on this machine",
}
FLAGS_ONLY = ("train", "evaluate")  # every other command takes files or folders as well
HELP = ("-h", "--help", "-help", "help")


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: words after `emoconv`; the process's own where None.

    Returns:
        The exit code.
    """
    words = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        # file names need not be text; a log in a file is to be read while the work goes on
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    if not words or words[0] in HELP:
        print(_overview())
        return 0 if words else 2
    name, rest = words[0], words[1:]
    if name == "--version":
        print(importlib.import_module("emoconv_jax").__version__)
        return 0
    if name not in COMMANDS:
        return _fail(f"{name}: no such command, allowed are {', '.join(COMMANDS)}", 2)
    stem = name + "_" * keyword.iskeyword(name)  # `import` cannot be a module's name
    module = importlib.import_module(f"emoconv_jax.cli.{stem}")
    flags = absl_flags.FlagValues()
    module.define(flags)
    if any(word in HELP[:3] for word in rest):
        print(_help(name, module, flags))
        return 0
    try:
        positional = flags([f"emoconv {name}", *rest])[1:]
    except (absl_flags.Error, AttributeError, TypeError, ValueError) as error:
        # The latter three: a field that the file of --config does not have.
        return _fail(f"{_reason(error)} (see `emoconv {name} --help`)", 2)
    if positional and name in FLAGS_ONLY:
        return _fail(f"{positional[0]}: unexpected argument; see `emoconv {name} --help`", 2)
    return _run(module, flags, positional)


def _run(module: ModuleType, flags: absl_flags.FlagValues, positional: list[str]) -> int:
    """Runs a command; whatever can go wrong in the world outside ends in one line."""
    try:
        return module.run(flags, positional)
    except UsageError as error:
        return _fail(str(error), 2)
    except EmoconvError as error:
        return _fail(str(error), 1)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "emoconv_jax":
            raise
        return _fail(f"{error.name} is not installed; `pip install -e .[all]` has it", 1)
    except OSError as error:  # a full disk, a folder that may not be written
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _reason(error: Exception) -> str:
    """Returns what went wrong, without the traceback that a file of --config is reported with."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines if "Traceback" not in str(error) else [lines[0], lines[-1]])


def _fail(message: str, code: int) -> int:
    print("emoconv: " + " ".join(message.split()), file=sys.stderr)
    return code


def _overview() -> str:
    rows = [f"  {name:<13}{text}" for name, text in COMMANDS.items()]
    example = "  emoconv convert in.wav --out converted --arousal 6"
    return "\n".join(
        [
            "emoconv: speech in, the same words in the same voice with another emotion out.",
            "",
            "usage: emoconv COMMAND [ARGUMENTS] [--FLAGS]",
            "",
            *rows,
            "",
            "for example",
            example,
            "",
            "`emoconv COMMAND --help` explains a command.",
        ]
    )


def _help(name: str, module: ModuleType, flags: absl_flags.FlagValues) -> str:
    """Returns a command's docstring and its flags with defaults."""
    lines = [(module.__doc__ or "").strip(), "", "flags"]
    own = flags.get_flags_for_module(module.__name__)
    width = 2 + max(len(flag.name) for flag in own)
    for flag in sorted(own, key=lambda f: f.name):
        nothing = flag.default in (None, "", False) or flag.default == []
        default = "" if nothing else f" (default {flag.default})"
        lines.append(f"  --{flag.name:<{width}}{flag.help}{default}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
