"""Losses of a model on validation packs, as a run's own validation computes them, without a trainer."""

from __future__ import annotations

from typing import Any

import torch

from dvlm.config import RlhfConfig
from dvlm.data.datamodule import PackDataset
from dvlm.data.mixture import Source
from dvlm.data.plan import Plan
from dvlm.learning import objective
from dvlm.learning.meter import Meter
from dvlm.learning.teacher import Teacher
from dvlm.models.forward import core
from dvlm.models.prefix import Reach


@torch.no_grad()
def losses(model: Any, line: Source, plan: Plan, *, packing: bool, teacher: Teacher | None) -> dict[str, float]:
    """`sft_loss`, `kl_loss` and so on, sums over sums of tokens; `teacher` None leaves out the divergence."""
    objective.give_loss_head(model)
    nothing = Reach()  # nothing is marked as training here, yet adapters change what they adapt: share nothing
    device = core(model).lm_head.weight.device
    dtype = core(model).lm_head.weight.dtype
    meter, packs = Meter(), PackDataset(line, plan, packing=packing)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        for number in range(len(packs)):
            batch = packs[number].to(device)
            meter += Meter.of(objective.score(model, batch, teacher, rlhf=RlhfConfig(), reach=nothing), batch, ())
    found = meter.metrics("eval", lambda sums: sums, ())
    return {name.removeprefix("eval/"): value for name, value in found.items()}
