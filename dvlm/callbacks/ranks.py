"""AdaLoRA in a run: its regulariser, its allocation of ranks, the state of both, and the report of the final ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from dvlm.models import ranks
from dvlm.values import InputError

REPORT = "ranks.json"


class RankAllocation(L.Callback):
    """Adds the regulariser to the gradients once an optimizer step; cuts ranks after it, before gradients are zeroed.

    peft averages the importance of each weight outside `state_dict`: a checkpoint holds these averages here.
    `start_ratio` and `final_ratio` are the shares of the steps before and after ranks are cut.
    """

    def __init__(self, directory: Path, *, start_ratio: float, final_ratio: float) -> None:
        self.directory, self.start_ratio, self.final_ratio = directory, start_ratio, final_ratio
        self._loaded: dict[str, Any] | None = None
        self._model: Any = None

    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        """Lay the schedule over the run's steps, and take over the averages of the run that this one continues."""
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            raise InputError(
                "tuner.train_type=adalora needs whole gradients on every rank, but they are sharded here; "
                "use trainer=ddp or one process, or tuner=lora"
            )
        self._model = module.model
        ranks.set_schedule(self._model, module.steps, start_ratio=self.start_ratio, final_ratio=self.final_ratio)
        if self._loaded is not None:
            ranks.restore(self._model, self._loaded)

    def on_before_optimizer_step(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
        """The regulariser's gradient joins that of the step's micro-batches."""
        with torch.enable_grad():
            ranks.regulariser(module.model).backward()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After an optimizer step its gradients are still there: measure importance, cut ranks."""
        if (batch_idx + 1) % module.accumulation == 0:
            ranks.allocate(module.model, trainer.global_step)

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        """Write the final rank of every module to `ranks.json`."""
        if trainer.is_global_zero:
            text = json.dumps(ranks.of_modules(module.model), indent=1)
            (self.directory / REPORT).write_text(text + "\n", encoding="utf-8")

    def state_dict(self) -> dict[str, Any]:
        """The averages of importance, and which ranks are kept."""
        return {} if self._model is None else ranks.state(self._model)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the averages until the model is there."""
        self._loaded = state_dict
