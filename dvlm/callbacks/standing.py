"""How far a run is, in its `status.json`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L

from dvlm.sweeps.status import Status

SECONDS = 5.0  # between two updates


class Standing(L.Callback):
    """Keeps step and steps of `status.json` current; a run that has no such file gets none."""

    def __init__(self, directory: Path) -> None:
        self.directory, self._written = directory, 0.0

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """The number of steps, and where the run starts."""
        self._write(trainer, module)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        """Every few seconds."""
        if time.monotonic() - self._written > SECONDS:
            self._write(trainer, module)

    def on_fit_end(self, trainer: L.Trainer, module: Any) -> None:
        """The last step, also of a run that had nothing left to do."""
        self._write(trainer, module)

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        """The step that was reached."""
        self._write(trainer, module)

    def _write(self, trainer: L.Trainer, module: Any) -> None:
        if trainer.is_global_zero:
            Status.update(self.directory, step=trainer.global_step, steps=module.steps)
        self._written = time.monotonic()
