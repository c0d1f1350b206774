"""AdamW with a learning rate for each tower, and the schedule that all of them follow in proportion."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from dvlm.config import OptimConfig
from dvlm.models import towers
from dvlm.models.towers import Tower

WSD_DECAY = 0.1  # share of the steps
# Vectors that peft keeps as matrices of one column: BOFT's scales, which rest at 1, and AdaLoRA's singular values.
COLUMNS = (".boft_s.", ".lora_E.")


def tower_rates(config: OptimConfig) -> dict[Tower, float]:
    """The peak learning rate of each tower."""
    own = {Tower.VIT: config.vit_lr, Tower.ALIGNER: config.aligner_lr}
    return {tower: own.get(tower) or config.learning_rate for tower in Tower}


def parameter_groups(
    model: nn.Module, config: OptimConfig, lorap_lr_ratio: float | None = None
) -> list[dict[str, Any]]:
    """One group for each tower and kind: matrices decay, vectors (norms, biases) do not. Groups carry a `name`.

    With `lorap_lr_ratio` the B matrices of LoRA have a group of their own (LoRA+, Hayou et al. 2024).
    """
    rates, groups = tower_rates(config), []
    for tower, members in towers.parameters(model).items():
        kinds: dict[str, list[nn.Parameter]] = {"": [], "_lora_b": [], "_no_decay": []}
        for name, parameter in members:
            if parameter.requires_grad:
                kinds[_kind(name, parameter, lorap_lr_ratio)].append(parameter)
        for kind, parameters in kinds.items():
            if parameters:
                rate = rates[tower] * (lorap_lr_ratio or 1.0 if kind == "_lora_b" else 1.0)
                decay = 0.0 if kind == "_no_decay" else config.weight_decay
                groups.append({"params": parameters, "lr": rate, "weight_decay": decay, "name": f"{tower}{kind}"})
    return groups


def _kind(name: str, parameter: nn.Parameter, lorap_lr_ratio: float | None) -> str:
    if parameter.ndim <= 1 or any(column in name for column in COLUMNS):
        return "_no_decay"
    return "_lora_b" if lorap_lr_ratio and ".lora_B." in name else ""


def build_optimizer(model: nn.Module, config: OptimConfig, lorap_lr_ratio: float | None = None) -> AdamW:
    """AdamW over everything that trains."""
    betas = (config.adam_beta1, config.adam_beta2)
    return AdamW(parameter_groups(model, config, lorap_lr_ratio), betas=betas, eps=config.adam_epsilon)


def build_schedule(optimizer: AdamW, config: OptimConfig, steps: int) -> LambdaLR:
    """The schedule over `steps` optimizer steps, the same factor for every group."""
    return LambdaLR(optimizer, schedule(config, steps))


def schedule(config: OptimConfig, steps: int) -> Callable[[int], float]:
    """Factor on the peak learning rate at each step: a linear warm-up, then the shape that the configuration names.

    Every shape but the constant one ends at min_lr on the last step.
    """
    floor = config.lr_scheduler_kwargs.min_lr / config.learning_rate
    warmup = min(round(config.warmup_ratio * steps), steps - 1)
    decay = config.lr_scheduler_kwargs.decay_ratio
    shape = _shape(config.lr_scheduler_type, WSD_DECAY if decay is None else decay)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup + 1) / max(1, steps - warmup))
        return floor + (1 - floor) * shape(progress)

    return factor


def _shape(name: str, decay: float) -> Callable[[float], float]:
    """Height above the floor, from 1 down to 0, as a function of the share of the steps after the warm-up."""
    shapes: dict[str, Callable[[float], float]] = {
        "cosine_warmup_with_min_lr": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
        "linear": lambda progress: 1 - progress,
        "constant_with_warmup": lambda progress: 1.0,
        # Warm-up, stable, decay (Hu et al. 2024): constant, then linear over the last share of the steps.
        "wsd": lambda progress: min(1.0, (1 - progress) / decay) if decay else 1.0,
    }
    return shapes[name]
