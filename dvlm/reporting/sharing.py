"""What the teacher cache gave to the runs of a sweep: hits, and the time that they saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dvlm.reporting.runs import Run

FEWEST = 3  # steps of a kind from which a rate is read


@dataclass(frozen=True)
class Sharing:
    """Samples whose teacher's states were found and were computed, and the seconds saved; None where no step shows what
    computing them costs."""

    hits: int
    misses: int
    saved: float | None


def sharing(runs: Sequence[Run]) -> Sharing | None:
    """Over all runs; None where none had a cache.

    A step with hits alone would have taken longer by the ratio of the median rates (tokens a second) of steps with hits
    alone and of steps with misses alone. Rates are those of this sweep, so on one kind of machine.
    """
    hits, misses = (round(sum(getattr(run.log, name) for run in runs)) for name in ("hits", "misses"))
    if not hits + misses:
        return None
    steps = np.array([step for run in runs for step in run.log.cached], np.float64).reshape(-1, 3)
    warm, cold = steps[steps[:, 1] == 0][:, 2], steps[steps[:, 0] == 0][:, 2]
    if min(len(warm), len(cold)) < FEWEST:
        return Sharing(hits, misses, None)
    longer = max(0.0, float(np.median(warm) / np.median(cold)) - 1)
    shares = ((run.log.hits / max(1.0, run.log.hits + run.log.misses), run.seconds or 0.0) for run in runs)
    return Sharing(hits, misses, sum(share * seconds for share, seconds in shares) * longer)
