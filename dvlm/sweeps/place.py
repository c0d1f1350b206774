"""Where a process runs: machine, job of a scheduler, rank. Read from the environment, once."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dvlm.durable import born


@dataclass(frozen=True, kw_only=True)
class Place:
    """A process: its host since that machine's start (`boot`), pid and its start (`born`, in ticks of that machine),
    SLURM job (`123_4` in an array; None outside of SLURM) and rank."""

    host: str
    boot: str
    pid: int
    born: int
    slurm: str | None
    rank: int = 0

    @classmethod
    def here(cls, variables: Mapping[str, str]) -> Place:
        """This process. Ranks are numbered by torchrun or the local launcher, else by srun."""
        rank = variables.get("RANK") or (variables.get("SLURM_PROCID") if "SLURM_STEP_ID" in variables else None)
        return cls(
            host=platform.node(),
            boot=Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
            pid=os.getpid(),
            born=born(os.getpid()) or 0,
            slurm=slurm_job(variables),
            rank=int(rank or 0),
        )

    @property
    def job(self) -> str:
        """The id under which a person finds the job: of SLURM, else of the process."""
        return self.slurm or str(self.pid)


def slurm_job(variables: Mapping[str, str]) -> str | None:
    """The SLURM job of a process: the same before and after a requeue, also for a task of an array."""
    array, task = variables.get("SLURM_ARRAY_JOB_ID"), variables.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else variables.get("SLURM_JOB_ID")
