"""The LightningModule that asks a teacher about every pack once, so that the runs of a sweep find its answers."""

from __future__ import annotations

from typing import Any

import lightning as L

from dvlm.learning.cached import CachedTeacher
from dvlm.models import forward
from dvlm.models.prefix import Begun
from dvlm.values import Batch


class Filler(L.LightningModule):
    """Fills the cache of `teacher`; `found` and `computed` count the samples of all ranks."""

    def __init__(self, teacher: CachedTeacher) -> None:
        super().__init__()
        self.teacher = teacher
        self.found = self.computed = 0

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Read or compute the states of one pack."""
        self.teacher.states(batch, forward.supervised(batch)[0], Begun())

    def on_predict_batch_end(self, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Say how far it is, ten times a loader."""
        packs = self.trainer.num_predict_batches[dataloader_idx]
        if self.trainer.is_global_zero and (batch_idx + 1) * 10 // packs > batch_idx * 10 // packs:
            print(f"{('training', 'validation')[dataloader_idx]}: {batch_idx + 1} of {packs} packs", flush=True)

    def on_predict_end(self) -> None:
        """Add up the ranks."""
        sums = self.trainer.strategy.reduce(self.teacher.counts().to(self.device), reduce_op="sum")
        self.found, self.computed = map(int, sums.tolist())
