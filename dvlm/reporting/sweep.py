"""A sweep directory, read: its runs, what differs between them, and the baselines to hold them against."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dvlm.reporting import runs
from dvlm.reporting.runs import KL, SFT, Run
from dvlm.sampling import owners
from dvlm.sweeps import status
from dvlm.values import InputError

MARKS = (status.STATUS, "logging.jsonl", "config.yaml", ".hydra")  # a directory with one of them is a run
SCORES = ("eval/caption_f1", "eval/f1", "eval/summary_f1")


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep in its order. `baselines`: SFT runs, of the sweep itself or given; `sampled`: more trials
    are being drawn."""

    name: str
    directory: Path
    command: str
    created: str
    runs: tuple[Run, ...]
    baselines: tuple[Run, ...]
    sampled: bool = False

    @cached_property
    def parameters(self) -> list[str]:
        """The overridden keys whose values differ between runs; for a single run, all that were overridden."""
        keys = list(dict.fromkeys(key for run in self.runs for key in run.overrides))
        if len(self.runs) == 1:
            return keys
        return [key for key in keys if len({str(run.parameter(key)) for run in self.runs}) > 1]

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics of validations that any run has logged, the losses first."""
        found = {name for run in self.runs for name in run.metrics} - {"eval/token_count"}
        first = [name for name in (SFT, KL, "eval/loss") if name in found]
        return [*first, *sorted(found - set(first))]

    @property
    def scores(self) -> list[str]:
        """Scores of captions that any run has logged, the one that counts most first."""
        return [name for name in SCORES if name in self.metrics]

    @property
    def whole(self) -> list[Run]:
        """The runs whose results count, those that still run among them: all but the failed ones."""
        return [run for run in self.runs if run.state != "failed"]

    def count(self, state: str) -> int:
        """How many runs are in a state."""
        return sum(run.state == state for run in self.runs)

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs or waits any more, and nobody draws more trials."""
        return not self.sampled and all(run.state in ("succeeded", "pruned", "failed", "unknown") for run in self.runs)


def read(directory: Path, baseline: Path | None = None) -> Sweep:
    """The sweep of a directory: the jobs that `sweep.json` names and any other run directory in it.

    Raises InputError where there is no run.
    """
    if not directory.is_dir():
        raise InputError(f"sweep: there is no directory {directory}; give one such as outputs/sweeps/<name>")
    facts = status.Sweep.read(directory)
    jobs = {job.directory: job.overrides for job in facts.jobs} if facts else {}
    others = (path.name for path in sorted(directory.iterdir()) if any((path / mark).exists() for mark in MARKS))
    for name in others:
        jobs.setdefault(name, [])
    found = tuple(runs.read(directory / name, overrides) for name, overrides in jobs.items())
    if not found:
        raise InputError(f"sweep: {directory} holds no run; give a directory such as outputs/sweeps/<name>")
    given = [runs.read(baseline)] if baseline else []
    if given and not given[0].metrics:
        raise InputError(f"baseline: {baseline} is not a run with validations; give the directory of an SFT run")
    own = [run for run in found if run.is_sft and run.usable and run.metrics]
    return Sweep(
        name=facts.name if facts else directory.resolve().name,
        directory=directory,
        command=shlex.join(facts.command) if facts else "",
        created=facts.created if facts else "",
        runs=found,
        baselines=(*given, *own),
        sampled=owners.any_lives(directory),
    )


def numbers(values: Iterable[Any]) -> list[float] | None:
    """The values as floats where every one of them is a number, else None."""
    found = list(values)
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in found):
        return None
    return [float(value) for value in found]
