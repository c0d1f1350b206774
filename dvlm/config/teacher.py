"""The root of `teacher`: a run's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.train import TrainConfig


@dataclass
class TeacherConfig(TrainConfig):
    """`python -m dvlm.teacher`: fills the teacher cache once, for every run that shares it; takes the overrides of a
    run."""
