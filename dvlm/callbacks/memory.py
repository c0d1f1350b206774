"""Out of memory: which pack it was, and what to turn."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch

from dvlm.config import TrainConfig
from dvlm.values import Batch, InputError

CPU = "DefaultCPUAllocator: can't allocate memory"  # a RuntimeError of torch


class Memory(L.Callback):
    """Remembers the batch that is worked on, for the error of `explained`, and the run's own `overrides`."""

    def __init__(self, config: TrainConfig, overrides: Sequence[str]) -> None:
        self.config, self.what = config, "before the first pack"
        self.overrides = [each for each in overrides if not each.startswith("+sweep=")]

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Batch, batch_idx: int) -> None:
        """A pack of the plan."""
        self.what = f"step {trainer.global_step + 1}, {describe(batch)}"

    def on_validation_batch_start(self, trainer: L.Trainer, module: Any, batch: Batch, *_: Any) -> None:
        """A pack of the validation."""
        self.what = f"validation after step {trainer.global_step}, {describe(batch)}"


def describe(batch: Batch) -> str:
    """`pack 12 of 4,061 tokens, 6 images of 3,600 patches`."""
    images = 0 if batch.image_grid_thw is None else len(batch.image_grid_thw)
    patches = 0 if batch.pixel_values is None else len(batch.pixel_values)
    return f"pack {batch.pack} of {batch.input_ids.numel():,} tokens, {images} images of {patches:,} patches"


def levers(config: TrainConfig) -> str:
    """What makes a run smaller, and is not yet turned."""
    trainer, data = config.trainer, config.data
    names = [f"lower global_max_length ({config.global_max_length})", f"lower data.max_pixels ({data.max_pixels})"]
    if not trainer.gradient_checkpointing:
        names.append("trainer.gradient_checkpointing=true")
    if trainer.strategy not in ("fsdp", "zero3"):
        names.append("more GPUs with trainer=fsdp or trainer=zero3, data.packs_per_step a multiple of their number")
    return "; ".join(names)


@contextmanager
def explained(trainer: L.Trainer) -> Iterator[None]:
    """Turns an out-of-memory error within it into an InputError that names the pack, the levers and the estimate."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and CPU not in str(error):
            raise
        memory = next(callback for callback in trainer.callbacks if isinstance(callback, Memory))  # type: ignore[attr-defined]
        raise InputError(
            f"rank {trainer.global_rank} is out of memory ({memory.what}): {str(error).splitlines()[0]}\n"
            f"  {levers(memory.config)}\n"
            f"  what fits: python -m dvlm.estimate {shlex.join(memory.overrides)}".rstrip()
        ) from error
