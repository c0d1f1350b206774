"""Jobs on this machine: forked from one warm process, a few at a time, each with devices and threads of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

LOG = "job.log"
GRACE = 30.0  # seconds that the other ranks have to end by themselves once one has


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job: what each of its `ranks` processes does, and the run directory, whose `job.log` gets what they print."""

    directory: Path
    work: Callable[[], Any]
    ranks: int = 1


@dataclass(kw_only=True)
class _Running:
    task: Task
    devices: Sequence[str]
    processes: list[BaseProcess]
    failed_at: float | None = None
    code: int = 0


@dataclass(kw_only=True)
class Pool:
    """At most `slots` jobs at a time, on `devices` (numbers of GPUs, as CUDA_VISIBLE_DEVICES has them; empty: CPU).

    `threads` is the number of threads of a rank. `ended` is called with a task and its exit code: 0, or that of the
    first rank that failed, negative for a signal.
    """

    slots: int
    threads: int
    devices: Sequence[str] = ()
    ended: Callable[[Task, int], None]
    _running: list[_Running] = field(default_factory=list)

    def run(self, tasks: Iterable[Task]) -> None:
        """Run every task; a KeyboardInterrupt or SIGTERM asks those that run to save and stop, and starts no more.

        The iterable is asked for a task whenever there is room for one: what it then leaves out is not started.
        """
        before = signal.signal(signal.SIGTERM, _interrupt)
        waiting = iter(tasks)
        try:
            while task := next(waiting, None):
                self._start(task)
                while len(self._running) >= self.slots:
                    self._wait()
            while self._running:
                self._wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            for running in self._running:
                _signal(running, signal.SIGTERM)
            while self._running:
                self._wait()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)

    def _start(self, task: Task) -> None:
        busy = {device for running in self._running for device in running.devices}
        free = [device for device in self.devices if device not in busy][: task.ranks]
        task.directory.mkdir(parents=True, exist_ok=True)
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(task.ranks)}
        shared |= {"LOCAL_WORLD_SIZE": str(task.ranks), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": task.directory.name}
        if self.devices:
            shared["CUDA_VISIBLE_DEVICES"] = ",".join(free)
        sys.stdout.flush()
        sys.stderr.flush()
        fork = multiprocessing.get_context("fork")
        processes: list[BaseProcess] = []
        for rank in range(task.ranks):
            environment = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(fork.Process(target=_rank, args=(task, environment, self.threads)))
            processes[-1].start()
        self._running.append(_Running(task=task, devices=free, processes=processes))

    def _wait(self) -> None:
        """Until something ends, or a rank that outlived another has had its time."""
        alive = [process.sentinel for running in self._running for process in running.processes if process.is_alive()]
        wait(alive, timeout=1.0)
        for running in list(self._running):
            codes = [process.exitcode for process in running.processes]
            failed = next((code for code in codes if code), 0)
            if failed and not running.code:
                running.code, running.failed_at = failed, time.monotonic()
            if None not in codes:
                self._running.remove(running)
                self.ended(running.task, running.code)
            elif running.failed_at is not None and time.monotonic() - running.failed_at > GRACE:
                _signal(running, signal.SIGKILL)


def room(ranks: int, *, n_jobs: int | None, cpu_threads: int | None) -> tuple[int, int, list[str]]:
    """Jobs at a time, threads of a rank, and the GPUs to share out, where a job has up to `ranks` ranks."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    slots = n_jobs or max(1, (len(devices) if devices else cores // 2) // ranks)
    return slots, cpu_threads or max(1, cores // (slots * ranks)), devices


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _signal(running: _Running, number: int) -> None:
    """To every living rank, which leads a process group of its own."""
    for process in running.processes:
        if process.pid is not None and process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _rank(task: Task, environment: dict[str, str], threads: int) -> None:
    """What a forked process does: become a session of its own, so that the terminal's Ctrl-C is its parent's affair."""
    import torch

    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A sweep inside of a SLURM job runs jobs of its own: it is not they that SLURM would requeue.
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]
    os.environ.update(environment, OMP_NUM_THREADS=str(threads))
    torch.set_num_threads(threads)
    log_to(task.directory)
    task.work()


def log_to(directory: Path) -> None:
    """What this process prints from here on goes to the job's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    with (directory / LOG).open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
