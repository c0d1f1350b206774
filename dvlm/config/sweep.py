"""Group `sweep`: where the jobs of a sweep (`-m`) are kept, and which of them run again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dvlm.config.knob import knob, one_of

RERUN = ("missing", "failed", "all")


@dataclass
class SweepConfig:
    """Where the jobs of a sweep (`-m`) are kept, and which of them run when its command is given again."""

    name: str = knob("train", "directory under outputs/sweeps; by itself that of +sweep, else of +experiment")
    rerun: str = knob(
        "failed",
        "missing (never ran, or was killed) | failed (those, and what ended with an error) | all (anew; old runs are "
        "moved to .replaced)",
    )

    def __post_init__(self) -> None:
        one_of("sweep.rerun", self.rerun, RERUN)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"sweep.name is '{self.name}', expected letters, digits and . _ - only")
