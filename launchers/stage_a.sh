#!/bin/bash
# Stage-A on the GPUs of this machine, one process each, then their answers put together in order. GPUS names them:
#   GPUS="0 1 2 3" launchers/stage_a.sh checkpoint=outputs/train/<run> input=/photos output=outputs/stage_a
# Run it again after an interruption: each goes on where it was. Exit code 1 where an image has no answer.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
read -ra gpus <<< "${GPUS:-0}"
merge=()
for argument in "$@"; do
    case $argument in input=* | output=* | mission=* | mission.*) merge+=("$argument") ;; esac
done
children=()
for place in "${!gpus[@]}"; do
    CUDA_VISIBLE_DEVICES=${gpus[place]} python -m dvlm.stage_a "$@" shard="$((place + 1))/${#gpus[@]}" &
    children+=($!)
done
for child in "${children[@]}"; do
    wait "$child" || true # what failed has no answer, and the merge names it
done
python -m dvlm.stage_a merge=true "${merge[@]}"
