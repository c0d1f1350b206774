"""From `trainer.strategy` to the Lightning strategy that it names."""

from __future__ import annotations

from datetime import timedelta

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy

from dvlm.config import TrainConfig, TrainerConfig
from dvlm.values import InputError

# How long a collective may take. Ranks wait in one while rank 0 writes a checkpoint; a lost rank is noticed by `watch`.
PATIENCE = timedelta(minutes=30)
ZERO, SPREAD = ("zero2", "zero3"), ("fsdp", "zero3")  # by DeepSpeed; with frozen weights spread over the ranks
PERSISTENCE: int | None = None  # see `Zero`


def build(config: TrainConfig) -> Strategy | str:
    """The strategy. Those of ZeRO bring their own precision."""
    settings = config.trainer
    match settings.strategy:
        case "fsdp":
            from dvlm.scale.fsdp import Fsdp

            return Fsdp(timeout=PATIENCE)
        case "zero2" | "zero3":
            from dvlm.scale.zero import Zero

            device = "cpu" if settings.accelerator == "cpu" else "cuda"
            return Zero(
                stage=int(settings.strategy[-1]),
                device=device,
                autocast=config.model.torch_dtype != "float32",
                max_grad_norm=config.optim.max_grad_norm,
                persistence=PERSISTENCE,
                process_group_backend="gloo" if device == "cpu" else "nccl",
                timeout=PATIENCE,
            )
        case "auto" if settings.devices * settings.num_nodes == 1:
            return "auto"
    return DDPStrategy(gradient_as_bucket_view=True, timeout=PATIENCE)


def check_devices(settings: TrainerConfig) -> None:
    """Raise InputError where the machine lacks the devices that the configuration names."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    zero = settings.strategy in ZERO
    if settings.accelerator == "gpu" or (zero and settings.accelerator == "auto"):
        if not gpus:
            who = f"trainer.strategy={settings.strategy}" if zero else "trainer.accelerator=gpu"
            raise InputError(f"{who} needs GPUs, and torch sees none here; to try it on a CPU, trainer.accelerator=cpu")
        if gpus < settings.devices:
            raise InputError(f"trainer.devices is {settings.devices}, but this node has {gpus} GPUs; set what it has")
