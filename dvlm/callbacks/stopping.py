"""Early stopping: no better validation for a while ends the run."""

from __future__ import annotations

from typing import Any

import lightning as L

from dvlm.callbacks.best import Best
from dvlm.config import TrainerConfig


class EarlyStopping(L.Callback):
    """Stops after `patience` validations since the best one. Comes before saving, so that a checkpoint of a validated
    step knows of that validation."""

    def __init__(self, config: TrainerConfig, patience: int) -> None:
        self.best, self.patience = Best(config), patience
        self.since = 0

    def state_dict(self) -> dict[str, Any]:
        """The best metric so far, and the validations since."""
        return {"best": self.best.state_dict(), "since": self.since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best metric and the count."""
        self.best.load_state_dict(state_dict["best"])
        self.since = state_dict["since"]

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """A run that had stopped stays so when it is resumed."""
        trainer.should_stop = self.since >= self.patience

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Count, and stop."""
        if trainer.global_step == 0:
            return
        self.since = 0 if self.best.improves(module.latest, trainer.global_step) else self.since + 1
        if self.since >= self.patience:
            trainer.should_stop = True
