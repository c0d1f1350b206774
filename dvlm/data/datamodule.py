"""The LightningDataModule: it serves a plan as one Lightning epoch, the same for any number of ranks and workers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import DataConfig
from dvlm.data import lengths, source
from dvlm.data import plan as planning
from dvlm.data.collate import collate
from dvlm.data.encode import Encoder
from dvlm.data.messages import Prompts
from dvlm.data.mixture import Source
from dvlm.data.plan import Plan
from dvlm.values import BadRecord, Batch, Mode, Sample


class PackDataset(Dataset[Batch]):
    """Item k is pack k of the plan, collated: a pure function of the plan and the line."""

    def __init__(self, line: Source, plan: Plan, *, packing: bool) -> None:
        self.line, self.plan, self.packing = line, plan, packing

    def __len__(self) -> int:
        return len(self.plan.packs)

    def __getitem__(self, index: int) -> Batch:
        pack = self.plan.packs[index]
        return collate(
            [self.line.sample(epoch, turn) for epoch, turn in pack.samples],
            packing=self.packing,
            pad_id=self.line.encoder.processor.tokenizer.pad_token_id,
            supervised_in_step=self.plan.supervised_in_step(index),
            pack=index,
            filler=pack.filler,
        )


class RankSampler(Sampler[int]):
    """The packs of one rank, from pack `start` of the rank on. Its length stays whole: Lightning counts by it."""

    def __init__(self, packs: int, *, rank: int, world_size: int, start: int = 0) -> None:
        self.packs, self.rank, self.world_size, self.start = packs, rank, world_size, start

    def __iter__(self) -> Iterator[int]:
        yield from range(self.rank + self.start * self.world_size, self.packs, self.world_size)

    def __len__(self) -> int:
        return len(range(self.rank, self.packs, self.world_size))


def plan_of(
    line: Source, config: DataConfig, epochs: int, *, seed: int, max_length: int, cache: Path | None, shuffle: bool
) -> Plan:
    """The plan of `epochs` of a line as `config` packs them; `cache` is a directory that keeps the lengths of turns."""
    return planning.build(
        lengths.measure(line, epochs, cache),
        seed=seed,
        max_length=max_length,
        packing=config.packing,
        samples_per_pack=config.samples_per_pack,
        packs_per_step=config.packs_per_step,
        truncation=config.truncation,
        place=lambda epoch, index: line.turn(epoch, index).place,
        shuffle=shuffle,
    )


class CaptionDataModule(L.LightningDataModule):
    """Training and validation packs of `config`, checked and planned on construction.

    `cache` is a directory that keeps the lengths of turns between runs; `world_size` divides the packs of a step.
    Raises InputError for bad records and too long samples.
    """

    def __init__(
        self,
        config: DataConfig,
        *,
        augmentation: Pipeline,
        encoder: Encoder,
        seed: int,
        epochs: int,
        max_length: int,
        world_size: int,
        cache: Path | None = None,
    ) -> None:
        super().__init__()
        assert config.packs_per_step % world_size == 0
        self.config, self.encoder, self.world_size = config, encoder, world_size
        self.max_length, self.seed = max_length, seed
        self.cache, self.augmentation = cache, augmentation
        self.prompts = Prompts.of(config)
        shared: dict[str, Any] = {"encoder": encoder, "seed": seed}
        self.train_line = source.training(config, augmentation=augmentation, **shared)
        self.train_plan = self._plan(self.train_line, epochs)
        self.val_line = source.validation(config, augmentation=augmentation.clean(), **shared)
        self.val_plan = self._plan(self.val_line, 1, shuffle=False) if self.val_line else None

    @property
    def groups(self) -> tuple[str, ...]:
        """The names under which losses are logged apart: sources where there are several, modes where both occur."""
        ratios = {each.summary_ratio for each in self.config.sources} - {None} | {self.config.summary_ratio}
        modes = tuple(map(str, Mode)) if ratios - {0.0, 1.0} or len(ratios) > 1 else ()
        return tuple(each.name for each in self.config.sources) + modes

    @property
    def dropped(self) -> list[str]:
        """Where the turns are that are too long, training first."""
        pairs = [(self.train_line, self.train_plan), (self.val_line, self.val_plan)]
        return [line.turn(*name).place for line, plan in pairs if line and plan for name in plan.dropped]

    @property
    def bad(self) -> list[BadRecord]:
        """The records that are left out, training first."""
        return [record for line in (self.train_line, self.val_line) if line for record in line.bad]

    @property
    def bad_digest(self) -> str:
        """How many records are left out, and a hash over which, wherever the files lie: what the ranks of a run share,
        and a resumed run with what it resumes."""
        places = "\n".join(f"{each.file.name}:{each.line}" for each in self.bad)
        return f"{len(self.bad)} ({hashlib.sha256(places.encode()).hexdigest()[:8]})"

    @property
    def accumulation(self) -> int:
        """Micro-batches of one rank in an optimizer step."""
        return self.config.packs_per_step // self.world_size

    def _plan(self, line: Source, epochs: int, *, shuffle: bool = True) -> Plan:
        return plan_of(
            line, self.config, epochs, seed=self.seed, max_length=self.max_length, cache=self.cache, shuffle=shuffle
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """The training packs of this rank, from the micro-batch on that Lightning has reached."""
        loop = self.trainer.fit_loop.epoch_loop if self.trainer else None
        start = loop.batch_progress.current.ready if loop else 0
        return self._loader(PackDataset(self.train_line, self.train_plan, packing=self.config.packing), start)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """The validation packs of this rank; an empty list without validation records."""
        if self.val_line is None or self.val_plan is None:
            return []
        return self._loader(PackDataset(self.val_line, self.val_plan, packing=self.config.packing), 0)

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """Every pack of this rank, of training and validation: what a teacher is asked about."""
        validation = self.val_dataloader()
        return [self.train_dataloader(), *(validation if isinstance(validation, list) else [validation])]

    def _loader(self, dataset: PackDataset, start: int) -> DataLoader[Batch]:
        workers = self.config.dataloader_num_workers
        rank = self.trainer.global_rank if self.trainer else 0
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=RankSampler(len(dataset), rank=rank, world_size=self.world_size, start=start),
            num_workers=workers,
            pin_memory=self.config.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=False,
            worker_init_fn=_start_worker,
            prefetch_factor=2 if workers else None,
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Lightning would rebuild the frozen batch field by field; it moves itself."""
        return batch.to(device, non_blocking=True)

    def first_batch(self) -> Batch:
        """The first training pack, whatever the rank."""
        return self.batch(0)

    def batch(self, index: int) -> Batch:
        """Training pack `index` of the plan, whatever the rank."""
        return PackDataset(self.train_line, self.train_plan, packing=self.config.packing)[index]

    def validation_samples(self, count: int) -> list[Sample]:
        """The first `count` validation samples that have images, in the order of the plan, for pictures."""
        line, plan = self.val_line, self.val_plan
        if line is None or plan is None:
            return []
        named = sorted({name for pack in plan.packs for name in pack.samples if line.turn(*name).images})
        return [line.sample(epoch, index) for epoch, index in named[:count]]


def _start_worker(_: int) -> None:
    # A worker is one of several: threads of its own would fight theirs.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
