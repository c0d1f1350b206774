"""When a checkpoint is saved, which one is best, and what goes into it."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from dvlm.checkpoints import TRAINER, CheckpointStore
from dvlm.config import TrainerConfig
from dvlm.data.messages import Prompts
from dvlm.models import forward


class Saving(L.Callback):
    """Saves every `save_steps`, at the end, and whenever the metric is the best so far.

    A step that is validated is saved after its validation, so that a resumed run does not repeat it. `save_delay_steps`
    holds back step and best saves, never the final one.
    """

    def __init__(self, store: CheckpointStore, config: TrainerConfig, *, processor: Any, prompts: Prompts) -> None:
        self.store, self.config, self.processor, self.prompts = store, config, processor, prompts
        self.best: float | None = None
        self.best_step: int | None = None
        self._saved: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """The best metric so far, and its step."""
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best metric so far."""
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save a step that is due and not about to be validated."""
        boundary = (batch_idx + 1) % module.accumulation == 0
        if boundary and self._due(trainer.global_step) and not self._validates(trainer.global_step):
            self.save(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Take note of the metric; save the step if it is the best so far, or due."""
        step = trainer.global_step
        if step == 0 or step < self.config.save_delay_steps:
            return
        improved = self._improves(module, step)
        if trainer.state.fn == TrainerFn.FITTING and (improved or self._due(step)):
            self.save(trainer, module)
        if improved and trainer.is_global_zero:
            self.store.point("best", step)
            self.store.prune(self.config.save_total_limit)

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        """Save the last step, whatever the delay."""
        self.save(trainer, module)

    def _due(self, step: int) -> bool:
        every = self.config.save_steps
        return every is not None and step % every == 0 and step >= self.config.save_delay_steps

    def _validates(self, step: int) -> bool:
        return self.config.eval_steps is not None and step % self.config.eval_steps == 0

    def _improves(self, module: Any, step: int) -> bool:
        value = module.latest.get(self.config.metric_for_best_model)
        if value is None:
            known = ", ".join(sorted(module.latest))
            raise ValueError(f"trainer.metric_for_best_model is {self.config.metric_for_best_model}; logged are {known}")
        sign = 1 if self.config.greater_is_better else -1
        if self.best is not None and sign * float(value) <= sign * self.best:
            return False
        self.best, self.best_step = float(value), step
        return True

    def save(self, trainer: L.Trainer, module: Any) -> None:
        """Write, make durable, and let appear the checkpoint of the current step; every rank takes part."""
        step = trainer.global_step
        if step == self._saved:
            return
        if trainer.is_global_zero:
            self.store.begin(step)
        trainer.strategy.barrier("checkpoint-begin")
        trainer.save_checkpoint(self.store.partial(step) / TRAINER, weights_only=False)
        if trainer.is_global_zero:
            self._write_model(module, self.store.partial(step))
            self.store.commit(step)
            self.store.prune(self.config.save_total_limit)
        trainer.strategy.barrier("checkpoint-end")
        self._saved = step

    def _write_model(self, module: Any, directory: Any) -> None:
        extra = {"save_embedding_layers": False} if module.tuned.is_adapter else {}
        module.model.save_pretrained(directory, **extra)
        self.processor.save_pretrained(directory)
        self.processor.image_processor.save_pretrained(directory)
        self.prompts.save(directory)
        forward.core(module.model).generation_config.save_pretrained(directory)
