"""What is logged at each optimizer step: the losses, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch

# Dense bf16 peak of one device in FLOP/s, from NVIDIA's data sheets; MFU is logged for these only.
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12, "A10": 125e12, "L4": 121e12}


class StepLog(L.Callback):
    """Publishes the module's metrics of a step with `perf/tokens_per_second` and `perf/data_wait_share` (the share of
    the time spent waiting for data), on a GPU also `perf/mfu` and `perf/memory_gib`. Comes first among the callbacks,
    so that the others see the step's values.

    `flops_per_token` gives the model's own FLOPs of a token (`costs.estimate`), without what is computed twice."""

    def __init__(self, flops_per_token: Callable[[], float]) -> None:
        self.flops_per_token = flops_per_token
        self._last = 0.0
        self._per_token: float | None = None
        self._waited, self._worked = 0.0, 0.0

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Start the clock. The work of a token is asked for only where the peak of the GPU is known."""
        if peak_flops(module.device):
            self._per_token = self.flops_per_token()
        self._last = time.perf_counter()

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """The time since the last batch went into waiting for this one."""
        now = time.perf_counter()
        self._waited, self._last = self._waited + now - self._last, now

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The time since the batch came went into work; at the end of an optimizer step it is logged."""
        now = time.perf_counter()
        self._worked, self._last = self._worked + now - self._last, now
        if (batch_idx + 1) % module.accumulation:
            return
        values = module.step_metrics()
        module.end_step()
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            module.publish(values | self._metrics(trainer, module))
        self._waited, self._worked = 0.0, 0.0
        self._last = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """A validation is neither waiting nor work."""
        self._last = time.perf_counter()

    def _metrics(self, trainer: L.Trainer, module: Any) -> dict[str, float]:
        total = self._waited + self._worked
        rate = module.step_tokens * trainer.world_size / total
        metrics = {
            "perf/tokens_per_second": rate,
            "perf/data_wait_share": self._waited / total,
            "perf/step_seconds": total,
        }
        if module.device.type == "cuda":
            metrics["perf/memory_gib"] = torch.cuda.max_memory_allocated(module.device) / 2**30
            peak = peak_flops(module.device)
            if peak and self._per_token:
                metrics["perf/mfu"] = rate / trainer.world_size * self._per_token / peak
        return metrics


def peak_flops(device: torch.device) -> float | None:
    """The peak of a GPU that is known, in FLOP/s; None for any other device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    # The longest name first: L40S is no L4.
    return next((PEAK_FLOPS[key] for key in sorted(PEAK_FLOPS, key=len, reverse=True) if key in name), None)
