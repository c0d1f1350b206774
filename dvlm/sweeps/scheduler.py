"""What DVLM asks of SLURM's own commands."""

from __future__ import annotations

import subprocess

# A job in one of these is still to run, running, or about to leave its node.
ACTIVE = {
    "PENDING",
    "RUNNING",
    "SUSPENDED",
    "COMPLETING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "RESIZING",
    "SIGNALING",
    "SPECIAL_EXIT",
    "STAGE_OUT",
    "STOPPED",
}
TIMEOUT = 60.0  # seconds that a busy controller may take


def states() -> dict[str, str] | None:
    """State of each of this user's jobs, by id (`123_4` in an array); None where SLURM does not answer.

    Jobs that have ended are listed for a while (`MinJobAge`), then no more.
    """
    listed = _ask("squeue", "--noheader", "--array", "--me", "--states=all", "--format=%i|%T")
    if listed is None:
        return None
    return dict(line.strip().split("|", 1) for line in listed.splitlines() if "|" in line)


def requeue(job: str) -> bool:
    """Ask SLURM to run this job again from its beginning; False where it does not."""
    return _ask("scontrol", "requeue", job) is not None


def _ask(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT)
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return done.stdout
