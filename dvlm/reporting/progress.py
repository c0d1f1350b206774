"""How far a sweep is: one line for the terminal, from the run directories alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dvlm.reporting.rows import clock
from dvlm.sweeps import lock
from dvlm.sweeps.status import State, Status, Sweep


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Jobs by state (`waiting` among them), and the seconds that are left; None while that is unknown."""

    states: Counter[str]
    left: float | None

    def __str__(self) -> str:
        total = self.states.total()
        ended = self.states[State.SUCCEEDED] + self.states[State.FAILED]
        names = [State.RUNNING, State.FAILED, State.PREEMPTED, "waiting"]
        parts = [f"{self.states[name]} {name}" for name in names if self.states[name]]
        left = "" if self.left is None or ended == total else f", {clock(self.left)} left"
        return f"{self.states[State.SUCCEEDED]}/{total} done" + "".join(f", {part}" for part in parts) + left


def progress(directory: Path) -> Progress:
    """The progress of the sweep in `directory`, all of it waiting where there is no sweep yet."""
    sweep = Sweep.read(directory)
    found = [lock.observed(directory / job.directory) for job in sweep.jobs] if sweep else []
    states = Counter(str(status.state) if status else "waiting" for status in found)
    return Progress(states=states, left=_left([status for status in found if status], states["waiting"]))


def _left(known: list[Status], waiting: int) -> float | None:
    """Seconds until all have run, at the mean time of a job and with as many at a time as now."""
    running = [status for status in known if status.state is State.RUNNING]
    shares = [min(1.0, status.step / status.steps) if status.steps else 0.0 for status in running]
    times = [_seconds(status) for status in known if status.state is State.SUCCEEDED]
    times = times or [_seconds(status) / share for status, share in zip(running, shares, strict=True) if share]
    if not times or not running:
        return None
    jobs = waiting + len(running) - sum(shares)
    return jobs * sum(times) / len(times) / len(running)


def _seconds(status: Status) -> float:
    ended = datetime.fromisoformat(status.ended) if status.ended else datetime.now(UTC)
    return (ended - datetime.fromisoformat(status.started)).total_seconds()
