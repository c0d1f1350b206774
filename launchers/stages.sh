#!/bin/bash
# Stage 1 (aligner) and stage 2 (language model and aligner, from stage 1), one after the other. Every argument goes to both:
#   launchers/stages.sh model=qwen3_vl_4b model.model=/models/Qwen3-VL-4B-Instruct data=jsonl data.train_jsonl=train.jsonl
# On the tiny model and the demo set (make stages) learning rates for real models would show nothing:
#   launchers/stages.sh optim.learning_rate=3e-3
# RUNS names another directory for the two runs; STAGE_2 another second experiment, such as stage_2_llm_gkd.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] && PATH="$PWD/.venv/bin:$PATH"
runs=${RUNS:-outputs/stages/$(date +%Y-%m-%d_%H-%M-%S)}
python -m dvlm.train +experiment=stage_1_aligner hydra.run.dir="$runs/stage_1" "$@"
python -m dvlm.train +experiment="${STAGE_2:-stage_2_llm}" tuner.resume_from_checkpoint="$runs/stage_1" \
    hydra.run.dir="$runs/stage_2" "$@"
