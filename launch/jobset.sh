#!/usr/bin/env bash
# Trains on HOSTS pods of a Kubernetes cluster that has JobSet (jobset.sigs.k8s.io), by kubectl.
#
#   NAME=run7 IMAGE=registry/emoconv:1 HOSTS=4 GPUS=8 CLAIM=speech launch/jobset.sh \
#     --config=configs/small.py:score_network --features=/data/F --workdir=/data/W
#   DRY_RUN=1 NAME=... launch/jobset.sh ...    prints the manifest, to look at or to change
#
# GPUS: of each pod. CLAIM: a volume that all pods may write, mounted at /data. IMAGE: starts in the
# project's folder, with `emoconv` on the PATH. Where a pod fails, all start again from the newest
# checkpoint. A run that was told to stop has saved and counts as done: kubectl delete jobset NAME,
# and the same command continues it.
set -euo pipefail
: "${NAME:?of the run}" "${IMAGE:?}" "${HOSTS:?number of pods}" "${GPUS:?of each pod}" "${CLAIM:?}"
[[ $HOSTS =~ ^[1-9][0-9]*$ && $GPUS =~ ^[0-9]+$ ]] || {
  echo "jobset.sh: found HOSTS=$HOSTS GPUS=$GPUS, expected whole numbers" >&2
  exit 2
}
# JSON is YAML. Kubernetes replaces $(WORD) in arguments, and $$ by $.
manifest=$(python3 - "$(dirname "${BASH_SOURCE[0]}")/jobset.yaml" "$@" << 'END'
import json, os, string, sys
values = {name: json.dumps(os.environ[name]) for name in ("NAME", "IMAGE", "CLAIM")}
coordinator = "--coordinator={0}-hosts-0-0.{0}:8476".format(os.environ["NAME"])
values["coordinator"] = json.dumps(coordinator)
values["flags"] = json.dumps([w.replace("$", "$$") for w in sys.argv[2:]], ensure_ascii=False)
values["HOSTS"], values["GPUS"] = os.environ["HOSTS"], os.environ["GPUS"]
print(string.Template(open(sys.argv[1]).read()).substitute(values))
END
)

if [ -n "${DRY_RUN:-}" ]; then
  printf '%s\n' "$manifest"
  exit
fi
exec kubectl apply -f - <<< "$manifest"
