"""A run that is asked to stop does so at the next optimizer step, or inside a validation, and loses nothing."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn

from dvlm import interruption
from dvlm.callbacks.jsonl_logger import JsonlLogger
from dvlm.callbacks.saving import Saving
from dvlm.interruption import Interrupted

VALIDATION = "epoch_loop.val_loop.batch_progress"


class Preemption(L.Callback):
    """Saves and raises `Interrupted` on every rank once any of them was asked to stop.

    A validation that is interrupted is done again as a whole by the resumed run. So this comes after whatever else
    validates, and before what draws conclusions from a validation: early stopping and `saving`.
    """

    def __init__(self, saving: Saving) -> None:
        self.saving = saving
        self._unfinished = False
        self._first_validation = True

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Take the signals back from Lightning."""
        interruption.listen()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Between two steps: save and end. Where a validation comes next, that is where it happens."""
        boundary = (batch_idx + 1) % module.accumulation == 0
        if boundary and not self.saving.validates(trainer.global_step) and self._wished(trainer, module):
            self.saving.save(trainer, module)
            raise Interrupted(f"asked to stop after step {trainer.global_step}")

    def on_validation_start(self, trainer: L.Trainer, module: Any) -> None:
        """What a validation of this step logged before it was interrupted is forgotten."""
        interruption.listen()
        if self._first_validation:
            for logger in trainer.loggers:
                if isinstance(logger, JsonlLogger):
                    logger.forget("eval/", trainer.global_step)
        self._first_validation = False
        self._look(trainer, module)

    def on_validation_batch_start(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        """Between two batches of a validation."""
        self._look(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """After the pictures and scores, whose answers may have been cut short."""
        self._look(trainer, module)

    def on_save_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Let Lightning believe that the validation has just begun: it then starts with it when it resumes."""
        if self._unfinished:
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            checkpoint["loops"]["fit_loop"][VALIDATION] |= {"total": begun, "current": dict.fromkeys(begun, 0)}

    def _look(self, trainer: L.Trainer, module: Any) -> None:
        if not self._wished(trainer, module):
            return
        if trainer.state.fn == TrainerFn.FITTING:
            self._unfinished, module.validated = True, None
            self.saving.save(trainer, module)
        raise Interrupted(f"asked to stop in the validation of step {trainer.global_step}")

    def _wished(self, trainer: L.Trainer, module: Any) -> bool:
        """Whether any rank was asked: all of them must come here."""
        asked = interruption.asked()
        if trainer.world_size == 1:
            return asked
        wish = torch.tensor(float(asked), device=module.device)
        return bool(trainer.strategy.reduce(wish, reduce_op="max"))
