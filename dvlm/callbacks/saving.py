"""When a checkpoint is saved, which one is best, and what goes into it."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from dvlm.augmentation.pipeline import Pipeline
from dvlm.background import Background
from dvlm.callbacks.best import Best
from dvlm.callbacks.jsonl_logger import JsonlLogger
from dvlm.checkpoints import TRAINER, CheckpointStore, fault
from dvlm.config import TrainerConfig
from dvlm.data.messages import Prompts
from dvlm.models import adapters, forward, load
from dvlm.scale import whole

log = logging.getLogger(__name__)


class Saving(L.Callback):
    """Saves every `save_steps`, at the end, and whenever the metric is the best so far.

    A step that is validated is saved after its validation, so that a resumed run does not repeat it. `save_delay_steps`
    holds back step and best saves, never the final one. `resumed` is the checkpoint that the run continues.

    Training waits while the files are written, and goes on while they are hashed and synced: the checkpoint appears a
    little later. What the disk refuses there is raised by the next save, or at the end.
    """

    def __init__(
        self,
        store: CheckpointStore,
        config: TrainerConfig,
        *,
        processor: Any,
        prompts: Prompts,
        canvas: Pipeline,
        resumed: Path | None = None,
    ) -> None:
        self.store, self.config, self.processor, self.prompts = store, config, processor, prompts
        self.canvas = canvas
        self.resumed, self.best = resumed, Best(config)
        self._saved: int | None = None
        self._finishing = Background("checkpoint")

    def state_dict(self) -> dict[str, Any]:
        """The best metric so far, and its step."""
        return self.best.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best metric so far."""
        self.best.load_state_dict(state_dict)

    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        """Bring along the best checkpoint of the run that this one continues; a best that is gone is forgotten."""
        if self.resumed is None:
            return
        wrong = None
        if trainer.is_global_zero:
            wrong = self._bring_best(self.resumed)
        if trainer.strategy.broadcast(wrong):
            self.best.forget()

    def _bring_best(self, resumed: Path) -> str | None:
        """Let `best` stand for the best so far; why there is none, where it is not whole any more."""
        if self.best.step is None:
            (self.store.root / "best").unlink(missing_ok=True)
            return None
        theirs = resumed.parent / self.store.path(self.best.step).name
        wrong = None if theirs == resumed else fault(theirs)
        if wrong:
            log.warning("the best checkpoint is gone: %s; the next validation is the best so far", wrong)
            (self.store.root / "best").unlink(missing_ok=True)
        else:
            self.store.adopt(theirs, "best")
        return wrong

    def on_fit_end(self, trainer: L.Trainer, module: Any) -> None:
        """A run that had nothing left to do ends with the checkpoint that it continued."""
        if self.resumed is not None and trainer.is_global_zero and not (self.store.root / "last").exists():
            self.store.adopt(self.resumed, "last")

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save a step that is due and not about to be validated."""
        boundary = (batch_idx + 1) % module.accumulation == 0
        if boundary and self._due(trainer.global_step) and not self.validates(trainer.global_step):
            self.save(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Take note of the metric; save the step if it is the best so far, or due."""
        step = trainer.global_step
        self.best.check(module.latest)
        if step == 0 or step < self.config.save_delay_steps:
            return
        improved = self.best.improves(module.latest, step)
        if trainer.state.fn == TrainerFn.FITTING and (improved or self._due(step)):
            self.save(trainer, module)
        if improved and trainer.is_global_zero:
            self._finishing.do(partial(self.store.point, "best", step))
            self._finishing.do(partial(self.store.prune, self.config.save_total_limit))

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        """Save the last step, whatever the delay, and wait until all is durable."""
        self.save(trainer, module)
        self._finishing.settle()
        trainer.strategy.barrier("checkpoint-durable")

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        """Whatever ends the run, a checkpoint that was written becomes durable."""
        self._finishing.settle()

    def _due(self, step: int) -> bool:
        every = self.config.save_steps
        return every is not None and step % every == 0 and step >= self.config.save_delay_steps

    def validates(self, step: int) -> bool:
        """Whether a validation follows this step."""
        return self.config.eval_steps is not None and step % self.config.eval_steps == 0

    def save(self, trainer: L.Trainer, module: Any) -> None:
        """Write the checkpoint of the current step, and begin to make it durable; every rank takes part."""
        step = trainer.global_step
        if step == self._saved:
            return
        self._finishing.settle()
        first = trainer.is_global_zero
        for logger in trainer.loggers:
            if isinstance(logger, JsonlLogger):
                logger.sync()
        # Only the first rank writes; the others give it what they have of what is spread.
        with ExitStack() as begun:
            directory = begun.enter_context(self.store.writing(step)) if first else self.store.root
            trainer.save_checkpoint(directory / TRAINER, weights_only=False)
            weights = whole.export_state(module.model, keep=first)
            if first:
                self._write_model(module, directory, weights)
                self._finishing.do(begun.pop_all().close)
                self._finishing.do(partial(self.store.prune, self.config.save_total_limit))
        trainer.strategy.barrier("checkpoint-end")
        self._saved = step

    def _write_model(self, module: Any, directory: Path, weights: dict[str, Any] | None) -> None:
        """`weights`: the whole state where that of the module is spread over ranks."""
        if module.tuned.is_adapter:
            adapters.save(module.model, directory, weights)
        else:
            module.model.save_pretrained(directory, state_dict=weights)
        self.processor.save_pretrained(directory)
        self.processor.image_processor.save_pretrained(directory)
        self.prompts.save(directory)
        self.canvas.save(directory)
        base = forward.core(module.model)
        base.generation_config.save_pretrained(directory)
        load.write_base(directory, base.config._name_or_path)
