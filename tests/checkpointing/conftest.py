"""A folder that every user may enter (pytest's own are closed to others)."""

import pathlib
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture
def open_folder() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="checkpoints-") as name:
        path = pathlib.Path(name)
        path.chmod(0o755)
        yield path
