"""The best value of a metric so far: what `best` checkpoints and early stopping go by."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from dvlm.config import TrainerConfig
from dvlm.values import InputError


class Best:
    """The best value of `trainer.metric_for_best_model` so far, and the step that had it."""

    def __init__(self, config: TrainerConfig) -> None:
        self.metric, self.sign = config.metric_for_best_model, 1 if config.greater_is_better else -1
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self.value: float | None = None
        self.step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Value and step, for a checkpoint."""
        return {"value": self.value, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over value and step."""
        self.value, self.step = state["value"], state["step"]

    def check(self, metrics: Mapping[str, float]) -> float:
        """The metric among `metrics`; raises InputError where it is not logged."""
        if self.metric not in metrics:
            known = ", ".join(sorted(name for name in metrics if name.startswith("eval/")))
            raise InputError(f"trainer.metric_for_best_model is {self.metric}, which is not logged; logged are {known}")
        return float(metrics[self.metric])

    def improves(self, metrics: Mapping[str, float], step: int) -> bool:
        """Whether the metric is better than ever before, and if so, keep it. What is not finite never is."""
        value = self.check(metrics)
        better = isfinite(value) and (self.value is None or self.sign * value > self.sign * self.value)
        if better:
            self.value, self.step = value, step
        return better
