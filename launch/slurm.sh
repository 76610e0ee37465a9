#!/usr/bin/env bash
# Trains on the nodes of a SLURM job, with one task per GPU; on nodes without GPUs one per node.
#
#   sbatch --nodes=4 --gpus-per-node=8 --ntasks-per-node=8 --cpus-per-task=8 --time=12:00:00 \
#     launch/slurm.sh --config=configs/small.py:score_network --features=F --workdir=W
#   DRY_RUN=1 launch/slurm.sh ...    prints the command that the job would run
#
# `emoconv` must be on the PATH where sbatch is called, F and W on storage of all nodes. JAX finds
# the hosts out from SLURM. It gives the i-th task of a node the i-th GPU, so every task has to see
# all of them: do not use --gpus-per-task or --gpu-bind.
#
# Two minutes before the time limit the run saves and ends, with exit code 0. To go on after it,
# queue the same command several times with --dependency=singleton: each job continues the one
# before, and one that finds the run finished ends at once. A job whose node failed is queued again.
#SBATCH --job-name=emoconv
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --open-mode=append
set -euo pipefail
command=(srun --kill-on-bad-exit=1 emoconv train --distributed "$@")

if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}" && echo
  exit
fi
# srun does not take this over from sbatch by itself
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
export PYTHONUNBUFFERED=1
exec "${command[@]}"
