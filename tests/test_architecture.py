"""The walls of the house, read from the source: layers, owners of libraries, sizes, docstrings.

Each rule is a function from a `Source` to the violations it found. The last part of this file
plants a violation of every rule, so that a rule that stops seeing anything fails too.
"""

import ast
import dataclasses
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "emoconv_jax"

LAYERS = {
    name: layer
    for layer, names in enumerate(
        [
            ("shapes", "errors", "schema", "config", "files", "__version__"),
            ("audio", "diffusion"),
            ("models",),
            ("porting", "bundles", "checkpointing"),
            ("inference",),
            ("pipeline", "training", "listeners"),
            ("evaluation", "bench"),
            ("cli",),
        ]
    )
    for name in names
}
PUBLIC_FACE = max(LAYERS.values()) - 1  # of the names that the package itself gives: for cli only
# training reads pipeline's batches; a configuration refuses what it does not know with an error
SIBLINGS = {
    ("training", "pipeline"),
    ("config", "errors"),
    ("config", "schema"),
    ("schema", "errors"),
    ("files", "errors"),
}

OWNERS = {
    "soundfile": ("audio/",),
    "soxr": ("audio/",),
    "librosa": ("audio/", "bench/comparison/theirs.py"),
    "webrtcvad": ("audio/",),
    "pyworld": ("audio/", "evaluation/yardsticks.py"),
    "pyloudnorm": ("audio/",),
    "flax.linen": ("models/",),
    "pickle": ("porting/torch_file.py",),
    "huggingface_hub": ("bundles/",),
    "orbax": ("checkpointing/",),
    "tensorflow": ("pipeline/",),
    "tensorflow_datasets": ("pipeline/",),
    "array_record": ("pipeline/",),
    "apache_beam": ("pipeline/shard_runner.py",),
    "sklearn": ("pipeline/", "evaluation/probes.py"),
    "praatio": ("pipeline/",),
    "optax": ("training/",),
    "tensorboardX": ("training/",),
    "torch": ("bench/", "listeners/naturalness.py"),
    "transformers": ("bench/", "listeners/transcripts.py"),
    "absl.flags": ("cli/",),
    "ml_collections": ("config.py", "cli/"),
}
# opens a malicious file the unsafe way to show that it is one
ATTACK_SHOWN = ("tests/porting/test_torch_file.py", "torch.load without weights_only=True")
CODE_LOADERS = ("cloudpickle", "dill", "joblib", "marshal", "shelve")

FILE_LINES, FUNCTION_LINES = 400, 80
DRAWERS = ("utils", "helpers", "common", "misc")  # names under which anything piles up
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:home|work|root|Users|mnt)/\w")
TEXT_SUFFIXES = (".py", ".sh", ".md", ".toml", ".json", ".tsv", ".txt", ".in")
TEXT_PLACES = (PACKAGE, "benchmarks", "configs", "tests", "launch", ".ci", "data")
HEAVY = ("jax", "tensorflow", "torch", "transformers")


@dataclasses.dataclass(frozen=True)
class Source:
    """A Python file: `path` below the repository's root, with '/' between its parts."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def place(self) -> str:
        """The path below the package, or '' outside of it."""
        return self.path.removeprefix(PACKAGE + "/") if self.path.startswith(PACKAGE + "/") else ""


Rule = Callable[[Source], list[str]]


def python_files(*folders: str) -> list[Source]:
    return [
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of every import, with the names that `from` takes."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def attributes(source: Source) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of what is read from the package after a bare `import`."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == PACKAGE:
            yield node.lineno, f"{PACKAGE}.{node.attr}"


def is_of(name: str, library: str) -> bool:
    return name == library or name.startswith(library + ".")


def wrong_layers(source: Source) -> list[str]:
    """Imports that go upward, sideways or relative."""
    found = []
    if source.place in ("", "__init__.py"):
        return []
    home = source.place.split("/")[0].removesuffix(".py")
    if home not in LAYERS:
        return [f"{source.path}: {home} has no layer"]
    for line, name in [*imports(source), *attributes(source)]:
        where = f"{source.path}:{line}"
        if name.startswith("."):
            found.append(f"{where}: relative import {name}")
        if not name.startswith(PACKAGE + "."):
            continue
        target = name.split(".")[1]
        below = LAYERS.get(target, PUBLIC_FACE) < LAYERS[home]
        if not (below or target == home or (home, target) in SIBLINGS):
            found.append(f"{where}: {home} imports {name}")
    return found


def upward(source: Source) -> list[str]:
    """Imports of what measures the package from outside: the wheel does not hold it."""
    return [
        f"{source.path}:{line}: {name} is outside the package"
        for line, name in imports(source)
        if is_of(name, "benchmarks")
    ]


def wrong_owners(source: Source) -> list[str]:
    """Imports of a library by a place that does not own it."""
    return [
        f"{source.path}:{line}: {name} belongs to {', '.join(places)}"
        for line, name in imports(source)
        for library, places in OWNERS.items()
        if is_of(name, library) and not source.place.startswith(places)
    ]


def too_long(source: Source) -> list[str]:
    """Files and functions past the limits."""
    lines = len(source.text.splitlines())
    found = [f"{source.path}: {lines} lines"] if lines > FILE_LINES else []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                found.append(f"{source.path}:{node.lineno}: {node.name} has {length} lines")
    return found


def undocumented(source: Source) -> list[str]:
    """Public names without a docstring, and functions whose docstring says too little."""
    tree, found = source.tree, []
    if not source.path.endswith("__init__.py") and not ast.get_docstring(tree):
        found.append(f"{source.path}: no docstring")
    for owner, node in _public(tree):
        doc, where = ast.get_docstring(node), f"{source.path}:{node.lineno}: {node.name}"
        if not doc:
            found.append(f"{where} has no docstring")
        elif owner is tree and isinstance(node, ast.FunctionDef):
            found.extend(f"{where} {fault}" for fault in _docstring_faults(node, doc))
    return found


def _public(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.FunctionDef | ast.ClassDef]]:
    for owner in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))):
        if isinstance(owner, ast.ClassDef) and owner.name.startswith("_"):
            continue
        for node in owner.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield owner, node


def _docstring_faults(node: ast.FunctionDef, doc: str) -> Iterator[str]:
    """Yields what a function's docstring lacks: Args from two on, each by name, and Returns."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    names = [argument.arg for argument in arguments]
    section = re.search(r"^Args:\n((?:[ ]{4,}.*\n?|\n)*)", doc, re.MULTILINE)
    if section:
        told = re.findall(r"^ {4}\*{0,2}(\w+(?:, \*{0,2}\w+)*):", section.group(1), re.MULTILINE)
        told = [name.strip("* ") for entry in told for name in entry.split(",")]
        variable = [a.arg for a in (node.args.vararg, node.args.kwarg) if a]
        yield from (f"does not explain {name}" for name in names if name not in told)
        yield from (f"explains {name}" for name in told if name not in names + variable)
    elif len(names) >= 2:
        yield "takes arguments and has no Args"
    silent = node.returns is None or ast.unparse(node.returns) in ("None", "NoReturn")
    if not silent and not re.search(r"\b(Return|Yield|Say|Give)s?\b", doc):
        yield "returns something and does not say what"


def unsafe(source: Source) -> list[str]:
    """Calls that can run foreign code or a shell."""
    found = [
        f"{source.path}:{line}: {name}"
        for line, name in imports(source)
        if any(is_of(name, library) for library in CODE_LOADERS)
    ]
    for node in ast.walk(source.tree):
        fault = _unsafe_call(node) if isinstance(node, ast.Call) else None
        if fault and (source.path, fault) != ATTACK_SHOWN:
            found.append(f"{source.path}:{node.lineno}: {fault}")
    return found


def _unsafe_call(node: ast.Call) -> str | None:
    name = ast.unparse(node.func)
    words = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if name in ("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"):
        return name
    if name == "torch.load" and words.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    switched = [word for word in ("shell", "allow_pickle") if words.get(word, "False") != "False"]
    return f"{name}({switched[0]})" if switched else None


def badly_named(source: Source) -> list[str]:
    """Files that are a drawer for anything."""
    stem = pathlib.PurePosixPath(source.path).stem
    return [f"{source.path}: a name that says nothing"] if stem in DRAWERS else []


def postponed(source: Source) -> list[str]:
    """Annotations turned into strings, which the shape checks cannot read."""
    return [
        f"{source.path}:{line}: postponed annotations"
        for line, name in imports(source)
        if name == "__future__.annotations"
    ]


def machine_paths(source: Source) -> list[str]:
    """Absolute paths of somebody's machine."""
    return [
        f"{source.path}:{number}: {line.strip():.80}"
        for number, line in enumerate(source.text.splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]


def test_sources_are_found():
    found = {source.path for source in python_files(PACKAGE, "tests")}
    assert {f"{PACKAGE}/config.py", "tests/test_architecture.py"} <= found


@pytest.mark.parametrize(
    ("rule", "folders"),
    [
        (wrong_layers, (PACKAGE,)),
        (wrong_owners, (PACKAGE,)),
        (upward, (PACKAGE, "configs")),
        (undocumented, (PACKAGE, "benchmarks")),
        (too_long, (PACKAGE, "benchmarks", "configs", "tests")),
        (unsafe, (PACKAGE, "benchmarks", "configs", "tests")),
        (badly_named, (PACKAGE, "benchmarks", "configs", "tests")),
        (postponed, (PACKAGE, "benchmarks", "configs", "tests")),
    ],
)
def test_package_keeps_the_rule(rule: Rule, folders: tuple[str, ...]):
    assert not [fault for source in python_files(*folders) for fault in rule(source)]


def test_no_file_names_a_machine():
    files = [path for place in TEXT_PLACES for path in (ROOT / place).rglob("*")]
    files += [path for path in ROOT.iterdir() if path.is_file()] + [ROOT / ".ci" / "run"]
    texts = [
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in files
        if path.is_file() and (path.suffix in TEXT_SUFFIXES or path.name == "run")
    ]
    assert len(texts) > 50
    assert not [fault for source in texts for fault in machine_paths(source)]


def test_configurations_import_only_configuration():
    allowed = (f"{PACKAGE}.config", "ml_collections", "pathlib", "math")
    assert not [
        f"{source.path}:{line}: {name}"
        for source in python_files("configs")
        for line, name in imports(source)
        if not any(is_of(name, library) for library in allowed)
    ]


@pytest.mark.parametrize("first", [f"import {PACKAGE}", f"import {PACKAGE}.cli.main"])
def test_importing_loads_no_framework(first: str):
    code = f"{first}; import sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


DOCUMENTED = 'def f(a, b) -> int:\n    """Adds.\n\n    Args:\n        {}\n    """\n'


@pytest.mark.parametrize(
    ("rule", "path", "text", "message"),
    [
        (wrong_layers, "models/a.py", "import emoconv_jax.training.step", "models imports"),
        (wrong_layers, "audio/a.py", "from emoconv_jax.diffusion import sde", "audio imports"),
        (wrong_layers, "audio/a.py", "from emoconv_jax import diffusion", "audio imports"),
        (wrong_layers, "pipeline/a.py", "import emoconv_jax.training.step", "pipeline imports"),
        (wrong_layers, "models/a.py", "from emoconv_jax import EmotionConverter", "models imports"),
        (wrong_layers, "audio/a.py", "import emoconv_jax\nx = emoconv_jax.UsageError", "audio imp"),
        (wrong_layers, "models/a.py", "from .layers import Linear", "relative import"),
        (wrong_layers, "extra/a.py", "", "extra has no layer"),
        (upward, "cli/a.py", "from benchmarks.quality import clips", "outside the package"),
        (
            wrong_owners,
            "models/a.py",
            "def f():\n    import torch.nn",
            "torch.nn belongs to bench/",
        ),
        (wrong_owners, "training/a.py", "from flax import linen as nn", "belongs to models/"),
        (wrong_owners, "porting/tables.py", "import pickle", "belongs to porting/torch_file.py"),
        (too_long, "models/a.py", "x = 1\n" * 401, "401 lines"),
        (too_long, "models/a.py", "def f():\n" + "    x = 1\n" * 80, "f has 81 lines"),
        (undocumented, "models/a.py", "x = 1", "no docstring"),
        (undocumented, "models/a.py", '"""A."""\nclass B:\n    pass', "B has no docstring"),
        (undocumented, "models/a.py", '"""A."""\ndef f(a, b):\n    """C."""', "no Args"),
        (undocumented, "models/a.py", DOCUMENTED.format("a: one."), "does not explain b"),
        (undocumented, "models/a.py", DOCUMENTED.format("c: one."), "explains c"),
        (undocumented, "models/a.py", DOCUMENTED.format("a, b: both."), "does not say what"),
        (unsafe, "models/a.py", "eval('1')", "eval"),
        (unsafe, "models/a.py", "subprocess.run('ls', shell=True)", "shell"),
        (unsafe, "models/a.py", "np.load(path, allow_pickle=True)", "allow_pickle"),
        (unsafe, "bench/a.py", "torch.load(path)", "weights_only"),
        (unsafe, "models/a.py", "import joblib", "joblib"),
        (badly_named, "models/utils.py", "", "says nothing"),
        (postponed, "models/a.py", "from __future__ import annotations", "postponed"),
        (machine_paths, "models/a.py", f"x = '/{'home'}/me/x'", "me/x"),
    ],
)
def test_a_planted_violation_is_seen(rule: Rule, path: str, text: str, message: str):
    faults = rule(Source(f"{PACKAGE}/{path}", text))
    assert any(message in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (wrong_layers, "training/a.py", "from emoconv_jax.pipeline.batches import Batch"),
        (wrong_layers, "cli/a.py", "from emoconv_jax import EmotionConverter"),
        (wrong_layers, "models/a.py", "import emoconv_jax\nx = emoconv_jax.__version__"),
        (wrong_layers, "config.py", "from emoconv_jax.errors import EmoconvError"),
        (wrong_owners, "models/a.py", "import flax.linen as nn"),
        (wrong_owners, "training/a.py", "from flax import struct"),
        (unsafe, "bench/a.py", "torch.load(path, weights_only=True)\nnetwork.eval()"),
        (machine_paths, "models/a.py", "x = '../shared/data'  # https://a.org/home/b"),
    ],
)
def test_what_the_rules_allow(rule: Rule, path: str, text: str):
    assert not rule(Source(f"{PACKAGE}/{path}", text))
