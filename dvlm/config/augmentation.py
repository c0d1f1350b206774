"""Group `augmentation`: the ops that change training images and their labels alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dvlm.config.knob import knob, within


@dataclass
class OpConfig:
    """One op: its name and its parameters, checked against the op's own class."""

    name: str = knob("???", "the op, such as hflip")
    params: dict[str, Any] = knob({}, "its parameters; those left out have the op's own defaults")


@dataclass
class AugmentationConfig:
    """The ops that change training images and their labels alike; validation images stay clean."""

    bypass_prob: float = knob(0.0, "share of turns that stay clean", "probability")
    ops: list[OpConfig] = knob([], "the ops, in order: `- {name: hflip, params: {prob: 0.3}}`")

    def __post_init__(self) -> None:
        within("augmentation.bypass_prob", self.bypass_prob, 0.0, 1.0)
        from dvlm.augmentation.pipeline import Pipeline

        Pipeline.build(self.as_mappings(), self.bypass_prob)

    def as_mappings(self) -> list[dict[str, Any]]:
        """The ops as plain mappings, the form `Pipeline.build` takes."""
        return [{"name": op.name, "params": dict(op.params)} for op in self.ops]
