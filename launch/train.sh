#!/usr/bin/env bash
# Trains on this machine, on all of its accelerators, or on its CPU where it has none.
#
#   launch/train.sh --config=configs/small.py:score_network --features=F --workdir=W
#   launch/train.sh ... --config.network.width 64    any flag of `emoconv train`
#   DRY_RUN=1 launch/train.sh ...                    prints the command that would be run
#
# `emoconv` must be on the PATH: activate its virtual environment. Ctrl-C or SIGTERM saves and
# stops; the same command goes on from there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command=(emoconv train "$@")

if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}" && echo
  exit
fi
# NVIDIA, the same under Windows, AMD, TPU
if ! [ -e /dev/nvidiactl ] && ! [ -e /dev/dxg ] && ! [ -e /dev/kfd ] && ! [ -e /dev/accel0 ] &&
  ! [ -e /dev/vfio/0 ]; then
  # shellcheck source=launch/cpu.env
  . "$here/cpu.env"
fi
exec "${command[@]}"
