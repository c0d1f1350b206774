"""Early stopping: no better validation for a while ends the run."""

from __future__ import annotations

from typing import Any

import lightning as L

from dvlm.callbacks.saving import Saving


class EarlyStopping(L.Callback):
    """Stops after `patience` validations since the best one that `saving` took note of."""

    def __init__(self, saving: Saving, patience: int) -> None:
        self.saving, self.patience = saving, patience
        self.since = 0

    def state_dict(self) -> dict[str, Any]:
        """Validations since the best one."""
        return {"since": self.since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the count."""
        self.since = state_dict["since"]

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Count, and stop."""
        if trainer.global_step == 0:
            return
        self.since = 0 if self.saving.best_step == trainer.global_step else self.since + 1
        if self.since >= self.patience:
            trainer.should_stop = True
