"""Real optimizer steps beside the estimate of them: time, memory, utilisation."""

from __future__ import annotations

import time
from typing import Any

import torch

from dvlm.callbacks.step_log import peak_flops
from dvlm.costs.live import Live
from dvlm.costs.step import Step
from dvlm.diagnosis.finding import Finding
from dvlm.learning import optim
from dvlm.learning.module import SFTModule
from dvlm.values import Batch

MEMORY = "activations beside the estimate"
OFF = 0.25  # share by which memory may be off the estimate: kernels have workspaces of their own
FLOOR = 0.1  # utilisation of a GPU below which something is wrong


def measure(module: SFTModule, batch: Batch, foretold: Step, *, low: torch.dtype | None, steps: int) -> list[Finding]:
    """`steps` optimizer steps on one batch, after one that is not counted."""
    device = batch.input_ids.device
    optimizer = optim.build_optimizer(module.model, module.optim_config, module.lorap_lr_ratio)

    def step() -> None:
        with torch.autocast(device.type, low or torch.bfloat16, enabled=low is not None):
            head = module.score(batch, module.train_teacher)
        (head.loss / batch.supervised_in_step).backward()

    step()
    optimizer.step()
    optimizer.zero_grad()
    activations = _activations(module, batch, step)
    optimizer.zero_grad()
    begin = _now(device)
    for _ in range(steps):
        step()
        optimizer.step()
        optimizer.zero_grad()
    seconds = (_now(device) - begin) / steps
    found = [
        Finding(name="step time", measured=seconds, bound=None, unit="s"),
        Finding(name="activations", measured=activations / 2**20, bound=None, unit="MiB"),
        Finding(
            name=MEMORY,
            measured=abs(activations / foretold.activations - 1),
            bound=OFF,
            advice="dvlm.estimate is off here: take its figures with care, and report the tables of both",
            unit="off",
        ),
    ]
    return [*found, *_utilisation(device, foretold.flops / seconds)]


def _utilisation(device: torch.device, rate: float) -> list[Finding]:
    speed = Finding(name="speed", measured=rate / 1e12, bound=None, unit="TFLOP/s")
    peak = peak_flops(device)
    if peak is None:
        return [speed]
    idle = Finding(
        name="idle share of the GPU (1 - MFU)",
        measured=1 - rate / peak,
        bound=1 - FLOOR,
        advice="set model.attn_impl=flash_attention_2, longer rows (global_max_length), bfloat16",
        unit="of the peak",
    )
    return [speed, idle]


def _activations(module: SFTModule, batch: Batch, step: Any) -> int:
    """Bytes at the worst moment of a step, beyond what is there before it and the gradients that it leaves."""
    if batch.input_ids.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        live = Live()
        teacher = getattr(module.train_teacher, "model", None)
        live.add(module.parameters())
        live.add(teacher.parameters() if teacher is not None else ())
        live.add(value for value in vars(batch).values() if isinstance(value, torch.Tensor))
        before = live.restart()
        with live:
            step()
        peak = live.peak - before
    return peak - sum(p.grad.nbytes for p in module.parameters() if p.grad is not None)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
