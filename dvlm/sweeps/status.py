"""What a run says of itself (`status.json` in its directory) and a sweep of its jobs (`sweep.json` in its own).

Both are replaced whole, so that a reader never sees half a file. Read by the launchers, the report, and people.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from dvlm import durable

log = logging.getLogger(__name__)
STATUS, SWEEP = "status.json", "sweep.json"


class State(StrEnum):
    """Where a run is. One that was killed still says `running`: `lock.observed` looks at its holder as well."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PREEMPTED = "preempted"


@dataclass(frozen=True, kw_only=True)
class Status:
    """One run: its state, when it started and ended (ISO, UTC), the last line of its error, how far it is.

    `restarts` counts the starts after the first one, `job` is the scheduler's id or the process id, `value` what the
    job returned: the metric that a sampler looks at, or several.
    """

    state: State
    started: str
    ended: str | None = None
    error: str | None = None
    step: int = 0
    steps: int | None = None
    restarts: int = 0
    job: str = ""
    host: str = ""
    value: float | list[float] | None = None

    def write(self, directory: Path) -> None:
        """Replace the status of the run in `directory`."""
        replace_json(directory / STATUS, asdict(self))

    @classmethod
    def read(cls, directory: Path) -> Status | None:
        """The status of the run in `directory`; None for one that never started."""
        found = read_json(directory / STATUS)
        return None if found is None else cls(**found | {"state": State(found["state"])})

    @classmethod
    def update(cls, directory: Path, **changes: Any) -> None:
        """Bring the status of a run up to date, where it has one. A disk that refuses costs a warning: the run goes on,
        and an error that ends it stays the one that is told."""
        status = cls.read(directory)
        if status is None:
            return
        try:
            replace(status, **changes).write(directory)
        except OSError as error:
            log.warning("%s cannot be written: %s", directory / STATUS, error)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job of a sweep: the name of its run directory in that of the sweep, and its overrides."""

    directory: str
    overrides: list[str]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep: its name, the command that made it, and its jobs in the order of their first submission."""

    name: str
    command: list[str]
    created: str
    jobs: list[Job]

    def write(self, directory: Path) -> None:
        """Replace the description of the sweep in `directory`."""
        replace_json(directory / SWEEP, asdict(self))

    @classmethod
    def read(cls, directory: Path) -> Sweep | None:
        """The sweep in `directory`; None where there is none."""
        found = read_json(directory / SWEEP)
        return None if found is None else cls(**found | {"jobs": [Job(**job) for job in found["jobs"]]})

    @classmethod
    def extend(cls, directory: Path, *, command: list[str], jobs: Iterable[Job]) -> Sweep:
        """Add the jobs that the sweep in `directory` does not have yet; a sweep that is not there is begun."""
        sweep = cls.read(directory) or cls(name=directory.name, command=command, created=now(), jobs=[])
        known = {job.directory for job in sweep.jobs}
        sweep = cls(
            name=sweep.name,
            command=sweep.command,
            created=sweep.created,
            jobs=[*sweep.jobs, *(job for job in jobs if job.directory not in known)],
        )
        sweep.write(directory)
        return sweep


def now() -> str:
    """This moment, ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_json(file: Path) -> dict[str, Any] | None:
    """The mapping in a JSON file, None where there is no file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def replace_json(file: Path, content: dict[str, Any]) -> None:
    """Let a file hold the mapping: whoever reads sees the old content or the new one."""
    durable.replace_text(file, json.dumps(content, ensure_ascii=False, indent=2) + "\n")
