"""Who writes the answers that an optimizer step learns from: a pure function of the seed and the step."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from dvlm.config import RlhfConfig
from dvlm.values import generator


class Origin(StrEnum):
    """Who wrote the answers of a step."""

    DATA = "data"
    TEACHER = "teacher"
    STUDENT = "student"


def origin_of(step: int, rlhf: RlhfConfig, seed: int) -> Origin:
    """A coin of weight `lmbda` decides for the student; else the teacher writes where `seq_kd` says so."""
    if generator(seed, "on_policy", step, 0).random() < rlhf.lmbda:
        return Origin.STUDENT
    return Origin.TEACHER if rlhf.seq_kd else Origin.DATA


def shares(steps: int, rlhf: RlhfConfig, seed: int) -> dict[Origin, int]:
    """How many of the first `steps` steps learn from each, exactly: the coins are known before they are thrown."""
    counts = Counter(origin_of(step, rlhf, seed) for step in range(steps))
    return {origin: counts[origin] for origin in Origin}
