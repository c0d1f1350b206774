"""Hydra's launchers of DVLM: `hydra/launcher=local` and `hydra/launcher=slurm`.

Both compose every job of a batch first, name its run directory, leave out what is done or under way, run the rest, and
return what became of each: a job that failed or was killed takes no other with it.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

INTERRUPTED = 130  # exit code, as shells have it


class GridSweeper(BasicSweeper):
    """Hydra's own sweeper, but for a second composition of every job: the launchers check each before any starts."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """The launcher does."""


class JobFailed(CompactHydraException):
    """A job did not succeed."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A job of a batch: its composed configuration, overrides, run directory, nodes, ranks and GPUs of a node."""

    node: DictConfig
    overrides: list[str]
    directory: Path
    nodes: int
    ranks: int
    gpus: int

    def run(self, context: HydraContext, task: TaskFunction) -> JobReturn:
        """Do the job, in this process."""
        setup_globals()
        # The command that does this job alone, by hand.
        sys.argv[1:] = [*self.overrides, f"hydra.run.dir='{self.directory}'"]
        return run_job(
            task_function=task,
            config=self.node,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=context,
        )


class _DVLMLauncher(Launcher):
    """What the two launchers share. `LEFT` says what an interrupted one leaves behind."""

    LEFT: str

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from dvlm.sweeps.status import Job, Sweep

        setup_globals()
        self.sweep = Path(self.config.hydra.sweep.dir).resolve()
        jobs = [self._planned(list(overrides), initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        listed = [Job(directory=job.directory.name, overrides=job.overrides) for job in jobs]
        command = [sys.executable, "-m", f"dvlm.{self.config.hydra.job.config_name}", *sys.argv[1:]]
        Sweep.extend(self.sweep, command=command, jobs=listed)
        self.refused: dict[Path, str] = {}
        try:
            self._run(jobs)
        except KeyboardInterrupt:
            print(f"interrupted: {self.LEFT}; the same command goes on with {self.sweep}", flush=True)
            raise SystemExit(INTERRUPTED) from None
        return [self._returned(job) for job in jobs]

    def _run(self, jobs: list[Planned]) -> None:
        raise NotImplementedError

    def _planned(self, overrides: list[str], number: int) -> Planned:
        from dvlm.config.compose import to_object
        from dvlm.sweeps import identity
        from dvlm.values import InputError

        node = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(node):
            node.hydra.job.id = node.hydra.job.num = number
            hydra = node.pop("hydra")
            node.sweep.name = self.sweep.name
            try:
                config = to_object(node)
            except InputError as error:
                raise JobFailed(f"error: {error} (job {number}: {' '.join(overrides)})") from error
            node.hydra = hydra
            fixed = self.config.hydra.overrides.task
            swept = [each for each in overrides if each not in fixed and not each.startswith("hydra.")]
            directory = identity.directory(self.sweep, asdict(config), swept)
            node.hydra.sweep.dir, node.hydra.sweep.subdir = str(self.sweep), directory.name
        ranks = config.trainer.devices
        return Planned(
            node=node,
            overrides=overrides,
            directory=directory,
            nodes=OmegaConf.select(node, "trainer.num_nodes", default=1),
            ranks=ranks,
            gpus=0 if config.trainer.accelerator == "cpu" else ranks,
        )

    def _chosen(self, jobs: list[Planned]) -> Iterator[Planned]:
        """The jobs that are to run, each looked at when it is its turn."""
        from dvlm.sweeps import selection

        rerun = self.config.sweep.rerun
        for job in jobs:
            why = selection.refusal(job.directory)
            if why is not None:
                self.refused[job.directory] = why
                print(f"{job.directory.name} {why}", flush=True)
            elif selection.runs(job.directory, rerun):
                if rerun == "all":
                    selection.set_aside(job.directory)
                print(f"{job.directory.name} starts", flush=True)
                yield job

    def _returned(self, job: Planned) -> JobReturn:
        from dvlm.sweeps import outcome
        from dvlm.sweeps.status import State, Status

        returned = JobReturn(overrides=job.overrides, working_dir=os.getcwd(), task_name=self.config.hydra.job.name)
        returned.hydra_cfg = OmegaConf.masked_copy(job.node, "hydra")
        returned.cfg = OmegaConf.masked_copy(job.node, [key for key in job.node if key != "hydra"])
        status = Status.read(job.directory)
        if status is not None and status.state is State.SUCCEEDED:
            returned.status = JobStatus.COMPLETED
            returned.return_value = float("nan") if status.value is None else status.value
        else:
            why = self.refused.get(job.directory) or outcome.verdict(job.directory)
            returned.status = JobStatus.FAILED
            returned.return_value = JobFailed(f"{job.directory}: {why}")
        return returned


class LocalLauncher(_DVLMLauncher):
    """Jobs on this machine: conf/hydra/launcher/local.yaml."""

    LEFT = "the jobs that ran have saved and stopped"

    def __init__(self, n_jobs: int | None, cpu_threads: int | None, warm: Sequence[str]) -> None:
        self.n_jobs, self.cpu_threads, self.warm = n_jobs, cpu_threads, warm

    def _run(self, jobs: list[Planned]) -> None:
        from dvlm.reporting.progress import progress
        from dvlm.sweeps import outcome
        from dvlm.sweeps.pool import Pool, Task, room

        def work(job: Planned) -> Any:
            returned = job.run(self.context, self.task)
            return returned.return_value  # raises what the job raised: the exit code says so

        def ended(task: Task, code: int) -> None:
            if code:
                outcome.explain(task.directory, outcome.reason(code))
            print(f"{task.directory.name} {outcome.verdict(task.directory)} ({progress(self.sweep)})", flush=True)

        for name in self.warm:
            import_module(name)
        most = max(job.ranks for job in jobs)
        slots, threads, devices = room(most, n_jobs=self.n_jobs, cpu_threads=self.cpu_threads)
        pool = Pool(slots=slots, threads=threads, devices=devices, ended=ended)
        tasks = (
            Task(directory=job.directory, work=lambda job=job: work(job), ranks=job.ranks) for job in self._chosen(jobs)
        )
        pool.run(tasks)


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A job as a task of SLURM calls it: the function `name` of the verb, in the code that was submitted."""

    job: Planned
    context: HydraContext
    name: str

    def __call__(self) -> None:
        from dvlm.config.compose import to_object
        from dvlm.sweeps.pool import log_to

        function = getattr(import_module(f"dvlm.{self.job.node.hydra.job.config_name}"), self.name)
        log_to(self.job.directory)
        # Raises what the job raised: the exit code says so.
        _ = self.job.run(self.context, lambda node: function(to_object(node))).return_value


class SlurmLauncher(_DVLMLauncher):
    """Jobs on a SLURM cluster: conf/hydra/launcher/slurm.yaml."""

    LEFT = "submitted jobs run on by themselves (scancel ends them)"

    def __init__(self, gpus_per_node: int | None, **request: Any) -> None:
        self.gpus_per_node = gpus_per_node
        self.request = {
            name: OmegaConf.to_object(value) if OmegaConf.is_config(value) else value for name, value in request.items()
        }

    def _run(self, jobs: list[Planned]) -> None:
        from dvlm.sweeps import cluster, outcome

        request = cluster.Request(**self.request)
        arrays: dict[tuple[int, int, int], dict[Path, Remote]] = {}
        for job in self._chosen(jobs):
            gpus = job.gpus if self.gpus_per_node is None else self.gpus_per_node
            call = Remote(job=job, context=self.context, name=self.task.name)
            arrays.setdefault((job.nodes, job.ranks, gpus), {})[job.directory] = call
        ids: dict[Path, str] = {}
        for (nodes, ranks, gpus), calls in arrays.items():
            ids |= cluster.submit(self.sweep, calls, request, nodes=nodes, ranks=ranks, gpus=gpus)
        for directory, job_id in ids.items():
            print(f"{directory.name} is SLURM job {job_id}", flush=True)
        cluster.follow(ids, lambda directory: print(f"{directory.name} {outcome.verdict(directory)}", flush=True))
