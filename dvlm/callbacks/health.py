"""The health checks that need a training loop: before the first step, and at its gradients."""

from __future__ import annotations

import hashlib
from typing import Any

import lightning as L
import torch

from dvlm.checks import check_batch, check_gradients, check_step_zero_kl
from dvlm.learning.tally import Tally
from dvlm.scale import whole
from dvlm.values import InputError


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
        """Look once, at the first optimizer step of this process that must have gradients."""
        unfinished = (trainer.fit_loop.epoch_loop.batch_idx + 1) % module.accumulation
        if self.seen or unfinished or not module.must_pull:
            return
        self.seen = True
        for tower, parameters in module.tower_of_parameters().items():
            check_gradients(tower, [whole.gradient(parameter) for parameter in parameters])


class SamePacks(L.Callback):
    """A resumed run goes on with the plan that its checkpoint followed: the packs up to there are the same."""

    KEY = "packs_seen"

    def on_save_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep a digest of the packs that have been seen."""
        checkpoint[self.KEY] = self._seen(trainer, trainer.global_step)

    def on_load_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Raise InputError where this run's plan has other packs in their place."""
        step = checkpoint["global_step"]
        if checkpoint[self.KEY] != self._seen(trainer, step):
            raise InputError(
                f"resume_from: the packs of the first {step} steps are not those that the checkpoint has seen; resume "
                "with the same data (records that are bad and left out among it), seed, augmentation, packing, "
                "packs_per_step and global_max_length"
            )
        _count_again(checkpoint, module.accumulation)

    def _seen(self, trainer: L.Trainer, step: int) -> str:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        plan = data.train_plan
        # Packs name turns by their index, which stands for other records where others are left out.
        seen = repr(plan.packs[: step * plan.packs_per_step]) + (data.bad_digest if data.bad else "")
        return hashlib.sha256(seen.encode()).hexdigest()


def _count_again(checkpoint: dict[str, Any], accumulation: int) -> None:
    """Lightning counts the micro-batches of one rank: on another number of ranks the same step is another count."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    more = checkpoint["global_step"] * accumulation - progress["current"]["ready"]
    for counts in (progress["current"], progress["total"]):
        for name in ("ready", "started", "processed", "completed"):
            counts[name] += more
