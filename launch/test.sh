#!/usr/bin/env bash
# Checks everything: style, types, tests. Needs Python 3.11 or newer and, at first, its packages.
#
#   launch/test.sh                       everything; some nine minutes on two cores
#   launch/test.sh --quick               without tests marked slow or network; some two minutes
#   launch/test.sh tests/diffusion       any arguments of pytest; style and types are still checked
#   EMOCONV_CORPORA=DIR launch/test.sh   with the tests that read recorded corpora, else left out
#   EMOCONV_VENV=DIR launch/test.sh      in that virtual environment; default .venv-test
#   PYTHON=python3.12 launch/test.sh     the Python that makes the environment; default python3
#   EMOCONV_WORKERS=8 launch/test.sh     test processes; default one per core, four at most
#   EMOCONV_OFFLINE=1 launch/test.sh     as without a network: tests that fetch weights are left out
#
# Tests pass on any CPU. A newer one plays an older one, here with AVX2 and with neither that nor
# threads (of XLA, CTranslate2, which runs Whisper, and PyTorch, which ours is compared with):
#
#   XLA_FLAGS=--xla_cpu_max_isa=AVX2 CT2_FORCE_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 launch/test.sh
#   XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 CT2_FORCE_CPU_ISA=GENERIC ATEN_CPU_CAPABILITY=default \
#     EMOCONV_WORKERS=1 launch/test.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/environment.sh

tier=()
if [ "${1:-}" = --quick ]; then
  tier=(-m 'not slow and not network')
  shift
fi
# torch is pinned so that a CPU build of this version, where the package index offers one, is taken
# instead of the newest, which brings gigabytes of CUDA; the tests compare with it
packages=(torch==2.13.0 -e '.[dev]')
if ! command -v node > /dev/null; then
  echo "test.sh: found no node, which the type checker runs on; pip brings one"
  packages+=('pyright[nodejs]') # left alone, pyright fetches one from outside of the package index
fi
environment "${EMOCONV_VENV:-.venv-test}" "${packages[@]}"

if [ -z "${EMOCONV_OFFLINE:-}" ] &&
  ! "$python" -m pip --retries 0 --timeout 10 index versions Resemblyzer > /dev/null 2>&1; then
  echo "test.sh: no package index has the weights, tests that fetch them are left out"
  export EMOCONV_OFFLINE=1
fi

"$python" -m ruff check .
"$python" -m ruff format --check .
types="$(mktemp)"
"$python" -m pyright --pythonpath "$python" > "$types" 2>&1 &
checking=$!
trap 'kill "$checking" 2> /dev/null || true; rm -f "$types"' EXIT

# All tests of a file in one process, which makes what they share once; the longest files first.
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
passed=0
"$python" -m pytest -n "${EMOCONV_WORKERS:-$cores}" --dist loadfile --no-loadscope-reorder \
  ${tier[@]+"${tier[@]}"} "$@" || passed=$?
wait "$checking" || passed=$?
cat "$types"
exit "$passed"
