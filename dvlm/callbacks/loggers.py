"""The loggers of a run: `logging.jsonl` always, TensorBoard and W&B when chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from dvlm.callbacks.jsonl_logger import JsonlLogger
from dvlm.config import LoggerConfig


def build_loggers(
    config: LoggerConfig, directory: Path, *, name: str, run_config: dict[str, Any], resumed: tuple[Path, int] | None
) -> list[Logger]:
    """The loggers that `config` chooses; `run_config` becomes W&B's config, its knobs as leaves."""
    loggers: list[Logger] = [JsonlLogger(directory, resumed)]
    if config.tensorboard:
        loggers.append(TensorBoardLogger(directory, name="tensorboard", version=""))
    if config.wandb.enabled:
        loggers.append(_wandb(config, directory, name, run_config))
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


def _wandb(config: LoggerConfig, directory: Path, name: str, run_config: dict[str, Any]) -> Logger:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    chosen = config.wandb
    mode = chosen.mode
    if mode == "auto":
        mode = "online" if wandb.login(prompt=False) else "offline"
    logger = WandbLogger(
        project=chosen.project,
        entity=chosen.entity,
        group=chosen.group,
        name=name,
        save_dir=directory,
        tags=chosen.tags,
        offline=mode == "offline",
        mode=mode,
        config=run_config,
        job_type="train",
    )
    logger.experiment.define_metric("*", step_metric="trainer/global_step")
    return logger
