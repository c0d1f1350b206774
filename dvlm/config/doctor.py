"""The root of `doctor`: a run's configuration, of which model, tuner and objective are examined."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.knob import at_least, knob
from dvlm.config.train import TrainConfig


@dataclass
class DoctorConfig(TrainConfig):
    """`python -m dvlm.doctor`: does training work on this machine, with these weights? Takes the overrides of a run."""

    timed_steps: int = knob(3, "optimizer steps that are timed", "steps")
    output: str | None = knob(None, "JSON file to write, replaced if it is there; null: only the table", path=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("timed_steps", self.timed_steps, 1)
