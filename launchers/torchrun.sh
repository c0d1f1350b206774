#!/usr/bin/env bash
# One training run on the GPUs of this machine. The first argument is their number, the rest goes to dvlm.train:
#   launchers/torchrun.sh 8 trainer=fsdp data.packs_per_step=8 +experiment=gkd_forward model=qwen3_vl_4b ...
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
devices=${1:?how many GPUs}
shift
exec torchrun --standalone --nproc-per-node="$devices" -m dvlm.train trainer.devices="$devices" "$@"
