"""Jobs on a SLURM cluster: submitted through submitit as one array, followed until each has ended."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvlm.sweeps import lock, outcome, scheduler, snapshot
from dvlm.sweeps.place import Place
from dvlm.sweeps.status import State, Status

FOLDER = ".slurm"  # scripts, calls and output of the tasks
SETTLE = 15.0  # seconds that a file system may take to show what a job wrote last
DEFINITE = (State.SUCCEEDED, State.FAILED)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a job asks SLURM for. `time` in minutes, `mem_gb` of a node; None is the cluster's default."""

    array_parallelism: int
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    time: int
    cpus_per_task: int
    mem_gb: float | None
    signal_delay_s: int
    srun_args: Sequence[str]
    setup: Sequence[str]
    sbatch: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self, *, nodes: int, ranks: int, gpus: int, code: Path) -> dict[str, Any]:
        """The same in submitit's words; jobs run `code`, not the files of the working directory."""
        exports = [
            f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
            "export PYTHONSAFEPATH=1",
        ]
        asked = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "mem": f"{self.mem_gb:g}G" if self.mem_gb else None,
            "gpus_per_node": gpus or None,
            "array_parallelism": self.array_parallelism,
            "time": self.time,
            "cpus_per_task": self.cpus_per_task,
            "nodes": nodes,
            "ntasks_per_node": ranks,
            "signal_delay_s": self.signal_delay_s,
            "srun_args": [*self.srun_args],
            "setup": [*self.setup, *exports],
            "additional_parameters": {"requeue": True, **self.sbatch},
        }
        return {name: value for name, value in asked.items() if value is not None}


def submit(
    sweep: Path, calls: Mapping[Path, Callable[[], Any]], request: Request, *, nodes: int, ranks: int, gpus: int
) -> dict[Path, str]:
    """Submit a call for each run directory, which is then held for its job; the ids of the jobs."""
    from submitit import SlurmExecutor

    executor = SlurmExecutor(sweep / FOLDER, python=shlex.quote(sys.executable))
    code = snapshot.take(sweep)
    executor.update_parameters(
        job_name=sweep.name, **request.parameters(nodes=nodes, ranks=ranks, gpus=gpus, code=code)
    )
    with executor.batch():
        jobs = [executor.submit(call) for call in calls.values()]
    ids = {directory: job.job_id for directory, job in zip(calls, jobs, strict=True)}
    for directory, job in ids.items():
        if lock.holder(directory) is None:
            lock.claim(directory, Place.here({"SLURM_JOB_ID": job}))
    return ids


def follow(ids: Mapping[Path, str], ended: Callable[[Path], None]) -> None:
    """Wait until every job has ended, whatever became of it; `ended` is called with the directory of each."""
    waiting, gone = dict(ids), dict[Path, float]()
    started = time.monotonic()
    while waiting:
        time.sleep(min(15.0, 1.0 + (time.monotonic() - started) / 60))
        states = scheduler.states()
        if states is None:
            continue
        for directory, job in list(waiting.items()):
            if states.get(job) in scheduler.ACTIVE:
                gone.pop(directory, None)
                continue
            status = Status.read(directory)
            since = gone.setdefault(directory, time.monotonic())
            if (status and status.state in DEFINITE) or time.monotonic() - since > SETTLE:
                outcome.explain(directory, f"SLURM job {job}: {states.get(job, 'no longer listed')}")
                del waiting[directory]
                ended(directory)
