"""The health checks that need a training loop: before the first step, and at its gradients."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from dvlm.checks import check_batch, check_gradients, check_step_zero_kl
from dvlm.learning.tally import Tally


class BeforeFirstStep(L.Callback):
    """The first pack has the tokens that the plan counted; the student starts as its teacher (`starts_as_teacher`)."""

    def __init__(self, *, starts_as_teacher: bool, dtype: str) -> None:
        self.starts_as_teacher, self.dtype = starts_as_teacher, dtype

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Look at the first pack, in evaluation mode, unless the run resumes in the middle."""
        if trainer.global_step:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        batch = data.first_batch()
        check_batch(batch, data.train_plan.packs[batch.pack].supervised)
        teacher = module.train_teacher or module.eval_teacher
        if teacher is None:
            return
        was_training = module.training
        module.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            tally = Tally.of(module.score(batch.to(module.device), teacher))
        module.train(was_training)
        kl = float(tally.kl / tally.kl_tokens)
        if self.starts_as_teacher:
            check_step_zero_kl(kl, self.dtype)
        module.publish({"train/kl_loss_at_start": kl})


class FirstGradients(L.Callback):
    """After the first backward pass: every tower that trains has finite gradients, and not all of them zero."""

    def __init__(self) -> None:
        self.seen = False

    def on_before_optimizer_step(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
        """Look once, at the first optimizer step of this process."""
        if self.seen:
            return
        self.seen = True
        for tower, parameters in module.tower_of_parameters().items():
            check_gradients(tower, [parameter.grad for parameter in parameters])
