"""The loggers of a run: `logging.jsonl` always, TensorBoard and W&B when chosen."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from dvlm.callbacks import tensorboard
from dvlm.callbacks.jsonl_logger import JsonlLogger
from dvlm.config import LoggerConfig
from dvlm.config.job import Job
from dvlm.sweeps.status import Sweep


def build_loggers(
    config: LoggerConfig, directory: Path, *, job: Job, run_config: dict[str, Any], resumed: tuple[Path, int] | None
) -> list[Logger]:
    """The loggers that `config` chooses; `run_config` becomes W&B's config, its knobs as leaves."""
    loggers: list[Logger] = [JsonlLogger(directory, resumed)]
    if config.tensorboard:
        loggers.append(tensorboard.logger(directory, run_config))
    if config.wandb.enabled:
        loggers.append(_wandb(config, directory, job, run_config))
    return loggers


@contextmanager
def recording(loggers: Sequence[Logger]) -> Iterator[None]:
    """Ends the W&B run with the block, as failed where it raises: the next run of this process gets one of its own."""
    from lightning.pytorch.loggers import WandbLogger

    code = 1
    try:
        yield
        code = 0
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=code)
                _offer_sync(logger.experiment)


@rank_zero_only
def _offer_sync(run: Any) -> None:
    if run.offline:
        print(f"W&B        offline; upload with: wandb sync {shlex.quote(str(Path(run.dir).parent))}")


def identity(directory: Path, job: Job) -> dict[str, str]:
    """The id, name and group of a run in W&B. The id depends on the sweep and the overrides alone (outside of a sweep
    on the directory), so that a run that goes on after a requeue goes on there."""
    if job.sweep is None:
        return {"id": _digest(str(directory.resolve())), "name": directory.name}
    sweep = Sweep.read(job.sweep)
    group = sweep.name if sweep else job.sweep.name
    begun = sweep.created if sweep else str(job.sweep.resolve())
    # The directory's name is made of the swept overrides; their digest is no news to a person.
    name = re.sub(r"-[0-9a-f]{8}$", "", directory.name)
    return {"id": _digest(group, begun, *sorted(job.overrides)), "name": name, "group": group}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _wandb(config: LoggerConfig, directory: Path, job: Job, run_config: dict[str, Any]) -> Logger:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    chosen = config.wandb
    mode = chosen.mode
    if mode == "auto":
        mode = "online" if wandb.login(prompt=False) else "offline"
    known = identity(directory, job)
    logger = WandbLogger(
        project=chosen.project,
        entity=chosen.entity,
        group=chosen.group or known.get("group"),
        name=known["name"],
        id=known["id"],
        resume="allow",
        save_dir=directory,
        tags=chosen.tags,
        offline=mode == "offline",
        mode=mode,
        config=run_config,
        job_type="train",
        settings=wandb.Settings(quiet=True),
    )
    logger.experiment.define_metric("*", step_metric="trainer/global_step")
    return logger
