"""The file of a checkpoint that Lightning writes: `trainer.ckpt`, straight to its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO


class StraightIO(TorchCheckpointIO):
    """Writes the file where it is asked to. Lightning's own way holds it twice in memory and writes it to `TMPDIR`
    first, which may be small, is on another file system, and keeps what a killed process leaves there."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Through a handle of Python's own, so that an error tells what the disk said."""
        with Path(path).open("wb") as file:
            torch.save(checkpoint, file)
