"""Which jobs of a sweep run when its command is given again."""

from __future__ import annotations

import os
from pathlib import Path

from dvlm.sweeps import lock
from dvlm.sweeps.status import State, Status, now

REPLACED = ".replaced"


def runs(directory: Path, rerun: str) -> bool:
    """Whether the job of `directory` is to run, under `sweep.rerun`: missing | failed | all."""
    status = Status.read(directory)
    if status is None or rerun == "all":
        return True
    # Killed or preempted, not ended by itself: its status says so, or still says `running`.
    unfinished = status.state in (State.RUNNING, State.PREEMPTED)
    return unfinished or (status.state is State.FAILED and rerun == "failed")


def refusal(directory: Path) -> str | None:
    """Why the job of `directory` cannot start now: somebody is at it. None where nobody is."""
    holder = lock.holder(directory)
    return None if holder is None else f"is held by {holder}; not started twice"


def set_aside(directory: Path) -> None:
    """Move an old run out of the way, to `.replaced/` beside it."""
    if directory.exists():
        place = directory.parent / REPLACED / f"{directory.name}-{now().replace(':', '')}"
        place.parent.mkdir(exist_ok=True)
        os.replace(directory, place)
