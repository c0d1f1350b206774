"""What became of the jobs of a sweep, as its launcher tells it."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

from dvlm.sweeps import lock
from dvlm.sweeps.attempt import PREEMPTED
from dvlm.sweeps.pool import LOG
from dvlm.sweeps.status import State, Status


def verdict(directory: Path) -> str:
    """`succeeded`, or how and why not: one line."""
    status = lock.observed(directory)
    if status is None:
        return f"did not start; see {directory / LOG}"
    reached = f" at step {status.step}" if status.state is State.PREEMPTED else ""
    return f"{status.state}{reached}" + (f": {status.error}" if status.error else "")


def reason(code: int) -> str:
    """What an exit code says of a process that could not say it itself."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return "preempted" if code == PREEMPTED else f"ended with exit code {code}"


def explain(directory: Path, why: str) -> None:
    """Note why a job that still says `running`, and is not, has ended. Its state stays: it did not end by itself."""
    status = Status.read(directory)
    if status is not None and status.state is State.RUNNING and lock.holder(directory) is None:
        replace(status, error=f"{why}; last seen at step {status.step}").write(directory)
