"""One step of a plan, run again from weights that were kept, up to where the optimizer would act."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from dvlm.data.datamodule import PackDataset
from dvlm.values import Batch


class Measure(L.Callback):
    """Keeps what the step measures, and lets the optimizer do nothing."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def on_before_optimizer_step(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
        """The step's metrics and gradient norm."""
        self.values = module.step_metrics() | {"train/grad_norm": module.gradient_norm()}
        optimizer.zero_grad(set_to_none=True)


class OneStep(L.LightningDataModule):
    """The packs of one step, in their order."""

    def __init__(self, packs: PackDataset, numbers: Sequence[int]) -> None:
        super().__init__()
        self.packs, self.numbers = packs, numbers

    def train_dataloader(self) -> DataLoader[Batch]:
        """Each pack under its own number: what is drawn depends on it."""
        return DataLoader(self.packs, batch_size=None, sampler=self.numbers)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """A batch moves itself."""
        return batch.to(device)
