"""The file of a checkpoint that Lightning writes: `trainer.ckpt`, straight to its place, and read as tensors only."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from dvlm.values import InputError


def read(file: Path, *, mapped: bool = False) -> dict[str, Any]:
    """What a run has saved: tensors, numbers and texts. Raises InputError for a file that holds anything else, of which
    nothing runs. `mapped` leaves the tensors in the file until they are asked for."""
    try:
        return torch.load(file, map_location="cpu", mmap=mapped, weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{file} is not what a run saves: it holds more than tensors, or is damaged. Nothing in it was run; take "
            "another checkpoint"
        ) from error


class StraightIO(TorchCheckpointIO):
    """Writes the file where it is asked to. Lightning's own way holds it twice in memory and writes it to `TMPDIR`
    first, which may be small, is on another file system, and keeps what a killed process leaves there."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Through a handle of Python's own, so that an error tells what the disk said."""
        with Path(path).open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """To the processor's memory, whatever is asked for: as tensors only."""
        return read(Path(path))
