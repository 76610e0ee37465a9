#!/usr/bin/env bash
# Trains the parts of emoconv-small in order, or goes on where it stopped.
#
#   launch/train_small.sh CORPORA WORK            CORPORA holds ravdess, nemo, ljspeech32, synthetic
#   HEADS=1 launch/train_small.sh CORPORA WORK    trains the heads on Whisper anew, too
#   launch/train_small.sh --status WORK           what it is at: stage, step, hours, crops, end
#   DRY_RUN=1 launch/train_small.sh CORPORA WORK  prints the commands that would be run
#
# WORK gets everything: a clone of the commit that started it, its own environment, the speech that
# Kokoro speaks, features, runs and the bundle. A clone, so that work on the project does not change
# what is trained. Every command resumes, so the same line goes on after an interruption; SIGTERM
# saves first. Without a WORK it sets out from the bundle of the commit: with its heads, since the
# score network has learnt their embeddings, and on the corpora alone while Kokoro's speech is made.
#
#   nohup nice -n 19 launch/train_small.sh CORPORA WORK >> train.log 2>&1 &
#
# Needs Python 3.11 or newer and git. Settings are in configs/small.py.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
usage="usage: launch/train_small.sh CORPORA WORK, or launch/train_small.sh --status WORK"
if [ $# -ne 2 ]; then
  echo "$usage" >&2
  exit 2
fi
work=$(realpath -m -- "$2")

if [ "$1" = --status ]; then
  if [ ! -f "$work/stage" ]; then
    echo "train_small.sh: $work: found no file named stage in it, expected a folder of this script" >&2
    exit 1
  fi
  echo "stage: $(cat "$work/stage")"
  for run in "$work"/runs/*/metrics.jsonl; do
    [ -e "$run" ] && "$work/venv/bin/emoconv" train --status --workdir "$(dirname "$run")"
  done
  exit 0
fi

corpora=$(realpath -- "$1")
stage() {
  [ -n "${DRY_RUN:-}" ] || echo "$*" > "$work/stage"
  echo "$(date '+%F %T') $*"
}
run() { # a command that a signal to this script reaches at once
  if [ -n "${DRY_RUN:-}" ]; then
    printf '%q ' "$@" && echo
  else
    "$@" &
    wait $!
  fi
}
ended() { # whatever ends this script ends what it has started, which saves first
  local status=$?
  trap '' TERM INT
  [ "$status" -eq 0 ] || stage "stopped with exit code $status, the same command goes on"
  pkill -TERM -P $$ || true
  wait
  exit "$status"
}
recorded=("$corpora"/{ravdess,nemo,ljspeech32,synthetic})
splits=data/splits/emoconv-small.json

if [ -z "${DRY_RUN:-}" ]; then
  mkdir -p "$work/runs"
  exec 9> "$work/lock" # held by every process that this script starts
  if ! flock -n 9; then
    echo "train_small.sh: $work: another run of this script is at work there" >&2
    exit 1
  fi
  [ -e "$work/clone" ] || git clone --quiet "$here" "$work/clone"
  cd "$work/clone"
  . launch/environment.sh
  environment "$work/venv" -e '.[train,kokoro]'
  . launch/cpu.env
  export PATH="$work/venv/bin:$PATH"
  trap ended EXIT
  trap 'exit 143' TERM INT
  [ -e "$work/bundle" ] || cp -r data/bundles/emoconv-small "$work/bundle"
  if [ -z "${HEADS:-}" ] && ! grep -q '"emotion": "whisper_emotion"' "$work/bundle/config.json"; then
    echo "train_small.sh: $work/bundle: found no heads on Whisper, expected a bundle with them; HEADS=1 trains them" >&2
    exit 1
  fi
fi
bundle=$work/bundle workers=${WORKERS:-$(nproc)}

prepared() { # FEATURES CORPUS...
  local features=$1
  shift
  stage "features of $(basename "$features")"
  run emoconv prepare "$@" --splits "$splits" --whisper --out "$features" --workers "$workers" --allow_rejects
}
trains() { # TRAINEE FEATURES FLAG..., into command
  local trainee=$1 features=$2
  shift 2
  stage "training $trainee on $(basename "$features")"
  command=(emoconv train --config "configs/small.py:$trainee" --features "$features"
    --workdir "$work/runs/$trainee" --save_s 600 --listen 0 --override "$@")
}
exported() { # FEATURES TRAINEE
  run emoconv export "$work/runs/$2" --features "$1" --out "$bundle"
}
encoded() { # FEATURES
  stage "encoding $(basename "$1")"
  run emoconv prepare --out "$1" --bundle "$bundle" --workers "$workers"
  run emoconv export --banks --features "$1" --out "$bundle"
}

spoken=$work/kokoro complete=$work/kokoro.complete
width=--config.network.emotion=128 # of the embeddings of whisper_emotion
if [ -z "${HEADS:-}" ] && [ ! -e "$complete" ] && [ -z "${DRY_RUN:-}" ]; then
  python data/kokoro/kokoro_speech.py --out "$spoken" --workers 1 > "$work/kokoro.log" 2>&1 &
  speaking=$!
  prepared "$work/features-recorded" "${recorded[@]}"
  encoded "$work/features-recorded"
  trains score_network "$work/features-recorded" "$width" --bundle "$bundle"
  "${command[@]}" &
  training=$!
  wait "$speaking"
  kill -TERM "$training" || true # which saves; unless it has ended
  wait "$training" || true
fi
if [ ! -e "$complete" ]; then
  stage "speech by Kokoro"
  run python data/kokoro/kokoro_speech.py --out "$spoken" --workers "$workers"
  [ -n "${DRY_RUN:-}" ] || touch "$complete"
fi
features=$work/features
prepared "$features" "${recorded[@]}" "$spoken"
if [ -n "${HEADS:-}" ]; then
  for head in whisper_emotion whisper_average_voice; do
    trains "$head" "$features"
    run "${command[@]}"
    exported "$features" "$head"
  done
fi
encoded "$features"
if [ -n "${HEADS:-}" ]; then
  trains score_network "$features" "$width"
else
  trains score_network "$features" "$width" --bundle "$bundle"
fi
run "${command[@]}"
if [ -z "${DRY_RUN:-}" ] && ! emoconv train --status --workdir "$work/runs/score_network" | grep -q '; done;'; then
  stage "training score_network was stopped, the same command goes on"
  exit 1
fi
exported "$features" score_network
stage "done: $bundle"
