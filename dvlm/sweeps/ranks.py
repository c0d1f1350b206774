"""The ranks of a run under SLURM. srun or submitit starts them, and torchrun or the local launcher elsewhere; Lightning
never does: it would run the whole command again, a sweep included."""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from submitit.slurm.slurm import SlurmJobEnvironment

PORTS = range(10_000, 30_000)  # below what systems hand out by themselves


class SlurmRanks(ClusterEnvironment):
    """The tasks of an srun, numbered by SLURM. Lightning's own environment would requeue by a signal of its choice."""

    creates_processes_externally = True

    def __init__(self) -> None:
        super().__init__()
        self.job = SlurmJobEnvironment()

    @property
    def main_address(self) -> str:
        """The first node of the job."""
        return self.job.hostnames[0]

    @property
    def main_port(self) -> int:
        """The same on all ranks, another for each job."""
        return PORTS[int(self.job.raw_job_id) % len(PORTS)]

    @staticmethod
    def detect() -> bool:
        """Whether srun started this process."""
        return "SLURM_STEP_ID" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ

    def world_size(self) -> int:
        """Tasks of the step."""
        return self.job.num_tasks

    def set_world_size(self, size: int) -> None:
        """SLURM has set it."""

    def global_rank(self) -> int:
        """Number of the task."""
        return self.job.global_rank

    def set_global_rank(self, rank: int) -> None:
        """SLURM has set it."""

    def local_rank(self) -> int:
        """Number of the task on its node."""
        return self.job.local_rank

    def node_rank(self) -> int:
        """Number of the node."""
        return self.job.node


def environments() -> list[ClusterEnvironment]:
    """What to give to the trainer: nothing outside of SLURM, where Lightning finds torchrun by itself."""
    if SlurmRanks.detect():
        return [SlurmRanks()]
    inside = "SLURM_JOB_ID" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ
    return [LightningEnvironment()] if inside else []
