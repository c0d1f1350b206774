"""The LightningModule of generalised knowledge distillation: cross-entropy plus a pull to the teacher, on the answers
of the data, of the teacher, or of the student itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dvlm.learning.module import SFTModule
from dvlm.learning.origin import Origin, origin_of
from dvlm.learning.rollout import Rollout
from dvlm.learning.teacher import Teacher
from dvlm.models import forward
from dvlm.values import Batch


class GKDModule(SFTModule):
    """`sft_alpha` x CE + `beta` x D(teacher, student) on the supervised tokens.

    With a `rollout` some steps learn from answers that a model writes first. Their lengths, and so the step's number of
    supervised tokens, are known only then: the step's micro-batches are held back, and with the last of them all are
    written, laid out anew and learned from.
    """

    def __init__(self, *args: Any, teacher: Teacher, rollout: Rollout | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.teacher, self.rollout = teacher, rollout
        self._held: list[Batch] = []
        self._told: dict[str, float] = {}
        self._gradients_begun = False

    @property
    def train_teacher(self) -> Teacher:
        """Whom training steps compare with."""
        return self.teacher

    def origin(self, batch: Batch) -> Origin:
        """Who writes the answers of the step that a training batch belongs to."""
        step = batch.pack // (self.accumulation * self.trainer.world_size)
        return Origin.DATA if self.rollout is None else origin_of(step, self.rlhf, self.seed)

    @property
    def must_pull(self) -> bool:
        """Not on the student's own samples."""
        return super().must_pull and not self._told.get("train/on_policy")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As in SFT on the answers of the data; else 0 until the last micro-batch, which stands for the whole step."""
        origin = self.origin(batch)
        self._told = {} if self.rollout is None else {"train/on_policy": float(origin is Origin.STUDENT)}
        if origin is Origin.DATA:
            return super().training_step(batch, batch_idx)
        self._held.append(batch)
        if len(self._held) < self.accumulation:
            # Lightning refuses to go without a loss on several ranks: this one's gradient is 0, and cleared again.
            return next(p for p in self.parameters() if p.requires_grad).sum() * 0.0
        held, self._held = self._held, []
        return self._learn_from_written(held, origin)

    def _learn_from_written(self, held: Sequence[Batch], origin: Origin) -> Tensor:
        """Write and learn; the gradients of all micro-batches but the last are there when this returns its loss."""
        assert self.rollout is not None
        began = time.perf_counter()
        written = self.rollout.rewrite(held, origin)
        seconds = time.perf_counter() - began
        supervised = sum(int(forward.supervised(batch)[0].sum()) for batch in written.batches)
        total, *sums = self._total(
            torch.tensor([supervised, *written.sums.tolist()], dtype=torch.float64, device=self.device)
        ).tolist()
        self._told |= _metrics(sums) | {"perf/writing_seconds": seconds}
        missing = self._most(len(written.batches)) - len(written.batches)
        filled = [*written.batches, *[self.rollout.layout.empty(held[0])] * missing]
        *first, last = [
            replace(batch, supervised_in_step=max(int(total), 1), has_ce=origin is not Origin.STUDENT)
            for batch in filled
        ]
        self.optimizers().zero_grad()  # type: ignore[union-attr]
        # With one micro-batch a step Lightning clears after this very call, with more before the first of them.
        self._gradients_begun = self.accumulation == 1
        for batch in first:
            loss = self.learn(batch)
            with torch.autocast(self.device.type, enabled=False):
                loss.backward()
        return self.learn(last) * self.divisor

    def _most(self, count: int) -> int:
        """The largest count over ranks, at least one: each needs a loss to go backward from."""
        largest = self.trainer.strategy.reduce(torch.tensor(max(count, 1), device=self.device), reduce_op="max")
        return int(largest)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Clears, unless a written step has gradients already."""
        if not self._gradients_begun:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)
        self._gradients_begun = False

    def step_metrics(self) -> dict[str, float]:
        """With a rollout also `on_policy`, and what became of the completions of the step."""
        return super().step_metrics() | self._told


def _metrics(sums: Sequence[float]) -> dict[str, float]:
    completions, tokens, truncated, empty = sums
    if not completions:
        return {}
    return {
        "train/completion_length": tokens / completions,
        "train/truncated": truncated / completions,
        "train/empty": empty / completions,
    }
