#!/usr/bin/env bash
# Converts a sample, or your own recording, to arousal 1, 4 and 7 and to one mix, and shows the result.
#
#   ./launch/demo.sh               the sample that comes with the project
#   ./launch/demo.sh my_voice.wav  a recording of yours (up to 60 s)
#
# Needs Python 3.11 or newer. Makes a virtual environment in .venv (or $EMOCONV_VENV), installs the
# project and writes demo_output/ (or $EMOCONV_DEMO_OUT). The weights of the speaker encoder and the
# vocoder (about 120 MB of packages) are fetched once.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
venv=${EMOCONV_VENV:-$here/.venv}
out=${EMOCONV_DEMO_OUT:-$here/demo_output}
sources=()
for file in "$@"; do sources+=("$(realpath -- "$file")"); done

cd "$here"
. launch/environment.sh
environment "$venv" -e .

. launch/cpu.env
exec "$venv/bin/emoconv" demo ${sources[@]+"${sources[@]}"} --out "$out"
