"""One start of a run in its directory: held by one, continued from where the last start came to, told in `status.json`,
and started again by the scheduler when it is preempted."""

from __future__ import annotations

import math
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dvlm import checkpoints, durable, interruption
from dvlm.checkpoints import CheckpointStore
from dvlm.config import TrainConfig
from dvlm.interruption import Interrupted
from dvlm.sweeps import identity, lock, scheduler
from dvlm.sweeps.place import Place
from dvlm.sweeps.status import State, Status, now, read_json, replace_json
from dvlm.values import InputError

ESSENCE = ".essence.json"
PREEMPTED = 75  # exit code: saved, and to be started again
PATIENCE = 120.0  # seconds to wait until SLURM ends a job that it is to run again

Work = Callable[[TrainConfig, Path], Any]


def carry_out(work: Work, config: TrainConfig, directory: Path, place: Place) -> Any:
    """Do `work`, which trains in `directory`; returns what it does. Its first rank holds the directory meanwhile.

    Raises InputError where another process holds the directory, or it has checkpoints of a run with other options, and
    SystemExit(75) where the run was asked to stop, is saved, and is to be started again.
    """
    with interruption.listening():
        try:
            if place.rank:
                return work(continued(config, directory), directory)
            with lock.held(directory, place):
                return _told(work, config, directory, place)
        except Interrupted as interrupted:
            print(f"{interrupted}; saved in {directory}", flush=True)
            if place.slurm:
                _again(place)
            raise SystemExit(PREEMPTED) from interrupted


def continued(config: TrainConfig, directory: Path) -> TrainConfig:
    """The configuration that goes on with the newest whole checkpoint in `directory`, where there is one."""
    newest = checkpoints.newest(directory / "checkpoints")
    if newest is None:
        return config
    if found := identity.differences(_essence(config), read_json(directory / ESSENCE) or _essence(config)):
        raise InputError(
            f"{directory} has checkpoints of a run with other options ({'; '.join(found)}); choose another directory, "
            "or give the options of that run"
        )
    return replace(config, resume_from=str(newest))


def _told(work: Work, config: TrainConfig, directory: Path, place: Place) -> Any:
    before = Status.read(directory)
    status = Status(
        state=State.RUNNING,
        started=now(),
        step=before.step if before else 0,
        restarts=before.restarts + 1 if before else 0,
        job=place.job,
        host=place.host,
    )
    status.write(directory)
    try:
        CheckpointStore(directory / "checkpoints").clean()
        durable.clean(directory, deep=True)
        onward = continued(config, directory)
        replace_json(directory / ESSENCE, _essence(config))
        value = work(onward, directory)
    except Interrupted:
        Status.update(directory, state=State.PREEMPTED, ended=now())
        raise
    except BaseException as error:
        said = str(error) if isinstance(error, InputError) else "".join(traceback.format_exception_only(error))
        Status.update(directory, state=State.FAILED, ended=now(), error=" ".join(said.split()))
        raise
    Status.update(directory, state=State.SUCCEEDED, ended=now(), value=_finite(value))
    return value


def _finite(value: Any) -> Any:
    """JSON has no nan: a run without validation has no value."""
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _essence(config: TrainConfig) -> dict[str, Any]:
    return identity.essence(asdict(config))


def _again(place: Place) -> None:
    """Ask for another start, once, and wait to be ended: a rank that leaves first would take the others with it.

    A job that SLURM is ending already is either requeued by it, or cancelled, and then must not come back.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    running = (scheduler.states() or {}).get(str(place.slurm)) == "RUNNING"
    if place.rank == 0 and running and not scheduler.requeue(str(place.slurm)):
        print(f"SLURM does not requeue job {place.slurm}: give the same command again", flush=True)
        return
    time.sleep(PATIENCE)
