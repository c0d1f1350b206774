"""TensorBoard events in the run directory, with the knobs of the run under HParams, so that sweeps compare there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams

# What runs of one sweep differ in; the other groups say where it runs and what is shown.
GROUPS = ("rlhf", "optim", "tuner")
ROOT = ("global_max_length", "seed")
METRICS = ("eval/sft_loss", "eval/kl_loss", "eval/loss", "eval/token_accuracy")


def logger(directory: Path, run_config: Mapping[str, Any]) -> TensorBoardLogger:
    """The logger of a run; its HParams are written at once, their metrics are the curves of the run."""
    made = TensorBoardLogger(directory, name="tensorboard", version="")
    _write(made, knobs(run_config))
    return made


def knobs(run_config: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs that HParams shows, by their dotted keys: those of `GROUPS` and `ROOT` with a plain value."""
    found = {name: run_config[name] for name in ROOT}
    found |= {f"{group}.{name}": value for group in GROUPS for name, value in run_config[group].items()}
    return {key: value for key, value in found.items() if isinstance(value, bool | int | float | str)}


@rank_zero_only
def _write(made: TensorBoardLogger, values: Mapping[str, Any]) -> None:
    # The writer's own `add_hparams` opens a second run beside the first, with one value for each metric.
    for summary in hparams(dict(values), dict.fromkeys(METRICS, 0.0)):
        made.experiment.file_writer.add_summary(summary)
