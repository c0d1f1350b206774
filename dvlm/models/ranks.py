"""AdaLoRA (Zhang and others, 2023): ranks that move to where they matter, over the length of a run."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftType
from peft.tuners.adalora.layer import SVDLinear
from torch import Tensor

from dvlm.models import towers

ADAPTER = "default"
AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def are_allocated(model: Any) -> bool:
    """Whether the adapters of `model` are AdaLoRA's."""
    settings = getattr(model, "peft_config", {}).get(ADAPTER)
    return settings is not None and settings.peft_type == PeftType.ADALORA


def set_schedule(model: Any, steps: int, *, start_ratio: float, final_ratio: float) -> None:
    """Cut ranks between the first and the last share of `steps` optimizer steps, on a cubic curve.

    The last cut needs the importance that a step before it has measured; a run of one step does not come to it.
    """
    settings = model.peft_config[ADAPTER]
    settings.total_step = max(steps, 2)
    settings.tfinal = min(round(final_ratio * steps), settings.total_step - 2)
    settings.tinit = min(round(start_ratio * steps), settings.total_step - settings.tfinal - 1)


def allocate(model: Any, step: int) -> None:
    """Measure importance by the gradients of the optimizer step that ended as number `step`, and cut ranks."""
    model.base_model.update_and_allocate(step)


def regulariser(model: Any) -> Tensor:
    """Weighted mean distance of A A^T and B^T B from the identity, as the loss of peft's own forward has it."""
    distances = []
    for layer in _layers(model):
        a, b = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
        for gram in (a @ a.T, b.T @ b):
            distances.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
    return model.peft_config[ADAPTER].orth_reg_weight * torch.stack(distances).mean()


def state(model: Any) -> dict[str, Any]:
    """What allocation remembers outside `state_dict`: averages by parameter, and the ranks that are kept."""
    allocator = model.base_model.rankallocator
    averages = {name: dict(getattr(allocator, name)) for name in AVERAGES}
    return {**averages, "rank_pattern": model.peft_config[ADAPTER].rank_pattern}


def restore(model: Any, state: dict[str, Any]) -> None:
    """Take `state` over."""
    allocator = model.base_model.rankallocator
    device = next(model.parameters()).device
    for name in AVERAGES:
        setattr(allocator, name, {key: value.to(device) for key, value in state[name].items()})
    model.peft_config[ADAPTER].rank_pattern = state["rank_pattern"]


def of_modules(model: Any) -> dict[str, int]:
    """The rank that is left in each adapted module: its singular values that are not cut to 0."""
    named = ((name, module) for name, module in model.named_modules() if isinstance(module, SVDLinear))
    return {towers.plain(name): int((layer.lora_E[ADAPTER] != 0).sum()) for name, layer in named}


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, SVDLinear)]
