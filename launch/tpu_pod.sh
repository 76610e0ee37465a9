#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU pod slice, through gcloud.
#
#   TPU=NAME ZONE=ZONE launch/tpu_pod.sh \
#     --config=configs/small.py:score_network --features=F --workdir=W
#   DRY_RUN=1 TPU=... launch/tpu_pod.sh ...    prints the command that would be run
#   FOLDER=DIR TPU=... launch/tpu_pod.sh ...   where the project lies on the hosts; default emoconv
#
# Every host needs the project in FOLDER (relative to its home) with a virtual environment in .venv
# that has jax[tpu], and F and W on storage that all hosts share. JAX finds the hosts out.
#
# The run lasts as long as this command, so start it where it can stay, in tmux for instance. The
# run is saved and stopped from elsewhere; after that the same command continues it:
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
#     --command='pkill -TERM -f "[e]moconv train"'
set -euo pipefail
: "${TPU:?the name of the TPU}" "${ZONE:?the zone of the TPU}"
remote=$(printf '%q ' emoconv train --distributed "$@")
remote="cd $(printf %q "${FOLDER:-emoconv}") && . .venv/bin/activate && exec $remote"
command=(gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$remote")

if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}" && echo
  exit
fi
exec "${command[@]}"
