"""What an accelerator's machine needs: training and the comparison without audio libraries."""

import subprocess
import sys

import pytest

AUDIO = ("librosa", "soundfile", "soxr", "webrtcvad", "tensorflow", "sklearn", "praatio")
CODE = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {AUDIO}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from emoconv_jax.bench import training
from emoconv_jax.bench.comparison import sections
from emoconv_jax.training import loop
print("imported")
"""


@pytest.mark.slow
def test_training_and_comparison_import_without_audio_libraries():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout == "imported\n", done.stderr
