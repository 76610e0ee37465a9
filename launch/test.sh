#!/usr/bin/env bash
# Checks everything: style, types, tests. Needs Python 3.11 or newer and a way to its packages.
#
#   launch/test.sh                       everything
#   launch/test.sh tests/diffusion       any arguments of pytest; style and types are still checked
#   EMOCONV_CORPORA=DIR launch/test.sh   with the tests that read recorded corpora, else deselected
#   EMOCONV_VENV=DIR launch/test.sh      in that virtual environment; default .venv-test
#   PYTHON=python3.12 launch/test.sh     the Python that makes the environment; default python3
#   EMOCONV_WORKERS=8 launch/test.sh     test processes; default one per core, four at most
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv="${EMOCONV_VENV:-.venv-test}"
if [ ! -x "$venv/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$venv"
fi
python="$venv/bin/python"
"$python" -c 'import sys
if sys.version_info < (3, 11):
    sys.exit(f"test.sh: found Python {sys.version.split()[0]}, 3.11 or newer is needed")'

# torch is pinned so that a CPU build of this version, where the package index offers one, is taken
# instead of the newest, which brings gigabytes of CUDA; the tests compare with it
"$python" -m pip install --quiet torch==2.13.0
"$python" -m pip install --quiet -e '.[dev,train]'
# pyright runs on node and would fetch its own, outside of the package index
command -v node > /dev/null || "$python" -m pip install --quiet 'pyright[nodejs]'

"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m pyright --pythonpath "$python"

# One thread per process: the time goes into compiling, and the processes share the cores. Programs
# run once, so they are compiled without optimisation.
cores="$("$python" -c 'import os; print(min(os.cpu_count() or 1, 4))')"
export JAX_PLATFORMS=cpu OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export XLA_FLAGS="${XLA_FLAGS:-} --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_multi_thread_eigen=false"
# Halves what is left of compiling; XLA ends a process that gives it a flag it does not know.
quick="$XLA_FLAGS --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if XLA_FLAGS="$quick" "$python" -c 'import jax; jax.devices()' 2> /dev/null; then
  XLA_FLAGS="$quick"
fi
exec "$python" -m pytest -n "${EMOCONV_WORKERS:-$cores}" --dist worksteal "$@"
