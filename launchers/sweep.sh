#!/usr/bin/env bash
# A sweep as one job array of a SLURM cluster. Run it on a login node (in tmux: it waits for its jobs); given again, it
# runs what is missing or failed. Everything after the script's name goes to dvlm.train:
#   launchers/sweep.sh +experiment=gkd_forward +sweep=gkd_grid model=qwen3_vl_4b model.model=/models/Qwen3-VL-4B-Instruct ...
#   launchers/sweep.sh +experiment=gkd_forward +sweep=gkd_grid hydra.launcher.partition=a100 hydra.launcher.account=vision
# On this machine instead, as many jobs at a time as there are GPUs: HERE=1 launchers/sweep.sh ...
set -euo pipefail
cd "$(dirname "$0")/.."
. .venv/bin/activate
launcher=(hydra/launcher=slurm hydra.launcher.array_parallelism=8 hydra.launcher.time=1440 hydra.launcher.cpus_per_task=8)
[ -z "${HERE:-}" ] || launcher=(hydra/launcher=local)
exec python -m dvlm.train -m "${launcher[@]}" data.dataloader_num_workers=6 data.dataloader_pin_memory=true "$@"
