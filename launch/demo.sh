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
python=${PYTHON:-python3}
sources=()
for file in "$@"; do sources+=("$(realpath -- "$file")"); done

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "demo.sh: Python 3.11 or newer is needed, found $("$python" --version)" >&2; exit 2; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$here"

. "$here/launch/cpu.env"
cd "$here"
exec "$venv/bin/emoconv" demo ${sources[@]+"${sources[@]}"} --out "$out"
